"""The stratified split: every label's share in every part, closer than chance, down to a few images."""

from pathlib import Path

import numpy as np
import pytest
from iterstrat.ml_stratifiers import IterativeStratification

from lsep_ml.data import DataError
from lsep_ml.data.annotations import Annotations
from lsep_ml.data.stratified import iterative_stratification, stratified_folds, stratified_split

SHARES = (0.8, 0.1, 0.1)


def annotations(targets: np.ndarray) -> Annotations:
    ids = np.array([f"{row}.jpg" for row in range(len(targets))])
    names = tuple(f"label {column}" for column in range(targets.shape[1]))
    return Annotations("own", Path(), names, ids, targets.astype(np.uint8), None, np.full(len(targets), ""))


def long_tail(num_images: int) -> np.ndarray:
    return np.random.default_rng(0).random((num_images, 20)) < 1 / np.arange(2, 42, 2)


def largest_deviation(targets: np.ndarray, parts: np.ndarray) -> float:
    """Of any label's positives in any part, from that label's share, in images."""
    return max(
        np.abs(targets[parts == part].sum(axis=0) - share * targets.sum(axis=0)).max()
        for part, share in zip(("train", "val", "test"), SHARES, strict=True)
    )


def test_each_label_keeps_its_share():
    targets = long_tail(1000)
    parts = stratified_split(annotations(targets), SHARES, 0, None).split_of
    assert [(parts == part).sum() for part in ("train", "val", "test")] == [800, 100, 100]
    by_chance = [
        largest_deviation(targets, np.random.default_rng(seed).permutation(parts)) for seed in range(100)
    ]
    assert largest_deviation(targets, parts) <= 3
    assert largest_deviation(targets, parts) < min(by_chance)


@pytest.mark.parametrize("seed", range(20))
def test_parts_are_those_of_the_published_program(seed: int) -> None:
    draw = np.random.default_rng(seed)
    images, labels = draw.integers(1, 60), draw.integers(2, 12)
    targets = draw.random((images, labels)) < draw.random(labels) * draw.choice([0.05, 0.3, 1])
    shares = np.array(([0.9, 0.1], [0.25] * 4, [0.6, 0.2, 0.2])[seed % 3])
    chance = np.random.RandomState(seed)
    order = np.arange(images)
    chance.shuffle(order)
    expected = np.empty(images, int)
    expected[order] = IterativeStratification(targets[order], shares, chance)
    np.testing.assert_array_equal(iterative_stratification(targets.astype(np.uint8), shares, seed), expected)


def test_a_function_of_the_seed():
    first, again, other = (
        stratified_split(annotations(long_tail(200)), SHARES, seed, None).split_of for seed in (0, 0, 1)
    )
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize(
    "targets",
    [long_tail(3), long_tail(10), np.zeros((20, 4)), np.ones((20, 4)), np.eye(7), np.zeros((20, 2))],
    ids=["3 images", "10 images", "no label", "all labels", "each label once", "two classes"],
)
def test_no_part_is_empty(targets):
    parts = stratified_split(annotations(targets), SHARES, 0, None).split_of
    assert set(parts.tolist()) == {"train", "val", "test"}


@pytest.mark.parametrize("shares", [(0.8, 0.2), (0.8, 0.3, 0.1), (1.0, 0.0, 0.0), (1.2, -0.1, -0.1)])
def test_shares_are_checked(shares):
    with pytest.raises(DataError, match=r"data\.shares"):
        stratified_split(annotations(long_tail(10)), shares, 0, None)


def test_too_few_images():
    with pytest.raises(DataError, match="2 usable images"):
        stratified_split(annotations(long_tail(2)), SHARES, 0, None)


def test_folds_keep_the_labels_shares() -> None:
    targets = (np.random.default_rng(0).random((300, 4)) < [0.5, 0.3, 0.1, 0.05]).astype(np.uint8)
    folds = stratified_folds(targets, 5, seed=0)
    assert np.bincount(folds).min() > 50
    shares = np.array([targets[folds == fold].sum(0) for fold in range(5)])
    assert (shares.max(0) - shares.min(0) <= 2).all()
    np.testing.assert_array_equal(folds, stratified_folds(targets, 5, seed=0))
    assert (folds != stratified_folds(targets, 5, seed=1)).any()


def test_folds_part_no_group() -> None:
    draws = np.random.default_rng(0)
    targets = (draws.random((200, 3)) < 0.3).astype(np.uint8)
    groups = draws.integers(0, 40, 200) * 7
    folds = stratified_folds(targets, 4, seed=0, groups=groups)
    assert set(folds) == {0, 1, 2, 3}
    assert all(len(set(folds[groups == group])) == 1 for group in set(groups))


def test_few_images_have_fewer_folds() -> None:
    targets = np.eye(3, dtype=np.uint8)
    assert sorted(stratified_folds(targets, 5, seed=0)) == [0, 1, 2]
    with pytest.raises(ValueError, match="at least 2 of each"):
        stratified_folds(targets[:1], 5, seed=0)
    with pytest.raises(ValueError, match="at least 2 of each"):
        stratified_folds(targets, 5, seed=0, groups=np.zeros(3, int))
