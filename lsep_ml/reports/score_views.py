"""What the figures show of a loss's scores: curves over seeds, searches, calibration, labels that they contradict."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lsep_ml.metrics import BY_KEY
from lsep_ml.metrics.calibration import curves_by_label, platt_curve, sigmoid
from lsep_ml.metrics.counts import image_shares, row_slices
from lsep_ml.metrics.functional import RECALLS, label_set_value, mean_precision_recall, ratio
from lsep_ml.metrics.operating_points import Ranked, Thresholded, search_grid
from lsep_ml.reports.errors import Held
from lsep_ml.reports.figures.method_plots import Reliability, Search
from lsep_ml.reports.grouping import RunGroup
from lsep_ml.reports.records import LeftOut
from lsep_ml.runs.arrays import read_held
from lsep_ml.runs.files import TEST, VALIDATION
from lsep_ml.runs.finished import Method, Run
from lsep_ml.runs.record import RecordError

HIGHEST_K = 10
SUSPECTS = 20
BINS = 15
_ENTRIES = 2**22  # scores that are judged at a time
_PREFERRED = ("thresh_est", "threshold", "topk", "count_est")  # the first has thresholds for each image


class Suspect(NamedTuple):
    """Names a test label that the scores contradict; `belief` is the probability of what the annotation says."""

    row: int
    label: int
    present: bool
    belief: float


class JudgedLabels(NamedTuple):
    """Holds the labels from `start` on: their probabilities, which are there, and which entries are known, (N, B)."""

    start: int
    probabilities: NDArray[np.float64]
    present: NDArray[np.bool_]
    known: NDArray[np.bool_]


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
    """Read the scores of the `runs` of `loss` in `group`; returns what they show, and which could not be read.

    The scores of one split of one run at a time, but for the first run, whose searches are of both splits.
    """
    curves: list[NDArray[np.float64]] = []
    problems: list[LeftOut] = []
    of_view: list[LeftOut] = []
    view = None
    for run in runs:
        thresholds = [] if curves else ["thresholds"]
        try:
            test = read_held(run, TEST, "scores", "targets", "mask", *thresholds)
        except RecordError as error:
            problems.append(LeftOut(run.folder, f"{error}; its curve is left out"))
            continue
        curves.append(mean_precision_recall(test["scores"], test["targets"], test["mask"]))
        if view is None:
            view, of_view = _view_of_one(group, loss, run, test)
    return view and replace(view, curves=np.stack(curves)), problems + of_view


def _view_of_one(
    group: RunGroup, loss: str, run: Run, test: dict[str, Any]
) -> tuple[ScoreView, list[LeftOut]]:
    """Return what the scores of `run` show besides the curves; takes the thresholds out of `test`."""
    nothing = ScoreView(np.empty((0, len(RECALLS))))
    own = _own_reliability(test)
    test.pop("thresholds", None)
    try:
        val = read_held(run, VALIDATION, "scores", "targets", "mask")
    except RecordError as error:
        return nothing, [LeftOut(run.folder, f"{error}; its searches and calibration are left out")]
    theta = _search_theta(val, test, _choice(group, loss, "threshold", "theta", run.seed))
    k = _search_k(val, test, _choice(group, loss, "topk", "k", run.seed))
    curves = platt_curves(val)
    platt = reliability(platt_judged(curves, test))
    return replace(
        nothing,
        theta=theta,
        k=k,
        platt=platt,
        own=own,
        suspects=find_suspects(platt_judged(curves, test), SUSPECTS),
    ), []


def _search_theta(val: Held, test: Held, chosen: float | None) -> Search:
    grid = search_grid(val["scores"])
    on_val, on_test = (
        _f1(Thresholded(split["scores"], split["mask"], grid), split["targets"]) for split in (val, test)
    )
    return Search(grid.astype(np.float64), on_val, on_test, chosen)


def _search_k(val: Held, test: Held, chosen: float | None) -> Search:
    highest = min(HIGHEST_K, val["scores"].shape[1])
    on_val, on_test = (
        _f1(Ranked(split["scores"], split["mask"], highest), split["targets"]) for split in (val, test)
    )
    return Search(np.arange(1.0, highest + 1), on_val, on_test, chosen)


def _f1(candidates: Thresholded | Ranked, targets: Any) -> NDArray[np.float64]:
    """Compute F1 at every one of `candidates`."""
    formula = BY_KEY["f1"].formula
    return label_set_value(formula, candidates.counts(targets, image_shares(formula)))


def _own_reliability(test: Held) -> Reliability | None:
    """Judge sigmoid(f - theta(x)) on `test`, where theta differs between images."""
    thresholds = test.get("thresholds")
    if thresholds is None or not np.ptp(thresholds, axis=0).any():
        return None
    return reliability(
        JudgedLabels(labels.start, sigmoid(scores - thresholds[:, labels]), present, known)
        for labels, scores, present, known in _by_labels(test)
    )


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


def platt_curves(val: Held) -> NDArray[np.float64]:
    """Fit a logistic curve of each label (Platt) on `val`; returns slopes and intercepts, (K, 2).

    A label without a known positive or without a known negative gets NaN.
    """
    parts = []
    for _, scores, present, known in _by_labels(val):
        curves = np.full((known.shape[1], 2), np.nan)
        fitted = (known & present).any(0) & (known & ~present).any(0)
        chosen = scores[:, fitted], present[:, fitted], known[:, fitted]
        curves[fitted] = np.reshape(curves_by_label(platt_curve, *chosen), (-1, 2))
        parts.append(curves)
    return np.concatenate(parts)


def platt_judged(curves: NDArray[np.float64], test: Held) -> Iterator[JudgedLabels]:
    """Yield the probability that each label is in each image by `platt_curves`, beside what is there."""
    for labels, scores, present, known in _by_labels(test):
        slopes, intercepts = curves[labels].T
        yield JudgedLabels(
            labels.start, sigmoid(slopes * scores.astype(np.float64) + intercepts), present, known
        )


def _by_labels(split: Held) -> Iterator[tuple[slice, NDArray[Any], NDArray[np.bool_], NDArray[np.bool_]]]:
    """Yield some labels of all images at a time: their scores, which are there, and which entries are known."""
    scores = split["scores"]
    for labels in row_slices(scores.shape[1], len(scores), _ENTRIES):
        yield labels, scores[:, labels], split["targets"][:, labels] != 0, split["mask"][:, labels] != 0


def reliability(judged: Iterable[JudgedLabels]) -> Reliability:
    """Compare probabilities with how often their labels are there, in BINS bins of equal width; error: the expected
    calibration error, the mean gap.

    Entries whose probability is NaN are left out.
    """
    sums = np.zeros((3, BINS))
    for _, probabilities, present, known in judged:
        counted = known & ~np.isnan(probabilities)
        p = probabilities[counted]
        bins = np.minimum((p * BINS).astype(int), BINS - 1)
        sums += [np.bincount(bins, of, minlength=BINS) for of in (None, p, present[counted])]
    entries, mean, frequency = sums[0], ratio(sums[1], sums[0]), ratio(sums[2], sums[0])
    error = float(ratio((np.abs(mean - frequency) * entries).sum(), entries.sum()))
    return Reliability(mean, frequency, entries.astype(np.int64), error)


def find_suspects(judged: Iterable[JudgedLabels], each: int) -> list[Suspect]:
    """Find for each label the `each` entries that are most likely mislabelled, the least believed first.

    Ranked by self-confidence, the probability of the given label, as in confident learning (Northcutt et al., 2021)
    with every label as a problem of its own. Only contradicted entries (belief under a half) are listed.
    """
    found = []
    for start, probabilities, present, known in judged:
        belief = np.where(present, probabilities, 1 - probabilities)
        belief[~known | np.isnan(probabilities)] = 1.0
        for k in range(belief.shape[1]):
            column = np.ascontiguousarray(belief[:, k])
            rows = np.argpartition(column, each - 1)[:each] if each < len(column) else np.arange(len(column))
            found += [
                Suspect(int(r), start + k, bool(present[r, k]), float(column[r]))
                for r in rows[column[rows] < 0.5]
            ]
    return sorted(found, key=lambda suspect: (suspect.belief, suspect.row, suspect.label))
