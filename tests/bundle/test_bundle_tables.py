"""The one table of predict and apply: the same columns from both, and training data once a person has corrected it."""

import csv
import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from bundle_runs import call
from PIL import Image

import lsep_ml
from lsep_ml.bundle.predictions import Predictions
from lsep_ml.bundle.tables import Columns, ImageRow, rows_of, write_table
from lsep_ml.data import DataError
from lsep_ml.data.check.verdict import check
from lsep_ml.data.label_names import beside_labels, label_cell, label_names_of, listed_in_cell, needs_lists
from lsep_ml.data.sources.csv_labels import csv_annotations, read_csv
from lsep_ml.data.sources.own import own_annotations, read_own
from lsep_ml.decisions import DECISIONS, GlobalThreshold
from lsep_ml.files import inert, spoken
from lsep_ml.tuning import apply, read_scores

IMAGES = 16


def photographs(root: Path, images: int = IMAGES) -> Path:
    rng = np.random.default_rng(0)
    for number in range(images):
        path = root / "new" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (24, 30, 3), np.uint8)).save(path)
    return root


def table(path: Path) -> list[dict]:
    """The rows as they stand, with lists of labels."""
    if path.suffix == ".csv":
        with path.open(newline="", encoding="utf-8") as file:
            return [row | {"labels": row["labels"].split("|")} for row in csv.DictReader(file)]
    if path.suffix == ".jsonl":
        return [json.loads(line) for line in path.read_text().splitlines()]
    return pl.read_parquet(path).to_dicts()


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_predict_and_apply_write_one_table(photo_run: Path, suffix: str, tmp_path: Path) -> None:
    """apply, given predict's scores and a decision of the same thresholds, writes what predict does."""
    root = photographs(tmp_path)
    decision = GlobalThreshold()
    classifier = lsep_ml.load(photo_run, device="cpu")
    names = list(classifier.label_names)
    scores = classifier.predict(root / "new").scores
    rng = np.random.default_rng(1)
    decision.fit(scores, rng.random(scores.shape) < 0.4).save(tmp_path / "decision.json")
    theta = float(decision.theta)
    call("predict", photo_run, root / "new", "--out", tmp_path / "scores.csv", "--device", "cpu")
    out = tmp_path / f"predicted.{suffix}"
    call("predict", photo_run, root / "new", "--out", out, "--threshold", repr(theta), "--device", "cpu")
    applied = tmp_path / f"applied.{suffix}"
    call("apply", tmp_path / "decision.json", tmp_path / "scores.csv", "--out", applied)
    theirs, ours = table(applied), table(out)
    extra = set(theirs[0]) - set(ours[0])
    assert extra == (set() if suffix == "jsonl" else {"image_id", *(f"predicted_{name}" for name in names)})
    assert [{key: row[key] for key in row if key not in extra} for row in theirs] == ours
    assert any(row["labels"] != [""] for row in ours)
    row, margin = ours[0], np.abs(scores[0] - np.float32(theta)).min()
    assert np.float32(row["margin"]) == margin
    if suffix == "jsonl":
        assert [np.float32(row["thresholds"][name]) for name in names] == [np.float32(theta)] * len(names)
    else:
        assert [np.float32(row[f"threshold_{name}"]) for name in names] == [np.float32(theta)] * len(names)


def predicted(root: Path, photo_run: Path, suffix: str, *options: object) -> Path:
    out = root / "new" / f"labels.{suffix}"
    call("predict", photo_run, root / "new", "--out", out, "--top", 2, "--device", "cpu", *options)
    return out


def corrected(path: Path, image: str, labels: list[str]) -> None:
    """Write other labels of an image into its one cell, as a person would."""
    if path.suffix == ".csv":
        lines = path.read_text().splitlines()
        at = next(number for number, line in enumerate(lines) if image in line)
        cells = next(csv.reader([lines[at]]))
        lines[at] = lines[at].replace(cells[1], "|".join(labels), 1)
        path.write_text("\n".join(lines) + "\n")
    elif path.suffix == ".jsonl":
        rows = table(path)
        next(row for row in rows if row["image"].endswith(image))["labels"] = labels
        path.write_text("\n".join(map(json.dumps, rows)) + "\n")
    else:
        rows = table(path)
        next(row for row in rows if row["image"].endswith(image))["labels"] = labels
        pl.DataFrame(rows).write_parquet(path)


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
@pytest.mark.parametrize("scores", ["--scores", "--no-scores"])
def test_a_corrected_table_is_training_data(
    photo_run: Path, suffix: str, scores: str, tmp_path: Path
) -> None:
    path = predicted(photographs(tmp_path), photo_run, suffix, scores)
    names = lsep_ml.load(photo_run, device="cpu").label_names
    expected = {Path(row["image"]).name: set(row["labels"]) for row in table(path)}
    expected["3.png"] = {names[0], names[3]}
    corrected(path, "/3.png", [names[0], names[3]])
    annotations = own_annotations(path.parent)
    found = {
        image: {name for name, target in zip(annotations.label_names, row, strict=True) if target}
        for image, row in zip(annotations.image_ids.tolist(), annotations.targets, strict=True)
    }
    assert found == expected
    assert annotations.mask is None
    if scores == "--scores":
        assert annotations.label_names == names  # also those that no image has
        assert annotations.format == f"table of predict or apply (labels.{suffix})"
    split = read_own(path.parent, shares=(0.5, 0.25, 0.25))
    assert sum(len(split.split(name)) for name in ("train", "val", "test")) == IMAGES
    report = check("own", path.parent)
    assert report.exit_code == 0
    assert report.summary["images"] == IMAGES
    assert report.summary["positives"] == {
        name: sum(name in labels for labels in expected.values()) for name in annotations.label_names
    }
    if suffix == "csv":
        read = read_csv(path.parent, shares=(0.5, 0.25, 0.25))
        assert set(read.label_names) == set(annotations.label_names)
        ours = csv_annotations(path.parent)
        assert {
            image: {name for name, target in zip(ours.label_names, row, strict=True) if target}
            for image, row in zip(ours.image_ids.tolist(), ours.targets, strict=True)
        } == expected


def test_images_with_a_problem_are_no_images_without_labels(photo_run: Path, tmp_path: Path) -> None:
    root = photographs(tmp_path)
    for name in ("bad.png", "worse.png"):
        (root / "new" / name).write_bytes(b"nothing")
    path = predicted(root, photo_run, "csv")
    for annotations in (own_annotations(path.parent), csv_annotations(path.parent)):
        assert len(annotations) == IMAGES
        assert not {"bad.png", "worse.png"} & set(annotations.image_ids.tolist())
    assert own_annotations(path.parent).dropped == {"problems of predict": 2}
    lines = path.read_text().splitlines()
    assert sum("no image" in line or "cannot" in line for line in lines) == 2 or lines[0].endswith("problem")
    assert len(read_scores(path).scores) == IMAGES


ODD = ("cat|kitten", "salt, pepper", "a;b", "nan", "background", "[x]", "traffic light")


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_names_that_hold_the_separator_come_back(suffix: str, tmp_path: Path) -> None:
    """A score file of another model's names: apply, correct one cell, train."""
    root = photographs(tmp_path)
    rng = np.random.default_rng(2)
    scores = rng.standard_normal((IMAGES, len(ODD))).astype(np.float32)
    ids = np.array([f"new/{row}.png" for row in range(IMAGES)])
    np.savez(tmp_path / "scores.npz", scores=scores, label_names=np.array(ODD), image_ids=ids)
    GlobalThreshold().fit(scores, rng.random(scores.shape) < 0.4).save(tmp_path / "decision.json")
    out = root / f"labels.{suffix}"
    label_sets, _ = apply(tmp_path / "decision.json", tmp_path / "scores.npz", out)
    expected = {str(ids[row]): {ODD[k] for k in np.flatnonzero(label_sets[row])} for row in range(IMAGES)}
    expected["new/3.png"] = {"cat|kitten", "nan"}
    if suffix == "csv":
        lines = list(csv.reader(out.read_text().splitlines()))
        next(cells for cells in lines if cells[0] == "new/3.png")[1] = '["nan", "cat|kitten"]'
        with out.open("w", newline="") as file:
            csv.writer(file).writerows(lines)
    else:
        corrected(out, "/3.png", ["nan", "cat|kitten"])
    sources = [own_annotations(root, file=out.name)]
    if suffix == "csv":
        sources.append(csv_annotations(root))
    for annotations in sources:
        assert annotations.label_names == ODD
        found = {
            image: {name for name, target in zip(ODD, row, strict=True) if target}
            for image, row in zip(annotations.image_ids.tolist(), annotations.targets, strict=True)
        }
        assert found == expected
    data_set = read_own(root, file=out.name, shares=(0.5, 0.25, 0.25))
    assert data_set.label_names == ODD


@pytest.mark.parametrize("names", [("a", "b"), ("a, b", "c")], ids=["bars", "lists"])
def test_images_with_a_problem_are_left_out(names: tuple[str, ...], tmp_path: Path) -> None:
    rows = [ImageRow("0.png", names, np.ones(2, np.float32)), ImageRow("1.png", problem="empty")]
    write_table(tmp_path / "labels.csv", rows, Columns(names, problem=True))
    for read in (own_annotations, csv_annotations):
        assert read(tmp_path).image_ids.tolist() == ["0.png"]


def test_a_label_that_a_person_adds_is_said(photo_run: Path, tmp_path: Path) -> None:
    path = predicted(photographs(tmp_path), photo_run, "csv")
    corrected(path, "/3.png", ["brede"])
    annotations = own_annotations(path.parent)
    assert annotations.label_names[-1] == "brede"
    assert any("added by hand: brede" in note for note in annotations.notes)


def test_columns_of_a_table_are_known_to_its_readers(tmp_path: Path) -> None:
    """The names that the writer gives are those that the readers leave out."""
    names = ("a", "b|c")
    ones = np.ones((2, 2), np.float32)
    found = Predictions(names, ones, ones > 0, ones, np.array([2, 2]), ones, np.array([True, False]))
    columns = Columns(names, *[True] * 6, predicted=True)
    for suffix in ("csv", "parquet"):
        path = tmp_path / f"labels.{suffix}"
        write_table(path, rows_of(["x", "y"], found), columns)
        table = pl.read_csv(path) if suffix == "csv" else pl.read_parquet(path)
        header = table.columns
        assert table["ask"].to_list() == [True, False]
        assert label_names_of(header) == names
        assert {name for name in header if not beside_labels(name)} == {"image", "labels"}
    write_table(tmp_path / "labels.jsonl", rows_of(["x", "y"], found), columns)
    row = json.loads((tmp_path / "labels.jsonl").read_text().splitlines()[0])
    assert row["ask"] is True
    assert {name for name in row if not beside_labels(name)} == {"image", "labels"}
    assert label_names_of(list(row), json.dumps(row["scores"])) == names
    assert label_names_of(["image", "labels", "scores"], "[1]") == ()
    assert label_names_of(["image", "score_a"]) == ()


def test_cells_come_back() -> None:
    for names in (("a", "b"), ODD, ("x y", "z"), ("(a)", "b"), (" a", "b")):
        lists = needs_lists(names)
        assert lists == (names not in (("a", "b"), ("x y", "z")))
        for cut in range(len(names) + 1):
            assert listed_in_cell(label_cell(names[:cut], lists), "|") == list(names[:cut])


def test_margins() -> None:
    """Against loops: the smallest way to a threshold, to one half, or between what is taken and what is left."""
    rng = np.random.default_rng(3)
    scores = rng.standard_normal((40, 5)).astype(np.float32)
    thresholds = rng.standard_normal((40, 5)).astype(np.float32)
    probabilities = rng.random((40, 5)).astype(np.float32)
    sets = scores > thresholds
    names = tuple("abcde")
    by_threshold = Predictions(names, scores, sets, thresholds, None, probabilities).margins
    by_half = Predictions(names, scores, probabilities > 0.5, None, None, probabilities).margins
    ranked = np.argsort(np.argsort(-scores, axis=1), axis=1)
    sizes = rng.integers(0, 6, 40)
    by_gap = Predictions(names, scores, ranked < sizes[:, None], None, sizes, None).margins
    for row in range(40):
        assert by_threshold[row] == min(abs(scores[row, k] - thresholds[row, k]) for k in range(5))
        assert by_half[row] == min(abs(probabilities[row, k] - np.float32(0.5)) for k in range(5))
        ordered = sorted(scores[row].tolist(), reverse=True)
        size = sizes[row]
        if 0 < size < 5:
            assert by_gap[row] == np.float32(ordered[size - 1]) - np.float32(ordered[size])
        else:
            assert np.isnan(by_gap[row])


@pytest.mark.filterwarnings("ignore::lsep_ml.training.fitting.DecisionWarning")
def test_every_decision_has_a_table(tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    targets = rng.random((60, 3)) < 0.4
    arrays = {
        "scores": (rng.standard_normal((60, 3)) + 2 * targets).astype(np.float32),
        "features": rng.standard_normal((60, 4)).astype(np.float32),
        "label_names": np.array(["a", "b", "c"]),
    }
    np.savez(tmp_path / "scores.npz", **arrays)
    for row in DECISIONS:
        decision = row.build(criterion="f1", num_features=4, num_labels=3)
        decision = lsep_ml.fit_decision(decision, arrays["scores"], targets, arrays["features"], epochs=1)
        decision.save(tmp_path / "decision.json")
        label_sets, _ = apply(tmp_path / "decision.json", tmp_path / "scores.npz", tmp_path / "out.parquet")
        frame = pl.read_parquet(tmp_path / "out.parquet")
        assert np.array_equal(frame.select("^predicted_.*$").to_numpy(), label_sets), row.key
        decided = decision.decide(arrays["scores"], arrays["features"])
        for kind, values in (("threshold", decided.thresholds), ("probability", decided.probabilities)):
            written = frame.select(f"^{kind}_.*$").to_numpy()
            assert (values is None and written.size == 0) or np.array_equal(written, values.numpy()), row.key
        assert (decided.counts is None) == ("count" not in frame.columns)
        assert [set(labels) for labels in frame["labels"]] == [
            {"abc"[k] for k in np.flatnonzero(chosen)} for chosen in label_sets
        ]


def test_a_table_of_scores_beside_labels_is_refused_where_it_is_none(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text("image,labels,cat\na.png,x|y,1\n")
    with pytest.raises(DataError, match="column 'cat' beside labels"):
        csv_annotations(tmp_path)


def test_a_table_marked_for_a_spreadsheet_comes_back(tmp_path: Path) -> None:
    """Names of files and labels that a spreadsheet would take for formulas."""
    names, files = ("-1", "@home", "plain"), [f"{first}{row}.png" for row, first in enumerate("=+-@x" * 4)]
    rng = np.random.default_rng(5)
    for file in files:
        Image.fromarray(rng.integers(0, 256, (9, 8, 3), np.uint8)).save(tmp_path / file)
    scores = rng.standard_normal((len(files), 3)).astype(np.float32)
    found = Predictions(names, scores, scores > 0, None, None)
    write_table(tmp_path / "labels.csv", rows_of(files, found), Columns(names, spreadsheet=True))
    assert "'=0.png" in (tmp_path / "labels.csv").read_text()
    assert own_annotations(tmp_path).label_names == names
    for columns in (Columns(names, spreadsheet=True), Columns(names, scores=False, spreadsheet=True)):
        write_table(tmp_path / "labels.csv", rows_of(files, found), columns)
        for read in (own_annotations, csv_annotations):
            annotations = read(tmp_path)
            assert annotations.image_ids.tolist() == files
            order = [annotations.label_names.index(name) for name in names]
            assert np.array_equal(annotations.targets[:, order], found.label_sets)
    assert [spoken(inert(text)) for text in ("=1", "'=1", "'a", "a")] == ["=1", "=1", "'a", "a"]
