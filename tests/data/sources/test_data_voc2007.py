"""VOC2007: what is read from its tree, and what is refused."""

import pytest
from data_trees import write_voc
from source_cases import Damage, cut_last_line, edit, images_of, put, remove, swap, truncate

from lsep_ml.data import DataError
from lsep_ml.data.sources.voc import CLASSES
from lsep_ml.data.sources.voc2007 import read_voc2007, voc2007_annotations


@pytest.mark.parametrize("inside", ["VOCdevkit/VOC2007", "VOC2007", "."])
def test_voc2007_with_and_without_vocdevkit(tmp_path, inside):
    data_set = read_voc2007(write_voc(tmp_path, trainval=22, test=6, inside=inside))
    assert images_of(data_set) == {"train": 21, "val": 1, "test": 6}
    assert data_set.label_names == CLASSES
    assert data_set.train.image_ids[0].startswith("JPEGImages/")


def test_voc2007_ids_and_hash_do_not_depend_on_the_level_of_root(tmp_path):
    root = write_voc(tmp_path, trainval=22, test=6)
    hashes = {
        read_voc2007(folder).split_hash
        for folder in (root, root / "VOCdevkit", root / "VOCdevkit" / "VOC2007")
    }
    assert len(hashes) == 1


@pytest.mark.parametrize("difficult", ["negative", "positive", "ignore"])
def test_voc2007_difficult(trees, difficult):
    root = trees("voc2007")
    annotations = voc2007_annotations(root, difficult=difficult)
    main = root / "VOCdevkit" / "VOC2007" / "ImageSets" / "Main"
    assert annotations.image_ids.tolist()[:2] == ["JPEGImages/000001.jpg", "JPEGImages/000003.jpg"]
    seen = set()
    for column, name in enumerate(CLASSES):
        lines = [
            *(main / f"{name}_trainval.txt").read_text().split("\n"),
            *(main / f"{name}_test.txt").read_text().split("\n"),
        ]
        values = [int(line.split()[1]) for line in lines if line]
        for row, value in enumerate(values):
            seen.add(value)
            assert annotations.targets[row, column] == {1: 1, -1: 0, 0: int(difficult == "positive")}[value]
            known = annotations.mask is None or annotations.mask[row, column]
            assert known == (value != 0 or difficult != "ignore")
    assert seen == {-1, 0, 1}


def test_voc2007_mask_only_where_something_is_ignored(trees):
    assert read_voc2007(trees("voc2007")).train.mask is None
    masked = read_voc2007(trees("voc2007"), difficult="ignore")
    assert not masked.train.mask.all()
    assert masked.split_hash != read_voc2007(trees("voc2007")).split_hash


MAIN = "VOCdevkit/VOC2007/ImageSets/Main"

REFUSED: dict[str, tuple[Damage, str]] = {
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
            edit(f"{MAIN}/{name}", swap("000002", "000001"))(root)
            for name in ("test.txt", *(f"{name}_test.txt" for name in CLASSES))
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


@pytest.mark.parametrize(("damage", "message"), REFUSED.values(), ids=REFUSED)
def test_refused(copies, damage, message):
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
