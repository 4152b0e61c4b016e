"""Platt scaling: from the scores of one label to its probability."""

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lsep_ml.metrics.metric import Floats


def sigmoid(logits: NDArray[Any]) -> Floats:
    """Compute 1 / (1 + exp(-x)) in float64, without overflow."""
    return np.asarray(0.5 * (1 + np.tanh(0.5 * logits.astype(np.float64))))


def curves_by_label(
    fit: Callable[[Any, Any], Floats],
    scores: NDArray[Any],
    positive: NDArray[Any],
    known: NDArray[np.bool_],
    pooled: Callable[[], Floats] | None = None,
) -> list[Floats]:
    """Fit the curve of each label by `fit(scores, positive)` on its known entries, all (N, K).

    A label without a known entry takes the curve of all entries `pooled`; None: of these ones.
    """
    pooled = pooled or cache(lambda: fit(scores[known], positive[known]))
    of_labels = zip(scores.T, positive.T, known.T, strict=True)
    return [fit(own[rows], true[rows]) if rows.any() else pooled() for own, true, rows in of_labels]


def platt_curve(scores: NDArray[Any], positive: NDArray[Any]) -> Floats:
    """Fit the logistic curve of `scores` (M,) to 0/1 `positive` (M,); returns its slope and intercept, (2,).

    Fitted to Platt's smoothed targets (N+ + 1) / (N+ + 2) and 1 / (N- + 2), so that it exists also for separable labels
    and for labels without a positive; the curve of constant scores is constant. By Newton's method (Lin, Lin and Weng
    2007): two parameters of a convex function, a few passes over the scores, a tenth of a general solver's time.
    """
    values, positive = scores.astype(np.float64), positive != 0
    above, below = (positive.sum() + 1) / (positive.sum() + 2), 1 / ((~positive).sum() + 2)
    target = np.where(positive, above, below)
    odds = np.log(target.mean() / (1 - target.mean()))
    if values.min() == values.max():
        return np.array([0.0, odds])
    mean, deviation = values.mean(), values.std()
    design = np.stack([(values - mean) / deviation, np.ones_like(values)])
    curve = np.array([0.0, odds])

    def loss(curve: Floats) -> float:
        logits = curve @ design
        return float((np.logaddexp(0, logits) - target * logits).mean())

    for _ in range(100):
        probability = sigmoid(curve @ design)
        gradient = design @ (probability - target) / len(target)
        curvature = design * (probability * (1 - probability)) @ design.T / len(target)
        step = np.linalg.solve(curvature + 1e-12 * np.eye(2), gradient)
        if gradient @ step < 1e-14:  # twice the loss still to gain: the last, full step
            curve = curve - step
            break
        while loss(curve - step) > loss(curve) + 1e-14:  # rounding is below
            step = step / 2
        curve = curve - step
    slope = curve[0] / deviation
    return np.array([slope, curve[1] - slope * mean])
