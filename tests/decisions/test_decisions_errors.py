"""What no decision can be fitted on or applied to, and what the error says."""

import copy

import numpy as np
import pytest
import torch
from decisions_data import SHIPPED, learnable, name_of

from lsep_ml.decisions import (
    CountEstimation,
    GlobalThreshold,
    LinearThresholds,
    Rule,
    ThresholdClass,
    ThresholdEstimation,
    TopK,
    ZeroThreshold,
)
from lsep_ml.decisions.checks import check_fit
from lsep_ml.decisions.log_odds import LogOddsDecision

RULES = list(dict.fromkeys(type(decision) for decision in SHIPPED if isinstance(decision, Rule)))


def start(decision, scores, targets, mask):
    """Fit a rule; start the training of any other decision, or of what its log odds come from."""
    if isinstance(decision, Rule):
        decision.fit(scores, targets, mask)
        return
    trained = decision.estimator if isinstance(decision, LogOddsDecision) else decision
    trained.reset(scores, targets, torch.zeros(len(scores), 20), mask)


BROKEN = pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s, y, m: (s[:0], y[:0], m[:0]), "no rows; a decision cannot be fitted on an empty split"),
        (lambda s, y, m: (s, y & False, m), "no known positive entry"),
        (lambda s, y, m: (s, y | True, m), "no known negative entry"),
        (lambda s, y, m: (s, y, m & False), "no known positive entry"),
        (lambda s, y, m: (s * 0 + 2, y, m), r"all equal \(2.0\)"),
        (lambda s, y, m: (s.index_fill(0, torch.tensor([3]), torch.nan), y, m), "NaN in row 3"),
        (lambda s, y, m: (s.index_fill(0, torch.tensor([3]), torch.inf), y, m), "infinite values"),
        (lambda s, y, m: (s.double() * 1e39, y, m), "infinite values"),
        (lambda s, y, m: (1 + s.double() * 1e-12, y, m), r"all equal \(1.0\)"),
        (lambda s, y, m: (s, y[:, :4], m), r"targets: shape \(400, 4\), but scores have \(400, 6\)"),
        (lambda s, y, m: (s, y, m[:10]), r"mask: shape \(10, 6\)"),
        (lambda s, y, m: (s, y * 3, m), "targets: 3 found, expected only 0 and 1"),
        *(
            (
                lambda s, y, m, v=value: (s, torch.where(y & (s > 1), v, y.float()), m),
                f"targets: {value} found",
            )
            for value in (-1.0, 0.5, torch.nan)
        ),
        (lambda s, y, m: (s[:, 0], y[:, 0], m[:, 0]), r"expected \(N, K\)"),
    ],
)


@pytest.mark.parametrize("decision", SHIPPED, ids=name_of)
@BROKEN
def test_data_that_cannot_be_fitted_on(decision, change, message):
    scores, targets, _ = learnable()
    before = copy.deepcopy(decision.state_dict())
    with pytest.raises(ValueError, match=message):
        start(decision, *change(scores, targets, torch.ones_like(targets)))
    assert all(torch.equal(value, before[name]) for name, value in decision.state_dict().items())


@BROKEN
def test_large_data_are_checked_in_blocks(change, message, monkeypatch):
    monkeypatch.setattr("lsep_ml.metrics.counts.ENTRIES", 50)
    scores, targets, _ = learnable()
    check_fit(scores, targets, None)
    with pytest.raises(ValueError, match=message):
        check_fit(*change(scores, targets, torch.ones_like(targets)))


@pytest.mark.parametrize("kind", RULES)
def test_not_fitted_and_another_number_of_labels(kind):
    scores, targets, _ = learnable()
    with pytest.raises(ValueError, match=f"{kind.__name__} is not fitted"):
        kind().predict(scores)
    decision = kind().fit(scores, targets)
    with pytest.raises(ValueError, match="4 labels, but the decision was made for 6"):
        decision.predict(scores[:, :4])
    scores[2, 1] = torch.nan
    with pytest.raises(ValueError, match="NaN in row 2"):
        decision.predict(scores)


@pytest.mark.parametrize("kind", [CountEstimation, ThresholdEstimation, ThresholdClass, LinearThresholds])
def test_features_missing_or_wrong(kind):
    scores, targets, features = learnable()
    decision = kind(20, 6)
    with pytest.raises(ValueError, match=rf"{kind.__name__} decides from features, got none"):
        decision.predict(scores)
    with pytest.raises(ValueError, match=r"features: shape \(400, 19\), .* expects \(400, 20\)"):
        decision.predict(scores, features[:, 1:])
    with pytest.raises(ValueError, match=r"features: shape \(399, 20\)"):
        decision.predict(scores, features[1:])
    features[5, 5] = torch.nan
    with pytest.raises(ValueError, match="features: NaN or infinite"):
        decision.reset(scores, targets, features)


def test_counts_need_an_image_whose_every_label_is_known():
    scores, targets, features = learnable()
    mask = torch.ones_like(targets)
    mask[:, 2] = False
    with pytest.raises(ValueError, match="no image has all its labels known"):
        CountEstimation(20, 6).reset(scores, targets, features, mask)


@pytest.mark.parametrize("loss", ["lsep", "ranking", "warp", "bpmll", "softmax", "pairwise_logistic"])
def test_zero_is_refused_where_it_means_nothing(loss):
    with pytest.raises(ValueError, match=f"loss='{loss}': its scores are only defined up to a constant"):
        ZeroThreshold(loss, shift_invariant=True)
    scores, targets, _ = learnable()
    assert torch.equal(ZeroThreshold("bce").fit(scores, targets).predict(scores), scores > 0)


def test_options_are_checked():
    with pytest.raises(ValueError, match="fit_on='test': expected 'train', 'val', 'both' or 'crossfit'"):
        TopK(fit_on="test")
    with pytest.raises(ValueError, match="search='binary'"):
        GlobalThreshold("binary")
    with pytest.raises(ValueError, match="steps=1"):
        GlobalThreshold(steps=1)
    with pytest.raises(ValueError, match="max_count=0"):
        CountEstimation(2, 2, 0)


def test_read_only_arrays_are_never_written():
    scores, targets, features = (array.numpy() for array in learnable())
    for array in (scores, targets, features):
        array.setflags(write=False)
    decision = ThresholdEstimation(20, 6)
    decision.reset(scores, targets, features)
    assert decision.predict(scores, features).shape == scores.shape
    assert GlobalThreshold().fit(scores, targets).predict(scores).dtype == torch.bool
    assert isinstance(scores, np.ndarray)
