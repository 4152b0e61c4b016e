"""MS-COCO and COCO-style JSON files: what is read from their trees, and what is refused."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from data_trees import COCO_CATEGORIES, coco_content, random_labels, write_coco_json, write_image
from source_cases import Damage, edit, expected_labels, images_of, labels_of, put, remove

from lsep_ml.data import DataError
from lsep_ml.data.sources import instances
from lsep_ml.data.sources.coco import read_coco
from lsep_ml.data.sources.coco_json import read_coco_json


def coco_expected(part, size):
    targets = random_labels(size, len(COCO_CATEGORIES), seed=size)
    targets[:3] = 0
    names = [f"{part}/COCO_{part}_{9 + 2 * row:012d}.jpg" for row in range(size)]
    return expected_labels(names, targets, list(COCO_CATEGORIES.values()))


def test_coco(trees):
    data_set = read_coco(trees("coco"))
    assert data_set.label_names == tuple(COCO_CATEGORIES.values())
    expected = {**coco_expected("train2014", 40), **coco_expected("val2014", 20)}
    assert labels_of(data_set) == {name: labels for name, labels in expected.items() if labels}
    assert images_of(data_set) == {"train": 35, "val": 2, "test": 17}
    assert data_set.counts["dropped"] == {"unlabelled": 6}


def test_coco_keeps_unlabelled_images_if_asked(trees):
    data_set = read_coco(trees("coco"), unlabelled="keep")
    assert images_of(data_set) == {"train": 38, "val": 2, "test": 20}
    assert data_set.counts["dropped"] == {}


def test_coco_alphabetical_order_names_the_same_labels(trees):
    data_set = read_coco(trees("coco"), label_order="alphabetical")
    assert data_set.label_names == tuple(sorted(COCO_CATEGORIES.values()))
    assert labels_of(data_set) == labels_of(read_coco(trees("coco")))


def test_coco_annotations_come_from_the_cache_until_the_file_changes(copies, tmp_path, monkeypatch):
    parsed, real = [], instances._parse
    monkeypatch.setattr(instances, "_parse", lambda path, root: parsed.append(path.name) or real(path, root))
    root, cache = copies("coco"), tmp_path / "cache"
    first = read_coco(root, cache=cache)
    assert read_coco(root, cache=cache).split_hash == first.split_hash
    assert parsed == ["instances_train2014.json", "instances_val2014.json"]
    path = root / "annotations" / "instances_val2014.json"
    content = json.loads(path.read_text())
    last = content["annotations"][-1]["image_id"]
    content["annotations"] = [entry for entry in content["annotations"] if entry["image_id"] != last]
    path.write_text(json.dumps(content))
    assert read_coco(root, cache=cache).split_hash != first.split_hash
    assert parsed[2:] == ["instances_val2014.json"]


def test_coco_json_alone_is_divided(trees):
    data_set = read_coco_json(trees("coco_json"))
    assert sum(images_of(data_set).values()) == 40
    names = [f"images/{row:03d}.jpg" for row in range(40)]
    expected = expected_labels(
        names, random_labels(40, len(COCO_CATEGORIES), seed=40), list(COCO_CATEGORIES.values())
    )
    assert labels_of(data_set) == expected


def test_coco_json_with_a_test_file(tmp_path):
    root = write_coco_json(tmp_path, images=40, test=10)
    data_set = read_coco_json(root, test="test.json", holdout=0.1)
    assert images_of(data_set) == {"train": 36, "val": 4, "test": 10}
    assert set(data_set.test.image_ids.tolist()) == {f"images/{40 + row:03d}.jpg" for row in range(10)}


def test_coco_json_images_beside_the_file(tmp_path):
    root = write_coco_json(tmp_path, images=12)
    (root / "export").mkdir()
    (root / "images").rename(root / "export" / "pictures")
    (root / "annotations.json").rename(root / "export" / "labels.json")
    assert sum(images_of(read_coco_json(root, train="export/labels.json")).values()) == 12


def change_json(path: str, change: Callable[[dict], object]) -> Damage:
    def damage(root: Path) -> None:
        content = json.loads((root / path).read_text())
        change(content)
        (root / path).write_text(json.dumps(content))

    return damage


VAL = "annotations/instances_val2014.json"

REFUSED: dict[str, tuple[Damage, str]] = {
    "no annotations": (
        remove("annotations/instances_train2014.json"),
        "no annotations/instances_train2014.json",
    ),
    "val annotations missing": (remove(VAL), "instances_val2014.json: No such file"),
    "cut-off JSON": (edit(VAL, lambda text: text[: len(text) // 2]), "not a COCO-style JSON file"),
    "binary": (put(VAL, b"\x80\x81\x82"), "not a COCO-style JSON file"),
    "a JSON list": (put(VAL, b"[1, 2]"), "no list of images"),
    "annotations that are none": (
        change_json(VAL, lambda content: content.update(annotations=None)),
        "no list of annotations",
    ),
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
    "category without a name": (
        change_json(VAL, lambda content: content["categories"][0].update(name=None)),
        r"the category with id \d+ has the name None",
    ),
    "category with a blank name": (
        change_json(VAL, lambda content: content["categories"][0].update(name=" ")),
        r"the category with id \d+ has the name ' '",
    ),
    "category ids of two types": (
        change_json(VAL, lambda content: content["categories"][0].update(id="90")),
        r"category ids of different types \('90' is a str, \d+ is a number\)|annotation",
    ),
    "file name null": (
        change_json(VAL, lambda content: content["images"][2].update(file_name=None)),
        "the image with id 15 has the file_name None",
    ),
    "nested without end": (put(VAL, b'{"a":' * 100_000), "not a COCO-style JSON file"),
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


@pytest.mark.parametrize(("damage", "message"), REFUSED.values(), ids=REFUSED)
def test_refused(copies, damage, message):
    root = copies("coco")
    damage(root)
    with pytest.raises(DataError, match=message):
        read_coco(root)


def test_coco_json_refused(trees, tmp_path):
    root = trees("coco_json")
    with pytest.raises(DataError, match="nowhere: no such folder"):
        read_coco_json(tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"other.json: No such file"):
        read_coco_json(root, train="other.json")
    with pytest.raises(DataError, match=r"data.val=annotations.json without data.test"):
        read_coco_json(root, val="annotations.json")
    with pytest.raises(DataError, match=r"listed 2 times \(in test and train\)"):
        read_coco_json(root, test="annotations.json")


def test_absolute_file_names_inside_the_root_are_images_of_it(copies):
    root = copies("coco_json")
    expected = read_coco_json(root)
    file = root / "annotations.json"
    content = json.loads(file.read_text())
    for image in content["images"]:
        image["file_name"] = str(root.absolute() / image["file_name"])
    file.write_text(json.dumps(content))
    assert read_coco_json(root).content == expected.content


@pytest.mark.parametrize("targets", [np.zeros((0, 8)), np.zeros((3, 8))], ids=["no image", "no annotation"])
def test_coco_json_without_content(copies, targets):
    root = copies("coco_json")
    names = [f"{row:03d}.jpg" for row in range(len(targets))]
    (root / "annotations.json").write_text(json.dumps(coco_content(names, targets)))
    if len(targets):
        assert images_of(read_coco_json(root)) == {"train": 1, "val": 1, "test": 1}
    for policy in ("keep", "drop")[len(targets) > 0 :]:
        with pytest.raises(DataError, match="0 usable images"):
            read_coco_json(root, unlabelled=policy)


def test_coco_json_with_categories_that_differ(copies):
    root = copies("coco_json")
    others = {**COCO_CATEGORIES, 1: "human"}
    write_image(root / "images" / "900.jpg", seed=1)
    content = coco_content(["900.jpg"], np.ones((1, 8), np.uint8), others)
    (root / "test.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match=r"different categories: \['human', 'person'\]"):
        read_coco_json(root, test="test.json")


def test_coco_json_with_a_byte_order_mark(copies):
    root = copies("coco_json")
    plain = read_coco_json(root)
    path = root / "annotations.json"
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert read_coco_json(root).split_hash == plain.split_hash


def test_coco_json_with_ids_that_are_texts(copies):
    root = copies("coco_json")
    plain = labels_of(read_coco_json(root))
    content = json.loads((root / "annotations.json").read_text())
    for entry in content["categories"]:
        entry["id"] = str(entry["id"])
    for entry in content["annotations"]:
        entry["category_id"] = str(entry["category_id"])
    (root / "annotations.json").write_text(json.dumps(content))
    assert labels_of(read_coco_json(root)) == plain
