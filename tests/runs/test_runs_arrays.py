"""What a run leaves beside its record, written and read: arrays that fit together, pictures, histories."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from report_runs import edit_record, write_run

from lsep_ml.files import file_digest, temporary_array
from lsep_ml.metrics import counts
from lsep_ml.metrics.functional import average_precisions, ranking_metrics
from lsep_ml.metrics.indicator import SparseIndicator
from lsep_ml.runs import top_scores
from lsep_ml.runs.arrays import read_arrays, read_held, read_thumbnails, write_predictions, write_thumbnails
from lsep_ml.runs.finished import Run, read_run
from lsep_ml.runs.history import read_curves, read_history, write_history
from lsep_ml.runs.record import RecordError
from lsep_ml.runs.top_scores import TopScores
from lsep_ml.tuning.score_files import read_scores


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


def split_of(images: int, labels: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Scores with ties, and targets; the last image has no positive, the one before all of them."""
    rng = np.random.default_rng(seed)
    scores = rng.normal(size=(images, labels)).round(1).astype(np.float32)
    targets = (rng.random((images, labels)) < 0.1).astype(np.uint8)
    targets[-1], targets[-2] = 0, 1
    return scores, targets


@pytest.mark.parametrize("kept", [1, 7, 40, 99])
def test_the_highest_scores_and_those_of_positives_are_kept(
    kept: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    scores, targets = split_of(12, 40)
    monkeypatch.setattr(counts, "ENTRIES", 100)  # some rows at a time
    top = TopScores.of(scores, targets, kept)
    dense = top.dense(40)
    for row, (of_image, true) in enumerate(zip(scores, targets, strict=True)):
        order = sorted(range(40), key=lambda label: (-of_image[label], label))
        wanted = sorted({*order[:kept], *np.flatnonzero(true)})
        part = slice(top.starts[row], top.starts[row + 1])
        assert top.columns[part].tolist() == wanted
        np.testing.assert_array_equal(top.values[part], of_image[wanted])
        assert top.below[row] == of_image[order[min(kept, 40) - 1]]
        rest = np.setdiff1d(np.arange(40), wanted)
        assert (dense[row, rest] == top.below[row]).all()
        assert (scores[row, rest] <= top.below[row]).all()
        np.testing.assert_array_equal(dense[row, wanted], of_image[wanted])


def test_what_the_highest_scores_say_is_exact_or_bounded() -> None:
    scores, targets = split_of(60, 40)
    top = TopScores.of(scores, targets, 9)
    high = top.dense(40)
    low = np.where(high == top.below[:, None], -9.0, high)  # of what is not kept, and ties of the last
    rows, columns = np.repeat(np.arange(60), np.diff(top.starts)), top.columns
    low[rows, columns] = top.values
    for k in range(1, 9):
        orders = [np.argsort(-of, axis=1, kind="stable")[:, :k] for of in (scores, high)]
        lowest = np.take_along_axis(scores, orders[0][:, -1:], 1)[:, 0]
        untied = lowest > top.below
        assert untied.sum() > 20
        np.testing.assert_array_equal(orders[0][untied], orders[1][untied])
    theta = np.maximum(top.below[:, None], scores.mean())
    np.testing.assert_array_equal(high > theta, scores > theta)
    truth, least, most = (ranking_metrics(of, targets) for of in (scores, high, low))
    precisions = [average_precisions(of, targets) for of in (high, scores, low)]
    assert (precisions[0] <= precisions[1] + 1e-12).all()
    assert (precisions[1] <= precisions[2] + 1e-12).all()
    assert least["map"] < truth["map"] < most["map"]
    assert least["one_error"] == truth["one_error"] == most["one_error"]
    assert least["lrap"] < truth["lrap"] < most["lrap"]
    assert least["coverage"] > truth["coverage"] > most["coverage"]
    assert least["ranking_loss"] > truth["ranking_loss"] > most["ranking_loss"]


def test_a_large_split_keeps_its_highest_scores(
    run: Run, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    scores, targets = split_of(20, 3)
    path = run.folder / "predictions.npz"
    per_label = np.broadcast_to(np.float32([0.1, 0.2, 0.3]), (20, 3))
    per_image = np.broadcast_to(np.arange(20, dtype=np.float32)[:, None], (20, 3))
    own = per_image + per_label
    monkeypatch.setattr(top_scores, "LARGE", 1)
    monkeypatch.setattr(TopScores.of.__func__, "__defaults__", (2,))
    for thresholds, stored in ((per_label, (1, 3)), (per_image, (20, 1)), (own, (20, 3))):
        arrays = {"scores": scores, "targets": targets, "predictions": targets, "thresholds": thresholds}
        written = write_predictions(path, arrays, run.label_names)
        np.testing.assert_array_equal(written["scores"], scores)
        with np.load(path) as file:
            assert "scores" not in file.files
            assert file["thresholds"].shape == stored
        caplog.clear()
        unsealed = dataclasses.replace(run, files={})
        found = read_arrays(unsealed, "predictions.npz", "scores", "targets", "thresholds")
        np.testing.assert_array_equal(found["scores"], TopScores.of(scores, targets, 2).dense(3))
        np.testing.assert_array_equal(found["thresholds"], thresholds)
        assert "keeps the highest scores of each image alone" in caplog.text
    with pytest.raises(ValueError, match="keeps the highest scores of each image alone"):
        read_scores(path.rename(run.folder.parent / "scores.npz"))


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("large", [False, True])
def test_sets_are_stored_sparse_where_they_are_many_and_read_the_same(
    run: Run, large: bool, sparse: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, targets = split_of(20, 3)
    mask = np.random.default_rng(1).random((20, 3)) < 0.8
    held = SparseIndicator.from_dense if sparse else np.asarray
    monkeypatch.setattr(top_scores, "LARGE", 1 if large else 2**28)
    for known in (mask, None):
        arrays = {"targets": held(targets), "predictions": held(targets == 0)}
        write_predictions(
            run.folder / "predictions.npz",
            {**arrays, "mask": None if known is None else held(known)},
            run.label_names,
        )
        with np.load(run.folder / "predictions.npz") as file:
            assert ("targets" in file.files) != large
            assert ("mask_rest" in file.files) == large
        names = "predictions", "targets", "mask"
        found = read_arrays(dataclasses.replace(run, files={}), "predictions.npz", *names)
        expected = targets == 0, targets, np.ones_like(mask) if known is None else mask
        held_so = read_held(dataclasses.replace(run, files={}), "predictions.npz", *names)
        assert {isinstance(array, SparseIndicator) for array in held_so.values()} == {large}
        for name, array in zip(names, expected, strict=True):
            np.testing.assert_array_equal(np.asarray(held_so[name]), found[name], strict=True)
            np.testing.assert_array_equal(found[name], array.astype(np.uint8), strict=True)


def test_large_matrices_of_small_files_are_held_in_little_memory(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From files in which all is dense: the same numbers, and what cannot be is refused as ever."""
    plain = dataclasses.replace(run, files={})
    with np.load(run.folder / "predictions.npz") as file:
        arrays = dict(file)
    names = "predictions", "targets", "mask", "scores", "thresholds"
    thresholds = np.linspace(0, 1, arrays["scores"].shape[1], dtype=np.float32)
    for own in (arrays["scores"], np.broadcast_to(thresholds, arrays["scores"].shape)):
        np.savez_compressed(run.folder / "predictions.npz", **{**arrays, "thresholds": own})
        dense = read_arrays(plain, "predictions.npz", *names)
        monkeypatch.setattr("lsep_ml.runs.arrays.ENTRIES", 1)
        held = read_held(plain, "predictions.npz", *names)
        monkeypatch.undo()
        assert all(isinstance(held[name], SparseIndicator) for name in names[:3])
        assert (held["thresholds"].strides[0] == 0) == (own is not arrays["scores"])
        for name in names:
            np.testing.assert_array_equal(np.asarray(held[name]), dense[name], strict=True)
    np.savez_compressed(run.folder / "predictions.npz", **{**arrays, "targets": 2 * arrays["targets"]})
    monkeypatch.setattr("lsep_ml.runs.arrays.ENTRIES", 1)
    with pytest.raises(RecordError, match="targets holds 2; its entries are 0 or 1"):
        read_held(plain, "predictions.npz", "targets")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"starts": np.arange(20)}, "do not belong together"),
        ({"rest": np.zeros(3, bool)}, "do not belong together"),
        ({"columns": np.full(5, 3, np.int32)}, "targets_columns: 3 to 3 of 3 labels"),
        ({"starts": None}, "targets_starts is not a file in the archive"),
    ],
)
def test_damaged_sparse_sets_are_refused(run: Run, changed: dict[str, Any], message: str) -> None:
    whole = {"starts": np.minimum(np.arange(21), 5), "columns": np.zeros(5, np.int32)}
    arrays = {f"targets_{name}": array for name, array in (whole | changed).items()}
    change(run, targets=None, **arrays)
    with pytest.raises(RecordError, match=message):
        read_arrays(dataclasses.replace(run, files={}), "predictions.npz", "targets")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"scores_columns": np.array([7], np.int32)}, "do not belong together"),
        ({"scores_columns": 9}, "9 to 9 of 3 labels"),
        ({"scores_starts": None}, "scores_starts is not a file in the archive"),
    ],
)
def test_damaged_highest_scores_are_refused(run: Run, changed: dict[str, Any], message: str) -> None:
    scores, targets = split_of(20, 3)
    arrays: dict[str, Any] = TopScores.of(scores, targets).named()
    for name, value in changed.items():
        arrays[name] = np.full_like(arrays[name], value) if isinstance(value, int) else value
    change(run, scores=None, **arrays)
    with pytest.raises(RecordError, match=message):
        read_arrays(dataclasses.replace(run, files={}), "predictions.npz", "scores")


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


@pytest.mark.parametrize("platform", ["linux", "darwin"])
def test_a_temporary_array_has_its_room_and_no_name(
    platform: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.platform", platform)
    if platform == "darwin":
        monkeypatch.delattr("os.posix_fallocate")
    array = temporary_array((3, 5), tmp_path)
    array[:] = np.arange(15).reshape(3, 5)
    assert array.sum() == 105
    assert not list(tmp_path.iterdir())
