"""training=probe by the solver: a run from features to result.json, on one process and on several."""

import csv
import logging
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from jobs import ROOT, compose_here, forked_processes, run_job_here
from torch import Tensor

from lsep_ml.data.stratified import stratified_folds
from lsep_ml.stages.extraction import Extraction
from lsep_ml.stages.job import build_job
from lsep_ml.stages.plan import plan
from lsep_ml.stages.sweep import FOLDER
from lsep_ml.store.entries import Store
from lsep_ml.store.keys import NETWORKS, SCORES
from lsep_ml.store.sections import plain_sections
from lsep_ml.training.probe import ProbeImages
from lsep_ml.training.standardisation import Standardisation

TINY = (
    "data.train=100",
    "data.val=40",
    "data.test=30",
    "data.canvas=24",
    "model.widths=[4,8]",
    "model.num_features=6",
    "training=probe",
    "training.folds=3",
    "decision=topk",
    "trainer=cpu",
)
Run = tuple[dict[str, Any], Path]


def history(folder: Path) -> list[dict[str, str]]:
    with (folder / "history.csv").open(newline="") as file:
        return [row for row in csv.DictReader(file) if row["stage"] == "prediction"]


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("solver")


@pytest.fixture(scope="module")
def solved(output: Path) -> Run:
    return run_job_here(output, *TINY)


def test_a_run_says_how_it_was_solved(solved: Run) -> None:
    record, folder = solved
    assert record["solution"]["converged"]
    assert record["solution"]["gradient_norm"] <= record["config"]["training"]["tolerance"]
    rows = history(folder)
    [chosen] = [row for row in rows if int(row["epoch"]) == record["choices"]["epoch"]]
    assert float(chosen["weight_decay"]) == record["choices"]["probe_weight_decay"]
    assert float(chosen["val_map"]) == max(float(row["val_map"]) for row in rows)
    assert record["metrics"]["val"]["map"] == pytest.approx(float(chosen["val_map"]), abs=0.01)


def test_the_checkpoint_acts_on_raw_features(output: Path, solved: Run) -> None:
    record, folder = solved
    state = torch.load(folder / "checkpoint.ckpt", weights_only=True)["state_dict"]
    features = output / "store" / "features" / record["stored"]["features"] / "test_features.npy"
    weight, bias = state["network.score_layer.weight"], state["network.score_layer.bias"]
    scores = torch.from_numpy(np.load(features)) @ weight.T + bias
    with np.load(folder / "predictions.npz") as arrays:
        np.testing.assert_allclose(arrays["scores"], scores, atol=1e-4)


def test_stage_2_finds_the_out_of_fold_scores(output: Path, solved: Run) -> None:
    job = build_job(compose_here(output, *TINY)[0])
    store = Store(output / "store")
    prediction = store.find(NETWORKS, job.made_by)
    assert prediction is not None
    [scores] = (output / "store" / SCORES).glob("*/entry.json")
    extraction = Extraction(prediction, prediction, prediction)
    found = extraction.out_of_fold()
    assert found is not None
    assert found.scores.shape == (100, 10)
    assert found.scores.dtype == np.float32
    np.testing.assert_array_equal(found.folds, stratified_folds(job.data.data_set.train.targets, 3, 0))
    own = np.load(scores.parent / "train_scores.npy")
    assert 1e-3 < np.abs(found.scores - own).mean() < 10
    assert Extraction(prediction, prediction).out_of_fold() is None


def test_a_second_run_finds_it(output: Path, solved: Run, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        record, _ = run_job_here(output, *TINY, "decision=threshold")
    assert record["reused"] == {"prediction": True, "extraction": True}
    assert record["identity"] == solved[0]["identity"]
    assert record["solution"] == solved[0]["solution"]


KILLED = """
import os, signal
from lsep_ml.training import kept
write = kept.write_checkpoint
def write_and_die(file, made):
    write(file, made)
    if file.name == "end.ckpt":
        os.kill(os.getpid(), signal.SIGKILL)
kept.write_checkpoint = write_and_die
from lsep_ml.stages.main import main
main()
"""


def test_a_killed_job_goes_on_to_the_same_bits(
    output: Path, solved: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = [sys.executable, "-c", KILLED, *TINY, f"paths.output={tmp_path}"]
    killed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    original, solves = ProbeImages.solve, list[int]()

    def counted(self: ProbeImages, *args: Any, **options: Any) -> Any:
        solves.append(1)
        return original(self, *args, **options)

    monkeypatch.setattr(ProbeImages, "solve", counted)
    record, folder = run_job_here(tmp_path, *TINY)
    assert len(solves) == 3  # the folds: what was solved before the kill is found
    whole, other = solved
    for key in ("identity", "metrics", "choices", "solution"):
        assert record[key] == whole[key], key
    entry = Path("store") / NETWORKS / record["identity"]
    for name in ("checkpoint.ckpt", "out_of_fold_scores.npy", "folds.npy"):
        assert (tmp_path / entry / name).read_bytes() == (output / entry / name).read_bytes(), name
    rows = [[row | {"seconds": ""} for row in history(each)] for each in (folder, other)]
    assert rows[0] == rows[1]


def test_the_jobs_of_a_sweep_share_one_reading_of_the_features(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, original = list[int](), Standardisation.of

    def of(features: Tensor) -> Standardisation:
        read.append(len(features))
        return original(features)

    monkeypatch.setattr(Standardisation, "of", of)
    monkeypatch.setenv(FOLDER, str(tmp_path / "sweep"))
    bits = {}
    for loss in ("bce", "softmax"):
        record, folder = run_job_here(tmp_path, *TINY, f"loss={loss}")
        bits[loss] = (folder / "checkpoint.ckpt").read_bytes()
    assert read == [100]
    monkeypatch.delenv(FOLDER)
    shutil.rmtree(tmp_path / "store" / NETWORKS / record["identity"])
    _, folder = run_job_here(tmp_path, *TINY, "loss=softmax", "force=true")
    assert (folder / "checkpoint.ckpt").read_bytes() == bits["softmax"]
    assert read == [100, 100]


def test_a_plan_says_that_it_is_solved(
    output: Path, solved: Run, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lsep_ml.stages.plan._planned", set())
    with caplog.at_level(logging.INFO):
        config, folder = compose_here(output, *TINY, "loss=softmax")
        plan(build_job(config), folder)
    assert "trains a score layer" in caplog.text
    assert "solved on cpu" in caplog.text


@pytest.mark.parametrize("devices", [2, 3])
def test_several_processes_leave_the_same_bits(
    output: Path, solved: Run, tmp_path: Path, devices: int
) -> None:
    with forked_processes():
        record, folder = run_job_here(
            tmp_path, *TINY, "trainer=ddp", "trainer.accelerator=cpu", f"trainer.devices={devices}"
        )
    assert record["identity"] == solved[0]["identity"]
    ours, theirs = (
        torch.load(each / "checkpoint.ckpt", weights_only=True)["state_dict"] for each in (folder, solved[1])
    )
    assert all(torch.equal(value, theirs[name]) for name, value in ours.items())
    entry = Path("store") / NETWORKS / record["identity"]
    for name in ("out_of_fold_scores.npy", "folds.npy"):
        assert (tmp_path / entry / name).read_bytes() == (output / entry / name).read_bytes()


@pytest.mark.parametrize(
    ("overrides", "named"),
    [
        (("loss.max_pairs=10",), r"loss\.max_pairs=10"),
        (("data.sampler=balanced",), r"data\.sampler=balanced"),
        (("solver=adam",), r"solver=adam: expected one of lbfgs, sgd"),
        (("training.folds=1",), r"training\.folds=1"),
    ],
)
def test_what_a_solver_cannot_take_is_refused(tmp_path: Path, overrides: tuple[str, ...], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        build_job(compose_here(tmp_path, *TINY, *overrides)[0])


@pytest.mark.parametrize("override", ["solver=sgd", "training.solver=sgd"])
def test_sgd_keeps_the_identity_that_it_had_before_there_was_a_solver(tmp_path: Path, override: str) -> None:
    job = build_job(compose_here(tmp_path, *TINY, override)[0])
    assert job.solving is None
    old = {"epochs", "batch_size", "frozen_epochs", "score_layer_lr", "eval_batch_size", "channels_last"}
    old |= {"compile", "ema", "joint", "decision_weight", "probe"}
    assert job.made_by["config"]["training"].keys() == old
    assert (
        plain_sections({"training": {"solver": "lbfgs", "folds": 5}}, ["training"])["training"]["folds"] == 5
    )
