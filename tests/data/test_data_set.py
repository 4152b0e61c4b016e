"""What a DataSet refuses, counts and hashes."""

import dataclasses
import logging

import numpy as np
import pytest
import torch

from lsep_ml.data import DataError, DataSet, Split

NAMES = ("cat", "dog", "owl")


def make_split(name: str, targets: list[list[int]], mask: list[list[bool]] | None = None) -> Split:
    return Split(
        torch.zeros(len(targets), 1, 4, 4, dtype=torch.uint8),
        np.array(targets, np.uint8).reshape(-1, 3),
        None if mask is None else np.array(mask),
        np.array([f"{name}/{row}" for row in range(len(targets))], dtype="U16"),
    )


@pytest.fixture
def splits() -> dict[str, Split]:
    return {
        "train": make_split("train", [[1, 0, 0], [0, 1, 1]]),
        "val": make_split("val", [[1, 1, 0]]),
        "test": make_split("test", [[0, 0, 1], [0, 0, 0], [1, 1, 1]]),
    }


def test_counts_are_plain_and_right(splits):
    counts = DataSet("pets", NAMES, **splits, dropped={"unlabelled": 2}).counts
    assert counts["images"] == {"train": 2, "val": 1, "test": 3}
    assert counts["dropped"] == {"unlabelled": 2}
    assert counts["positives"]["test"] == {"cat": 1, "dog": 1, "owl": 2}
    assert type(counts["positives"]["test"]["owl"]) is int


@pytest.mark.parametrize(
    "change",
    [
        {"label_names": ("cat", "owl", "dog")},
        {"train": make_split("train", [[1, 0, 1], [0, 1, 1]])},
        {"train": make_split("t", [[1, 0, 0], [0, 1, 1]])},
        {"val": make_split("val", [[1, 1, 0], [0, 0, 0]])},
    ],
    ids=["label order", "a target", "an id", "one image more"],
)
def test_split_hash_changes_with_what_it_covers(splits, change):
    data_set = DataSet("pets", NAMES, **splits)
    assert len(data_set.split_hash) == 64
    assert dataclasses.replace(data_set, name="other").split_hash == data_set.split_hash
    assert dataclasses.replace(data_set, **change).split_hash != data_set.split_hash


def test_split_hash_covers_the_mask(splits):
    known = {name: np.ones_like(split.targets, dtype=bool) for name, split in splits.items()}
    masked = {name: dataclasses.replace(split, mask=known[name]) for name, split in splits.items()}
    first = DataSet("pets", NAMES, **masked).split_hash
    known["train"][0, 1] = False
    assert DataSet("pets", NAMES, **masked).split_hash != first


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"label_names": ("cat",)}, "1 label .*at least 2"),
        ({"label_names": ("cat", "dog", "cat")}, "named twice: cat"),
        ({"val": make_split("val", [])}, "val split: empty"),
        ({"val": make_split("val", [[1, 2, 0]])}, "image 'val/0', label 1 is 2; targets are 0 or 1"),
        ({"label_names": ("cat", "dog")}, r"targets are uint8 \(2, 3\), not uint8 \(2, 2\)"),
        ({"val": make_split("train", [[1, 1, 0]])}, "'train/0' is listed twice"),
        ({"val": make_split("val", [[1, 1, 0]], [[True, True, True]])}, "some splits have a mask"),
    ],
)
def test_refused(splits, change, message):
    with pytest.raises(DataError, match=message):
        DataSet(**{"name": "pets", "label_names": NAMES, **splits, **change})


def test_positive_and_unknown_at_once_is_refused(splits):
    masked = {
        name: dataclasses.replace(split, mask=np.zeros_like(split.targets, dtype=bool))
        for name, split in splits.items()
    }
    with pytest.raises(DataError, match="positive and masked"):
        DataSet("pets", NAMES, **masked)


def test_labels_without_training_positives_are_named(splits, caplog):
    with caplog.at_level(logging.WARNING):
        DataSet("pets", NAMES, **{**splits, "train": make_split("train", [[1, 0, 0]])})
    assert "no positive in training for dog, owl" in caplog.text


def test_unknown_split_name(splits):
    with pytest.raises(DataError, match="no split 'validation'; there are train, val, test"):
        DataSet("pets", NAMES, **splits).split("validation")


def test_groups_fit_their_rows_and_are_part_of_what_is_hashed(splits):
    numbers = {"train": [7, 7], "val": [3], "test": [1, 1, 2]}
    grouped = {
        name: dataclasses.replace(split, groups=np.array(numbers[name], np.int64))
        for name, split in splits.items()
    }
    plain, data_set = DataSet("pets", NAMES, **splits), DataSet("pets", NAMES, **grouped)
    assert data_set.train.groups.tolist() == [7, 7]
    assert plain.test.groups is None
    assert plain.split_hash != data_set.split_hash
    for wrong in (np.array([1], np.int64), np.array([1.0, 2.0])):
        with pytest.raises(DataError, match=r"pets, train split: groups are .* not int64 \(2,\)"):
            DataSet("pets", NAMES, **{**splits, "train": dataclasses.replace(splits["train"], groups=wrong)})
