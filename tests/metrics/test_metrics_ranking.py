"""Ranking metrics against plain loops and scikit-learn, ties and unknown entries included."""

import numpy as np
import pytest
import torch
from metrics_oracle import SCIKIT_RANKING, ranking

from lsep_ml.metrics import (
    BY_KEY,
    RANKING_KEYS,
    RankingMetrics,
    average_precisions,
    functional,
    ranking_metrics,
)


def random_case(seed, rows=40, labels=7, masked=True, levels=4):
    """Scores on a few levels, so that ties abound; the first rows have all labels or none."""
    generator = np.random.default_rng(seed)
    scores = generator.integers(-levels, levels, (rows, labels)).astype(np.float32)
    targets = generator.random((rows, labels)) < 0.3
    targets[0], targets[1] = True, False
    mask = generator.random((rows, labels)) < 0.6 if masked else None
    return scores, targets, mask


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("levels", [1, 3, 1000])
def test_equal_to_loops(seed, masked, levels):
    scores, targets, mask = random_case(seed, masked=masked, levels=levels)
    if masked:
        mask[2:5] = False
        targets[:, 0] = False  # a label without a positive
    known = np.ones_like(targets) if mask is None else mask
    values = ranking_metrics(scores, targets, mask)
    assert tuple(values) == RANKING_KEYS
    for key, expected in ranking(scores.tolist(), targets, known).items():
        assert values[key] == pytest.approx(expected, abs=1e-14), key


@pytest.mark.parametrize("levels", [2, 1000])
def test_equal_to_scikit_learn(levels):
    scores, targets, _ = random_case(1, rows=300, masked=False, levels=levels)
    values = ranking_metrics(scores, targets)
    for key in BY_KEY.keys() & values.keys():
        assert values[key] == pytest.approx(SCIKIT_RANKING[key](targets, scores)), key


@pytest.mark.parametrize("masked", [False, True])
def test_metric_is_bit_identical_in_any_batching_and_order(masked, monkeypatch):
    generator = np.random.default_rng(0)
    scores, targets, mask = random_case(2, rows=9000, masked=masked)  # more than one block of rows
    scores += generator.integers(0, 3, scores.shape) * np.float32(0.1)
    scores, targets, mask = (None if a is None else torch.from_numpy(a) for a in (scores, targets, mask))
    expected = None
    for batch in (64, 8999):
        order = torch.randperm(len(scores), generator=torch.Generator().manual_seed(batch))
        metric = RankingMetrics(7)
        for rows in order.split(batch):
            metric.update(scores[rows], targets[rows], None if mask is None else mask[rows])
        values = {key: float(value) for key, value in metric.compute().items()}
        expected = expected or values
        assert values == expected
    assert expected == ranking_metrics(scores, targets, mask)
    monkeypatch.setattr(functional, "_ENTRIES", 7 * 100)
    assert expected == ranking_metrics(scores, targets, mask)
    monkeypatch.setattr(functional, "_POOLED", 0)  # the ranking of all entries counted, not sorted
    assert ranking_metrics(scores, targets, mask) == pytest.approx(expected, rel=1e-14)


def test_raw_scores_are_never_squashed():
    # torchmetrics' own multilabel ranking loss applies a sigmoid here, which ties 200 and 100, and returns
    # 0.5
    scores = torch.tensor([[200.0, 100.0, -1.0], [0.2, 0.3, 0.1]])
    targets = torch.tensor([[1, 0, 0], [1, 0, 0]])
    metric = RankingMetrics(3)
    metric.update(scores, targets)
    assert float(metric.compute()["ranking_loss"]) == 0.25


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_every_float_dtype(dtype):
    scores, targets, mask = (torch.from_numpy(array) for array in random_case(4))
    metric, expected = RankingMetrics(7), RankingMetrics(7)
    metric.update(scores.to(dtype), targets, mask)
    expected.update(scores, targets, mask)
    assert metric.compute() == expected.compute()


def test_float64_scores_are_compared_as_they_are():
    scores = np.array([[1.0, 1.0 + 1e-12]])
    metric = RankingMetrics(2)
    metric.update(torch.from_numpy(scores), torch.tensor([[0, 1]]))
    assert float(metric.compute()["one_error"]) == 0


def test_what_cannot_be_ranked():
    scores, targets = np.zeros((2, 2), np.float32), np.array([[True, False], [False, False]])
    assert np.isnan(average_precisions(scores, targets)[1])
    assert ranking_metrics(scores, ~targets & targets)["map_classes"] == 0
    assert ranking_metrics(scores, ~targets & targets)["map"] == 0
    with pytest.raises(ValueError, match="at least one image with a known label"):
        ranking_metrics(scores, targets, np.zeros((2, 2), bool))
    scores[1, 0] = np.nan
    with pytest.raises(ValueError, match="NaN in row 1"):
        ranking_metrics(scores, targets)
    with pytest.raises(ValueError, match="scores: NaN"):
        RankingMetrics(2).update(torch.from_numpy(scores), torch.from_numpy(targets))


def test_infinite_scores_rank_as_any_other():
    scores = np.array([[np.inf, 0.0, -np.inf]], np.float32)
    mask = np.array([[True, True, True]])
    assert ranking_metrics(scores, np.array([[1, 0, 0]]), mask)["lrap"] == 1
    assert ranking_metrics(scores, np.array([[0, 0, 1]]), mask)["coverage"] == 3
    assert ranking_metrics(scores, np.array([[0, 0, 1]]), np.array([[True, False, True]]))["coverage"] == 2
