"""Splits by groups: none is divided, and the shares are as good as an exhaustive search finds."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lsep_ml.data.grouped import _counts, deviation, grouped_parts
from lsep_ml.metrics.indicator import SparseIndicator

SHARES = (0.6, 0.2, 0.2)


def cost(groups, targets, parts, shares=SHARES):
    """The deviation as loops."""
    images = sum((np.mean(parts == part) - share) ** 2 for part, share in enumerate(shares))
    labels = [
        sum(
            (targets[parts == part, k].sum() / targets[:, k].sum() - share) ** 2
            for part, share in enumerate(shares)
        )
        for k in range(targets.shape[1])
        if targets[:, k].any()
    ]
    return images + (np.mean(labels) if labels else 0.0)


def best(groups, targets, shares=SHARES):
    """The smallest cost over all ways to put the groups into parts, none of them empty."""
    names = np.unique(groups)
    found = np.inf
    for places in itertools.product(range(len(shares)), repeat=len(names)):
        if len(set(places)) == len(shares):
            found = min(
                found, cost(groups, targets, np.array(places)[np.searchsorted(names, groups)], shares)
            )
    return found


def drawn(seed, number_of_groups):
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, 6, number_of_groups)
    groups = rng.permutation(np.repeat(np.arange(number_of_groups), sizes))
    return groups, (rng.random((len(groups), 3)) < rng.random(3)).astype(np.uint8)


@pytest.mark.parametrize("number_of_groups", [3, 5, 7])
def test_against_exhaustive_search(number_of_groups):
    exact = 0
    for seed in range(12):
        groups, targets = drawn(seed, number_of_groups)
        reached = cost(groups, targets, grouped_parts(groups, targets, SHARES, seed))
        least = best(groups, targets)
        assert reached <= 1.25 * least + 1e-9
        exact += reached <= least + 1e-9
    assert exact >= 10


def test_the_deviation_is_that_of_the_loops():
    groups, targets = drawn(1, 6)
    parts = np.arange(6) % 3
    expected = cost(groups, targets, parts[groups])
    assert deviation(_counts(groups, targets), parts, np.array(SHARES)) == pytest.approx(expected)


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 10**6),
    st.integers(3, 40),
    st.sampled_from([(0.8, 0.1, 0.1), (0.5, 0.5), (0.34, 0.33, 0.33)]),
)
def test_no_group_is_divided_and_no_part_is_empty(seed, number_of_groups, shares):
    groups, targets = drawn(seed, number_of_groups)
    parts = grouped_parts(groups, targets, shares, seed)
    assert all(len(set(parts[groups == group])) == 1 for group in np.unique(groups))
    assert set(parts) == set(range(len(shares)))
    assert np.array_equal(parts, grouped_parts(groups, targets, shares, seed))


def test_many_groups_reach_their_shares():
    groups, targets = drawn(3, 3000)
    parts = grouped_parts(groups, targets, (0.8, 0.1, 0.1), 0)
    assert np.bincount(parts) / len(parts) == pytest.approx([0.8, 0.1, 0.1], abs=2e-3)
    for column in targets.T:
        assert np.bincount(parts[column == 1]) / column.sum() == pytest.approx([0.8, 0.1, 0.1], abs=5e-3)


@pytest.mark.parametrize("number", [4, 60, 250])
def test_counts_that_are_not_zero_are_enough(number, monkeypatch):
    groups, targets = drawn(number, number)
    dense = grouped_parts(groups, targets, SHARES, seed=1)
    monkeypatch.setattr("lsep_ml.data.grouped.LARGE", 0)
    sparse = SparseIndicator.of(*np.nonzero(targets), targets.shape)
    np.testing.assert_array_equal(grouped_parts(groups, sparse, SHARES, seed=1), dense)
