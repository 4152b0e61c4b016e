"""NUS-WIDE: what is read from its three layouts, the paper split, and what is refused."""

import shutil

import numpy as np
import pytest
from data_trees import nuswide_labels, nuswide_paths, write_nuswide
from source_cases import Damage, cut_last_line, edit, expected_labels, images_of, labels_of, put, remove, swap

from lsep_ml.data import DataError
from lsep_ml.data.annotations import keep_labelled
from lsep_ml.data.sources.nuswide import read_nuswide
from lsep_ml.data.sources.nuswide.layouts import CONCEPTS, nuswide_annotations
from lsep_ml.data.sources.nuswide.paper_split import draw_paper_split, split_content, split_file


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


def test_parsed_lists_are_kept_until_a_file_changes(copies, tmp_path):
    root, cache = copies("nuswide"), tmp_path / "cache"
    first = nuswide_annotations(root, cache=cache)
    path = root / "Groundtruth" / "TrainTestLabels" / "Labels_zebra_Train.txt"
    flipped = path.read_text().translate(str.maketrans("01", "10"))
    again = nuswide_annotations(root, cache=cache)
    assert np.array_equal(again.targets, first.targets)
    assert again.image_ids.tolist() == first.image_ids.tolist()
    path.write_text(flipped)
    changed = nuswide_annotations(root, cache=cache)
    assert np.array_equal(changed.targets[:50, -1], 1 - first.targets[:50, -1])
    assert np.array_equal(changed.targets[:, :-1], first.targets[:, :-1])


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


TRAIN_LABELS = "Groundtruth/TrainTestLabels/Labels_{}_Train.txt"

REFUSED: dict[str, tuple[str, Damage, str]] = {
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


@pytest.mark.parametrize(("layout", "damage", "message"), REFUSED.values(), ids=REFUSED)
def test_refused(copies, layout, damage, message):
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
    assert data_set.test.image_ids.tolist() == drawn.image_ids[drawn.split_of == "test"].tolist()
    assert data_set.counts["dropped"] == {"unlabelled": 4, "not in the split file": 16}
    path.write_text(path.read_text().replace("0011_", "0999_"))
    with pytest.raises(DataError, match="the lists are not those"):
        read_nuswide(root)
    path.write_text("{}")
    with pytest.raises(DataError, match="not a split file"):
        read_nuswide(root)
