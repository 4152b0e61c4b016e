"""What a run leaves beside its record, written and read: arrays that fit together, pictures, histories."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from report_runs import edit_record, write_run

from lsep_ml.files import file_digest
from lsep_ml.runs.arrays import read_arrays, read_thumbnails, write_predictions, write_thumbnails
from lsep_ml.runs.finished import Run, read_run
from lsep_ml.runs.history import read_curves, read_history, write_history
from lsep_ml.runs.record import RecordError


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return read_run(write_run(tmp_path, images=20, labels=3) / "result.json")[0]


def change(run: Run, **arrays: Any) -> None:
    """Replace arrays of a run's predictions.npz; None takes one away."""
    file = run.folder / "predictions.npz"
    kept = {name: array for name, array in {**np.load(file), **arrays}.items() if array is not None}
    np.savez(file, **kept)


def test_arrays_come_back_as_they_were_written(run: Run) -> None:
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(20, 3)).astype(np.float32)
    targets = (rng.random((20, 3)) < 0.5).astype(np.uint8)
    ids = np.array([f"é/{row}.jpg" for row in range(20)])
    arrays = {
        "scores": scores,
        "targets": targets,
        "predictions": scores > 0,  # bool, as decisions give it
        "thresholds": None,
        "image_ids": ids,
    }
    written = write_predictions(run.folder / "predictions.npz", arrays, run.label_names)
    found = read_arrays(
        run, "predictions.npz", "scores", "targets", "predictions", "mask", "thresholds", "image_ids"
    )
    assert set(found) == set(written) - {"label_names"} == {*arrays, "mask"} - {"thresholds"}
    np.testing.assert_array_equal(found["scores"], scores)
    np.testing.assert_array_equal(found["targets"], targets)
    np.testing.assert_array_equal(found["predictions"], scores > 0)
    np.testing.assert_array_equal(found["image_ids"], ids)
    assert found["mask"].all()  # targets without a mask: all of them are known
    assert found["predictions"].dtype == found["mask"].dtype == np.uint8


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"scores": None}, "scores is not a file in the archive"),
        ({"scores": np.zeros((20, 3), int)}, r"scores is int64 \(20, 3\), not floats \(20, 3\)"),
        ({"scores": np.zeros((20, 4), np.float32)}, r"scores is float32 \(20, 4\), not floats \(20, 3\)"),
        ({"scores": np.zeros((19, 3), np.float32)}, r"arrays of \[19, 20\] images"),
        ({"targets": np.full((20, 3), 2, np.uint8)}, "targets holds 2; its entries are 0 or 1"),
        ({"targets": np.zeros((20, 3))}, "targets is float64"),
        ({"label_names": np.array(["b", "a", "c"])}, r"its labels are 3 \(b, a, c, ...\)"),
        ({"image_ids": np.array(["a"] * 20, object)}, "damaged"),  # pickled: never loaded
    ],
)
def test_arrays_that_cannot_be_are_named(run: Run, arrays: dict[str, Any], message: str) -> None:
    change(run, **arrays)
    with pytest.raises(RecordError, match=rf"^predictions\.npz: .*{message}"):
        read_arrays(run, "predictions.npz", "scores", "targets", "image_ids")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_score_that_is_no_number_is_named_by_its_row(run: Run, value: float) -> None:
    scores = np.zeros((20, 3), np.float32)
    scores[7, 1] = value
    change(run, scores=scores)
    with pytest.raises(RecordError, match=rf"scores holds {value} in row 7"):
        read_arrays(run, "predictions.npz", "scores")
    assert set(read_arrays(run, "predictions.npz", "targets")) == {"targets"}  # the others are usable


def test_a_file_is_held_against_the_checksum_that_the_record_has(tmp_path: Path) -> None:
    folder = write_run(tmp_path)
    edit_record(
        folder, files={"predictions.npz": file_digest(folder / "predictions.npz"), "history.csv": "0"}
    )
    run, _ = read_run(folder / "result.json")
    assert read_arrays(run, "predictions.npz", "scores")
    change(run, scores=np.load(folder / "predictions.npz")["scores"] + 1)
    with pytest.raises(RecordError, match=r"^predictions\.npz: damaged \(not the checksum"):
        read_arrays(run, "predictions.npz", "scores")
    with pytest.raises(RecordError, match=r"^history\.csv: damaged"):
        read_curves(run)


def test_pictures_come_back_by_ascending_row(run: Run) -> None:
    grey, colour = np.arange(6, dtype=np.uint8).reshape(2, 3), np.zeros((2, 2, 3), np.uint8)
    write_thumbnails(run.folder / "thumbnails.npz", {11: colour, 2: grey})
    found = read_thumbnails(run)
    assert list(found) == [2, 11]
    np.testing.assert_array_equal(found[2], grey)


@pytest.mark.parametrize(
    ("name", "picture"),
    [
        ("eleven", np.zeros((2, 2), np.uint8)),
        ("-1", np.zeros((2, 2), np.uint8)),
        ("1", np.zeros((2, 2), np.float32)),
        ("1", np.zeros((2, 2, 4), np.uint8)),
        ("1", np.zeros((0, 2), np.uint8)),
        ("1", np.zeros(4, np.uint8)),
    ],
)
def test_what_is_no_picture_of_a_test_row_is_refused(run: Run, name: str, picture: np.ndarray) -> None:
    np.savez(run.folder / "thumbnails.npz", **{name: picture})
    with pytest.raises(RecordError, match="no picture of a test row"):
        read_thumbnails(run)


def test_a_history_has_a_column_for_every_key_and_a_gap_where_a_row_lacks_it(run: Run) -> None:
    rows = [
        {"stage": "prediction", "epoch": 1, "train_loss": 0.5},
        {"stage": "prediction", "epoch": 2, "train_loss": 0.25, "val_map": 0.75},
        {"stage": "decision", "epoch": 1, "train_loss": 3.0},
    ]
    write_history(run.folder / "history.csv", rows)
    assert read_history(run.folder / "history.csv") == [
        {key: str(value) for key, value in row.items()} for row in rows
    ]
    curves = read_curves(run)
    assert set(curves) == {"prediction", "decision"}
    assert curves["prediction"]["train_loss"].tolist() == [0.5, 0.25]
    assert np.isnan(curves["prediction"]["val_map"][0])
    assert curves["prediction"]["val_map"][1] == 0.75
    assert curves["decision"]["epoch"].tolist() == [1]
    assert "val_map" not in curves["decision"]


@pytest.mark.parametrize("text", ["stage,epoch\nprediction,one\n", "epoch,train_loss\n1,2\n"])
def test_a_history_that_is_none_is_said(run: Run, text: str) -> None:
    (run.folder / "history.csv").write_text(text)
    with pytest.raises(RecordError, match=r"history\.csv: unreadable"):
        read_curves(run)
