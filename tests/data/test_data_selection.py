"""What all sources share: the hold-out, options, and the list of each split."""

import json

import pytest
from source_cases import images_of

from lsep_ml.data import DataError
from lsep_ml.data.sources.coco import read_coco
from lsep_ml.data.sources.csv_labels import read_csv
from lsep_ml.data.sources.nuswide import read_nuswide
from lsep_ml.data.sources.voc import CLASSES
from lsep_ml.data.sources.voc2007 import read_voc2007


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


READERS = {"csv": read_csv, "voc2007": read_voc2007, "coco": read_coco, "nuswide": read_nuswide}
OPTION_CASES = {
    "on_bad_image": ("csv", {"on_bad_image": "ignore"}, "data.on_bad_image=ignore: error or drop"),
    "unlabelled": ("csv", {"unlabelled": "maybe"}, "data.unlabelled=maybe: drop or keep"),
    "holdout": ("voc2007", {"holdout": 0.0}, "data.holdout=0.0"),
    "holdout above 1": ("voc2007", {"holdout": 5}, "data.holdout=5"),
    "difficult": ("voc2007", {"difficult": "yes"}, "data.difficult=yes: negative, positive or ignore"),
    "label_order": ("coco", {"label_order": "random"}, "data.label_order=random"),
    "split": ("nuswide", {"split": "mine"}, "data.split=mine: paper or official"),
}


@pytest.mark.parametrize(("name", "options", "message"), OPTION_CASES.values(), ids=OPTION_CASES)
def test_options(trees, name, options, message):
    with pytest.raises(DataError, match=message):
        READERS[name](trees(name), **options)
