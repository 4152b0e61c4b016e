"""One threshold with at least m and at most k labels, against every threshold tried by plain loops."""

import decisions_oracle as oracle
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lsep_ml.decisions import CappedThreshold, GlobalThreshold, TopK
from lsep_ml.metrics import LABEL_SET_KEYS

CAPS = [(0, 1), (0, 3), (1, 2), (1, 10), (2, 2), (0, 6), (6, 6)]


def random_case(seed, rows=25, labels=6, levels=1000, masked=True):
    generator = np.random.default_rng(seed)
    scores = (generator.integers(-levels, levels, (rows, labels)) / 4).astype(np.float32)
    targets = generator.random((rows, labels)) < 0.4
    mask = generator.random((rows, labels)) < 0.7 if masked else np.ones((rows, labels), bool)
    targets[0], mask[0] = [True, *[False] * (labels - 1)], True
    scores[0, 0] += 1
    return scores, targets, mask


def label_sets(scores, theta, least, most):
    """The highest scores of each image, as many as lie above theta, but least..most of them."""
    counts = [min(max(sum(score > theta for score in row), least), most) for row in scores.tolist()]
    return np.array([oracle.top_k(row, count) for row, count in zip(scores.tolist(), counts, strict=True)])


def assert_best(case, least, most, criterion):
    scores, targets, mask = case
    decision = CappedThreshold(least, most, criterion=criterion).fit(scores, targets, mask)
    tried = [label_sets(scores, theta, least, most) for theta in oracle.every_cutoff(scores, mask)]
    values = [oracle.value(sets, targets, mask, criterion) for sets in tried]
    decided = decision.decide(scores)
    found = decided.label_sets.numpy()
    assert (found == tried[oracle.best(values)])[
        mask
    ].all()  # the larger threshold on a tie: the fewest labels
    assert np.array_equal(found, label_sets(scores, decision.choices()["theta"], least, most))
    assert decided.counts.tolist() == found.sum(1).tolist()


@pytest.mark.parametrize("criterion", LABEL_SET_KEYS)
@pytest.mark.parametrize("caps", CAPS)
@pytest.mark.parametrize("levels", [2, 1000])
def test_no_threshold_is_better_given_the_caps(criterion, caps, levels):
    for seed in range(3):
        assert_best(random_case(seed, levels=levels, masked=bool(seed % 2)), *caps, criterion)


@settings(max_examples=150, deadline=None)
@given(data=st.data(), criterion=st.sampled_from(LABEL_SET_KEYS))
def test_on_any_small_matrix(data, criterion):
    rows, labels = data.draw(st.integers(1, 5)), data.draw(st.integers(1, 4))
    entries = rows * labels

    def matrix(elements, dtype):
        values = data.draw(st.lists(elements, min_size=entries, max_size=entries))
        return np.array(values, dtype).reshape(rows, labels)

    scores = matrix(st.sampled_from([-2.0, -1.0, -0.0, 0.0, 0.5, 3.0, 2.0**100]), np.float32)
    targets, mask = matrix(st.booleans(), bool), matrix(st.booleans(), bool)
    least = data.draw(st.integers(0, labels))
    most = data.draw(st.integers(max(least, 1), 5))
    known = targets[mask]
    if known.any() and not known.all() and scores.min() < scores.max():
        assert_best((scores, targets, mask), least, most, criterion)


@pytest.mark.parametrize("criterion", LABEL_SET_KEYS)
def test_caps_that_hold_nothing_or_everything(criterion):
    case = random_case(5)
    free = CappedThreshold(0, 6, criterion=criterion).fit(*case)
    assert free.choices() == GlobalThreshold("exact", criterion=criterion).fit(*case).choices()
    both = CappedThreshold(3, 3, criterion=criterion).fit(*case)
    assert torch.equal(both.predict(case[0]), TopK(3, 3).fit(*case).predict(case[0]))
    assert both.choices() == {"theta": case[0][case[2]].max()}


def test_the_threshold_is_midway_between_scores_that_the_caps_leave_free():
    scores = np.array([[9.0, 4.0, 1.0], [8.0, 2.0, 0.0]])
    targets = np.array([[1, 1, 0], [1, 0, 0]])
    decision = CappedThreshold(1, 2, criterion="exact_match").fit(scores, targets)
    assert decision.choices() == {"theta": 3.0}  # of 4 and 2; 9, 8, 1 and 0 are held
    new = np.array([[2.0, 2.5, 2.5], [5.0, 5.0, 5.0], [-7.0, -9.0, -7.0], [3.0, 4.0, 3.0]])
    expected = [[0, 1, 0], [1, 1, 0], [1, 0, 0], [0, 1, 0]]
    assert decision.predict(new).int().tolist() == expected


@pytest.mark.parametrize("caps", [(-1, 2), (3, 2), (0, 0), (1.5, 2), (1, "many"), (1, None)])
def test_caps_are_checked(caps):
    with pytest.raises(ValueError, match=r"min_labels=.*, max_labels=.*: expected whole numbers"):
        CappedThreshold(*caps)


def test_more_labels_asked_for_than_there_are():
    with pytest.raises(ValueError, match="min_labels=7: there are only 6 labels"):
        CappedThreshold(7, 9).fit(*random_case(0))


def test_more_entries_than_can_be_ranked_are_refused(monkeypatch):
    scores, targets, _ = random_case(0)
    monkeypatch.setattr("lsep_ml.decisions.search.RANKED", 2 * len(scores) + 1)
    CappedThreshold(1, 2).fit(scores, targets)
    with pytest.raises(ValueError, match="an exact search ranks less than"):
        CappedThreshold(1, 3).fit(scores, targets)
