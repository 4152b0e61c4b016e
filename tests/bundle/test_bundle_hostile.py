"""What lies in folders beside images: files that are none, without an end, or too small; and a second predict."""

import csv
import json
import os
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from bundle_runs import call
from PIL import Image
from typer.testing import Result

import lsep_ml
from lsep_ml.bundle.inputs import image_files
from lsep_ml.bundle.label_files import fingerprint
from lsep_ml.bundle.label_table import LabelTable
from lsep_ml.data.errors import ImageError
from lsep_ml.files import inert


def predict(source: Path, *words: object) -> Result:
    """The call; a hang is a failure of the test's time limit."""
    return call("predict", source, *words, "--device", "cpu")


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def picture(path: Path, height: int = 24, width: int = 30) -> Path:
    pixels = np.random.default_rng(height * width).integers(0, 256, (height, width, 3), np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_images_too_small_for_the_network_are_problems(digits_run: Path, suffix: str, tmp_path: Path) -> None:
    """The digits' network takes images as they are, so that their size is what it meets."""
    folder = tmp_path / "in"
    for name, size in {"a.png": (24, 24), "b.png": (3, 3), "c.png": (2, 3), "d.png": (24, 24)}.items():
        picture(folder / name, *size)
    out = tmp_path / f"labels.{suffix}"
    for batch in (1, 8):
        done = predict(digits_run, folder, "--out", out, "--batch-size", batch, "--overwrite")
        assert done.exit_code == 3
        assert "2 images could not be used" in done.output
        assert "3 x 3 pixels, which the network cannot take" in done.output
        listed = {row["image"]: row["problem"] for row in rows(tmp_path / f"labels.{suffix}.problems.csv")}
        assert [Path(image).name for image in listed] == ["b.png", "c.png"]
    expected = lsep_ml.load(digits_run, device="cpu").predict([folder / "a.png", folder / "d.png"])
    if suffix == "csv":
        table = [(row["image"], row["labels"], row["problem"]) for row in rows(out)]
        scores = [[float(row["score_0"])] for row in rows(out) if not row["problem"]]
    elif suffix == "jsonl":
        lines = [json.loads(line) for line in out.read_text().splitlines()]
        table = [(line["image"], "|".join(line["labels"]), line.get("problem") or "") for line in lines]
        scores = [[line["scores"]["0"]] for line in lines if "problem" not in line]
    else:
        frame = pl.read_parquet(out)
        table = [
            (image, "|".join(labels), problem or "")
            for image, labels, problem in zip(frame["image"], frame["labels"], frame["problem"], strict=True)
        ]
        scores = [[score] for score in frame["score_0"] if score is not None]
    assert [Path(image).name for image, _, _ in table] == ["a.png", "b.png", "c.png", "d.png"]
    assert [labels for _, labels, problem in table if not problem] == ["|".join(n) for n in expected.labels]
    assert [problem for _, _, problem in table if problem] == list(listed.values())
    assert {labels for _, labels, problem in table if problem} == {""}
    assert np.allclose(scores, expected.scores[:, :1], atol=1e-6)  # in another batch


def test_in_python_an_image_too_small_is_named(digits_run: Path, tmp_path: Path) -> None:
    classifier = lsep_ml.load(digits_run, device="cpu")
    with pytest.raises(ImageError, match="3 x 3 pixels"):
        classifier.predict(picture(tmp_path / "small.png", 3, 3))


def test_pipes_devices_and_files_without_an_end_are_problems(photo_run: Path, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    picture(folder / "good.png")
    os.mkfifo(folder / "pipe.png")
    (folder / "zeros.png").symlink_to("/dev/zero")
    (folder / "folder.png").mkdir()
    (folder / "gone.png").symlink_to(folder / "nowhere")
    with (folder / "sparse.png").open("wb") as file:
        file.truncate(2**33)
    done = predict(photo_run, folder, "--out", tmp_path / "labels.csv")
    assert done.exit_code == 3
    problems = {Path(row["image"]).name: row["problem"] for row in rows(tmp_path / "labels.csv")}
    assert problems == {
        "gone.png": "No such file or directory",
        "good.png": "",
        "pipe.png": "a pipe, not a file",
        "sparse.png": "8,589,934,592 bytes, more than max_bytes = 536,870,912",
        "zeros.png": "a device, not a file",
    }
    done = predict(photo_run, folder / "good.png", "--out", tmp_path / "one.csv", "--max-bytes", 100)
    assert done.exit_code == 1
    assert "more than max_bytes = 100" in done.output


def test_folders_are_taken_once_however_links_lead(tmp_path: Path) -> None:
    for name in ("b/x.png", "z/y.png"):
        picture(tmp_path / "in" / name)
    (tmp_path / "in" / "a").symlink_to(tmp_path / "in" / "b")
    (tmp_path / "in" / "b" / "self").symlink_to(tmp_path / "in")
    picture(tmp_path / "elsewhere" / "w.png")
    (tmp_path / "in" / "c").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "back").symlink_to(tmp_path / "in" / "c")
    wanted = [str(tmp_path / "in" / name) for name in ("b/x.png", "c/w.png", "z/y.png")]
    assert image_files([str(tmp_path / "in")]) == wanted
    assert sorted(image_files([str(tmp_path / "in" / "**" / "*.png")])) == wanted
    assert image_files([str(tmp_path / "in"), str(tmp_path / "in" / "a")]) == wanted
    (tmp_path / "in" / "copy.png").symlink_to(tmp_path / "in" / "b" / "x.png")  # a file of its own name
    assert len(image_files([str(tmp_path / "in")])) == 4


def test_a_folder_that_cannot_be_read_is_a_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    picture(tmp_path / "in" / "x.png")
    (tmp_path / "in" / "closed").mkdir()
    real = os.scandir

    def scandir(path: str) -> object:
        if str(path).endswith("closed"):
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    unreadable: dict[str, str] = {}
    assert image_files([str(tmp_path / "in")], unreadable) == [str(tmp_path / "in" / "x.png")]
    assert unreadable == {str(tmp_path / "in" / "closed"): "Permission denied"}
    with pytest.raises(OSError, match="closed: Permission denied"):
        image_files([str(tmp_path / "in")])


def test_a_second_predict_on_the_same_table_is_refused(photo_run: Path, tmp_path: Path) -> None:
    image = picture(tmp_path / "x.png")
    classifier = lsep_ml.load(photo_run, device="cpu")
    out = tmp_path / "out" / "labels.csv"
    with LabelTable(out, classifier.label_names, fingerprint(classifier)) as table:
        table.add(["a.png"], classifier.predict(image))
        with pytest.raises(FileExistsError, match="another process is writing it"):
            predict(photo_run, image, "--out", out)
        table.add(["b.png"], classifier.predict(image))
    assert [path.name for path in out.parent.iterdir()] == ["labels.csv.part"]
    done = predict(photo_run, image, "--out", out)
    assert done.exit_code == 0
    assert len(rows(out)) == 3 - 2  # the two are not among the images asked for
    assert [path.name for path in out.parent.iterdir()] == ["labels.csv"]


def test_texts_that_a_spreadsheet_would_run_are_marked_if_asked_for(photo_run: Path, tmp_path: Path) -> None:
    os.chdir(tmp_path)
    for name in ("=1+1.png", "@a.png", "b.png"):
        picture(tmp_path / name)
    predict(photo_run, "=1+1.png", "@a.png", "b.png", "--out", "plain.csv")
    predict(photo_run, "=1+1.png", "@a.png", "b.png", "--out", "marked.csv", "--spreadsheet")
    plain, marked = rows(tmp_path / "plain.csv"), rows(tmp_path / "marked.csv")
    assert [row["image"] for row in plain] == ["=1+1.png", "@a.png", "b.png"]
    assert [row["image"] for row in marked] == ["'=1+1.png", "'@a.png", "b.png"]
    assert [row | {"image": ""} for row in plain] == [row | {"image": ""} for row in marked]
    assert [inert(text) for text in ("+x", "-x", "\tx", "x=", "")] == ["'+x", "'-x", "'\tx", "x=", ""]


@pytest.mark.parametrize("out", ["{}", "{}/file/labels.csv", "{}/labels.txt"])
def test_where_no_table_can_be_is_said_before_anything_is_read(out: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises((OSError, ValueError), match=str(tmp_path)):
        predict(tmp_path / "no bundle", tmp_path, "--out", out.format(tmp_path))


def test_what_python_shows_of_a_classifier_and_its_predictions(photo_run: Path, tmp_path: Path) -> None:
    for name in ("b.png", "a.png", "c/d.png"):
        picture(tmp_path / "in" / name)
    classifier = lsep_ml.load(photo_run, device="cpu")
    assert repr(classifier) == f"Classifier({str(photo_run)!r}: 5 labels, lsep + CountEstimation, on cpu)"
    found = classifier.predict(tmp_path / "in")
    assert len(found) == 3
    assert np.array_equal(found.scores, classifier.predict(image_files([str(tmp_path / "in")])).scores)
    shown = ", ".join("|".join(labels) for labels in found.labels)
    assert repr(found) == f"Predictions(3 images, 5 labels: {shown})"
    pandas = pytest.importorskip("pandas")
    frame = found.to_pandas()
    assert isinstance(frame, pandas.DataFrame)
    assert frame["labels"].tolist() == found.labels
    assert np.array_equal(frame[[f"score_{name}" for name in found.label_names]].to_numpy(), found.scores)
