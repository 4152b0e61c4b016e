"""Each script in its smallest form: one command, a table and a figure."""

import csv
import importlib
import sys
from pathlib import Path

import pytest
import trainings

ROOT = Path(__file__).parents[2]
SMALL = ("data.canvas=24", "data.train=64", "data.val=60", "data.test=60")

COMMANDS = {
    "consistency": (["--draws", "3", "--labels", "3"], {"consistency": {"lsep", "warp", "zlpr"}}, "loss"),
    "counterexample": (["--largest", "3"], {}, ""),
    "equations": (["--draws", "20"], {"equations": {"8", "10", "13", "21"}}, "equation"),
    "optimisation": (
        ["--seeds", "0", "1", "--epochs", "1", "--rates", "0.001", "0.1"],
        {"optimisation": {"lsep", "ranking", "warp", "bpmll"}, "optimisation_epochs": {"lsep"}},
        "loss",
    ),
    "overflow": (["--seeds", "0", "--epochs", "1"], {"overflow": {"lsep", "bpmll"}}, "loss"),
    "sampling": (
        ["--seeds", "0", "--draws", "3", "--epochs", "1", "--pairs", "10"],
        {"sampling": {"10", "all"}, "sampling_accuracy": {"10", "all"}},
        "t",
    ),
    "decisions": (
        ["--seeds", "0", "--epochs", "1", "--fit-epochs", "1"],
        {"decisions": {"joint training", "weighted LSEP"}},
        "variant",
    ),
}


@pytest.mark.parametrize("name", COMMANDS)
def test_script_writes_its_table_and_figure(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = importlib.import_module(name)
    for module in (trainings, script):
        if hasattr(module, "SCENES"):
            monkeypatch.setattr(module, "SCENES", SMALL)
    arguments, tables, column = COMMANDS[name]
    kept = (
        ["--output", str(tmp_path / "outputs")] if name in ("optimisation", "overflow", "decisions") else []
    )
    monkeypatch.setattr(sys, "argv", [name, *arguments, *kept, "--folder", str(tmp_path)])
    script.main()
    for table, expected in tables.items():
        with (tmp_path / f"{table}.csv").open(newline="") as file:
            assert expected <= {row[column] for row in csv.DictReader(file)}
    if tables:
        assert (tmp_path / f"{name}.png").stat().st_size > 10_000


def test_convolutional_networks_are_trained_by_the_main_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    optimisation = importlib.import_module("optimisation")
    monkeypatch.setattr(optimisation, "SCENES", SMALL)
    monkeypatch.setattr(optimisation, "METHODS", {"bpmll": optimisation.METHODS["bpmll"]})
    rows = optimisation.train_networks(tmp_path, [0], 1, [0.001, 100.0])
    assert [row["failure"] for row in rows] == ["", "not finite"]
    assert 0 < rows[0]["val_map"] < 1


@pytest.mark.parametrize("name", COMMANDS)
def test_the_committed_results_are_there_and_told(name: str) -> None:
    told = (ROOT / "docs" / "claims.md").read_text()
    assert f"python experiments/claims/{name}.py" in told
    assert (ROOT / "experiments" / "claims" / f"{name}.csv").exists()
