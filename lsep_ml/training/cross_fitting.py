"""Decisions fitted on some rows and asked about others: folds, log odds out of fold, honest label sets."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lsep_ml.decisions import Rule
from lsep_ml.decisions.checks import Array, check_scores, float_tensor
from lsep_ml.decisions.linear import LinearThresholds
from lsep_ml.decisions.log_odds import HonestRows, LogOddsDecision, LogOddsEstimator
from lsep_ml.metrics.functional import as_numpy
from lsep_ml.training.solver import Solution, minimise

log = logging.getLogger(__name__)

FOLDS = 5
TOLERANCE, MAX_ITERATIONS = 3e-3, 1000
_STEPS, _WIDEST = (0, -1, -2), 12
"""Weight decays of linear thresholds are 10^(step / 2): the steps tried first, and how far from 0 they may go."""

Bools = NDArray[np.bool_]


def draw_folds(rows: int, seed: int, groups: Array | None = None, count: int = FOLDS) -> NDArray[np.int64]:
    """The fold, 0..count - 1, of each row, (N,), of about equal size, drawn from `seed`; a group stays together.

    With fewer rows (or groups) than folds, each is a fold of its own.
    """
    _, members = np.unique(np.arange(rows) if groups is None else as_numpy(groups), return_inverse=True)
    units = int(members.max(initial=-1)) + 1
    folds = np.arange(units) % max(min(count, units), 1)
    drawn: NDArray[np.int64] = np.random.default_rng(seed).permutation(folds)[members]
    return drawn


def fold_pairs(folds: NDArray[np.int64], targets: Bools, known: Bools) -> Iterator[tuple[Bools, Bools]]:
    """For each fold, bool (N,), the rows that a decision is fitted on to be asked about the fold, and the fold's rows.

    They are those outside, but all where those outside lack known entries of both kinds, on which nothing is fitted.
    """
    for fold in np.unique(folds):
        inside: Bools = folds == fold
        outside = targets[~inside][known[~inside]]
        yield (~inside if outside.any() and not outside.all() else np.ones_like(inside)), inside


@dataclass(frozen=True)
class Rows:
    """What a decision is fitted on.

    scores (N, K), targets and known bool (N, K), features (N, D) or None. folds: (N,), which rows are left out together
    where the decision is asked about rows that it was not fitted on. judges: bool (N,), the rows that a weight decay is
    chosen by, fitted on the others; None: by the folds in turn. further: targets and known entries of images without
    honest scores, which count where label sets are counted.
    """

    scores: NDArray[np.float32]
    targets: Bools
    known: Bools
    features: NDArray[np.float32] | None
    folds: NDArray[np.int64]
    judges: Bools | None = None
    further: tuple[Bools, Bools] | None = None

    def __len__(self) -> int:
        return len(self.scores)

    def take(self, chosen: Bools) -> "Rows":
        """Some of the rows; nothing is copied where all are taken."""
        if chosen.all():
            return self
        return replace(
            self,
            scores=self.scores[chosen],
            targets=self.targets[chosen],
            known=self.known[chosen],
            features=None if self.features is None else self.features[chosen],
            folds=self.folds[chosen],
            judges=None if self.judges is None else self.judges[chosen],
        )

    def splits(self) -> Iterator[tuple[Bools, Bools]]:
        """See `fold_pairs`."""
        return fold_pairs(self.folds, self.targets, self.known)


def checked_rows(
    decision: LogOddsDecision,
    scores: Array,
    targets: Array,
    features: Array | None,
    mask: Array | None,
    folds: Array,
    validation: Array | None,
    further: tuple[Array, Array | None] | None,
) -> Rows:
    """The rows that a decision is fitted on, from arrays or tensors.

    Raises ValueError for another number of labels or rows, and for features that are missing or of another shape.
    """
    check_scores(scores, int(decision.num_labels))
    of_features = decision._checked_features(features, len(scores))
    return Rows(
        scores=as_numpy(scores).astype(np.float32, copy=False),
        targets=as_numpy(targets) != 0,
        known=_known(targets, mask),
        features=None if of_features is None else as_numpy(of_features).astype(np.float32, copy=False),
        folds=_of_rows("folds", folds, len(scores)).astype(np.int64),
        judges=None if validation is None else _of_rows("validation", validation, len(scores)).astype(bool),
        further=None if further is None else (as_numpy(further[0]) != 0, _known(*further)),
    )


def _known(targets: Array, mask: Array | None) -> Bools:
    return np.ones(tuple(targets.shape), bool) if mask is None else as_numpy(mask) != 0


def _of_rows(name: str, values: Array, rows: int) -> NDArray[Any]:
    checked: NDArray[Any] = as_numpy(values)
    if checked.shape != (rows,):
        raise ValueError(f"{name}: shape {checked.shape}, expected ({rows},)")
    return checked


class Fitted(NamedTuple):
    """Whether every minimisation ended at its tolerance, and the largest gradient norm."""

    converged: bool
    gradient_norm: float


def fit_log_odds_decision(decision: LogOddsDecision, rows: Rows) -> Fitted:
    """Fit the decision's estimator, then choose the decision's own numbers on log odds out of fold.

    A weight decay that is not given is chosen first. The log odds of a fold are those of the estimator fitted on the
    other folds; the estimator that stays is fitted on all rows.
    """
    estimator, ends = decision.estimator, []
    if isinstance(estimator, LinearThresholds) and estimator.weight_decay is None:
        estimator.decay.fill_(choose_weight_decay(estimator, rows))
    ends.append(_fit_estimator(estimator, rows))
    start = {name: value.clone() for name, value in estimator.state_dict().items()}
    log_odds = np.empty(rows.scores.shape, np.float32)
    for outside, inside in rows.splits():
        ends.append(_fit_estimator(estimator, rows.take(outside), start))
        log_odds[inside] = _log_odds(estimator, rows.take(inside))
    estimator.load_state_dict(start)
    decision.choose(HonestRows(log_odds, rows.targets, rows.known, rows.folds, rows.further))
    found = [end for end in ends if end is not None]
    return Fitted(all(end.converged for end in found), max((end.gradient_norm for end in found), default=0.0))


def choose_weight_decay(decision: LinearThresholds, rows: Rows) -> float:
    """The weight decay of lowest log loss on rows that were not fitted on; the larger on a tie.

    The path, of powers of sqrt(10), is widened at the end where the best lies.
    """
    whole = np.ones(len(rows), bool)
    pairs = (
        list(rows.splits())
        if rows.judges is None or rows.judges.all()
        else [(~rows.judges, whole & rows.judges)]
    )
    found: dict[int, float] = {}
    starts: dict[int, dict[str, Any]] = {}

    def log_loss(weight_decay: float) -> float:
        decision.decay.fill_(weight_decay)
        total = 0.0
        for number, (outside, inside) in enumerate(pairs):
            _fit_estimator(decision, rows.take(outside), starts.get(number))
            starts[number] = {name: value.clone() for name, value in decision.state_dict().items()}
            held_out = rows.take(inside)
            total += _cross_entropy(_log_odds(decision, held_out), held_out)
        return total

    ahead = list(_STEPS)
    while ahead:
        for step in ahead:
            found[step] = log_loss(10 ** (step / 2))
        best = min(sorted(found, reverse=True), key=lambda step: found[step])
        ahead = [step for step in (best + 1, best - 1) if step not in found and abs(step) <= _WIDEST]
    return float(10 ** (best / 2))


def _fit_estimator(
    estimator: LogOddsEstimator, rows: Rows, start: dict[str, Any] | None = None
) -> Solution | None:
    """Fit what gives the log odds; of linear thresholds, from scratch or from `start`."""
    if isinstance(estimator, Rule):
        estimator.fit(rows.scores, rows.targets, rows.known)
        return None
    assert isinstance(estimator, LinearThresholds)
    assert rows.features is not None
    if start is None:
        estimator.reset(rows.scores, rows.targets, rows.features, rows.known)
    else:
        decay = float(estimator.decay)
        estimator.load_state_dict(start)
        estimator.decay.fill_(decay)
    scores, targets, features = (float_tensor(a) for a in (rows.scores, rows.targets, rows.features))
    known = torch.from_numpy(rows.known)
    found = _minimised(estimator, scores, targets, features, known)
    if not found.converged:  # single precision rounds too much where the weight decay is small
        found = _minimised(estimator.double(), scores, targets, features, known)
        estimator.float()
    return found


def _minimised(decision: LinearThresholds, *given: Tensor) -> Solution:
    return minimise(
        [parameter for parameter in decision.parameters() if parameter.requires_grad],
        decision.objective(*given),
        tolerance=TOLERANCE,
        max_iterations=MAX_ITERATIONS,
    )


def _log_odds(estimator: LogOddsEstimator, rows: Rows) -> NDArray[np.float32]:
    values: NDArray[np.float32] = estimator.log_odds(rows.scores, rows.features).float().numpy()
    return values


def _cross_entropy(log_odds: NDArray[np.float32], rows: Rows) -> float:
    """The sum over the known entries of log(1 + exp(-z)) for positives, log(1 + exp(z)) for negatives."""
    signed = np.where(rows.targets, -log_odds, log_odds)[rows.known].astype(np.float64)
    return float(np.logaddexp(0, signed).sum())
