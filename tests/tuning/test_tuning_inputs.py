"""Files of scores and decisions as people have them: damaged, edited, odd; each is read as meant or named."""

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from lsep_ml.decisions import GlobalThreshold, PerClassThreshold, ThresholdEstimation, TopK, load
from lsep_ml.decisions.base import Rule
from lsep_ml.tuning import apply, read_scores, tune

SCORES = np.array([[0.5, -0.5], [1.5, 0.25], [-1.0, 2.0], [0.0, 1.0]], np.float32)
TARGETS = np.array([[1, 0], [1, 1], [0, 1], [0, 1]])


def npz(path: Path, **arrays: np.ndarray) -> Path:
    np.savez(path / "scores.npz", **({"scores": SCORES} | arrays))
    return path / "scores.npz"


def csv(path: Path, *lines: str) -> Path:
    file = path / "scores.csv"
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return file


def fitted(path: Path) -> Path:
    GlobalThreshold().fit(SCORES, TARGETS).save(path / "decision.json")
    return path / "decision.json"


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        (np.where(TARGETS, 1, -1), "targets: -1 found in row 0, column 1, expected only 0 and 1"),
        (TARGETS * 0.5, "targets: 0.5 found in row 0, column 0"),
        (TARGETS[:, :1], r"targets have shape \(4, 1\), scores \(4, 2\)"),
    ],
)
def test_apply_refuses_what_tune_refuses(targets: np.ndarray, message: str, tmp_path: Path) -> None:
    source = npz(tmp_path, targets=targets)
    for call in (
        lambda: apply(fitted(tmp_path), source, tmp_path / "out.csv"),
        lambda: tune(source, decisions=["topk"], folds=2, progress=False),
    ):
        with pytest.raises(ValueError, match=rf"scores.npz: .*{message}"):
            call()
    assert not (tmp_path / "out.csv").exists()


def test_a_target_that_is_nan_is_unknown(tmp_path: Path) -> None:
    targets = TARGETS.astype(float)
    targets[0, 1] = np.nan
    table = read_scores(npz(tmp_path, targets=targets))
    assert table.targets is not None
    assert table.mask is not None
    assert table.targets.tolist() == TARGETS.tolist()
    assert table.mask.tolist() == [[True, False]] + 3 * [[True, True]]
    _, metrics = apply(fitted(tmp_path), tmp_path / "scores.npz", tmp_path / "one.csv")
    _, masked = apply(
        fitted(tmp_path), npz(tmp_path, targets=TARGETS, mask=table.mask), tmp_path / "other.csv"
    )
    assert metrics == masked


@pytest.mark.parametrize("suffix", [".csv", ".npz", ".parquet"])
def test_image_ids_are_text_byte_for_byte(suffix: str, tmp_path: Path) -> None:
    ids = ["000001", "1e5", " 7", "NaN"]
    source = csv(tmp_path, "image_id,score_a,score_b", *(f"{name},{i},{-i}" for i, name in enumerate(ids)))
    assert read_scores(source).image_ids == ids
    out = tmp_path / f"out{suffix}"
    apply(fitted(tmp_path), source, out)
    if suffix == ".npz":
        with np.load(out, allow_pickle=False) as file:
            assert file["image_ids"].tolist() == ids
    elif suffix == ".csv":
        assert [line.split(",")[0] for line in out.read_text().splitlines()[1:]] == ids
    else:
        assert pl.read_parquet(out)["image_id"].to_list() == ids


def test_the_first_rows_say_nothing_of_a_columns_type(tmp_path: Path) -> None:
    """Whole numbers for more rows than readers guess from, then fractions and a target that is not known."""
    rows = [f"{row},{row % 3},{row % 2}" for row in range(300)]
    table = read_scores(csv(tmp_path, "image_id,score_a,target_a", *rows, "x7,0.25,", "x8,1e-3,nan"))
    assert table.mask is not None
    assert table.scores[-2:].tolist() == [[0.25], [np.float32(1e-3)]]
    assert table.mask[:, 0].tolist() == 300 * [True] + 2 * [False]


def test_values_as_pandas_writes_them(tmp_path: Path) -> None:
    table = read_scores(csv(tmp_path, "score_a,target_a", "0.5,1.0", "0.25,True", "0.1,False", "0,<NA>"))
    assert table.targets is not None
    assert table.mask is not None
    assert table.targets[:, 0].tolist() == [1, 1, 0, 0]
    assert table.mask[:, 0].tolist() == [True, True, True, False]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([], "no columns named score_LABEL; found nothing"),
        (["score_a;target_a", "0,5;1"], "its columns are separated by ';'; save it with commas"),
        (["score_a,score_a", "1,2"], "the column 'score_a' is there twice"),
        (["score_a", "0.5", "abc"], "line 3, column 'score_a': 'abc' is no number"),
        (["score_a", "0.5", "nan"], "line 3, column 'score_a': 'nan'; expected a finite number"),
        (["score_a,feature_0", "0.5,"], "line 2, column 'feature_0': None; expected a finite number"),
        (["score_a,target_a", "0.5,2"], "line 2, column 'target_a': '2'; expected 0, 1, or nothing"),
        (["score_a,target_a", "0.5,0.5"], "line 2, column 'target_a': '0.5'; expected 0, 1, or nothing"),
        (["score_a,score_b", "1,2,3"], "line 2: 3 cells under 2 columns"),
        (["score_a,target_a", "1,1", "0.5"], "line 3: 1 cells under 2 columns"),
        (["score_a,target_a"], "scores of 0 images and 1 labels"),
    ],
)
def test_tables_that_cannot_be_used(lines: list[str], message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=rf"scores.csv: .*{message}" if lines else message):
        read_scores(csv(tmp_path, *lines) if lines else _empty(tmp_path / "scores.csv"))


def _empty(path: Path) -> Path:
    path.write_bytes(b"")
    return path


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"features": np.zeros((2, 3))}, r"features have shape \(2, 3\), scores \(4, 2\)"),
        ({"image_ids": np.array(["a", "b"])}, r"image_ids have shape \(2,\), scores \(4, 2\)"),
        ({"label_names": np.array(["a", "a"])}, "the label 'a' is there twice"),
        ({"mask": np.full((4, 2), 0.5)}, "mask: 0.5 found in row 0, column 0"),
        ({"scores": np.array([["a", "b"]])}, "expected a matrix of numbers"),
        ({"scores": np.zeros(4)}, r"float64 of shape \(4,\); expected a matrix of numbers"),
        ({"scores": np.array([[1.0, np.inf]])}, "scores: inf in row 0, column 1"),
        ({"scores": np.array([{"a": 1}], dtype=object)}, "Object arrays cannot be loaded"),
    ],
)
def test_arrays_that_cannot_be_used(arrays: dict, message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=rf"scores.npz: .*{message}"):
        read_scores(npz(tmp_path, **arrays))


@pytest.mark.parametrize("name", ["scores.npz", "scores.parquet", "scores.csv"])
@pytest.mark.parametrize("content", [b"", b"\x00", b"PK\x03\x04 half", b"\xff\xfe\x00"])
def test_files_that_are_something_else(name: str, content: bytes, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=f"{name}: not a usable file of scores"):
        read_scores(tmp_path / name)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"options": {"zz": 1}}, "unexpected keyword argument 'zz'"),
        ({"options": [1]}, "must be a mapping"),
        ({"decision": ["TopK"]}, "no name"),
        ({"state": {"num_labels": 2}}, "its state has num_labels, not num_labels, theta: theta"),
        ({"state": {"num_labels": 2, "theta": float("nan")}}, "theta holds NaN"),
        ({"state": {"num_labels": 2, "theta": "a"}}, "theta = 'a' is no number"),
        ({"state": {"num_labels": 2, "theta": None}}, "theta = None is no number"),
        ({"state": {"num_labels": 2, "theta": [0.0, 1.0, 2.0]}}, "must match"),
        ({"state": {"num_labels": 2, "theta": [0.0, 1.0, 2.0]}}, r"num_labels = 2, theta \(3,\)"),
        ({"state": {"num_labels": "1.5", "theta": 0.0}}, "num_labels = '1.5' is no number"),
        ({"state": [1]}, "not a saved GlobalThreshold"),
        ({"label_names": ["a"]}, "its 1 different label_names are for num_labels = 2"),
        ({"label_names": [1, 2]}, "its label_names are no list of texts"),
        ({"weights": 3}, "not a saved decision"),
        ({"weights": {"file": "../../x", "sha256": ""}}, "no file beside it"),
    ],
)
def test_an_edited_decision_is_refused_by_file_and_key(change: dict, message: str, tmp_path: Path) -> None:
    path = fitted(tmp_path)
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(ValueError, match=rf"decision.json: .*{message}"):
        load(path)


@pytest.mark.parametrize(
    "decision", [TopK(), PerClassThreshold(guard=False, folds=2)], ids=lambda d: type(d).__name__
)
def test_a_state_of_another_size_is_refused(decision: Rule, tmp_path: Path) -> None:
    decision.fit(np.tile(SCORES, (6, 1)), np.tile(TARGETS, (6, 1))).save(tmp_path / "decision.json")
    record = json.loads((tmp_path / "decision.json").read_text())
    for key in record["state"].keys() - {"shrinkage"}:  # which only says what was chosen
        (tmp_path / "decision.json").write_text(
            json.dumps(record | {"state": record["state"] | {key: [1.0, 2.0, 3.0]}})
        )
        with pytest.raises(ValueError, match=r"decision\.json"):
            load(tmp_path / "decision.json")


def test_a_learnt_decision_of_other_sizes_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "decision.json"
    ThresholdEstimation(num_features=3, num_labels=2).save(path)
    record = json.loads(path.read_text())
    path.write_text(json.dumps(record | {"options": record["options"] | {"num_features": 4}}))
    with pytest.raises(ValueError, match=r"decision.json: not a saved ThresholdEstimation"):
        load(path)


def test_where_nothing_can_be_written_is_said_before_the_work(tmp_path: Path) -> None:
    source = npz(tmp_path, targets=TARGETS)
    (tmp_path / "file").touch()
    for out in (tmp_path, tmp_path / "file" / "decision.json"):
        with pytest.raises(OSError, match=str(tmp_path)):
            tune(source, out, decisions=["topk"], folds=2, progress=False)
