"""Labelling folders from the command line: order, formats, interruption, broken files, overrides, pictures."""

import csv
import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from bundle_runs import call
from PIL import Image

import lsep_ml
from lsep_ml.bundle.inputs import image_files
from lsep_ml.bundle.label_files import fingerprint, label_files
from lsep_ml.bundle.label_table import LabelTable


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def bundle(photo_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundles") / "bundle"
    done = call("bundle", photo_run, "--out", folder)
    assert "5 labels, lsep + count_est" in done.output
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Seven images at three depths, with files beside them that are none."""
    rng = np.random.default_rng(0)
    for number, name in enumerate(["b.jpg", "a.png", "c/z.JPG", "c/d/y.webp", "e.gif", "f.tif", "g [1].bmp"]):
        path = tmp_path / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 256, (20 + number, 33, 3), np.uint8)
        Image.fromarray(pixels).save(path)
    (tmp_path / "in" / "notes.txt").write_text("no image")
    (tmp_path / "in" / ".hidden.jpg").write_text("no image")
    return tmp_path / "in"


def test_inputs_are_taken_in_their_order_each_once(folder: Path) -> None:
    def below(*names: str) -> list[str]:
        return [str(folder / name) for name in names]

    assert image_files([str(folder)]) == below(
        "a.png", "b.jpg", "e.gif", "f.tif", "g [1].bmp", "c/z.JPG", "c/d/y.webp"
    )
    given = below("c", "b.jpg", "*.jpg", "g [1].bmp", "c/d")
    assert image_files(given) == below("c/z.JPG", "c/d/y.webp", "b.jpg", "g [1].bmp")
    assert image_files([str(folder / "**" / "*.JPG")]) == below("c/z.JPG")
    assert image_files([str(folder / "notes.txt")]) == below("notes.txt")
    (folder / "empty").mkdir()
    for nothing in ("absent.jpg", "empty", "*.xyz"):
        with pytest.raises(FileNotFoundError, match=r"no such file|no image in it"):
            image_files([str(folder), str(folder / nothing)])


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_every_format_holds_what_predict_says(
    bundle: Path, folder: Path, suffix: str, tmp_path: Path
) -> None:
    out = tmp_path / "new" / f"labels.{suffix}"
    done = call("predict", bundle, folder, "--out", out, "--device", "cpu")
    assert done.exit_code == 0
    assert "7 images labelled" in done.output
    images = image_files([str(folder)])
    expected = lsep_ml.load(bundle, device="cpu").predict(images)
    if suffix == "csv":
        table = rows(out)
        assert [row["image"] for row in table] == images
        assert [tuple(row["labels"].split("|")) for row in table] == expected.labels
        scores = [[float(row[f"score_{name}"]) for name in expected.label_names] for row in table]
    elif suffix == "jsonl":
        lines = [json.loads(line) for line in out.read_text().splitlines()]
        assert [line["image"] for line in lines] == images
        assert [tuple(line["labels"]) for line in lines] == expected.labels
        assert [line["count"] for line in lines] == list(expected.counts)
        scores = [[line["scores"][name] for name in expected.label_names] for line in lines]
    else:
        frame = pl.read_parquet(out)
        assert frame["image"].to_list() == images
        assert [tuple(labels) for labels in frame["labels"]] == expected.labels
        scores = frame.select(pl.col("^score_.*$")).to_numpy()
    assert np.array_equal(np.array(scores, np.float32), expected.scores)
    assert [path.name for path in out.parent.iterdir()] == [out.name]


def test_a_finished_table_is_not_lost(bundle: Path, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "labels.csv"
    call("predict", bundle, folder, "--out", out)
    first = out.read_text()
    with pytest.raises(FileExistsError, match="--overwrite"):
        call("predict", bundle, folder / "a.png", "--out", out)
    assert out.read_text() == first
    call("predict", bundle, folder / "a.png", "--out", out, "--overwrite")
    assert len(rows(out)) == 1
    with pytest.raises(ValueError, match="expected a name with"):
        call("predict", bundle, folder, "--out", tmp_path / "labels.txt")


def test_an_interrupted_call_goes_on_where_it_stopped(bundle: Path, folder: Path, tmp_path: Path) -> None:
    classifier = lsep_ml.load(bundle, device="cpu")
    classifier.batch_size = 2
    images = image_files([str(folder)])
    whole, out = tmp_path / "whole.csv", tmp_path / "labels.csv"
    with LabelTable(whole, classifier.label_names, fingerprint(classifier)) as table:
        label_files(classifier, images, table)
    batches = 0

    def stop(names: list[str], predictions: object) -> None:
        nonlocal batches
        batches += 1
        if batches == 3:
            raise KeyboardInterrupt

    with (
        pytest.raises(KeyboardInterrupt),
        LabelTable(out, classifier.label_names, fingerprint(classifier)) as table,
    ):
        label_files(classifier, images, table, on_batch=stop)
    part = tmp_path / "labels.csv.part"
    assert len(part.read_text().splitlines()) == 1 + 4
    part.write_bytes(part.read_bytes() + b'{"image": "cut o')  # as a kill in mid-write leaves it
    opened: list[str] = []
    prepare = classifier.prepare
    classifier.prepare = lambda image: (opened.append(image), prepare(image))[1]  # type: ignore[method-assign]
    with LabelTable(out, classifier.label_names, fingerprint(classifier)) as table:
        labelled = label_files(classifier, images, table)
    assert (labelled.images, labelled.found) == (7, 4)
    assert sorted(opened) == sorted(images[4:])
    assert [row["image"] for row in rows(out)] == images
    assert [row["labels"] for row in rows(out)] == [row["labels"] for row in rows(whole)]
    assert not part.exists()


@pytest.mark.parametrize(("count", "suffix"), [(1, "csv"), (3, "csv"), (2, "jsonl"), (5, "parquet")])
def test_shards_end_in_one_table_whatever_their_number(
    bundle: Path, folder: Path, tmp_path: Path, count: int, suffix: str
) -> None:
    """In any order, one of them killed, one image broken."""
    (folder / "a broken.png").write_bytes(b"")
    words = ["predict", bundle, folder, "--batch-size", 2, "--device", "cpu", "--out"]
    whole, out = tmp_path / f"whole.{suffix}", tmp_path / f"labels.{suffix}"
    assert call(*words, whole).exit_code == 3
    for number in range(count, 0, -1):
        done = call(*words, out, "--shard", f"{number}/{count}")
        left = f"{number - 1} shards are left" if number > 1 else "it is written"
        assert left in " ".join(done.output.split())
        if number == 2:  # killed in its last row, and started again
            part = tmp_path / f"labels.2-of-{count}.{suffix}.part"
            part.write_bytes(part.read_bytes()[:-7])
            Path(f"{part.with_suffix('')}.done.json").unlink()
            call(*words, out, "--shard", f"{number}/{count}")
    assert out.read_bytes() == whole.read_bytes()
    problems = [path.with_name(f"{path.name}.problems.csv") for path in (whole, out)]
    assert problems[0].read_bytes() == problems[1].read_bytes()
    assert {path.name for path in tmp_path.iterdir()} == {
        "in",
        whole.name,
        out.name,
        *(path.name for path in problems),
    }


def test_shards_of_other_images_or_numbers_are_refused(bundle: Path, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "labels.csv"
    for wrong in ("0/2", "3/2", "2", "a/b"):
        with pytest.raises(ValueError, match=r"--shard .*expected I/N, from 1/N to N/N"):
            call("predict", bundle, folder, "--out", out, "--shard", wrong)
    call("predict", bundle, folder, "--out", out, "--shard", "1/2", "--batch-size", 2)
    (folder / "a.png").unlink()
    with pytest.raises(
        ValueError, match=r"labels.1-of-2.csv.done.json: a shard of another bundle or decision"
    ):
        call("predict", bundle, folder, "--out", out, "--shard", "2/2", "--batch-size", 2)


def test_many_labels_have_no_columns_of_their_own(
    bundle: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lsep_ml.bundle.commands.MOST_COLUMNS", 4)
    asked, out = tmp_path / "asked.csv", tmp_path / "labels.csv"
    call("predict", bundle, folder, "--out", asked, "--scores")
    call("predict", bundle, folder, "--out", out)
    assert out.read_text().startswith("image,labels\n")
    assert [row["labels"] for row in rows(out)] == [row["labels"] for row in rows(asked)]
    assert "score_" in asked.read_text()


def test_a_part_of_another_decision_is_refused_and_kept(bundle: Path, folder: Path, tmp_path: Path) -> None:
    classifier = lsep_ml.load(bundle, device="cpu")
    out = tmp_path / "labels.csv"
    with LabelTable(out, classifier.label_names, fingerprint(classifier)) as table:
        table.add(["x.jpg"], classifier.predict(folder / "a.png"))
    before = (tmp_path / "labels.csv.part").read_bytes()
    with pytest.raises(ValueError, match="made by another bundle or decision"):
        call("predict", bundle, folder, "--out", out, "--top", 1)
    assert (tmp_path / "labels.csv.part").read_bytes() == before
    (tmp_path / "labels.csv.part").write_bytes(before.replace(b'"image"', b'"other"'))
    with pytest.raises(ValueError, match="damaged at byte"):
        call("predict", bundle, folder, "--out", out)


def test_broken_images_are_counted_and_the_others_labelled(
    bundle: Path, folder: Path, tmp_path: Path
) -> None:
    good = image_files([str(folder)])
    content = (folder / "a.png").read_bytes()
    for number in range(300):
        (folder / f"bad{number}.png").write_bytes(content[: number % 3 * 40])
    out = tmp_path / "labels.csv"
    done = call("predict", bundle, folder, "--out", out, "--batch-size", 16)
    assert done.exit_code == 3
    table = rows(out)
    assert [row["image"] for row in table if not row["problem"]] == good
    assert sum(row["problem"] == "the file is empty (0 bytes)" for row in table) == 100
    assert {row["labels"] + row["score_bread"] for row in table if row["problem"]} == {""}
    assert [row["image"] for row in table] == image_files([str(folder)])
    assert "300 images could not be used" in done.output
    assert "the file is empty (0 bytes)" in done.output
    listed = rows(tmp_path / "labels.csv.problems.csv")
    assert len(listed) == 300
    assert {row["problem"] for row in listed} >= {"the file is empty (0 bytes)"}
    done = call("predict", bundle, folder / "bad0.png", "--out", tmp_path / "none.csv")
    assert done.exit_code == 1
    [row] = rows(tmp_path / "none.csv")
    assert (row["labels"], row["problem"]) == ("", "the file is empty (0 bytes)")
    call("predict", bundle, folder, "--out", tmp_path / "training.csv", "--no-scores")
    assert [row["image"] for row in rows(tmp_path / "training.csv")] == good


def test_a_name_that_is_not_utf8_is_a_problem_not_a_crash(bundle: Path, folder: Path, tmp_path: Path) -> None:
    (folder / "a.png").rename(folder / "\udcff.png")
    done = call("predict", bundle, folder, "--out", tmp_path / "labels.csv")
    assert done.exit_code == 3
    assert "not UTF-8" in done.output
    assert len([row for row in rows(tmp_path / "labels.csv") if not row["problem"]]) == 6
    assert [row["image"] for row in rows(tmp_path / "labels.csv") if row["problem"]] == [
        ascii(str(folder / "\udcff.png"))
    ]


def test_overrides_on_the_command_line(bundle: Path, folder: Path, tmp_path: Path) -> None:
    call("predict", bundle, folder, "--out", tmp_path / "top.csv", "--top", 2)
    assert {row["labels"].count("|") for row in rows(tmp_path / "top.csv")} == {1}
    call("predict", bundle, folder, "--out", tmp_path / "all.csv", "--threshold", "-1e9")
    assert {row["labels"].count("|") for row in rows(tmp_path / "all.csv")} == {4}
    with pytest.raises(ValueError, match="give one"):
        call("predict", bundle, folder, "--out", tmp_path / "x.csv", "--top", 2, "--threshold", 0)


def test_a_table_without_scores_is_training_data(bundle: Path, folder: Path, tmp_path: Path) -> None:
    from lsep_ml.data.sources.csv_labels import read_csv

    call("predict", bundle, folder, "--out", tmp_path / "labels.csv", "--no-scores", "--top", 2)
    table = (tmp_path / "labels.csv").read_text().replace(f"{tmp_path}/", "")
    (tmp_path / "labels.csv").write_text(table)
    shares = {"shares": (0.4, 0.3, 0.3), "holdout": 0.2, "on_bad_image": "error", "cache": None}
    options = {"classes": None, "separator": "|", "unlabelled": "keep", "seed": 0}
    found = read_csv(root=str(tmp_path), labels="labels.csv", **shares, **options)
    assert sum(len(found.split(name)) for name in ("train", "val", "test")) == 7


def test_pictures_show_the_labels(bundle: Path, folder: Path, tmp_path: Path) -> None:
    call(
        "predict",
        bundle,
        folder,
        "--out",
        tmp_path / "labels.csv",
        "--pictures",
        tmp_path / "drawn",
        "--top",
        3,
    )
    drawn = sorted((tmp_path / "drawn").rglob("*.jpg"))
    assert len(drawn) == 7
    inside = str(folder.relative_to(folder.anchor))
    assert (tmp_path / "drawn" / inside / "c" / "d" / "y.webp.jpg") in drawn
    for path in drawn:
        with Image.open(path) as page:
            page.load()
            assert page.height > 60
            assert np.asarray(page.convert("L"))[-60:].min() < 100  # something is written


def test_a_run_is_as_good_as_its_bundle(photo_run: Path, bundle: Path, folder: Path, tmp_path: Path) -> None:
    for source, name in ((photo_run, "run.csv"), (bundle, "bundle.csv")):
        call("predict", source, folder, "--out", tmp_path / name)
    assert (tmp_path / "run.csv").read_text() == (tmp_path / "bundle.csv").read_text()
