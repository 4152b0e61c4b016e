"""Trackers: a W&B sweep read back from its offline files, and what holds for any tracker."""

import json
import subprocess
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from lsep_ml.trackers.tracking import Trackers, WandbTracker

ROOT = Path(__file__).parent.parent.parent
WANDB = str(Path(sys.executable).parent / "wandb")


class Recorder:
    """A tracker that remembers what it was told."""

    def __init__(self, fail: bool = False) -> None:
        self.told: list[tuple[str, Any]] = []
        self.fail = fail

    def start(self, config: dict[str, Any], folder: Path) -> None:
        if self.fail:
            raise ValueError("no account")
        self.told.append(("start", config))

    def row(self, row: dict[str, Any]) -> None:
        self.told.append(("row", row["epoch"]))

    def result(self, record: dict[str, Any], folder: Path) -> None:
        self.told.append(("result", record))

    def close(self, failed: bool) -> None:
        self.told.append(("close", failed))


def test_every_tracker_that_was_started_is_closed(tmp_path: Path) -> None:
    fine, broken, late = Recorder(), Recorder(fail=True), Recorder()
    with pytest.raises(ValueError, match="no account"), Trackers([fine, broken, late]).run({}, tmp_path):
        pass
    assert fine.told == [("start", {}), ("close", True)]
    assert ("close", True) in broken.told  # half a start may hold something open
    assert late.told == []


def test_a_run_is_told_in_order(tmp_path: Path) -> None:
    tracker = Recorder()
    with Trackers([tracker]).run({"a": 1}, tmp_path) as trackers:
        trackers.row({"epoch": 1})
        trackers.result({"b": 2}, tmp_path)
    assert tracker.told == [("start", {"a": 1}), ("row", 1), ("result", {"b": 2}), ("close", False)]


def test_wandb_is_offline_or_online() -> None:
    with pytest.raises(ValueError, match=r"logger\.wandb\.mode='disabled'"):
        WandbTracker(mode="disabled")  # type: ignore[arg-type]


def inspect(file: Path, *options: str) -> str:
    command = [WANDB, "leet", "inspect", *options, "--json", str(file)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_the_environment_says_the_mode_for_all_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    for mode in ("online", "disabled"):
        monkeypatch.setenv("WANDB_MODE", mode)
        assert WandbTracker(mode="offline").mode == mode
    monkeypatch.setenv("WANDB_MODE", "")
    assert WandbTracker().mode == "offline"
    monkeypatch.setenv("WANDB_MODE", "sometimes")
    with pytest.raises(ValueError, match="WANDB_MODE=sometimes: expected one of offline, online, disabled"):
        WandbTracker()


def test_a_wandb_sweep_is_one_run_a_job_with_everything_in_it(tmp_path: Path) -> None:
    overrides = ["data.train=64", "data.val=40", "data.test=50", "data.canvas=24", "model.widths=[4,4]"]
    overrides += ["training.epochs=2", "fitting.epochs=2", "trainer=cpu", f"paths.output={tmp_path}"]
    sweep = ["decision=topk,thresh_est", "logger=[csv,wandb]"]
    command = [sys.executable, str(ROOT / "run.py"), "-m", *overrides, *sweep]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("wandb sync") == 2
    files = list(tmp_path.rglob("*.wandb"))
    assert len(files) == 2
    groups = set()
    for file in files:
        run = json.loads(inspect(file, "--summary"))
        record = json.loads((file.parents[2] / "result.json").read_text())
        assert run["tags"] == ["digits", "lsep", record["decision"]]
        assert run["exit_code"] == 0
        assert run["config"]["loss"]["_target_"] == "lsep_ml.losses.lsep_loss"
        for key, value in record["metrics"]["test"].items():
            assert run["summary"][f"test/{key}"] == pytest.approx(value)
        assert {"gallery", "class_f1_table", "precision_recall_table"} <= set(run["summary"])
        lines = [json.loads(line) for line in inspect(file).splitlines()]
        rows = [line["history"]["item"] for line in lines if "history" in line]
        assert [row["prediction/epoch"] for row in rows if "prediction/epoch" in row] == [1, 2]
        epochs = [row["decision/epoch"] for row in rows if "decision/epoch" in row]
        assert epochs == ([1, 2] if record["decision"] == "thresh_est" else [])
        [started] = [line["run"] for line in lines if "run" in line and "run_group" in line["run"]]
        groups.add(started["run_group"])
    [group] = groups  # without an experiment, the time the sweep began
    assert datetime.strptime(group, "%Y-%m-%d_%H-%M-%S")
