"""Stage 2: what a decision is fitted on, the fit, and what it says of validation images it was fitted on."""

import copy
import logging
import time
import warnings
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from hydra.utils import instantiate
from numpy.typing import NDArray
from omegaconf import DictConfig

from lsep_ml.data import DataSet
from lsep_ml.decisions import Decision, LearntDecision
from lsep_ml.decisions.abstention import confidence
from lsep_ml.decisions.checks import check_fit
from lsep_ml.decisions.log_odds import LogOddsDecision
from lsep_ml.stages.extraction import Extraction
from lsep_ml.stages.scores import training_scores
from lsep_ml.store.entries import Store
from lsep_ml.store.keys import LINEAR_FITS, linear_fits_made_by
from lsep_ml.terminal import console
from lsep_ml.training.cross_fitting import fit_log_odds_decision
from lsep_ml.training.fitting import DecisionWarning, OnEpoch, fit_decision
from lsep_ml.training.folds import Rows, checked_rows, draw_folds, fold_pairs
from lsep_ml.training.linear_fits import LinearFits
from lsep_ml.training.path import Kept
from lsep_ml.training.resume import States

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class FitRows:
    """Holds the rows that a decision is fitted on, arrays of N rows, training images before validation images.

    val: which rows of the validation split are among them, the last ones: all or none. folds: (N,), rows that are left
    out together. further: targets and mask of the training images, where they are not among the rows and the decision
    counts label sets.
    """

    scores: NDArray[np.float32]
    targets: NDArray[np.uint8]
    features: NDArray[np.float32]
    mask: NDArray[np.bool_] | None
    val: NDArray[np.bool_]
    folds: NDArray[np.int64]
    further: tuple[NDArray[np.uint8], NDArray[np.bool_] | None] | None

    @classmethod
    def of(cls, decision: Decision, extraction: Extraction, data_set: DataSet, seed: int) -> "FitRows":
        """Return the rows that `decision.fit_on` asks for.

        With "crossfit" these are the training images, by their out-of-fold scores, and the validation images; learnt
        decisions take the training images alone. Where there are no out-of-fold scores, the validation images.
        """
        names: tuple[str, ...] = (decision.fit_on,)
        out_of_fold = None
        if decision.fit_on == "both":
            names = ("train", "val")
        elif decision.fit_on == "crossfit":
            out_of_fold = extraction.out_of_fold()
            alone = isinstance(decision, LearntDecision) and not isinstance(decision, LogOddsDecision)
            names = ("val",) if out_of_fold is None else ("train",) if alone else ("train", "val")
        splits = {name: extraction.split(name) for name in names}
        scores = {name: split.scores for name, split in splits.items()}
        if "train" in names:
            scores["train"] = training_scores(extraction) if out_of_fold is None else out_of_fold.scores
        masks = [split.mask for split in splits.values() if split.mask is not None]
        groups = [data_set.split(name).groups for name in names]
        further = None
        if names == ("val",) and decision.counts_label_sets:
            of_train = extraction.split("train")
            further = of_train.targets, of_train.mask
        sizes = {name: len(split.targets) for name, split in splits.items()}
        rows = sum(sizes.values())
        return cls(
            _join([values for values in scores.values() if values is not None]),
            _join([split.targets for split in splits.values()]),
            _join([split.features for split in splits.values()]),
            _join(masks) if masks else None,
            np.arange(rows) >= rows - sizes.get("val", 0),
            draw_folds(rows, seed, None if any(g is None for g in groups) else _join(groups)),
            further,
        )

    def take(self, chosen: NDArray[np.bool_]) -> "FitRows":
        """Take some of the rows."""
        mask = None if self.mask is None else self.mask[chosen]
        arrays = (self.scores[chosen], self.targets[chosen], self.features[chosen], mask)
        return FitRows(*arrays, self.val[chosen], self.folds[chosen], self.further)

    def fit(self, decision: Decision, **options: Any) -> None:
        """Fit the decision, which is not one by log odds, on these rows."""
        arrays = (self.scores, self.targets, self.features, self.mask)
        fit_decision(decision, *arrays, folds=self.folds, **options)

    def by_log_odds(self, decision: LogOddsDecision) -> Rows:
        """Return the rows as a decision by log odds is fitted on them.

        Raises ValueError for data that no decision can be fitted on.
        """
        check_fit(self.scores, self.targets, self.mask)
        judged = self.val if self.val.any() and not self.val.all() else None
        arrays = (self.scores, self.targets, self.features, self.mask)
        return checked_rows(decision, *arrays, folds=self.folds, validation=judged, further=self.further)


@dataclass(frozen=True)
class Judged:
    """Says what fits without an image say of it, for N images: label sets bool (N, K), the `confidence` in them float32
    (N,), and as far as the decision has them thresholds and log odds, float32 (N, K).
    """

    label_sets: NDArray[np.bool_]
    confidence: NDArray[np.float32]
    thresholds: NDArray[np.float32] | None
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


def stored_fits(store: Store, made_by: dict[str, Any], decision: Decision, rows: FitRows) -> LinearFits:
    """Return the fits of linear thresholds on the rows, without each fold and without each two, made now or found."""
    assert isinstance(decision, LogOddsDecision)
    estimator, given = decision.linear_thresholds, rows.by_log_odds(decision)
    assert estimator is not None

    def build(folder: Path) -> dict[str, Any]:
        started = time.perf_counter()
        fits = LinearFits(estimator, given, Kept(folder).get)
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
    else:
        noted: OnEpoch = note_epoch
        rows.fit(decision, progress=console.is_terminal, on_epoch=noted, states=states, **options)
    return cross_fit(unfitted, decision, rows, options, fits) if rows.val.any() else None


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
    known = np.ones(rows.targets.shape, bool) if rows.mask is None else rows.mask != 0
    given = rows.by_log_odds(unfitted) if isinstance(unfitted, LogOddsDecision) else None
    judged: list[NDArray[Any] | None] = [None] * len(fields(Judged))
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
        places = asked[rows.val]
        for number, part in enumerate(ask(decision, rows.scores[asked], rows.features[asked])):
            if part is not None:
                of_all = judged[number]
                if of_all is None:
                    of_all = judged[number] = np.empty((len(places), *part.shape[1:]), part.dtype)
                of_all[places] = part
    return Judged(*judged)  # type: ignore[arg-type]


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


def _join(arrays: Any) -> Any:
    return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)
