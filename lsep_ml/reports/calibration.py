"""From scores to probabilities, how far they can be believed, and which labels they contradict."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lsep_ml.metrics.calibration import platt_curve, sigmoid
from lsep_ml.metrics.functional import ratio
from lsep_ml.reports.figures.method_plots import Reliability
from lsep_ml.runs.arrays import Arrays

Floats = NDArray[np.float64]
BINS = 15


def platt_probabilities(val: Arrays, test: Arrays) -> Floats:
    """Probability of each label in each test image, (N, K): one logistic curve a label, fitted on validation (Platt).

    A label without a known positive or without a known negative in validation gets NaN.
    """
    images, labels = test["scores"].shape
    probabilities = np.full((images, labels), np.nan)
    for k in range(labels):
        known = val["mask"][:, k] != 0
        scores, targets = val["scores"][known, k], val["targets"][known, k]
        if len(np.unique(targets)) == 2:
            slope, intercept = platt_curve(scores, targets)
            probabilities[:, k] = sigmoid(slope * test["scores"][:, k].astype(np.float64) + intercept)
    return probabilities


def reliability(probabilities: Floats, targets: NDArray[np.uint8], mask: NDArray[np.uint8]) -> Reliability:
    """Known entries in bins of equal width by probability; the expected calibration error is the mean gap.

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


class Suspect(NamedTuple):
    """A test label that the scores contradict. belief: the probability of what the annotation says."""

    row: int
    label: int
    present: bool
    belief: float


def find_suspects(
    probabilities: Floats, targets: NDArray[np.uint8], mask: NDArray[np.uint8], each: int
) -> list[Suspect]:
    """For each label the `each` entries most likely mislabelled, the least believed first.

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
