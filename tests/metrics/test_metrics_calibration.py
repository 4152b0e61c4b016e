"""Platt's curve against a general minimiser of its own loss, and where there is little to fit."""

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import expit

from lsep_ml.metrics.calibration import platt_curve, sigmoid


def smoothed(positive):
    """Platt's targets, one by one."""
    found = sum(bool(value) for value in positive)
    missing = len(positive) - found
    return np.array([(found + 1) / (found + 2) if value else 1 / (missing + 2) for value in positive])


@pytest.mark.parametrize(
    "kind", ["mixed", "separable", "no positive", "no negative", "two values", "far away"]
)
def test_the_curve_minimises_the_cross_entropy_of_the_smoothed_targets(kind):
    rng = np.random.default_rng(0)
    scores = rng.normal(size=300).astype(np.float32)
    positive = {
        "separable": scores > 0.2,
        "no positive": np.zeros(300, bool),
        "no negative": np.ones(300, bool),
    }.get(kind, rng.random(300) < expit(2 * scores - 1))
    if kind == "two values":
        scores = np.sign(scores)
    centre, scale = (1e6, 100.0) if kind == "far away" else (0.0, 1.0)
    slope, intercept = platt_curve(centre + scale * scores, positive)
    target, column = smoothed(positive), (centre + scale * scores - centre) / scale

    def loss(curve):
        logits = curve[0] * column.astype(np.float64) + curve[1]
        return np.mean(np.logaddexp(0, logits) - target * logits)

    best = minimize(loss, [0.0, 0.0], method="BFGS", options={"gtol": 1e-9}).x
    own = [slope * scale, intercept + slope * centre]
    assert loss(own) <= loss(best) + 1e-12
    np.testing.assert_allclose(expit(own[0] * column + own[1]), expit(best[0] * column + best[1]), atol=1e-5)


def test_constant_scores_give_the_smoothed_share():
    positive = np.array([1, 0, 0, 1, 0])
    slope, intercept = platt_curve(np.full(5, 3.0), positive)
    assert slope == 0
    assert expit(intercept) == pytest.approx(smoothed(positive).mean())


def test_sigmoid_of_any_number():
    logits = np.array([-1e4, -2.0, 0.0, 2.0, 1e4], np.float32)
    np.testing.assert_allclose(sigmoid(logits), expit(logits.astype(np.float64)), atol=1e-15)
