"""The end of a run: the label sets of validation and test, and what they are worth."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch

from lsep_ml.decisions import Decision
from lsep_ml.decisions.abstention import Abstention, abstention_at, answered, confidence
from lsep_ml.metrics import (
    LABELS_PER_IMAGE,
    MAP_CALIBRATED,
    bootstrap_label_sets,
    bootstrap_ranking,
    count_label_sets,
    label_set_metrics,
    labels_per_image,
    ranking_metrics,
)
from lsep_ml.metrics.bootstrap import Intervals
from lsep_ml.metrics.indicator import SparseIndicator
from lsep_ml.stages.extraction import Extraction, SplitArrays
from lsep_ml.stages.judging import Judged, log_odds_of, shortened, together
from lsep_ml.stages.scores import fixed_batches
from lsep_ml.stages.shared import Shared, digest_of

log = logging.getLogger(__name__)

T = TypeVar("T")

_BATCH = 1024
LARGE, FEW = 10**8, 100
"""Test entries (images x labels) from which on intervals come from few bootstrap samples, and ranking metrics have
none."""

_RANKED: Shared[Any] = Shared(3)
"""Ranking metrics of validation and of test, and their intervals on test."""


@dataclass(frozen=True)
class SplitOutcome:
    """One split's arrays, its label sets uint8 (N, K), sparse where the targets are, the thresholds float32 (N, K) if
    any, its metrics, and the confidence in the label sets, float32 (N,), where one network gave them."""

    arrays: SplitArrays
    predictions: Any
    thresholds: Any
    metrics: dict[str, float]
    confidence: np.ndarray | None = None


@dataclass(frozen=True)
class Outcome:
    """Both splits a run reports on, and the 95% bootstrap intervals of the test metrics (over images, seeded).

    warnings: what is suspicious about a decision on the validation split. unseen: how many test images have a label set
    that is no candidate of a decision that chooses among label sets; None of other decisions. abstention: for the
    record, which images are left to a person, and what that leaves of each split; None where none is asked for.
    """

    val: SplitOutcome
    test: SplitOutcome
    intervals: dict[str, list[float]]
    warnings: list[str]
    unseen: int | None = None
    abstention: dict[str, Any] | None = None


def evaluate(
    decision: Decision | None,
    extraction: Extraction,
    judged: Judged | None = None,
    cross_tested: SplitOutcome | None = None,
    abstain: float | None = None,
) -> Outcome:
    """Apply a fitted decision (None: a predictor's own label sets) to validation and test and measure both.

    abstain: the exact match to keep by leaving images to a person, who is set in the decision; None: all are answered.
    cross_tested: what other networks made of the test images, in the place of what this one would.
    judged: what fits without them say of the validation images, where the decision was fitted on them. The test split
    is reported, nothing else. Without scores there are no ranking metrics, and none at all of a split without a known
    label.
    """
    val = _evaluate_split(decision, extraction.split("val"), judged)
    test = cross_tested or _evaluate_split(decision, extraction.split("test"))
    arrays = test.arrays
    intervals = _intervals(test) if test.metrics else {}
    unseen = None if decision is None or cross_tested is not None else decision.unseen(arrays.targets)
    shown = {key: list(interval) for key, interval in intervals.items()}
    warnings, abstention = _problems(decision, val), None
    if decision is not None and abstain is not None:
        abstention, unreached = _abstention(decision, val, test, abstain)
        warnings += unreached
    return Outcome(val, test, shown, warnings, unseen, abstention)


def _abstention(
    decision: Decision, val: SplitOutcome, test: SplitOutcome, share: float
) -> tuple[dict[str, Any], list[str]]:
    """Set which images the decision leaves to a person, by validation; the record of it, and what is to be said."""
    warnings = []
    try:
        chosen = abstention_at(*_judged_by(val), exact_match=share)
    except ValueError as error:
        chosen = Abstention(0.0, 0.0, 0.0)
        warnings.append(f"label_sets.abstain={share}: every image is left to a person ({error})")
    decision.abstention = chosen
    of_splits = {name: answered(chosen, *_judged_by(split)) for name, split in (("val", val), ("test", test))}
    return {"asked_for": share, "least": chosen.least, **of_splits}, warnings


def _judged_by(split: SplitOutcome) -> tuple[Any, ...]:
    return split.confidence, split.predictions, split.arrays.targets, split.arrays.mask


def _intervals(test: SplitOutcome) -> Intervals:
    arrays = test.arrays
    if test.predictions.size >= LARGE:
        log.warning(
            "%d x %d test entries: intervals of label sets are of %d samples, and scores have none",
            *(*test.predictions.shape, FEW),
        )
        return bootstrap_label_sets(test.predictions, arrays.targets, arrays.mask, replicates=FEW)
    intervals = bootstrap_label_sets(test.predictions, arrays.targets, arrays.mask)
    if arrays.scores is not None:
        intervals |= _once(bootstrap_ranking, arrays.scores, arrays.targets, arrays.mask)
    return intervals


def _once(ranking: Callable[..., T], scores: np.ndarray, targets: Any, mask: Any) -> T:
    """Return what `ranking` gives; jobs of a sweep that differ in their decision have the same scores, and share it."""
    if scores.size >= LARGE or isinstance(targets, SparseIndicator):
        return ranking(scores, targets, mask)
    arrays = [scores, targets, *(() if mask is None else (mask,))]
    made_by = [ranking.__name__, *([str(each.dtype), each.shape, digest_of(each)] for each in arrays)]
    found: T = _RANKED.get(made_by, lambda: ranking(scores, targets, mask))
    return found


def _problems(decision: Decision | None, val: SplitOutcome) -> list[str]:
    """Return what is suspicious about a decision on the validation split."""
    if decision is None or val.arrays.scores is None:
        return []
    found = decision.problems(val.arrays.scores, val.arrays.features)
    unnamed, labels = int((~val.predictions.any(0)).sum()), val.predictions.shape[1]
    if unnamed == labels:
        empty = "every predicted label set is empty"
        return found if empty in found else [*found, empty]
    if 2 * unnamed >= labels:
        found.append(f"{unnamed} of {labels} classes are named for no image")
    return found


def _evaluate_split(
    decision: Decision | None, arrays: SplitArrays, judged: Judged | None = None
) -> SplitOutcome:
    if judged is None:
        predictions, thresholds, certain = _decide(decision, arrays)
        log_odds = log_odds_of(decision, arrays.scores, arrays.features)
    else:
        predictions, thresholds = judged.label_sets.astype(np.uint8), judged.thresholds
        log_odds, certain = judged.log_odds, judged.confidence
    metrics = measure(arrays, predictions)
    if log_odds is not None and metrics:
        metrics[MAP_CALIBRATED.key] = float(ranking_metrics(log_odds, arrays.targets, arrays.mask)["map"])
    return SplitOutcome(arrays, predictions, thresholds, metrics, certain)


@torch.inference_mode()
def _decide(decision: Decision | None, arrays: SplitArrays) -> tuple[Any, Any, np.ndarray | None]:
    """Label sets uint8 (N, K) of a split, the thresholds float32 (N, K) where the decision has them, and the confidence
    float32 (N,) where there is a decision."""
    sparse = isinstance(arrays.targets, SparseIndicator)
    if decision is None:
        assert arrays.label_sets is not None  # build_job saw to it
        own = arrays.label_sets
        return (SparseIndicator.from_dense(own) if sparse else own).astype(np.uint8), None, None
    assert arrays.scores is not None
    decision = decision.eval().cpu()
    certain = np.empty(len(arrays.scores), np.float32)
    label_sets, thresholds = list[Any](), list[Any]()
    batches = list(fixed_batches(len(arrays.scores), _BATCH))
    for rows in batches:
        scores = torch.from_numpy(arrays.scores[rows].copy())
        features = torch.from_numpy(arrays.features[rows].astype(np.float32))
        decided = decision.decide(scores, features)
        certain[rows] = confidence(scores, decided).numpy()
        for parts, part in ((label_sets, decided.label_sets), (thresholds, decided.thresholds)):
            if part is not None:
                parts.append(shortened(part.numpy()) if sparse else part.numpy())
    of_rows = together(thresholds, batches) if thresholds else None
    return together(label_sets, batches).astype(np.uint8), of_rows, certain


def measure(arrays: SplitArrays, predictions: Any) -> dict[str, float]:
    """Return every label-set and (with scores) ranking metric of a split, as fractions, and the mean number of labels.

    Nothing where no label is known.
    """
    if arrays.mask is not None and not arrays.mask.any():
        return {}
    counts = count_label_sets(predictions, arrays.targets, arrays.mask)
    metrics = {key: float(value) for key, value in label_set_metrics(counts).items()}
    if arrays.scores is not None:
        metrics |= _once(ranking_metrics, arrays.scores, arrays.targets, arrays.mask)
    return {**metrics, LABELS_PER_IMAGE.key: float(labels_per_image(counts))}
