"""Bad input of every source: a clear error that names the thing and the way out, or a counted drop.

Each row of a table is one case: how the tree is damaged, and what the message must say.
"""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from data_trees import COCO_CATEGORIES, OWN_CLASSES, coco_content, write_csv, write_image

from lsep_ml.data import DataError
from lsep_ml.data.annotations import keep_labelled
from lsep_ml.data.coco import read_coco
from lsep_ml.data.coco_json import read_coco_json
from lsep_ml.data.csv_labels import read_csv
from lsep_ml.data.nuswide import read_nuswide
from lsep_ml.data.nuswide_files import nuswide_annotations
from lsep_ml.data.nuswide_split import draw_paper_split, split_content, split_file
from lsep_ml.data.voc2007 import CLASSES, read_voc2007

Damage = Callable[[Path], object]


def edit(path: str, change: Callable[[str], str]) -> Damage:
    def damage(root: Path) -> None:
        (root / path).write_text(change((root / path).read_text()))

    return damage


def put(path: str, content: bytes) -> Damage:
    return lambda root: (root / path).write_bytes(content)


def remove(path: str) -> Damage:
    return lambda root: (root / path).unlink()


def swap(old: str, new: str, count: int = 1) -> Callable[[str], str]:
    return lambda text: text.replace(old, new, count)


def cut_last_line(text: str) -> str:
    return "\n".join(text.splitlines()[:-1]) + "\n"


# VOC2007

MAIN = "VOCdevkit/VOC2007/ImageSets/Main"

VOC_CASES: dict[str, tuple[Damage, str]] = {
    "no lists": (remove(f"{MAIN}/trainval.txt"), "no ImageSets/Main/trainval.txt in it"),
    "class list missing": (remove(f"{MAIN}/cat_test.txt"), "cat_test.txt: no such file"),
    "class list shorter": (edit(f"{MAIN}/cat_test.txt", cut_last_line), "has 21 images, test.txt has 22"),
    "class list of other images": (
        edit(f"{MAIN}/cat_test.txt", swap("000002", "999999")),
        "no line for image 000002",
    ),
    "class list with a repeated image": (
        edit(f"{MAIN}/cat_test.txt", swap("000004", "000002")),
        "listed twice",
    ),
    "value 2": (
        put(f"{MAIN}/cat_test.txt", b"000002 2\n"),
        "line 1: '000002 2' is not an image id with -1, 0 or 1",
    ),
    "no value": (put(f"{MAIN}/cat_test.txt", b"000002\n"), "line 1"),
    "empty split": (put(f"{MAIN}/test.txt", b"\n"), "test.txt: empty"),
    "image in two splits": (
        lambda root: [
            edit(f"{MAIN}/{name}", swap("000002", "000001"))(root) for name in ("test.txt", *voc_test_lists())
        ],
        r"JPEGImages/000001.jpg' is listed 2 times \(in test and train\)",
    ),
    "path out of the root": (
        edit(f"{MAIN}/test.txt", swap("000002", "../../../etc/passwd")),
        "leads out of data.root",
    ),
    "not UTF-8": (put(f"{MAIN}/test.txt", b"000002\n\xff\xfe\n"), "line 2: byte 0xff is not UTF-8"),
    "image missing": (
        remove("VOCdevkit/VOC2007/JPEGImages/000001.jpg"),
        r"1 of 66 images .*000001.jpg \(missing\)",
    ),
    "image of zero bytes": (
        put("VOCdevkit/VOC2007/JPEGImages/000001.jpg", b""),
        r"0 bytes.*data.on_bad_image=drop",
    ),
    "text named jpg": (put("VOCdevkit/VOC2007/JPEGImages/000001.jpg", b"hello"), "not an image"),
    "truncated image": (
        lambda root: truncate(root / "VOCdevkit/VOC2007/JPEGImages/000001.jpg"),
        "JPEG cannot be decoded: .*truncated",
    ),
}


def voc_test_lists() -> list[str]:
    return [f"{name}_test.txt" for name in CLASSES]


def truncate(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


@pytest.mark.parametrize(("damage", "message"), VOC_CASES.values(), ids=VOC_CASES)
def test_voc2007(copies, damage, message):
    root = copies("voc2007")
    damage(root)
    with pytest.raises(DataError, match=message):
        read_voc2007(root)


def test_voc2007_root_missing_empty_or_too_deep(trees, tmp_path):
    with pytest.raises(DataError, match=r"data.root=.*nowhere: no such folder; docs/data.md"):
        read_voc2007(tmp_path / "nowhere")
    with pytest.raises(DataError, match="it holds nothing"):
        read_voc2007(tmp_path)
    with pytest.raises(DataError, match=r"too deep in the tree; set data.root=.*VOC2007$"):
        read_voc2007(trees("voc2007") / "VOCdevkit" / "VOC2007" / "JPEGImages")


# MS-COCO and COCO-style JSON


def change_json(path: str, change: Callable[[dict], object]) -> Damage:
    def damage(root: Path) -> None:
        content = json.loads((root / path).read_text())
        change(content)
        (root / path).write_text(json.dumps(content))

    return damage


VAL = "annotations/instances_val2014.json"

COCO_CASES: dict[str, tuple[Damage, str]] = {
    "no annotations": (
        remove("annotations/instances_train2014.json"),
        "no annotations/instances_train2014.json",
    ),
    "val annotations missing": (remove(VAL), "instances_val2014.json: No such file"),
    "cut-off JSON": (edit(VAL, lambda text: text[: len(text) // 2]), "not a COCO-style JSON file"),
    "binary": (put(VAL, b"\x80\x81\x82"), "not a COCO-style JSON file"),
    "a JSON list": (put(VAL, b"[1, 2]"), "not a COCO-style JSON file"),
    "no images": (change_json(VAL, lambda content: content.pop("images")), "no list of images"),
    "no annotations section": (
        change_json(VAL, lambda content: content.pop("annotations")),
        "no list of annotations",
    ),
    "annotation for an unknown image": (
        change_json(VAL, lambda content: content["annotations"][3].update(image_id=424242)),
        "annotation 4 is for the unknown image_id 424242",
    ),
    "annotation for an unknown category": (
        change_json(VAL, lambda content: content["annotations"][3].update(category_id=12)),
        "unknown category_id 12",
    ),
    "image id twice": (
        change_json(VAL, lambda content: content["images"][1].update(id=content["images"][0]["id"])),
        "image id 9 .*twice",
    ),
    "image file twice": (
        change_json(
            VAL, lambda content: content["images"][1].update(file_name=content["images"][0]["file_name"])
        ),
        "image file .* is listed twice",
    ),
    "category name twice": (
        change_json(VAL, lambda content: content["categories"][0].update(name="cat")),
        "category name 'cat' .*twice",
    ),
    "other categories": (
        change_json(VAL, lambda content: content["categories"][0].update(name="cup")),
        "different categories",
    ),
    "image without a file name": (
        change_json(VAL, lambda content: content["images"][2].pop("file_name")),
        "without its 'file_name' field",
    ),
    "absolute path": (
        change_json(VAL, lambda content: content["images"][2].update(file_name="/etc/passwd")),
        "leads out of data.root",
    ),
    "images missing": (lambda root: shutil.rmtree(root / "val2014"), r"17 of 54 images .*\(missing\)"),
}


@pytest.mark.parametrize(("damage", "message"), COCO_CASES.values(), ids=COCO_CASES)
def test_coco(copies, damage, message):
    root = copies("coco")
    damage(root)
    with pytest.raises(DataError, match=message):
        read_coco(root)


def test_coco_json(trees, tmp_path):
    root = trees("coco_json")
    with pytest.raises(DataError, match="nowhere: no such folder"):
        read_coco_json(tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"other.json: No such file"):
        read_coco_json(root, train="other.json")
    with pytest.raises(DataError, match=r"data.val=annotations.json without data.test"):
        read_coco_json(root, val="annotations.json")
    with pytest.raises(DataError, match=r"listed 2 times \(in test and train\)"):
        read_coco_json(root, test="annotations.json")


def test_coco_json_with_categories_that_differ(copies):
    root = copies("coco_json")
    others = {**COCO_CATEGORIES, 1: "human"}
    write_image(root / "images" / "900.jpg", seed=1)
    content = coco_content(["900.jpg"], np.ones((1, 8), np.uint8), others)
    (root / "test.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match=r"different categories: \['human', 'person'\]"):
        read_coco_json(root, test="test.json")


# NUS-WIDE

TRAIN_LABELS = "Groundtruth/TrainTestLabels/Labels_{}_Train.txt"

NUSWIDE_CASES: dict[str, tuple[str, Damage, str]] = {
    "no lists": ("nuswide", remove("ImageList/TrainImagelist.txt"), "no ImageList/TrainImagelist.txt or"),
    "label file missing": (
        "nuswide",
        remove(TRAIN_LABELS.format("cat")),
        "Labels_cat_Train.txt: No such file",
    ),
    "label file shorter": (
        "nuswide",
        edit(TRAIN_LABELS.format("cat"), cut_last_line),
        "has 49 lines, its image list has 50",
    ),
    "labels of another list": (
        "nuswide",
        lambda root: shutil.copy(
            root / "Groundtruth/AllLabels/Labels_cat.txt", root / TRAIN_LABELS.format("cat")
        ),
        "has 80 lines, its image list has 50; Train and Test label files belong to",
    ),
    "label 2": ("nuswide", edit(TRAIN_LABELS.format("cat"), swap("0", "2")), "something else than 0 and 1"),
    "a minus one": (
        "nuswide",
        edit(TRAIN_LABELS.format("cat"), swap("0", "-1")),
        "something else than 0 and 1",
    ),
    "another concept list": ("nuswide", edit("Concepts81.txt", swap("zebra", "unicorn")), "unicorn, zebra"),
    "image listed twice": (
        "nuswide",
        edit(
            "ImageList/TrainImagelist.txt",
            lambda text: "\n".join([*text.splitlines()[:-1], text.splitlines()[0]]),
        ),
        "is listed 2 times",
    ),
    "path out of the root": (
        "nuswide",
        edit("ImageList/TestImagelist.txt", swap("actor", "..\\..")),
        "leads out of data.root",
    ),
    "unknown concept in the table": (
        "nuswide_table",
        edit("nus_wid_data.csv", swap("'animal'", "'dragon'")),
        "dragon",
    ),
    "label that is no list": (
        "nuswide_table",
        edit("nus_wid_data.csv", lambda text: text.replace("\"['", "\"['oops", 1).replace("']", "", 1)),
        "is not a list of concepts",
    ),
    "unknown split in the table": (
        "nuswide_table",
        edit("nus_wid_data.csv", swap(",val", ",dev")),
        "split_name 'dev'",
    ),
    "column missing in the table": (
        "nuswide_table",
        edit("nus_wid_data.csv", swap("split_name", "part")),
        "no column split_name",
    ),
    "80 columns in the list": (
        "nuswide_lists",
        edit("test.txt", swap(" 0", "")),
        "line 1: not a path with 81 columns",
    ),
    "test list missing": ("nuswide_lists", remove("test.txt"), "test.txt: no such file"),
    "empty test list": ("nuswide_lists", put("test.txt", b""), "no test image listed"),
}


@pytest.mark.parametrize(("layout", "damage", "message"), NUSWIDE_CASES.values(), ids=NUSWIDE_CASES)
def test_nuswide(copies, layout, damage, message):
    root = copies(layout)
    damage(root)
    with pytest.raises(DataError, match=message):
        read_nuswide(root, split="official")


def test_nuswide_bad_images_stop_it_only_if_asked(copies):
    root = copies("nuswide")
    next((root / "Flickr" / "actor").iterdir()).write_text("gone")
    assert read_nuswide(root).counts["dropped"]["unreadable"] == 1
    with pytest.raises(DataError, match="not an image"):
        read_nuswide(root, on_bad_image="error")


def test_nuswide_split_file_is_used_and_checked(copies):
    root = copies("nuswide")
    labelled = keep_labelled(nuswide_annotations(root), "drop")
    drawn = draw_paper_split(labelled.select(np.arange(8, 68)), 40, seed=3)
    path = split_file(root, seed=0)
    path.parent.mkdir()
    path.write_text(split_content(drawn))
    data_set = read_nuswide(root)
    assert data_set.test.image_ids.tolist() == drawn.image_ids[drawn.parts == "test"].tolist()
    assert data_set.counts["dropped"] == {"unlabelled": 4, "not in the split file": 16}
    path.write_text(path.read_text().replace("0011_", "0999_"))
    with pytest.raises(DataError, match="the lists are not those"):
        read_nuswide(root)
    path.write_text("{}")
    with pytest.raises(DataError, match="not a split file"):
        read_nuswide(root)


# CSV

HEAD = "image,labels,split\n"

CSV_CASES: dict[str, tuple[bytes, str]] = {
    "empty file": (b"", "the first line is ''; expected image,labels"),
    "header only": (HEAD.encode(), "no image below the first line"),
    "another header": (b"file;tags\na.jpg;x\n", "the first line is 'file;tags'; expected image,labels"),
    "image twice": (
        HEAD.encode() + b"a.jpg,x,train\nb.jpg,y,test\n./a.jpg,y,val\n",
        "line 4: a.jpg is listed in line 2",
    ),
    "unknown split": (HEAD.encode() + b"a.jpg,x,training\n", "line 2: split 'training'; train, val or test"),
    "no test image": (HEAD.encode() + b"a.jpg,x,train\nb.jpg,y,train\n", "no test image"),
    "too many cells": (
        HEAD.encode() + b"a, b.jpg,x,train\n",
        "line 2: 4 cells under 3 columns; put a name with a comma",
    ),
    "too few cells": (HEAD.encode() + b"a.jpg,x\n", "line 2: 2 cells under 3 columns"),
    "not UTF-8": (HEAD.encode() + "bär.jpg,x,train\n".encode("latin-1"), "line 2: byte 0xe4 is not UTF-8"),
    "out of the root": (HEAD.encode() + b"../a.jpg,x,train\n", "line 2: '../a.jpg' leads out of data.root"),
    "out by the side": (HEAD.encode() + b"x/../../a.jpg,x,train\n", "leads out of data.root"),
    "absolute": (HEAD.encode() + b"/etc/passwd,x,train\n", "leads out of data.root"),
    "a drive": (HEAD.encode() + b"C:\\a.jpg,x,train\n", "leads out of data.root"),
    "no path": (HEAD.encode() + b",x,train\n", "line 2: '' is not the path of an image"),
    "NUL in a path": (HEAD.encode() + b"a\0.jpg,x,train\n", "line 2"),
    "column twice": (b"image,cat,cat\na.jpg,1,0\n", "the column 'cat' is there twice"),
    "column beside labels": (b"image,labels,spilt\na.jpg,x,train\n", "column 'spilt' beside labels"),
    "value 3": (b"image,cat,dog\na.jpg,1,3\n", "line 2: '3' is not 1, 0, -1"),
    "one class": (HEAD.encode() + b"0.jpg,x,train\n1.jpg,x,val\n2.jpg,x,test\n", "1 label .*at least 2"),
    "no class": (b"image\n0.jpg\n1.jpg\n2.jpg\n", "0 label .*at least 2"),
    "images missing": (
        HEAD.encode() + b"0.jpg,x,train\nno.jpg,y,test\n",
        r"1 of 2 images .*no.jpg \(missing\)",
    ),
    "two images to split": (
        b"image,labels\n0.jpg,x\n1.jpg,y\n",
        "2 usable images; three splits need at least 3",
    ),
    "one image to train": (
        HEAD.encode() + b"0.jpg,x,train\n1.jpg,y,test\n",
        "1 training images; validation needs one",
    ),
    "a field without end": (HEAD.encode() + b'"' + b"a" * 200_000, "line 2: field larger than"),
}


@pytest.mark.parametrize(("content", "message"), CSV_CASES.values(), ids=CSV_CASES)
def test_csv(tmp_path, content, message):
    for number in range(3):
        write_image(tmp_path / f"{number}.jpg", seed=number)
    (tmp_path / "labels.csv").write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_csv(tmp_path)


def test_csv_unknown_class_with_the_likely_one(tmp_path):
    root = write_csv(tmp_path / "lists")
    with pytest.raises(DataError, match=r"labels.csv, line 2: unknown class '\w+'"):
        read_csv(root, classes=("xyz", "abc"))
    with pytest.raises(DataError, match="unknown class 'apple'; did you mean 'apples'"):
        read_csv(root, classes=("apples", *OWN_CLASSES[1:]))
    root = write_csv(tmp_path / "columns", columns=True)
    with pytest.raises(DataError, match="unknown class 'apples'; did you mean 'apple'"):
        read_csv(root, classes=("apples", *OWN_CLASSES[1:]))


def test_csv_root_is_the_image_folder(tmp_path):
    root = write_csv(tmp_path)
    with pytest.raises(DataError, match=r"too deep in the tree; set data\.root="):
        read_csv(root / "photos")


def test_names_that_are_not_utf8_on_disk_are_missing_not_a_crash(tmp_path):
    root = write_csv(tmp_path)
    source, target = root / "photos" / "000.jpg", bytes(root / "photos") + b"/\xe4.jpg"
    source.rename(target.decode("utf-8", "surrogateescape"))
    with pytest.raises(DataError, match=r"photos/000.jpg \(missing\)"):
        read_csv(root)


def test_drop_counts_each_reason(tmp_path, caplog):
    root = write_csv(tmp_path)
    (root / "photos" / "000.jpg").unlink()
    (root / "photos" / "001.jpg").write_bytes(b"")
    truncate(root / "photos" / "002.jpg")
    data_set = read_csv(root, on_bad_image="drop")
    assert data_set.counts["dropped"] == {"missing": 1, "unreadable": 2}
    assert sum(data_set.counts["images"].values()) == 57
    assert "3 of 60 images" in caplog.text
    assert "dropped" in caplog.text


# Options

OPTION_CASES = {
    "on_bad_image": (read_csv, {"on_bad_image": "ignore"}, "data.on_bad_image=ignore: error or drop"),
    "unlabelled": (read_csv, {"unlabelled": "maybe"}, "data.unlabelled=maybe: drop or keep"),
    "holdout": (read_voc2007, {"holdout": 0.0}, "data.holdout=0.0"),
    "holdout above 1": (read_voc2007, {"holdout": 5}, "data.holdout=5"),
    "difficult": (read_voc2007, {"difficult": "yes"}, "data.difficult=yes: negative, positive or ignore"),
    "label_order": (read_coco, {"label_order": "random"}, "data.label_order=random"),
    "split": (read_nuswide, {"split": "mine"}, "data.split=mine: paper or official"),
}


@pytest.mark.parametrize(("reader", "options", "message"), OPTION_CASES.values(), ids=OPTION_CASES)
def test_options(trees, reader, options, message):
    with pytest.raises(DataError, match=message):
        reader(trees(reader.__name__.removeprefix("read_")), **options)
