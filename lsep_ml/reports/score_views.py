"""What the figures show of a loss's scores: curves over seeds, searches, calibration, labels that they contradict."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lsep_ml.metrics import BY_KEY
from lsep_ml.metrics.calibration import curves_by_label, platt_curve, sigmoid
from lsep_ml.metrics.counts import image_shares
from lsep_ml.metrics.functional import label_set_value, mean_precision_recall, ratio
from lsep_ml.metrics.operating_points import Ranked, Thresholded, search_grid
from lsep_ml.reports.figures.method_plots import Reliability, Search
from lsep_ml.reports.grouping import RunGroup
from lsep_ml.reports.records import LeftOut
from lsep_ml.runs.arrays import Arrays, read_arrays
from lsep_ml.runs.files import TEST, VALIDATION
from lsep_ml.runs.finished import Method, Run
from lsep_ml.runs.record import RecordError

HIGHEST_K = 10
SUSPECTS = 20
BINS = 15
_PREFERRED = ("thresh_est", "threshold", "topk", "count_est")  # the first has thresholds for each image


class Suspect(NamedTuple):
    """Names a test label that the scores contradict; `belief` is the probability of what the annotation says."""

    row: int
    label: int
    present: bool
    belief: float


@dataclass(frozen=True)
class ScoreView:
    """Holds what a loss's scores show in one group.

    curves: mean precision (seeds, 101). The rest is of the lowest seed, and None where its validation.npz cannot be
    read (own: where no run estimated thresholds).
    """

    curves: NDArray[np.float64]
    theta: Search | None = None
    k: Search | None = None
    platt: Reliability | None = None
    own: Reliability | None = None
    suspects: Sequence[Suspect] = ()


def score_runs(group: RunGroup, usable: set[Run]) -> dict[str, list[Run]]:
    """Choose for each loss of `group` one run in `usable` with scores for each seed, in order of seeds.

    Of several decisions one with thresholds for each image is taken.
    """
    found: dict[str, dict[int, Run]] = {}
    losses = list(dict.fromkeys(loss for loss, _ in group.chosen))
    for method in sorted(group.chosen, key=lambda method: (losses.index(method[0]), _rank(method[1]))):
        for run in group.chosen[method].runs:
            if run in usable and run.has_scores:
                found.setdefault(method[0], {}).setdefault(run.seed, run)
    return {loss: [by_seed[seed] for seed in sorted(by_seed)] for loss, by_seed in found.items()}


def view_scores(group: RunGroup, loss: str, runs: Sequence[Run]) -> tuple[ScoreView | None, list[LeftOut]]:
    """Read the scores of the `runs` of `loss` in `group`; returns what they show, and which could not be read."""
    curves: list[NDArray[np.float64]] = []
    problems, first = [], None
    for run in runs:
        try:
            test = read_arrays(
                run, TEST, "scores", "targets", "mask", *(["thresholds"] if not curves else [])
            )
        except RecordError as error:
            problems.append(LeftOut(run.folder, f"{error}; its curve is left out"))
            continue
        curves.append(mean_precision_recall(test["scores"], test["targets"], test["mask"]))
        first = first or (run, test)
    if first is None:
        return None, problems
    run, test = first
    try:
        val = read_arrays(run, VALIDATION, "scores", "targets", "mask")
    except RecordError as error:
        problems.append(LeftOut(run.folder, f"{error}; its searches and calibration are left out"))
        return ScoreView(np.stack(curves)), problems
    probabilities = platt_probabilities(val, test)
    view = ScoreView(
        np.stack(curves),
        _search_theta(val, test, _choice(group, loss, "threshold", "theta", run.seed)),
        _search_k(val, test, _choice(group, loss, "topk", "k", run.seed)),
        reliability(probabilities, test["targets"], test["mask"]),
        _own_reliability(test),
        find_suspects(probabilities, test["targets"], test["mask"], SUSPECTS),
    )
    return view, problems


def _search_theta(val: Arrays, test: Arrays, chosen: float | None) -> Search:
    grid = search_grid(val["scores"])
    on_val, on_test = (
        _f1(Thresholded(split["scores"], split["mask"], grid), split["targets"]) for split in (val, test)
    )
    return Search(grid.astype(np.float64), on_val, on_test, chosen)


def _search_k(val: Arrays, test: Arrays, chosen: float | None) -> Search:
    highest = min(HIGHEST_K, val["scores"].shape[1])
    on_val, on_test = (
        _f1(Ranked(split["scores"], split["mask"], highest), split["targets"]) for split in (val, test)
    )
    return Search(np.arange(1.0, highest + 1), on_val, on_test, chosen)


def _f1(candidates: Thresholded | Ranked, targets: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Compute F1 at every one of `candidates`."""
    formula = BY_KEY["f1"].formula
    return label_set_value(formula, candidates.counts(targets, image_shares(formula)))


def _own_reliability(test: Arrays) -> Reliability | None:
    """Judge sigmoid(f - theta(x)) on `test`, where theta differs between images."""
    if "thresholds" not in test or not np.ptp(test["thresholds"], axis=0).any():
        return None
    return reliability(sigmoid(test["scores"] - test["thresholds"]), test["targets"], test["mask"])


def _choice(group: RunGroup, loss: str, decision: str, key: str, seed: int) -> float | None:
    """Return the value of `key` that the run of `seed` of a rule chose, if it did."""
    row = group.chosen.get(Method(loss, decision))
    for run in row.runs if row else ():
        value = run.choices.get(key)
        if run.seed == seed and isinstance(value, int | float):
            return float(value)
    return None


def _rank(decision: str) -> int:
    return _PREFERRED.index(decision) if decision in _PREFERRED else len(_PREFERRED)


def platt_probabilities(val: Arrays, test: Arrays) -> NDArray[np.float64]:
    """Compute the probability of each label in each image of `test`, (N, K), by a logistic curve a label (Platt).

    The curves are fitted on `val`. A label without a known positive or without a known negative in validation gets NaN.
    """
    known, positive = val["mask"] != 0, val["targets"] != 0
    curves = np.full((positive.shape[1], 2), np.nan)
    fitted = (known & positive).any(0) & (known & ~positive).any(0)
    chosen = val["scores"][:, fitted], positive[:, fitted], known[:, fitted]
    curves[fitted] = np.reshape(curves_by_label(platt_curve, *chosen), (-1, 2))
    return sigmoid(curves[:, 0] * test["scores"].astype(np.float64) + curves[:, 1])


def reliability(
    probabilities: NDArray[np.float64], targets: NDArray[np.uint8], mask: NDArray[np.uint8]
) -> Reliability:
    """Sort the known entries into bins of equal width by `probabilities`; the calibration error is the mean gap.

    All (N, K); entries whose probability is NaN are left out.
    """
    counted = (mask != 0) & ~np.isnan(probabilities)
    p, true = probabilities[counted], targets[counted]
    bins = np.minimum((p * BINS).astype(int), BINS - 1)
    entries = np.bincount(bins, minlength=BINS)
    mean = ratio(np.bincount(bins, p, BINS), entries)
    frequency = ratio(np.bincount(bins, true, BINS), entries)
    error = float(ratio((np.abs(mean - frequency) * entries).sum(), entries.sum()))
    return Reliability(mean, frequency, entries, error)


def find_suspects(
    probabilities: NDArray[np.float64], targets: NDArray[np.uint8], mask: NDArray[np.uint8], each: int
) -> list[Suspect]:
    """Find for each label the `each` entries that are most likely mislabelled, the least believed first.

    Ranked by self-confidence, the probability of the given label, as in confident learning (Northcutt et al., 2021)
    with every label as a problem of its own. Only contradicted entries (belief under a half) are listed.
    """
    present = targets != 0
    belief = np.where(present, probabilities, 1 - probabilities)
    belief[(mask == 0) | np.isnan(probabilities)] = 1.0
    found = []
    for k in range(belief.shape[1]):
        column = np.ascontiguousarray(belief[:, k])
        rows = np.argpartition(column, each - 1)[:each] if each < len(column) else np.arange(len(column))
        found += [
            Suspect(int(r), k, bool(present[r, k]), float(belief[r, k])) for r in rows if belief[r, k] < 0.5
        ]
    return sorted(found, key=lambda suspect: (suspect.belief, suspect.row, suspect.label))
