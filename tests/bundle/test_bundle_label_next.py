"""What to label next, from a partly labelled folder to the table that is corrected and trained on."""

import csv
import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from bundle_runs import call
from PIL import Image

import lsep_ml
from lsep_ml.bundle.label_next import features_of, label_next, once
from lsep_ml.data import DataError
from lsep_ml.data.sources.own import own_annotations, read_own

LABELLED, OTHERS = 40, 12


def picture(path: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    small = Image.fromarray(rng.integers(0, 256, (4, 5, 3), np.uint8))
    small.resize((30, 24), Image.Resampling.BICUBIC).save(path)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Images with labels in a table, and others below the folder that nobody has labelled, two of them twins."""
    tmp_path = tmp_path / "set"
    for number in range(LABELLED + OTHERS):
        picture(tmp_path / "photos" / f"{number}.png", number)
    with Image.open(tmp_path / "photos" / f"{LABELLED + 1}.png") as image:
        image.resize((45, 36)).save(tmp_path / "photos" / "twin.png")
    with Image.open(tmp_path / "photos" / "3.png") as image:
        image.resize((45, 36)).save(tmp_path / "photos" / "twin of a labelled one.png")
    (tmp_path / "photos" / "bad.png").write_bytes(b"nothing")
    rng = np.random.default_rng(0)
    lines = ["image,cat,dog,=owl"]
    for number in range(LABELLED):
        values = [int(rng.random() < share) for share in (0.5, 0.4, 0.2)]
        lines.append(f"{number}.png,{','.join(map(str, values))}")
    (tmp_path / "labels.csv").write_text("\n".join(lines) + "\n")
    return tmp_path


def test_a_partly_labelled_folder(
    photo_run: Path, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LSEP_ML_DATA", str(tmp_path / "cache"))
    out = tmp_path / "next" / "next.csv"
    done = call("label-next", photo_run, "--root", root, "--out", out, "--device", "cpu", "--folds", 3)
    assert done.exit_code == 0
    assert f"{OTHERS} images to label next" in done.output
    assert "2 near-duplicates left out" in done.output
    assert "bad.png" in done.output
    table = pl.read_csv(out)
    others = {str(root / "photos" / f"{number}.png") for number in range(LABELLED, LABELLED + OTHERS)}
    twin, its = str(root / "photos" / "twin.png"), str(root / "photos" / f"{LABELLED + 1}.png")
    assert set(table["image"]) - {twin} == others - ({its} if twin in set(table["image"]) else set())
    assert {twin, its} & set(table["image"])
    assert {"labels", "margin", "score_cat", "threshold_=owl", "probability_dog"} <= set(table.columns)
    with (tmp_path / "next" / "next.curve.csv").open(newline="") as file:
        curve = list(csv.DictReader(file))
    assert [row["label"] for row in curve] == ["(mean)", "cat", "dog", "'=owl"]
    assert {"ap_25", "ap_25_low", "ap_100_high", "f1_50", "f1_100"} <= set(curve[0])
    for row in curve:
        assert float(row["ap_100_low"]) <= float(row["ap_100"]) <= float(row["ap_100_high"])
    positives = own_annotations(root).targets.sum(axis=0)
    assert [int(row["positives"]) for row in curve[1:]] == positives.tolist()
    with pytest.raises(FileExistsError, match="--overwrite"):
        call("label-next", photo_run, "--root", root, "--out", out)


def test_what_comes_next_is_labelled_in_the_tool_and_comes_back(
    photo_run: Path, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LSEP_ML_DATA", str(tmp_path / "cache"))
    out = tmp_path / "tasks" / "next.json"
    call(
        "label-next", photo_run, root / "photos", "--root", root, "--out", out, "--to", "label_studio",
        "--tool-root", root, "--count", 5, "--device", "cpu",
    )  # fmt: skip
    tasks = json.loads(out.read_text())
    assert len(tasks) == 5
    for task in tasks:
        task["annotations"] = [{"id": 1, "result": task["predictions"][0]["result"]}]
        task["annotations"][0]["result"] = [
            {"from_name": "labels", "type": "choices", "value": {"choices": ["cat", "owl"]}}
        ]
    tasks[0]["annotations"][0]["result"] = []
    (root / "labels.csv").unlink()
    (root / "export.json").write_text(json.dumps(tasks))
    annotations = own_annotations(root)
    assert annotations.targets.sum() == 8
    assert len(read_own(root, shares=(0.4, 0.3, 0.3)).train) >= 1


def test_images_of_the_set_of_which_nothing_is_known_are_ranked(photo_run: Path, root: Path) -> None:
    """Unknown rows of the table are candidates, and no part of the curve."""
    lines = (root / "labels.csv").read_text().splitlines()
    lines[-4:] = [f"{line.split(',')[0]},,," for line in lines[-4:]]
    (root / "labels.csv").write_text("\n".join(lines) + "\n")
    classifier = lsep_ml.load(photo_run, device="cpu")
    found = label_next(classifier, own_annotations(root), folds=3)
    assert found.labelled == LABELLED - 4
    assert {Path(image).name for image in found.images} <= {line.split(",")[0] for line in lines[-4:]}
    features, further = (
        features_of(classifier, [str(root / "photos" / f"{n}.png") for n in rows], {})[1].numpy()
        for rows in (range(6), [5])
    )
    assert np.allclose(features[5], further[0], atol=1e-5)


def test_too_few_images_are_refused(photo_run: Path, root: Path) -> None:
    classifier = lsep_ml.load(photo_run, device="cpu")
    with pytest.raises(DataError, match="no image without labels; name further images"):
        label_next(classifier, own_annotations(root))
    lines = (root / "labels.csv").read_text().splitlines()[:8]
    (root / "labels.csv").write_text("\n".join(lines) + "\n")
    with pytest.raises(DataError, match="7 images have labels; a learning curve needs 20"):
        label_next(classifier, own_annotations(root))


def test_near_duplicates_are_taken_once() -> None:
    """Against a loop over all pairs."""
    rng = np.random.default_rng(0)
    base = rng.integers(1, 2**63, 6, dtype=np.uint64)
    flips = [0, 1, 3, 0xFF, 0x1FF, 0xFFF]
    hashes = np.array([one ^ np.uint64(flip) for one in base for flip in flips] + [0, 0], np.uint64)
    order = rng.permutation(len(hashes))
    labelled = np.array([base[2], 0], np.uint64)
    taken, passed = once(order, hashes, labelled, 100)
    expected: list[int] = []
    for row in order.tolist():
        before = [int(base[2]), *(int(hashes[other]) for other in expected)]
        if hashes[row] and any(one and (int(hashes[row]) ^ one).bit_count() <= 8 for one in before):
            continue
        expected.append(row)
    assert taken == expected
    assert passed == len(hashes) - len(expected)
    assert once(order, hashes, labelled, 3)[0] == expected[:3]
