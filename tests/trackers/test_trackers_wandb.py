"""W&B, offline: what a sweep and a continued job leave, read back from W&B's own files."""

import json
import os
import subprocess
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from report_runs import write_run

from lsep_ml.files import read_json
from lsep_ml.runs.per_class import COLUMNS
from lsep_ml.trackers.wandb_run import WandbTracker, sync_command, unsent_runs

ROOT = Path(__file__).parent.parent.parent
WANDB = str(Path(sys.executable).parent / "wandb")


def inspect(file: Path, *options: str) -> str:
    command = [WANDB, "leet", "inspect", *options, "--json", str(file)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def records(file: Path, kind: str) -> list[dict[str, Any]]:
    lines = map(json.loads, inspect(file).splitlines())
    return [line[kind] for line in lines if kind in line]


def tracked(folder: Path, tracker: WandbTracker, epochs: int, finish: bool = True) -> None:
    """Show the run in `folder` up to an epoch, and then its result, or that it was stopped."""
    record = read_json(folder / "result.json")
    tracker.start(record["config"], folder)
    for epoch in range(1, epochs + 1):
        tracker.row({"stage": "prediction", "epoch": epoch, "val_map": epoch / 10})
    if finish:
        tracker.result(record, folder)
    tracker.close(failed=not finish)


@pytest.fixture
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's folder of data, in which nothing of a run may be left."""
    home = tmp_path / "home"
    monkeypatch.setenv("XDG_DATA_HOME", str(home))
    for variable in ("WANDB_DATA_DIR", "WANDB_MODE", "WANDB_RUN_GROUP"):
        monkeypatch.delenv(variable, raising=False)
    return home


def kept(folder: Path) -> list[Path]:
    """What lies in a folder, but for the logs that W&B writes of itself."""
    return [file for file in folder.rglob("*") if file.is_file() and file.suffix != ".log"]


def test_wandb_is_offline_or_online() -> None:
    with pytest.raises(ValueError, match=r"logger\.wandb\.mode='disabled'"):
        WandbTracker(mode="disabled")  # type: ignore[arg-type]


def test_the_environment_says_the_mode_for_all_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    for mode in ("online", "disabled"):
        monkeypatch.setenv("WANDB_MODE", mode)
        assert WandbTracker(mode="offline").mode == mode
    monkeypatch.setenv("WANDB_MODE", "")
    assert WandbTracker().mode == "offline"
    monkeypatch.setenv("WANDB_MODE", "sometimes")
    with pytest.raises(ValueError, match="WANDB_MODE=sometimes: expected one of offline, online, disabled"):
        WandbTracker()


def test_a_disabled_tracker_leaves_nothing(
    tmp_path: Path, nowhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_MODE", "disabled")
    folder = write_run(tmp_path / "runs", images=60)
    before = set(folder.rglob("*"))
    tracked(folder, WandbTracker(), epochs=2)
    assert set(folder.rglob("*")) - before <= {folder / "wandb", folder / "wandb/wandb-resume.json"}
    assert unsent_runs(folder) == []


def test_all_of_a_run_lies_in_its_own_folder(tmp_path: Path, nowhere: Path) -> None:
    folder = write_run(tmp_path / "runs", images=60, labels=12)
    tracked(folder, WandbTracker(group="a sweep"), epochs=2)
    assert kept(nowhere) == []
    [place] = unsent_runs(folder)
    moved = place.rename(tmp_path / "copied")  # what the record names is found from the run's own folder
    [file] = moved.glob("*.wandb")
    record, summary = read_json(folder / "result.json"), json.loads(inspect(file, "--summary"))["summary"]
    shown = [moved / "files" / name for name in summary["gallery"]["filenames"]]
    assert len(shown) == 24
    assert all(picture.read_bytes().startswith(b"\x89PNG") for picture in shown)
    assert "true: " in summary["gallery"]["captions"][0]
    for key in ("metrics", "per_class", "images", "class_f1_table", "precision_recall_table"):
        table = json.loads((moved / "files" / summary[key]["path"]).read_text())
        if key == "per_class":
            assert table["columns"] == list(COLUMNS)
            assert [row[0] for row in table["data"]] == record["label_names"]
        if key == "metrics":
            [f1] = [row for row in table["data"] if row[0] == "f1"]
            assert f1[1] == "F1"
            assert f1[2:4] == [record["metrics"][split]["f1"] for split in ("val", "test")]
            assert f1[4:] == record["intervals"]["test"]["f1"]
        if key == "images":
            assert table["columns"][2:6] == ["true", "predicted", "wrong", "missed"]
            for _, _, *sets, _ in table["data"]:
                true, predicted, wrong, missed = (set(filter(None, names.split(", "))) for names in sets)
                assert (wrong, missed) == (predicted - true, true - predicted)
    assert summary["test/f1_low"] == pytest.approx(record["intervals"]["test"]["f1"][0])
    assert summary["label/label 00/support"] > 0


def test_offline_no_host_is_looked_up(tmp_path: Path, nowhere: Path) -> None:
    code = """
import socket, sys, traceback
from pathlib import Path

from lsep_ml.trackers.wandb_run import WandbTracker

def refuse(host, *_, **__):
    Path(sys.argv[2]).write_text(f"{host}\\n" + "".join(traceback.format_stack()))
    raise OSError(host)

socket.getaddrinfo = socket.gethostbyname = refuse
tracker = WandbTracker()
tracker.start({"names": {"data": "d", "loss": "l", "decision": "g"}}, Path(sys.argv[1]))
tracker.row({"stage": "prediction", "epoch": 1, "val_map": 0.5})
tracker.close(failed=False)
"""
    said = tmp_path / "said"
    command = [sys.executable, "-c", code, str(tmp_path), str(said)]
    subprocess.run(
        command, check=True, env=os.environ, cwd=tmp_path
    )  # telemetry would be sent as the process ends
    assert unsent_runs(tmp_path)
    assert not said.exists(), said.read_text()


def test_a_job_that_was_stopped_and_continued_is_one_run(tmp_path: Path, nowhere: Path) -> None:
    folder = write_run(tmp_path / "runs", images=60)
    tracked(folder, WandbTracker(), epochs=2, finish=False)
    [stopped] = unsent_runs(folder)
    [name] = (file.name for file in stopped.glob("*.wandb"))  # by the id that W&B knows the run by
    tracked(folder, WandbTracker(), epochs=3)  # a continued job shows all of its history
    [whole] = unsent_runs(folder)
    assert whole != stopped
    rows = [row["item"] for row in records(whole / name, "history") if "prediction/epoch" in row["item"]]
    assert [row["prediction/epoch"] for row in rows] == [1, 2, 3]
    tracked(folder, WandbTracker(), epochs=1)  # the job done again, after it ended well
    assert len({file.name for place in unsent_runs(folder) for file in place.glob("*.wandb")}) == 2
    (whole / f"{name}.synced").touch()
    assert whole not in unsent_runs(folder)


class Online:
    """A run that W&B has two epochs of, as `wandb.init` resumes it."""

    id, resumed = "abc", True
    dir = "nowhere/files"

    def __init__(self) -> None:
        self.summary: dict[str, Any] = {"prediction/epoch": 2}
        self.logged: list[dict[str, Any]] = []

    def define_metric(self, *names: str, **options: Any) -> None:
        pass

    def log(self, row: dict[str, Any]) -> None:
        self.logged.append(row)

    def finish(self, exit_code: int) -> None:
        pass


def test_online_a_continued_run_goes_on_after_what_was_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, asked = Online(), {}

    def init(**options: Any) -> Online:
        asked.update(options)
        return run

    monkeypatch.setattr("wandb.setup", lambda settings: None)
    monkeypatch.setattr("wandb.init", init)
    folder = write_run(tmp_path, images=60)
    tracked(folder, WandbTracker(mode="online"), epochs=4, finish=False)
    assert [row["prediction/epoch"] for row in run.logged] == [3, 4]
    assert (asked["mode"], asked["resume"]) == ("online", "auto")


def test_one_command_sends_a_sweep(tmp_path: Path) -> None:
    folders = [tmp_path / "a b" / name for name in "xyz"]
    for folder in folders[:2]:
        (folder / "wandb/offline-run-1-id").mkdir(parents=True)
    assert sync_command(folders) == f"wandb sync '{tmp_path}/a b'/*/wandb/offline-run-*"
    assert sync_command(folders[2:]) is None


def test_a_wandb_sweep_is_one_group_under_a_launcher_and_one_run_a_job(tmp_path: Path, nowhere: Path) -> None:
    overrides = ["data.train=64", "data.val=40", "data.test=50", "data.canvas=24", "model.widths=[4,4]"]
    overrides += ["training.epochs=2", "fitting.epochs=2", "trainer=cpu", f"paths.output={tmp_path}/o"]
    sweep = ["decision=topk,thresh_est", "logger=[csv,wandb]"]
    launcher = ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]
    command = [sys.executable, str(ROOT / "run.py"), "-m", *overrides, *sweep, *launcher]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=os.environ)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "".join(done.stdout.split()).count("wandbsync") == 1  # whatever the terminal's width
    files = list(tmp_path.rglob("*.wandb"))
    assert len(files) == 2
    assert kept(nowhere) == []
    groups = set()
    for file in files:
        run = json.loads(inspect(file, "--summary"))
        record = json.loads((file.parents[2] / "result.json").read_text())
        assert run["tags"] == ["digits", "lsep", record["decision"]]
        assert run["exit_code"] == 0
        assert run["config"]["loss"]["_target_"] == "lsep_ml.losses.lsep_loss"
        for key, value in record["metrics"]["test"].items():
            assert run["summary"][f"test/{key}"] == pytest.approx(value)
        rows = [row["item"] for row in records(file, "history")]
        assert [row["prediction/epoch"] for row in rows if "prediction/epoch" in row] == [1, 2]
        epochs = [row["decision/epoch"] for row in rows if "decision/epoch" in row]
        assert epochs == ([1, 2] if record["decision"] == "thresh_est" else [])
        [started] = [run for run in records(file, "run") if "run_group" in run]
        groups.add(started["run_group"])
    [group] = groups  # without an experiment, the time the sweep began
    assert datetime.strptime(group, "%Y-%m-%d_%H-%M-%S")
