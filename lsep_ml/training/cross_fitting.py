"""Decisions by log odds fitted on rows, the log odds that they choose by taken out of fold."""

from collections.abc import Collection

import numpy as np
from numpy.typing import NDArray

from lsep_ml.decisions import Rule
from lsep_ml.decisions.log_odds import HonestRows, LogOddsDecision, LogOddsEstimator
from lsep_ml.training.folds import Rows
from lsep_ml.training.linear_fits import Fitted, LinearFits


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
    log_odds = np.empty(given.scores.shape, np.float32)
    ends = []
    for further, inside in rows.out_of_fold(left_out):
        ends.append(_fit(decision, rows, fits, further))
        log_odds[inside] = _log_odds(estimator, given.take(inside))
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


def _log_odds(estimator: LogOddsEstimator, rows: Rows) -> NDArray[np.float32]:
    values: NDArray[np.float32] = estimator.log_odds(rows.scores, rows.features).float().numpy()
    return values
