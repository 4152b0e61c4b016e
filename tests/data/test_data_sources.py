"""Each source's reader on its small tree, against the content that the tree was written with."""

import json

import numpy as np
import pytest
from data_trees import (
    COCO_CATEGORIES,
    OWN_CLASSES,
    nuswide_labels,
    nuswide_paths,
    random_labels,
    write_coco_json,
    write_csv,
    write_nuswide,
    write_voc,
)

from lsep_ml.data import DataSet
from lsep_ml.data.coco import read_coco
from lsep_ml.data.coco_json import read_coco_json
from lsep_ml.data.csv_labels import read_csv
from lsep_ml.data.nuswide import read_nuswide
from lsep_ml.data.nuswide_files import CONCEPTS, nuswide_annotations
from lsep_ml.data.voc2007 import CLASSES, read_voc2007, voc2007_annotations


def labels_of(data_set: DataSet) -> dict[str, set[str]]:
    """image id -> its labels, over all splits."""
    found = {}
    for name in ("train", "val", "test"):
        split = data_set.split(name)
        for image_id, row in zip(split.image_ids.tolist(), split.targets, strict=True):
            found[image_id] = {data_set.label_names[column] for column in np.flatnonzero(row)}
    return found


def expected_labels(names, targets, label_names):
    return {
        name: {label_names[column] for column in np.flatnonzero(row)}
        for name, row in zip(names, targets, strict=True)
    }


def images_of(data_set):
    return data_set.counts["images"]


# VOC2007


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


# MS-COCO


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
    from lsep_ml.data import instances

    parsed, real = [], instances._parse
    monkeypatch.setattr(instances, "_parse", lambda path: parsed.append(path.name) or real(path))
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


# NUS-WIDE


def nuswide_expected():
    found = {}
    for part, size, seed in (("train", 50, 0), ("test", 30, 1)):
        names = [path.rpartition("/")[2] for path in nuswide_paths(size, part)]
        found[part] = expected_labels(names, nuswide_labels(size, seed, unlabelled=2), CONCEPTS)
    return found


def by_base_name(labels):
    return {image_id.rpartition("/")[2]: names for image_id, names in labels.items()}


@pytest.mark.parametrize("layout", ["nuswide", "nuswide_table", "nuswide_lists"])
def test_nuswide_official_split_in_every_layout(trees, layout):
    data_set = read_nuswide(trees(layout), split="official")
    assert data_set.label_names == CONCEPTS
    assert len(CONCEPTS) == 81
    assert images_of(data_set) == {"train": 46, "val": 2, "test": 28}
    assert data_set.counts["dropped"] == {"unlabelled": 4}
    expected = nuswide_expected()
    labelled = {name: labels for part in expected.values() for name, labels in part.items() if labels}
    assert by_base_name(labels_of(data_set)) == labelled
    assert {image_id.rpartition("/")[2] for image_id in data_set.test.image_ids.tolist()} <= set(
        expected["test"]
    )


@pytest.mark.parametrize("labels", ["TrainTestLabels", "AllLabels"])
def test_nuswide_label_files_belong_to_their_own_lists(tmp_path, labels):
    only = nuswide_annotations(write_nuswide(tmp_path, train=6, test=5, labels=labels))
    expected = [*nuswide_labels(6, 0, 2), *nuswide_labels(5, 1, 2)]
    assert np.array_equal(only.targets, np.array(expected))


def test_nuswide_paper_split_is_the_same_in_every_layout(trees):
    drawn = []
    for layout in ("nuswide", "nuswide_table", "nuswide_lists"):
        data_set = read_nuswide(trees(layout), train_images=60)
        assert images_of(data_set) == {"train": 57, "val": 3, "test": 16}
        drawn.append({image_id.rpartition("/")[2] for image_id in data_set.test.image_ids.tolist()})
    assert drawn[0] == drawn[1] == drawn[2]
    official = read_nuswide(trees("nuswide"), split="official").test.image_ids.tolist()
    assert drawn[0] != {image_id.rpartition("/")[2] for image_id in official}


def test_nuswide_paper_split_of_a_subset_says_so(trees, caplog):
    data_set = read_nuswide(trees("nuswide"))
    assert "not the paper's protocol" in caplog.text
    assert len(data_set.test) == 76 - round(76 * 150_000 / 200_261)


def test_nuswide_images_are_found_by_base_name_and_dropped_where_missing(copies):
    root = copies("nuswide")
    listed = nuswide_annotations(root).image_ids.tolist()
    elsewhere = root / "somewhere" / "else"
    elsewhere.mkdir(parents=True)
    (root / listed[10]).rename(elsewhere / listed[10].rpartition("/")[2])
    (root / listed[11]).unlink()
    (root / listed[12]).write_bytes(b"")
    data_set = read_nuswide(root, split="official")
    ids = labels_of(data_set)
    assert f"somewhere/else/{listed[10].rpartition('/')[2]}" in ids
    assert not {listed[10], listed[11], listed[12]} & set(ids)
    assert data_set.counts["dropped"] == {"unlabelled": 4, "missing": 1, "unreadable": 1}


# Own images


@pytest.mark.parametrize("columns", [False, True])
def test_csv_both_forms(tmp_path, columns):
    data_set = read_csv(write_csv(tmp_path, columns=columns))
    assert data_set.label_names == OWN_CLASSES
    assert images_of(data_set) == {"train": 42, "val": 6, "test": 12}
    names = [f"photos/{row:03d}.jpg" for row in range(60)]
    assert labels_of(data_set) == expected_labels(names, random_labels(60, 5, seed=5), OWN_CLASSES)
    assert (data_set.train.mask is None) == (not columns)


def test_csv_unknown_entries_are_masked(tmp_path):
    data_set = read_csv(write_csv(tmp_path, columns=True))
    unknown = (np.random.default_rng(6).random((60, 5)) < 0.1) & (random_labels(60, 5, seed=5) == 0)
    rows = [int(image_id[7:10]) for image_id in data_set.train.image_ids.tolist()]
    assert np.array_equal(~data_set.train.mask, unknown[rows])
    assert unknown[rows].any()


def test_csv_without_split_column_is_divided_by_the_seed(tmp_path):
    root = write_csv(tmp_path, split=False)
    data_set = read_csv(root)
    sizes = images_of(data_set)
    assert sum(sizes.values()) == 60
    assert sizes["train"] > 40
    assert min(sizes.values()) >= 4
    assert read_csv(root).split_hash == data_set.split_hash
    assert read_csv(root, seed=1).split_hash != data_set.split_hash


def test_csv_split_without_val_holds_some_out(tmp_path):
    root = write_csv(tmp_path)
    text = (root / "labels.csv").read_text().replace(",val", ",train")
    (root / "labels.csv").write_text(text)
    assert images_of(read_csv(root, holdout=0.25)) == {"train": 36, "val": 12, "test": 12}


def test_csv_classes_give_the_order(tmp_path):
    for columns in (False, True):
        root = write_csv(tmp_path / str(columns), columns=columns)
        data_set = read_csv(root, classes=OWN_CLASSES[::-1])
        assert data_set.label_names == OWN_CLASSES[::-1]
        assert labels_of(data_set) == labels_of(read_csv(root))


def test_csv_bom_crlf_quotes_blanks_and_unicode_are_read(tmp_path):
    root = write_csv(tmp_path)
    plain = read_csv(root)
    text = (root / "labels.csv").read_text(encoding="utf-8")
    rows = [line.split(",") for line in text.splitlines()]
    awkward = "\r\n".join(
        ", ".join(f' "{cell}"'.strip() if row else cell for cell in cells) for row, cells in enumerate(rows)
    )
    awkward = awkward.replace(', "', ',"').replace("apple", "äpple, röd") + "\r\n\r\n"
    (root / "photos" / "000.jpg").rename(root / "photos" / "bild, größe.jpg")
    awkward = awkward.replace("photos/000.jpg", "./photos\\bild, größe.jpg")
    (root / "labels.csv").write_bytes(b"\xef\xbb\xbf" + awkward.encode())
    data_set = read_csv(root)
    assert "photos/bild, größe.jpg" in labels_of(data_set)
    assert set(data_set.label_names) == {"äpple, röd", *OWN_CLASSES[1:]}
    assert images_of(data_set) == images_of(plain)


def test_csv_unlabelled_images_are_kept_or_dropped(tmp_path):
    root = write_csv(tmp_path)
    lines = (root / "labels.csv").read_text().splitlines()
    lines[1] = "photos/000.jpg,,train"
    (root / "labels.csv").write_text("\n".join(lines))
    assert images_of(read_csv(root))["train"] == 42
    dropped = read_csv(root, unlabelled="drop")
    assert images_of(dropped)["train"] == 41
    assert dropped.counts["dropped"] == {"unlabelled": 1}


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


# Hold-out


def test_hold_out_is_a_function_of_the_seed(trees):
    first, again, other = (read_voc2007(trees("voc2007"), seed=seed) for seed in (0, 0, 1))
    assert first.val.image_ids.tolist() == again.val.image_ids.tolist()
    assert first.val.image_ids.tolist() != other.val.image_ids.tolist()
    assert sorted([*first.train.image_ids, *first.val.image_ids]) == sorted(
        [*other.train.image_ids, *other.val.image_ids]
    )
    assert first.test.image_ids.tolist() == other.test.image_ids.tolist()


@pytest.mark.parametrize(("share", "size"), [(0.05, 2), (0.5, 22), (0.001, 1)])
def test_hold_out_size(trees, share, size):
    assert images_of(read_voc2007(trees("voc2007"), holdout=share)) == {
        "train": 44 - size,
        "val": size,
        "test": 22,
    }


def test_split_lists_are_written_with_their_hash(trees, tmp_path):
    data_set = read_voc2007(trees("voc2007"))
    data_set.write_split(tmp_path / "run" / "split.json")
    content = json.loads((tmp_path / "run" / "split.json").read_text())
    assert content["split_hash"] == data_set.split_hash
    assert content["val"] == data_set.val.image_ids.tolist()
    assert content["label_names"] == list(CLASSES)
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["split.json"]
