"""Counts at every threshold and every k against the label sets counted one by one."""

from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from lsep_ml.metrics import operating_points
from lsep_ml.metrics.functional import LabelCounts, count_label_sets
from lsep_ml.metrics.indicator import SparseIndicator
from lsep_ml.metrics.operating_points import Ranked, Thresholded, slider_grid

WAYS = [(np.asarray, 2**22), (SparseIndicator.from_dense, 5)]
"""How 0/1 matrices are held, and entries that are looked at at a time."""


@st.composite
def splits(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores with many ties, targets and mask; some rows lack a positive, a negative, or any known entry."""
    shape = draw(st.tuples(st.integers(1, 12), st.integers(1, 6)))
    scores = draw(hnp.arrays(np.float32, shape, elements=st.sampled_from([-1.5, -0.5, 0.0, 0.25, 1.0, 3e38])))
    targets = draw(hnp.arrays(np.uint8, shape, elements=st.integers(0, 1)))
    mask = draw(hnp.arrays(np.uint8, shape, elements=st.sampled_from([1, 1, 1, 0])))
    return scores, targets, mask


def assert_same(found: LabelCounts, step: int, expected: LabelCounts) -> None:
    np.testing.assert_array_equal(found.correct[step], expected.correct)
    np.testing.assert_array_equal(found.predicted[step], expected.predicted)
    np.testing.assert_array_equal(found.actual, expected.actual)
    assert found.exact[step] == expected.exact
    assert found.images == expected.images


@settings(max_examples=150, deadline=None)
@given(splits())
def test_every_threshold(split: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    scores, targets, mask = split
    thresholds = np.array([-2.0, -0.5, 0.0, 0.1, 0.25, 3e38], np.float32)
    for held, entries in WAYS:
        with patch.object(operating_points, "_ENTRIES", entries):
            found = Thresholded(scores, held(mask), thresholds).counts(held(targets))
        for step, theta in enumerate(thresholds):
            assert_same(found, step, count_label_sets(scores > theta, targets, mask))


def test_each_entry_has_a_threshold_of_its_own() -> None:
    rng = np.random.default_rng(0)
    scores, own = rng.normal(size=(2, 30, 4)).astype(np.float32)
    targets, mask = (rng.random((2, 30, 4)) < 0.5).astype(np.uint8)
    thresholds = np.array([-0.5, 0.0, 1.0], np.float32)
    found = Thresholded(scores, mask, thresholds, own).counts(targets)
    for step, theta in enumerate(thresholds):
        assert_same(found, step, count_label_sets(scores - own > theta, targets, mask))


def top_k(scores: np.ndarray, k: int) -> np.ndarray:
    """One image at a time: the k highest, the lower label first on a tie."""
    chosen = np.zeros(scores.shape, np.uint8)
    for image, row in enumerate(scores):
        for label in sorted(range(len(row)), key=lambda label: (-row[label], label))[:k]:
            chosen[image, label] = 1
    return chosen


@settings(max_examples=150, deadline=None)
@given(splits())
def test_every_k(split: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    scores, targets, mask = split
    highest = min(4, scores.shape[1])
    for held, entries in WAYS:
        with patch.object(operating_points, "_ENTRIES", entries):
            found = Ranked(scores, held(mask), highest).counts(held(targets))
        for k in range(1, highest + 1):
            assert_same(found, k - 1, count_label_sets(top_k(scores, k), targets, mask))


@settings(max_examples=100, deadline=None)
@given(splits())
def test_images_that_keep_a_label_set(split: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    """`exact` is exact match against given label sets instead of the targets, over some of the images."""
    scores, sets, mask = split
    some = np.arange(len(scores)) % 2 == 0
    thresholds = np.array([-1.0, 0.0, 0.5], np.float32)
    held, entries = WAYS[len(scores) % 2]
    with patch.object(operating_points, "_ENTRIES", entries):
        found = Thresholded(scores, held(mask), thresholds).exact(held(sets), some)
    for step, theta in enumerate(thresholds):
        assert found[step] == count_label_sets((scores > theta)[some], sets[some], mask[some]).exact
    highest = min(3, scores.shape[1])
    with patch.object(operating_points, "_ENTRIES", entries):
        found = Ranked(scores, held(mask), highest).exact(held(sets), some)
    for k in range(1, highest + 1):
        assert found[k - 1] == count_label_sets(top_k(scores, k)[some], sets[some], mask[some]).exact


def test_more_thresholds_than_a_byte_holds() -> None:
    rng = np.random.default_rng(0)
    scores = rng.random((50, 3)).astype(np.float32)
    targets, mask = (rng.random((2, 50, 3)) < 0.5).astype(np.uint8)
    thresholds = np.linspace(0, 1, 400).astype(np.float32)
    found = Thresholded(scores, mask, thresholds).counts(targets)
    for step in (0, 100, 255, 256, 399):
        assert_same(found, step, count_label_sets(scores > thresholds[step], targets, mask))


def test_the_grid_covers_the_decision_and_holds_what_was_chosen() -> None:
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(500, 10)).astype(np.float32)
    targets = (scores + rng.normal(size=scores.shape) > 1.8).astype(np.uint8)
    grid = slider_grid(scores, targets, [0.123456789, -40.0])
    assert grid.dtype == np.float32
    assert (np.diff(grid) > 0).all()
    assert np.isin(np.array([0.123456789, -40.0], np.float32), grid).all()
    assert (scores > grid[2]).sum() == pytest.approx(4 * targets.sum(), rel=0.05)
    assert (scores > grid[-1]).sum() < 0.05 * targets.sum()


def test_constant_scores_have_one_step() -> None:
    scores = np.zeros((4, 3), np.float32)
    grid = slider_grid(scores, np.ones((4, 3), np.uint8), [])
    assert grid.tolist() == [0.0]
