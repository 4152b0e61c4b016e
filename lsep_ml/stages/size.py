"""What cannot work at the size of the data, said before the training and not behind it."""

import logging
import os
from pathlib import Path

import numpy as np

from lsep_ml.data import DataSet
from lsep_ml.data.data_set import Split
from lsep_ml.decisions import Decision, Rule, label_blocks
from lsep_ml.decisions.calibration import ExpectedF1
from lsep_ml.decisions.capped import CappedThreshold
from lsep_ml.decisions.conformal import ConformalRisk
from lsep_ml.decisions.learn_then_test import LearnThenTest
from lsep_ml.decisions.log_odds import LogOddsDecision
from lsep_ml.decisions.offset import MovedThresholds
from lsep_ml.decisions.per_class import PerClassThreshold
from lsep_ml.decisions.rules import GlobalThreshold
from lsep_ml.decisions.search import RANKED
from lsep_ml.decisions.support import LabelSetSupport
from lsep_ml.stages.fit_rows import fits_folds, fitted_on

log = logging.getLogger(__name__)

MANY = 1000
"""Labels from which on it is looked at whether the labels, and the label sets, have images enough."""

_FEW = 5  # positives, below which a threshold of a label's own is that of chance
_EXPECTED, _SECONDS = 2**41, 3e-8  # images x labels x labels that are too many, and how long each takes
_LIMITS = "/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"


def check_size(decision: Decision, data_set: DataSet, *, out_of_fold: bool, processes: int = 1) -> None:
    """Look at what fitting a decision takes, and whether there are positives enough for it; the latter is a warning.

    out_of_fold: whether the training images will have out-of-fold scores. processes: of the job, on this machine; each
    holds what fits without folds need.

    Raises:
        ValueError: a fit that ranks more entries than can be ranked, or takes more memory than there is, or decisions
            that take days; names the option, the need, and the way out.
    """
    names = fitted_on(decision, out_of_fold)
    rows, labels = sum(len(data_set.split(name)) for name in names), len(data_set.label_names)
    capped = min(decision.max_labels, labels) if isinstance(decision, CappedThreshold) else labels
    needs, why, instead = _needs(decision)
    told = f"{why} {rows} images x {labels} labels"
    if rows * capped >= RANKED and needs == _OF_RANKING:
        raise ValueError(f"{told}, and at most 2^32 entries can be ranked; instead: {instead}")
    held = processes if fits_folds(decision, out_of_fold) else 1
    check_memory(needs * rows * capped, told, instead, held)
    if isinstance(decision, ExpectedF1):
        _check_time(len(data_set.val) + len(data_set.test), labels)
    if labels >= MANY:
        for problem in [*_of_few_positives(decision, data_set, names), *_of_label_sets(decision, data_set)]:
            log.warning("%s", problem)


def _check_time(images: int, labels: int) -> None:
    """Raise ValueError where expected F1 of so many images takes most of a day, or more."""
    if images * labels**2 >= _EXPECTED:
        days = images * labels**2 * _SECONDS / 86400
        raise ValueError(
            f"decision=expected_f1 takes time by the square of the labels, about {days:.1f} CPU days for {images} "
            f"images x {labels} labels; instead: decision=calibrated or decision=per_class"
        )


def check_memory(needs: float, told: str, instead: str, processes: int = 1) -> None:
    """Raise ValueError where so many bytes in each of the processes are more memory than there is.

    told: what holds what. instead: the way out.
    """
    if processes * needs > (there := memory()):
        of = f" in {processes} processes" if processes > 1 else ""
        raise ValueError(
            f"{told} at once, at least {processes * needs / 2**30:.0f} GiB{of}; this machine has "
            f"{there / 2**30:.0f}; instead: {instead}"
        )


def memory() -> int:
    """Return the bytes of memory that this process may have: the machine's, or less where a container is given less."""
    sizes = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for limit in map(Path, _LIMITS):
        text = limit.read_text().strip() if limit.exists() else ""
        sizes += [int(text)] if text.isdigit() else []
    return min(sizes)


_OF_RANKING, _OF_SOLVING = 60, 24
"""Bytes an entry, at least: of a search that ranks all entries, of a solve for log odds."""


def _needs(decision: Decision) -> tuple[float, str, str]:
    """Return the bytes that fitting takes an entry at least, why, and what takes less; 0 where blocks are read."""
    kind = type(decision).__name__
    rule = _search_of(decision)
    if rule is not None and not label_blocks.fits_by_label_blocks(rule):
        by = f"criterion={rule.criterion}"
        for demand in ("min_precision", "min_recall"):
            if getattr(rule, demand, None) is not None:
                by = f"{demand}={getattr(rule, demand)}"
        instead = "decision=threshold or per_class by f1, fbeta or cost; for break_even decision.search=grid"
        if rule is not decision:
            instead = "another criterion, such as f1"
        return _OF_RANKING, f"{kind}, {by}, ranks all scores of", instead
    if isinstance(decision, CappedThreshold):
        why = f"CappedThreshold, max_labels={decision.max_labels}, ranks the highest scores of"
        return _OF_RANKING, why, "a smaller decision.max_labels, or decision=threshold"
    if isinstance(decision, LogOddsDecision) and decision.linear_thresholds is not None:
        return _OF_SOLVING, f"{kind} is fitted to log odds of", "decision=per_class"
    if isinstance(decision, LearnThenTest):
        part = 1 - decision.calibration
        return 8 * part, f"{kind} sorts a share of {part:g} of the scores of", "decision=conformal"
    return 0, "", ""


def _search_of(decision: Decision) -> Rule | None:
    """Return the search for thresholds that is in a fit, but for one on a grid, which reads some rows at a time."""
    if isinstance(decision, MovedThresholds) and decision.chooses_offsets:
        return decision.offset_rule()
    if isinstance(decision, ConformalRisk) and decision.shape == "per_class":
        return PerClassThreshold(criterion=decision.criterion)
    if isinstance(decision, GlobalThreshold):
        return decision if decision.search == "exact" else None
    return decision if isinstance(decision, PerClassThreshold) else None


def _of_few_positives(decision: Decision, data_set: DataSet, names: tuple[str, ...]) -> list[str]:
    """Return the problem of thresholds by few positives: by a demand, or without a guard that shrinks them."""
    if not isinstance(decision, PerClassThreshold):
        return []
    demand = decision.min_precision or decision.min_recall
    if demand is None and decision.guard:
        return []
    # fewer than 1 / (1 - share) never have this share without having all
    needed = max(_FEW, round(1 / (1 - demand)) if demand is not None and demand < 1 else 0)
    positives = np.sum([data_set.split(name).targets.sum(0) for name in names], axis=0)
    few = int((positives < needed).sum())
    if 2 * few <= len(positives):
        return []
    how = "without a guard" if demand is None else "by min_precision or min_recall"
    return [
        f"{few} of {len(positives)} labels have fewer than {needed} positives in the images that decision=per_class is "
        f"fitted on: thresholds of their own, {how}, are left to chance; decision.guard=true without a demand shrinks "
        "them to a common one"
    ]


def _of_label_sets(decision: Decision, data_set: DataSet) -> list[str]:
    """Return the problem of label sets that are hardly ever seen twice."""
    if not isinstance(decision, LabelSetSupport):
        return []
    seen = set(_label_sets(data_set.train))
    asked = _label_sets(data_set.val)
    found = sum(label_set in seen for label_set in asked)
    if 2 * found >= len(asked):
        return []
    return [
        f"decision=support names label sets that images of training have: {found} of {len(asked)} validation images "
        "have one of these; decision=per_class and thresh_est name labels one by one"
    ]


def _label_sets(split: Split) -> list[bytes]:
    """Return of each image what is equal for images with the same known labels."""
    rows, labels = split.targets.nonzero()
    of_images = np.split(labels.astype(np.int32), np.searchsorted(rows, np.arange(1, len(split))))
    return [of_image.tobytes() for of_image in of_images]
