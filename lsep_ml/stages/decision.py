"""Stage 2: what a decision is fitted on, the fit, and what it says of validation images it was fitted on."""

import copy
import hashlib
import logging
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from hydra.utils import instantiate
from numpy.typing import NDArray
from omegaconf import DictConfig, OmegaConf
from torch import Tensor

from lsep_ml.decisions import Decision, LearntDecision, Rule
from lsep_ml.decisions.abstention import confidence
from lsep_ml.decisions.checks import check_fit
from lsep_ml.decisions.label_blocks import ChosenRows
from lsep_ml.decisions.log_odds import LogOddsDecision
from lsep_ml.metrics.indicator import SparseIndicator, dense_blocks, stacked
from lsep_ml.stages.extraction import Extraction
from lsep_ml.stages.fit_rows import FitRows
from lsep_ml.stages.shared import Shared
from lsep_ml.store.entries import Store
from lsep_ml.store.keys import LINEAR_FITS, linear_fits_made_by
from lsep_ml.terminal import console
from lsep_ml.training.cross_fitting import fit_log_odds_decision
from lsep_ml.training.fitting import DecisionWarning, OnEpoch, warn
from lsep_ml.training.folds import fold_pairs
from lsep_ml.training.kept import Kept
from lsep_ml.training.linear_fits import LinearFits, OnAxes
from lsep_ml.training.linear_scores import KEPT
from lsep_ml.training.resume import States

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


def linear_fits_key(decision: Decision, rows: FitRows, extraction: Extraction) -> dict[str, Any] | None:
    """Return what the fits of linear thresholds that a decision goes by are made by; None: it goes by none.

    Decisions and criteria that ask for the same fits share them.
    """
    linear = decision.linear_thresholds if isinstance(decision, LogOddsDecision) else None
    if linear is None:
        return None
    return linear_fits_made_by(
        extraction.scores.identity,
        None if extraction.prediction is None else extraction.prediction.identity,
        decision.fit_on,
        rows.folds.tobytes(),
        linear.weight_decay,
    )


_ON_AXES: Shared[OnAxes] = Shared(1)


def stored_fits(store: Store, made_by: dict[str, Any], decision: Decision, rows: FitRows) -> LinearFits:
    """Return the fits of linear thresholds on the rows, without each fold and without each two, made now or found."""
    assert isinstance(decision, LogOddsDecision)
    estimator, given = decision.linear_thresholds, rows.by_log_odds(decision)
    assert estimator is not None

    def share(make: Callable[[], OnAxes]) -> OnAxes:
        if rows.features.nbytes > KEPT:
            return make()
        return _ON_AXES.get([rows.features.shape, _digest(rows.features)], make)

    def build(folder: Path) -> dict[str, Any]:
        started = time.perf_counter()
        fits = LinearFits(estimator, given, Kept(folder).get, share)
        for without in given.left_out(twice=bool(rows.val.any())):
            fits.load(copy.deepcopy(estimator), without)
        return {"weight_decay": fits.weight_decay, "seconds": round(time.perf_counter() - started, 3)}

    entry = store.get_or_build(LINEAR_FITS, made_by, build)
    return LinearFits(estimator, given, Kept(entry.folder).get)


def fit(
    config: DictConfig,
    decision: Decision,
    rows: FitRows,
    on_row: Any,
    states: States | None = None,
    fits: LinearFits | None = None,
) -> Judged | None:
    """Fit the decision on the images it asks for; `on_row` is shown its rows of the history.

    fits: of `stored_fits`, for a decision that goes by linear thresholds; None: it makes its own.

    Returns what is to be said of the validation images where the decision was fitted on them: each of them is decided
    by a fit without its fold. None: it was not.
    """
    unfitted = copy.deepcopy(decision)
    log.info(
        "Fitting decision %s on %d images (%s)", config.names.decision, len(rows.scores), decision.fit_on
    )

    def note_epoch(epoch: int, loss: float) -> None:
        on_row({"stage": "decision", "epoch": epoch + 1, "train_loss": loss})

    options: dict[str, Any] = {
        "epochs": config.fitting.epochs,
        "batch_size": config.fitting.batch_size,
        "optimizer": instantiate(config.fitting.optimizer),
        "seed": config.seed,
    }
    if isinstance(decision, LogOddsDecision):
        ended = fit_log_odds_decision(decision, rows.by_log_odds(decision), fits)
        if not ended.converged:
            log.warning("the solver stopped at a gradient norm of %.1e", ended.gradient_norm)
    elif isinstance(decision, LearntDecision):
        _learn_or_share(config, decision, rows, note_epoch, options | {"states": states})
    else:
        rows.fit(decision)
    return cross_fit(unfitted, decision, rows, options, fits) if rows.val.any() else None


class Learnt(NamedTuple):
    """Holds the state of a learnt decision after its training, and the loss of each epoch."""

    state: dict[str, Tensor]
    losses: list[float]


_LEARNT: Shared[Learnt] = Shared(4)


def _learn_or_share(
    config: DictConfig, decision: LearntDecision, rows: FitRows, on_epoch: OnEpoch, options: dict[str, Any]
) -> None:
    """Train the decision; jobs with other scores of the same images share one that learns nothing from the scores."""
    trained = False

    def train() -> Learnt:
        nonlocal trained
        losses: list[float] = []

        def note(epoch: int, loss: float) -> None:
            losses.append(loss)
            on_epoch(epoch, loss)

        rows.fit(decision, progress=console.is_terminal, on_epoch=note, **options)
        trained = True
        return Learnt(copy.deepcopy(decision.state_dict()), losses)

    if decision.learns_from_scores:
        train()
        return
    arrays = [None if array is None else _digest(array) for array in (rows.targets, rows.features, rows.mask)]
    built = {name: value for name, value in decision.options().items() if name != "fit_on"}
    fitting = OmegaConf.to_container(config.fitting, resolve=True)
    learnt = _LEARNT.get([type(decision).__name__, built, fitting, config.seed, arrays], train)
    if not trained:
        check_fit(rows.scores, rows.targets, rows.mask)
        for epoch, loss in enumerate(learnt.losses):
            on_epoch(epoch, loss)
        decision.load_state_dict(learnt.state)
        warn(decision.eval(), decision.problems(rows.scores, rows.features))


def _digest(matrix: Any) -> str:
    """Return the SHA-256 (hex) of a matrix's entries, a sparse one's as those of the dense one."""
    digest = hashlib.sha256()
    for (block,) in dense_blocks(matrix):
        digest.update(np.ascontiguousarray(block).data)
    return digest.hexdigest()


def cross_fit(
    unfitted: Decision,
    fitted: Decision,
    rows: FitRows,
    options: dict[str, Any] | None = None,
    fits: LinearFits | None = None,
) -> Judged:
    """Decide each validation row by a fit without its fold; a weight decay stays that of the fit on all rows.

    `fitted`, the fit on all rows, decides what no such fit can: a fold without which nothing is left to fit on, and all
    where the rest is too little for the decision, which is said.
    """
    sparse = isinstance(rows.targets, SparseIndicator)
    if rows.mask is not None:
        known: Any = rows.mask != 0
    else:
        known = SparseIndicator.all_known(rows.targets.shape) if sparse else np.ones(rows.targets.shape, bool)
    given = rows.by_log_odds(unfitted) if isinstance(unfitted, LogOddsDecision) else None
    judged: list[list[Any]] = [[] for _ in fields(Judged)]
    places: list[NDArray[np.intp]] = []
    of_val = rows.val.cumsum() - 1
    for outside, inside in fold_pairs(rows.folds, rows.targets != 0, known):
        asked = inside & rows.val
        if not asked.any():
            continue
        decision = fitted
        if not outside.all():
            decision = copy.deepcopy(unfitted)
            try:
                if isinstance(decision, LogOddsDecision):
                    assert given is not None
                    fit_log_odds_decision(decision, given, fits, {int(rows.folds[inside][0])})
                else:
                    with warnings.catch_warnings():  # the fit on all rows has said it
                        warnings.simplefilter("ignore", DecisionWarning)
                        rows.take(outside).fit(decision, **(options or {}))
            except ValueError as error:
                log.warning("validation is decided by the fit on all of it: without a fold, %s", error)
                decision = fitted
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
