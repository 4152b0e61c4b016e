"""Decisions by log odds fitted on rows, the log odds that they choose by taken out of fold."""

from collections.abc import Collection
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from lsep_ml.decisions import Rule
from lsep_ml.decisions.checks import BLOCK
from lsep_ml.decisions.log_odds import HonestRows, LogOddsDecision, LogOddsEstimator
from lsep_ml.files import temporary_array
from lsep_ml.training.folds import Bools, Rows
from lsep_ml.training.linear_fits import Fitted, LinearFits

LARGE = 2**28
"""Log odds, 1 GiB, from which on a temporary file holds them."""


def fit_log_odds_decision(
    decision: LogOddsDecision, rows: Rows, fits: LinearFits | None = None, without: Collection[int] = ()
) -> Fitted:
    """Fit the decision's estimator, then choose the decision's own numbers on log odds out of fold.

    The log odds of a fold are those of the estimator fitted on the other folds; the estimator that stays is fitted on
    all rows. Of the folds in `without` nothing is seen but the features.

    fits: of linear thresholds on these rows, where several decisions or folds share them; None: their own.
    """
    estimator, left_out = decision.estimator, frozenset(without)
    if fits is None and decision.linear_thresholds is not None:
        fits = LinearFits(decision.linear_thresholds, rows)
    given = rows.take(rows.outside(left_out))
    log_odds = honest_array(given.scores.shape)
    ends = []
    for further, inside in rows.out_of_fold(left_out):
        ends.append(_fit(decision, rows, fits, further))
        fill_log_odds(log_odds, estimator, inside, given.scores, given.features)
    ends.append(_fit(decision, rows, fits, left_out))
    decision.choose(HonestRows(log_odds, given.targets, given.known, given.folds, given.further))
    return Fitted(all(end.converged for end in ends), max(end.gradient_norm for end in ends))


def _fit(decision: LogOddsDecision, rows: Rows, fits: LinearFits | None, without: frozenset[int]) -> Fitted:
    """Fit what gives the log odds on the rows outside some folds."""
    if decision.linear_thresholds is not None:
        assert fits is not None
        return fits.load(decision.linear_thresholds, without)
    assert isinstance(decision.estimator, Rule)
    given = rows.take(rows.outside(without))
    decision.estimator.fit(given.scores, given.targets, given.known)
    return Fitted(True, 0.0)


def honest_array(shape: tuple[int, int]) -> NDArray[np.float32]:
    """Return room for log odds (N, K): from `LARGE` of them on in a temporary file, so that memory holds none of
    them."""
    return np.empty(shape, np.float32) if shape[0] * shape[1] < LARGE else temporary_array(shape)


def fill_log_odds(
    log_odds: NDArray[np.float32], estimator: LogOddsEstimator, chosen: Bools, scores: Any, features: Any
) -> None:
    """Write the log odds of the `chosen` rows, bool (N,), which the estimator was fitted without, to their places."""
    numbers = np.flatnonzero(chosen)
    for start in range(0, len(numbers), BLOCK):
        rows: Any = numbers[start : start + BLOCK]
        some = [
            array[torch.from_numpy(rows) if isinstance(array, torch.Tensor) else rows]
            for array in (scores, features)
            if array is not None
        ]
        log_odds[rows] = estimator.log_odds(*some).float().cpu().numpy()
