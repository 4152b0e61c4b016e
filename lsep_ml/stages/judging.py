"""What a decision says of validation images that it was fitted on: of each by a fit without its fold."""

import copy
import logging
import warnings
from dataclasses import dataclass, fields
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lsep_ml.decisions import Decision, Rule
from lsep_ml.decisions.abstention import confidence
from lsep_ml.decisions.checks import ChosenRows
from lsep_ml.decisions.log_odds import LogOddsDecision
from lsep_ml.metrics.counts import held_known
from lsep_ml.metrics.indicator import SparseIndicator, stacked
from lsep_ml.processes.group import ALONE, Processes
from lsep_ml.stages.fit_rows import FitRows
from lsep_ml.training.cross_fitting import fit_log_odds_decision
from lsep_ml.training.fitting import DecisionWarning
from lsep_ml.training.folds import fold_pairs
from lsep_ml.training.kept import Kept, found_again
from lsep_ml.training.linear_fits import LinearFits

log = logging.getLogger(__name__)

_FEW = 1024
"""Rows of very many labels that a rule is asked about at a time."""


@dataclass(frozen=True)
class Judged:
    """Says what fits without an image say of it, for N images: label sets bool (N, K), the `confidence` in them float32
    (N,), and as far as the decision has them thresholds and log odds, float32 (N, K). Label sets and thresholds may be
    held as `shortened` does.
    """

    label_sets: Any
    confidence: NDArray[np.float32]
    thresholds: Any
    log_odds: NDArray[np.float32] | None


def cross_fit(
    unfitted: Decision,
    fitted: Decision,
    rows: FitRows,
    options: dict[str, Any] | None = None,
    fits: LinearFits | None = None,
    processes: Processes = ALONE,
    kept: Kept | None = None,
) -> Judged | None:
    """Decide each validation row by a fit without its fold; a weight decay stays that of the fit on all rows.

    `fitted`, the fit on all rows, decides what no such fit can: a fold without which nothing is left to fit on, and all
    where the rest is too little for the decision, which is said. Of several `processes`, each fits without other folds;
    the first is answered, the others with None. kept: where fits that finished before a kill are found again.
    """
    sparse = isinstance(rows.targets, SparseIndicator)
    known = held_known(rows.targets, rows.mask)
    given = rows.by_log_odds(unfitted) if isinstance(unfitted, LogOddsDecision) else None

    def without(outside: NDArray[np.bool_], fold: int) -> dict[str, Any]:
        """Return the `state` of a fit, or the `problem` why there is none; nothing where all rows would be fitted
        on."""
        decision = copy.deepcopy(unfitted)
        if outside.all():
            return {}
        try:
            if isinstance(decision, LogOddsDecision):
                assert given is not None
                fit_log_odds_decision(decision, given, fits, {fold})
            else:
                with warnings.catch_warnings():  # the fit on all rows has said it
                    warnings.simplefilter("ignore", DecisionWarning)
                    rows.take(outside).fit(decision, **(options or {}))
        except ValueError as error:
            return {"problem": str(error)}
        return {"state": decision.state_dict()}

    pairs = [
        (outside, inside & rows.val, int(rows.folds[inside][0]))
        for outside, inside in fold_pairs(rows.folds, rows.targets != 0, known)
        if (inside & rows.val).any()
    ]
    makes = {f"judged-{fold}": partial(without, outside, fold) for outside, _, fold in pairs}
    found = processes.share_out(found_again(kept, makes))
    if not processes.first:
        return None
    judged: list[list[Any]] = [[] for _ in fields(Judged)]
    places: list[NDArray[np.intp]] = []
    of_val = rows.val.cumsum() - 1
    for made, (_, asked, _) in zip(found, pairs, strict=True):
        decision = fitted
        if "problem" in made:
            log.warning("validation is decided by the fit on all of it: without a fold, %s", made["problem"])
        if "state" in made:
            decision = copy.deepcopy(unfitted)
            decision.load_state_dict(made["state"])
        for block in _asked_together(decision, np.flatnonzero(asked), sparse):
            places.append(of_val[block])
            for parts, part in zip(
                judged, ask(decision, rows.scores[block], rows.features[block]), strict=True
            ):
                if part is not None:
                    parts.append(shortened(part) if sparse else part)
    return Judged(*(together(parts, places) if parts else None for parts in judged))  # type: ignore[arg-type]


def _asked_together(decision: Decision, rows: NDArray[np.intp], sparse: bool) -> list[NDArray[np.intp]]:
    """Return rows that a decision is asked about at once: fewer where they are many and it goes entry by entry."""
    size = _FEW if sparse and isinstance(decision, Rule) else len(rows)
    return [rows[start : start + size] for start in range(0, len(rows), size)]


def shortened(part: NDArray[Any]) -> Any:
    """Return what a decision says of some rows in less memory: label sets sparse, thresholds of all rows once."""
    if part.ndim == 1:
        return part
    if part.dtype.kind != "f":
        return SparseIndicator.from_dense(part)
    if (part == part[:1]).all():
        return ChosenRows(part[:1].copy(), np.zeros(len(part), np.intp))
    return part


def together(parts: list[Any], places: list[Any]) -> Any:
    """Return parts of rows, some of which may be `shortened`, as one matrix, each where its rows are; empties the
    list."""
    lengths = [len(part) for part in parts]
    number = sum(lengths)
    order = np.argsort(np.concatenate([np.arange(number)[at] for at in places]))
    if all(isinstance(part, SparseIndicator) for part in parts):
        return stacked(parts)[order]
    if all(isinstance(part, ChosenRows) for part in parts):
        of_part = np.repeat(np.arange(len(parts)), lengths)
        return ChosenRows(np.concatenate([part.matrix for part in parts]), of_part[order])
    whole = np.empty((number, *parts[0].shape[1:]), parts[0].dtype)
    for at in places:
        whole[at] = parts.pop(0)
    return whole


def ask(
    decision: Decision, scores: NDArray[np.float32], features: NDArray[np.float32]
) -> tuple[Any, Any, Any, Any]:
    """Return what a decision says of some images, the fields of `Judged`."""
    decision = decision.eval().cpu()
    decided = decision.decide(scores, features)
    thresholds = None if decided.thresholds is None else decided.thresholds.numpy()
    certain = confidence(scores, decided).numpy()
    return decided.label_sets.numpy(), certain, thresholds, log_odds_of(decision, scores, features)


def log_odds_of(decision: Decision | None, scores: Any, features: Any) -> NDArray[np.float32] | None:
    """Return the log odds (N, K) of a decision that estimates them from scores and features; None of others."""
    if not isinstance(decision, LogOddsDecision) or not decision.needs_features or scores is None:
        return None
    estimated: NDArray[np.float32] = decision.estimator.log_odds(scores, features).float().numpy()
    return estimated
