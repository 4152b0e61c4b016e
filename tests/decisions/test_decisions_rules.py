"""Top-k and the global threshold against brute force."""

import decisions_oracle as oracle
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lsep_ml.decisions import GlobalThreshold, TopK
from lsep_ml.decisions.search import cutoffs, exact_threshold, rank_entries
from lsep_ml.metrics import BY_KEY, LABEL_SET_KEYS, count_label_sets, label_set_metrics


def random_case(seed, rows=25, labels=5, levels=6, masked=True):
    """Scores on a few levels, so that ties abound."""
    generator = np.random.default_rng(seed)
    scores = (generator.integers(-levels, levels, (rows, labels)) / 4).astype(np.float32)
    targets = generator.random((rows, labels)) < 0.4
    mask = generator.random((rows, labels)) < 0.7 if masked else np.ones((rows, labels), bool)
    targets[0], mask[0] = [True, *[False] * (labels - 1)], True
    scores[0, 0] += 1
    return scores, targets, mask


@pytest.mark.parametrize("criterion", LABEL_SET_KEYS)
@pytest.mark.parametrize("seed", range(6))
def test_top_k_is_the_best_k_by_brute_force(criterion, seed):
    scores, targets, mask = random_case(seed, labels=12)
    decision = TopK(criterion=criterion).fit(scores, targets, mask)
    values = [
        oracle.value([oracle.top_k(row, k) for row in scores], targets, mask, criterion) for k in range(1, 11)
    ]
    assert decision.choices() == {"k": 1 + oracle.best(values)}


@pytest.mark.parametrize("k", [1, 3, 5])
def test_top_k_takes_exactly_k_also_with_ties(k):
    scores, targets, _ = random_case(0, levels=1)
    predictions = TopK(k, k).fit(scores, targets).predict(scores)
    assert (predictions.sum(1) == k).all()
    assert predictions.tolist() == [oracle.top_k(row, k) for row in scores]


@pytest.mark.parametrize("k", range(1, 6))
def test_precision_over_recall_of_top_k_is_the_mean_number_of_labels_over_k(k):
    scores, targets, _ = random_case(1)
    predictions = TopK(k, k).fit(scores, targets).predict(scores)
    values = label_set_metrics(count_label_sets(predictions.numpy(), targets))
    assert float(values["ov_p"] / values["ov_r"]) == pytest.approx(targets.sum(1).mean() / k)


def test_top_k_with_fewer_labels_than_candidates():
    scores, targets, _ = random_case(0, labels=2)
    assert 1 <= TopK().fit(scores, targets).choices()["k"] <= 2
    with pytest.raises(ValueError, match="min_k=3: there are only 2 labels"):
        TopK(3).fit(scores, targets)
    with pytest.raises(ValueError, match="expected 1 <= min_k <= max_k"):
        TopK(4, 3)


@pytest.mark.parametrize("criterion", LABEL_SET_KEYS)
@pytest.mark.parametrize("seed", range(4))
def test_grid_is_the_best_of_fifty_by_brute_force(criterion, seed):
    scores, targets, mask = random_case(seed)
    decision = GlobalThreshold(criterion=criterion).fit(scores, targets, mask)
    grid = np.linspace(scores.min(), scores.max(), 50).astype(np.float32)[::-1]
    values = [oracle.value(scores > theta, targets, mask, criterion) for theta in grid]
    assert decision.choices()["theta"] == grid[oracle.best(values)]


def assert_exact(scores, targets, mask, criterion):
    decision = GlobalThreshold("exact", criterion=criterion).fit(scores, targets, mask)
    candidates = oracle.every_cutoff(scores, mask)
    values = [oracle.value(scores > theta, targets, mask, criterion) for theta in candidates]
    expected = scores > candidates[oracle.best(values)]  # the larger threshold on a tie: the fewest labels
    assert (decision.predict(scores).numpy() == expected)[mask].all()


@pytest.mark.parametrize("criterion", LABEL_SET_KEYS)
@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("levels", [2, 1000])
def test_exact_search_is_the_best_cutoff_by_brute_force(criterion, seed, levels):
    assert_exact(*random_case(seed, levels=levels, masked=bool(seed % 2)), criterion)


@pytest.mark.parametrize("criterion", LABEL_SET_KEYS)
@pytest.mark.parametrize("seed", range(6))
def test_exact_search_with_entries_that_are_always_or_never_predicted(criterion, seed):
    scores, targets, mask = random_case(seed, levels=[2, 1000][seed % 2])
    kind = np.random.default_rng(seed).random(scores.shape)
    scores[kind < 0.2] = np.inf if seed != 4 else -np.inf
    scores[kind > 0.7] = -np.inf if seed != 5 else np.inf
    theta = exact_threshold(rank_entries(scores, targets, mask), BY_KEY[criterion])
    assert np.isfinite(theta)
    finite = np.unique(scores[mask & np.isfinite(scores)])[::-1]
    candidates = [*finite.tolist(), np.nextafter(finite[-1], np.float32(-np.inf))]
    values = [oracle.value(scores > cutoff, targets, mask, criterion) for cutoff in candidates]
    assert ((scores > theta) == (scores > candidates[oracle.best(values)]))[mask].all()


@settings(max_examples=150, deadline=None)
@given(data=st.data(), criterion=st.sampled_from(LABEL_SET_KEYS))
def test_exact_search_on_any_small_matrix(data, criterion):
    rows, labels = data.draw(st.integers(1, 5)), data.draw(st.integers(1, 4))
    entries = rows * labels

    def matrix(elements, dtype):
        return np.array(data.draw(st.lists(elements, min_size=entries, max_size=entries)), dtype).reshape(
            rows, labels
        )

    scores = matrix(
        st.sampled_from([-2.0, -1.0, 0.0, 0.5, 3.0]) | st.floats(-(2.0**120), 2.0**120, width=32), np.float32
    )
    targets, mask = matrix(st.booleans(), bool), matrix(st.booleans(), bool)
    known = targets[mask]
    if known.any() and not known.all() and scores.min() < scores.max():
        assert_exact(scores, targets, mask, criterion)


def test_thresholds_are_strict():
    scores, targets = np.array([[0.0, 1.0, 2.0]]), np.array([[0, 0, 1]])
    decision = GlobalThreshold().fit(scores, targets)
    theta = decision.choices()["theta"]
    assert 1 <= theta < 2
    assert decision.predict(torch.tensor([[theta, np.nextafter(np.float32(theta), 9), -9.0]])).tolist() == [
        [False, True, False]
    ]


def test_cutoffs_lie_midway_and_always_separate():
    neighbours = np.array([1.0, np.nextafter(np.float32(1), 0), 0.0, -4.0, -3e38], np.float32)
    thresholds = cutoffs(neighbours)
    assert thresholds.dtype == np.float32
    for count, theta in enumerate(thresholds):
        assert (neighbours > theta).sum() == count
    assert thresholds[3] == -2.0
    assert thresholds[4] == pytest.approx(-1.5e38)


def test_thresholds_for_every_image():
    scores, targets, mask = random_case(0)
    decision = GlobalThreshold().fit(scores, targets, mask)
    thresholds = decision.thresholds(None, 3)
    assert thresholds.shape == (3, 5)
    assert thresholds.dtype == torch.float32
    assert torch.equal(torch.from_numpy(scores[:3]) > thresholds, decision.predict(scores[:3]))


@pytest.mark.parametrize("decision", [TopK(), GlobalThreshold(), GlobalThreshold("exact")])
def test_unknown_entries_do_not_enter_the_fit(decision):
    scores, targets, mask = random_case(2)
    choices = decision.fit(scores, targets, mask).choices()
    assert decision.fit(scores, targets ^ ~mask, mask).choices() == choices


@pytest.mark.parametrize("decision", [TopK(), GlobalThreshold(), GlobalThreshold("exact")])
@pytest.mark.parametrize("kind", ["numpy", "torch", "float16", "float64"])
def test_arrays_of_any_kind(decision, kind):
    scores, targets, mask = random_case(3)
    expected = decision.fit(scores, targets, mask).predict(scores)
    if kind != "numpy":
        dtype = {"torch": torch.float32}.get(kind) or getattr(torch, kind)
        scores, targets, mask = (
            torch.from_numpy(scores).to(dtype),
            torch.from_numpy(targets),
            torch.from_numpy(mask),
        )
    assert torch.equal(decision.fit(scores, targets, mask).predict(scores), expected)


def test_criterion_decides():
    scores, targets, mask = random_case(4)
    for criterion in LABEL_SET_KEYS:
        decision = GlobalThreshold("exact", criterion=criterion).fit(scores, targets, mask)
        reached = oracle.value(decision.predict(scores).numpy(), targets, mask, criterion)
        for other in LABEL_SET_KEYS:
            rival = GlobalThreshold("exact", criterion=other).fit(scores, targets, mask)
            assert reached >= oracle.value(rival.predict(scores).numpy(), targets, mask, criterion) - 1e-9
    with pytest.raises(ValueError, match="criterion='acc': expected one of pc_p"):
        GlobalThreshold(criterion="acc")
