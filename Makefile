# Two commands on a fresh machine: `make run` and `make test`. Needs Python >= 3.11 and make, nothing else.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help setup run test lint report tables photos lock clean

help:  ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-8s %s\n", $$1, $$2}'

setup: $(STAMP)  ## create .venv with the locked packages and this package in it (once)

$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "make: $(PYTHON) is older than Python 3.11; name a newer one: make setup PYTHON=python3.12"; exit 1; }
	@test -x $(BIN)/python || { echo "make: making $(VENV)"; $(PYTHON) -m venv $(VENV); }
	@echo "make: fetching and installing $$(grep -c '==' requirements.lock) packages, torch among them: some GB, a few minutes"
	@$(BIN)/python -m pip install --quiet --require-hashes --no-deps -r requirements.lock
	@echo "make: installing lsep_ml"
	@$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation -e .
	@touch $@
	@echo "make: ready; next: make run, or source $(BIN)/activate and lsep-ml --help"

run: setup  ## the main job: train and evaluate on the embedded digit scenes (a few minutes on 2 cores)
	$(BIN)/python run.py

test: setup  ## the tests
	$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile

lint: setup  ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

report: setup  ## the digits tables: three seeds of every loss, decision and predictor, then the report page
	$(BIN)/python run.py -m experiment=table1_digits
	$(BIN)/python run.py -m experiment=table2_digits
	$(BIN)/python run.py -m experiment=decisions_digits
	$(BIN)/python run.py -m experiment=table1_baselines_digits
	$(BIN)/python -m lsep_ml report outputs

tables: report  ## renew what experiments/*_digits/ keeps of the report
	for table in table1 table2; do \
	  mkdir -p experiments/$${table}_digits; \
	  cp outputs/report/tables/$${table}_digits.csv experiments/$${table}_digits/results.csv; \
	  cp outputs/report/tables/$${table}_digits.md experiments/$${table}_digits/table.md; done
	cp outputs/report/tables/verdicts_digits.md experiments/table1_digits/verdicts.md
	cp outputs/report/tables/all_digits.csv experiments/table1_digits/all.csv
	cp outputs/report/tables/runs.csv experiments/table1_digits/runs.csv

photos: setup  ## the photographs' tables, of a folder like that of experiments/photos: make photos DIR=FOLDER
	$(BIN)/python run.py -m experiment=table1_photos data.root=$(DIR)
	$(BIN)/python run.py -m experiment=table2_photos data.root=$(DIR)
	$(BIN)/python experiments/photos/tables.py outputs

lock:  ## renew requirements.lock from pyproject.toml (needs uv)
	uv pip compile pyproject.toml --extra dev --extra onnx --extra dashboard --extra demo --extra joblib \
	  --extra submitit --extra fast --universal --python-version 3.11 \
	  --generate-hashes --no-emit-index-url --no-annotate --no-header --upgrade -q -o requirements.lock

clean:  ## remove caches and the virtual environment; results under outputs/ stay
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis build *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
