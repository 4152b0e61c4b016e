"""Folds: every image tests once, no group or twin is in two parts, labels keep their shares."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from data_trees import picture, write_lines
from hypothesis import given, settings
from hypothesis import strategies as st

from lsep_ml.data import DataError
from lsep_ml.data.annotations import Annotations, to_data_set, treat_twins
from lsep_ml.data.data_set import SPLITS
from lsep_ml.data.sources.csv_labels import read_csv
from lsep_ml.data.stratified import fold_split

SHARES = (0.8, 0.1, 0.1)


def annotations(targets: np.ndarray, groups: np.ndarray | None = None) -> Annotations:
    ids = np.array([f"{row}.jpg" for row in range(len(targets))])
    names = tuple(f"label {column}" for column in range(targets.shape[1]))
    parts = np.full(len(targets), "", "U5")
    return Annotations("own", Path(), names, ids, targets.astype(np.uint8), None, parts, groups=groups)


@st.composite
def some_images(draw):
    """Targets (N, 3), the number of folds, and groups or None."""
    count, folds = draw(st.integers(12, 40)), draw(st.integers(2, 5))
    seed = draw(st.integers(0, 2**16))
    draws = np.random.default_rng(seed)
    targets = draws.random((count, 3)) < [0.6, 0.3, 0.1]
    groups = None
    if draw(st.booleans()):
        groups = np.concatenate([np.arange(folds + 1), draws.integers(0, count, count - folds - 1)])
    return targets, folds, groups


@settings(max_examples=40, deadline=None)
@given(some_images(), st.integers(0, 3))
def test_every_image_tests_once_and_no_group_is_divided(images, seed):
    targets, folds, groups = images
    listed = annotations(targets, groups)
    tested = np.zeros(len(listed), int)
    for fold in range(folds):
        parts = fold_split(listed, folds, fold, SHARES, seed).split_of
        assert set(parts.tolist()) == set(SPLITS)
        tested += parts == "test"
        if groups is not None:
            assert all(len(set(parts[groups == group].tolist())) == 1 for group in set(groups.tolist()))
        assert np.array_equal(parts, fold_split(listed, folds, fold, SHARES, seed).split_of)
    assert (tested == 1).all()
    last = fold_split(listed, folds, None, SHARES, seed).split_of
    assert set(last.tolist()) == {"train", "val"}


def test_folds_keep_the_shares_of_labels_and_of_validation():
    targets = np.random.default_rng(0).random((400, 6)) < 1 / np.arange(2, 14, 2)
    for groups in (None, np.arange(400) // 2):
        for fold in range(5):
            parts = fold_split(annotations(targets, groups), 5, fold, SHARES, 0).split_of
            assert abs((parts == "test").sum() - 80) <= 2
            assert abs((parts == "val").sum() - 36) <= 2  # a ninth of what remains
            for label in range(6):
                share = targets[parts == "test", label].sum() / targets[:, label].sum()
                assert abs(share - 0.2) <= 0.05


def test_other_seeds_give_other_folds():
    targets = np.random.default_rng(0).random((60, 3)) < 0.4
    first, second = (fold_split(annotations(targets), 3, 0, SHARES, seed).split_of for seed in (0, 1))
    assert not np.array_equal(first, second)


@pytest.mark.parametrize(("folds", "fold"), [(1, 0), (None, 0), (3, 3), (3, -1)])
def test_numbers_that_mean_no_fold_are_refused(folds, fold):
    with pytest.raises(DataError, match=r"data\.folds=.* data\.fold="):
        fold_split(annotations(np.ones((20, 2))), folds, fold, SHARES, 0)


def test_too_few_images_or_groups_are_refused():
    with pytest.raises(DataError, match=r"4 usable images for data\.folds=5"):
        fold_split(annotations(np.ones((4, 2))), 5, 0, SHARES, 0)
    with pytest.raises(DataError, match="4 groups"):
        fold_split(annotations(np.ones((20, 2)), np.arange(20) % 4), 5, 0, SHARES, 0)


def test_the_last_data_set_tests_all_images():
    targets = np.random.default_rng(0).random((30, 3)) < 0.4
    split = fold_split(annotations(targets), 3, None, SHARES, 0)
    found = to_data_set(split, cross_tested=True)
    assert found.test.image_ids.tolist() == split.image_ids.tolist()
    assert sorted([*found.train.image_ids, *found.val.image_ids]) == sorted(split.image_ids)
    with pytest.raises(DataError, match="listed twice"):
        dataclasses.replace(found, cross_tested=False)


def test_twins_are_in_one_fold(tmp_path):
    lines = ["image,labels,split"]
    for number in range(20):
        image = picture(number, 96, 128)
        image.save(tmp_path / f"{number}.png")
        image.resize((96, 72)).save(tmp_path / f"{number}_copy.jpg", quality=70)
        for name, part in ((f"{number}.png", "train"), (f"{number}_copy.jpg", "test")):
            lines.append(f"{name},{['cat', 'dog', 'cat|dog'][number % 3]},{part}")
    write_lines(tmp_path / "labels.csv", lines)
    tested = []
    for fold in range(4):
        found = read_csv(tmp_path, folds=4, fold=fold, twins="together", cache=tmp_path / "cache")
        of_split = [
            {name.partition(".")[0].partition("_")[0] for name in found.split(s).image_ids} for s in SPLITS
        ]
        assert sum(map(len, of_split)) == len(set().union(*of_split)) == 20
        assert found.twins == {"val": 0, "test": 0}
        tested += found.test.image_ids.tolist()
    assert sorted(tested) == sorted(line.split(",")[0] for line in lines[1:])
    loose = [read_csv(tmp_path, folds=4, fold=fold, cache=tmp_path / "cache") for fold in range(4)]
    assert sum(found.twins["test"] for found in loose) > 0


def test_a_listed_split_is_left_aside_aloud():
    listed = annotations(np.random.default_rng(0).random((30, 3)) < 0.4)
    listed = dataclasses.replace(listed, split_of=np.array(["train", "test", "val"] * 10))
    assert "the listed split is left aside" in fold_split(listed, 3, 0, SHARES, 0).notes[-1]
    groups = dataclasses.replace(listed, hashes=np.zeros(30, np.uint64))
    assert len(set(treat_twins(groups, "together").groups.tolist())) == 30  # without a hash, no twin
