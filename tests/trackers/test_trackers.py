"""What holds for any tracker: it is told in order and closed, its final numbers; Lightning's loggers are trackers."""

import csv
from pathlib import Path
from typing import Any

import pytest
from pytorch_lightning.loggers import CSVLogger
from report_runs import write_run

from lsep_ml.files import read_json
from lsep_ml.runs.arrays import read_test_split
from lsep_ml.runs.finished import read_run
from lsep_ml.runs.record import RecordError, write_record
from lsep_ml.trackers.tracker import (
    LABELS_ALONE,
    LightningLogger,
    LightningTracker,
    Trackers,
    label_rows,
    summary_numbers,
)


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


def test_the_final_numbers_have_intervals_and_every_label(tmp_path: Path) -> None:
    folder = write_run(tmp_path, images=60, unknown=0.2)
    record = read_json(folder / "result.json")
    test = read_test_split(read_run(folder / "result.json")[0])
    numbers = summary_numbers(record, label_rows(record, test))
    for key, value in record["metrics"]["test"].items():
        assert numbers[f"test/{key}"] == value
    for key, (low, high) in record["intervals"]["test"].items():
        assert (numbers[f"test/{key}_low"], numbers[f"test/{key}_high"]) == (low, high)
    for k, name in enumerate(record["label_names"]):
        known = test["mask"][:, k] > 0
        true, predicted = test["targets"][known, k] > 0, test["predictions"][known, k] > 0
        assert numbers[f"label/{name}/support"] == true.sum()
        assert numbers[f"label/{name}/recall"] == pytest.approx((true & predicted).sum() / true.sum())
        assert numbers[f"label/{name}/precision"] == pytest.approx((true & predicted).sum() / predicted.sum())
        assert 0 < numbers[f"label/{name}/ap"] <= 1


def test_thousands_of_labels_are_no_numbers_of_a_summary() -> None:
    record: dict[str, Any] = {
        "metrics": {"test": {"f1": 0.5}},
        "intervals": {"test": {}},
        "choices": {"k": 2},
    }
    rows = [{"label": str(k), "f1": 0.5, "ap": None} for k in range(LABELS_ALONE + 1)]
    assert summary_numbers(record, rows) == {"test/f1": 0.5, "choices/k": 2}
    assert summary_numbers(record, rows[1:2]) == {"test/f1": 0.5, "choices/k": 2, "label/1/f1": 0.5}


def test_a_logger_of_lightning_is_a_tracker(tmp_path: Path) -> None:
    folder = write_run(tmp_path, images=60)
    record = read_json(folder / "result.json")
    logger = CSVLogger(str(tmp_path), name="csv", version="one")
    assert isinstance(logger, LightningLogger)
    assert not isinstance(Recorder(), LightningLogger)
    with Trackers([logger]).run(record["config"], folder) as trackers:
        assert isinstance(trackers.trackers[0], LightningTracker)
        trackers.row({"stage": "prediction", "epoch": "1", "val_map": "0.5"})  # as a stored history has it
        trackers.row({"stage": "decision", "epoch": 1, "train_loss": 2.0})
        trackers.result(record, folder)
    with (tmp_path / "csv/one/metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["prediction/val_map"] for row in rows if row["prediction/val_map"]] == ["0.5"]
    assert [row["decision/train_loss"] for row in rows if row["decision/train_loss"]] == ["2.0"]
    [last] = [row for row in rows if row["test/f1"]]
    assert int(last["step"]) == record["choices"]["epoch"]
    assert float(last["test/f1"]) == record["metrics"]["test"]["f1"]
    assert float(last["test/f1_low"]) == record["intervals"]["test"]["f1"][0]
    assert "small_cnn" in (tmp_path / "csv/one/hparams.yaml").read_text()
    write_record(folder, record)
    content = bytearray((folder / "predictions.npz").read_bytes())
    content[-1] ^= 1  # of the archive's closing record: NumPy reads on
    (folder / "predictions.npz").write_bytes(content)
    with pytest.raises(RecordError, match=r"predictions\.npz: damaged"):
        LightningTracker(logger).result(record, folder)
