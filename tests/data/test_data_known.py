"""Splits in which nothing is known, positive or negative: said before training, the split named; the rest is kept."""

import json
from pathlib import Path

import data_trees
import numpy as np
import pytest
from jobs import compose_here, run_job_here

from lsep_ml.data.check.verdict import check
from lsep_ml.data.errors import DataError
from lsep_ml.data.known import lacking
from lsep_ml.reports import build_report
from lsep_ml.reports.records import ReportError
from lsep_ml.stages.job import build_job

SMALL = (
    "data=csv",
    "data.num_workers=0",
    "model.widths=[4,4]",
    "model.num_features=6",
    "transform.resize=[24,24]",
    "training.epochs=1",
    "fitting.epochs=1",
    "trainer=cpu",
)
GOOD = {"train": 8 * ["1,0", "0,1", "1,1"], "val": 2 * ["1,0", "0,1"], "test": 2 * ["1,0", "0,1"]}


def tree(root: Path, **changed: list[str]) -> Path:
    """Images with a labels.csv of a column a class, whose values are GOOD's but for the splits `changed`."""
    lines, number = ["image,cat,dog,split"], 0
    for split, rows in (GOOD | changed).items():
        for values in rows:
            data_trees.write_image(root / f"{number:03}.png", number)
            lines.append(f"{number:03}.png,{values},{split}")
            number += 1
    (root / "labels.csv").write_text("\n".join(lines) + "\n")
    return root


def options(root: Path) -> tuple[str, ...]:
    return *SMALL, f"data.root={root}", f"paths.data={root.parent}"


@pytest.mark.parametrize("masked", [False, True])
def test_what_is_lacking(masked: bool) -> None:
    targets = np.array([[1, 0], [0, 1]], np.uint8)
    mask = np.array([[True, True], [False, False]]) if masked else None
    assert lacking(targets, mask) == ""
    assert lacking(np.ones_like(targets), mask) == "negative"
    assert lacking(np.zeros_like(targets), mask) == "positive"
    assert lacking(targets, np.zeros((2, 2), bool)) == "known label"
    assert lacking(targets, targets != 0) == "negative"
    assert lacking(targets, targets == 0) == "positive"


@pytest.mark.parametrize(
    ("split", "values", "message"),
    [
        ("val", ",", "val split, 4 images: no image with a known label"),
        ("val", "1,1", "val split, 4 images: no known negative of any label"),
        ("val", "0,", "val split, 4 images: no known positive of any label"),
        ("train", "1,1", "train split, 24 images: no known negative of any label"),
        ("train", "0,0", "train split, 24 images: no known positive of any label"),
    ],
)
def test_what_cannot_be_trained_is_said_before_it_is(
    split: str, values: str, message: str, tmp_path: Path
) -> None:
    root = tree(tmp_path / "own", **{split: len(GOOD[split]) * [values]})
    with pytest.raises(DataError, match=message):
        build_job(compose_here(tmp_path / "outputs", *options(root))[0])
    report = check("csv", root)
    assert report.exit_code == 3
    assert any(message in finding.message for finding in report.findings)


def test_all_that_can_be_had_without_test_labels_is_kept(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = tree(tmp_path / "own", test=4 * [","])
    report = check("csv", root)
    assert report.exit_code == 0
    assert report.verdict.startswith("usable, with warnings")
    record, folder = run_job_here(tmp_path / "outputs", *options(root))
    said = "test split, 4 images: no image with a known label; nothing can be measured on it"
    assert said in caplog.text
    assert any(said in finding.message for finding in report.findings)
    assert record["metrics"]["test"] == {}
    assert record["intervals"] == {"test": {}}
    assert record["metrics"]["val"]["f1"] >= 0
    assert json.loads((folder / "result.json").read_text())["metrics"] == record["metrics"]
    with np.load(folder / "predictions.npz", allow_pickle=False) as arrays:
        assert arrays["predictions"].shape == (4, 2)
        assert not arrays["mask"].any()
    again, _ = run_job_here(tmp_path / "outputs", *options(root))
    assert again == json.loads(json.dumps(record))
    with pytest.raises(ReportError, match="nothing was measured on its test split"):
        build_report(tmp_path / "outputs", replicates=100)


@pytest.mark.parametrize("values", ["1,1", "0,0"])
def test_a_test_split_of_one_kind_is_a_warning(
    values: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = tree(tmp_path / "own", test=4 * [values])
    record, _ = run_job_here(tmp_path / "outputs", *options(root))
    assert "test split, 4 images: no known" in caplog.text
    assert record["metrics"]["test"]
