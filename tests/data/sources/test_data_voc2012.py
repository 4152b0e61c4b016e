"""VOC2012: its lists train and val, its archive, and what the check compares."""

import hashlib
import shutil
import tarfile

import numpy as np
import pytest
from data_trees import write_voc
from source_cases import images_of, labels_of

from lsep_ml.data import DataError
from lsep_ml.data.check.verdict import check
from lsep_ml.data.prepare import prepare
from lsep_ml.data.sources.source import Archive, Published
from lsep_ml.data.sources.voc import CLASSES
from lsep_ml.data.sources.voc2012 import SOURCE, read_voc2012, voc2012_annotations

INSIDE = "VOCdevkit/VOC2012"


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    return write_voc(tmp_path_factory.mktemp("voc2012"), inside=INSIDE, lists=("train", "val"))


@pytest.mark.parametrize("level", [".", "VOCdevkit", INSIDE])
def test_train_trains_and_val_tests(tree, level):
    data_set = read_voc2012(tree / level)
    assert images_of(data_set) == {"train": 42, "val": 2, "test": 22}
    assert data_set.name == "voc2012"
    main = tree / INSIDE / "ImageSets" / "Main"
    listed = {name: set((main / f"{name}.txt").read_text().split()) for name in ("train", "val")}
    ids = {
        part: {i[11:17] for i in data_set.split(part).image_ids.tolist()} for part in ("train", "val", "test")
    }
    assert ids["test"] == listed["val"]
    assert ids["train"] | ids["val"] == listed["train"]
    expected = {f"JPEGImages/{name}.jpg": set() for name in listed["train"] | listed["val"]}
    for class_name in CLASSES:
        for name in ("train", "val"):
            for line in (main / f"{class_name}_{name}.txt").read_text().splitlines():
                image, value = line.split()
                if value == "1":
                    expected[f"JPEGImages/{image}.jpg"].add(class_name)
    assert labels_of(data_set) == expected


@pytest.mark.parametrize("difficult", ["negative", "positive", "ignore"])
def test_what_is_difficult_is_a_choice(tree, difficult):
    plain, found = voc2012_annotations(tree), voc2012_annotations(tree, difficult=difficult)
    assert (found.mask is not None) == (difficult == "ignore")
    more = found.targets.astype(int) - plain.targets
    assert more.sum() == (14 if difficult == "positive" else 0)


def test_the_published_counts_are_those_of_the_challenge():
    published = SOURCE.published
    assert published.images == {"train": 5717, "test": 5823}
    assert sum(published.images.values()) == 11_540
    assert (published.positives["person"], published.positives["cow"]) == (1994, 151)
    assert list(published.positives) == list(CLASSES)


def test_check_compares_with_the_lists_and_the_xml_files(tree, tmp_path):
    whole = voc2012_annotations(tree)
    positives = whole.targets[whole.split_of == "train"].sum(axis=0)
    facts = Published(
        images={"train": 44, "test": 22},
        positives=dict(zip(CLASSES, np.asarray(positives).tolist(), strict=True)),
    )
    assert check("voc2012", tree, published=facts).findings == ()
    report = check("voc2012", tree)
    assert "not the whole data set" in report.verdict
    assert report.exit_code == 0
    root = shutil.copytree(tree, tmp_path / "copy")
    (root / INSIDE / "Annotations" / "000001.xml").unlink()
    [finding] = check("voc2012", root, published=facts).findings
    assert finding.message.startswith("1 files in Annotations/")


def test_prepare_unpacks_its_archive(tree, tmp_path):
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        archive.add(tree / "VOCdevkit", "VOCdevkit")
    md5 = hashlib.md5((tmp_path / "a.tar").read_bytes()).hexdigest()
    facts = (Archive("a.tar", (tmp_path / "a.tar").stat().st_size, md5),)
    prepare("voc2012", tmp_path, tmp_path / "voc", archives=facts)
    assert read_voc2012(tmp_path / "voc").split_hash == read_voc2012(tree).split_hash


def test_the_tree_of_another_year_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"no ImageSets/Main/train\.txt in it"):
        read_voc2012(write_voc(tmp_path, trainval=4, test=4))
