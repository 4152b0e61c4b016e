"""What label sets get wrong, for the page: which label is predicted where which is missing, and where on a map."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from lsep_ml.metrics.functional import average_precisions, compare_label_sets
from lsep_ml.runs.arrays import Arrays
from lsep_ml.runs.feature_map import FeatureMap

CONFUSIONS = 20
"""The page has at most so many pairs of labels of each run."""

MOST_LABELS = 1000
"""The page has no map of runs with more labels: it would hold more bits of label sets than all else."""


def confusions(
    predictions: NDArray[Any], targets: NDArray[Any], mask: NDArray[Any], most: int = CONFUSIONS
) -> list[list[int]]:
    """Count the images in which label j is predicted and not there while label k is there and not predicted.

    Args:
        predictions, targets, mask: 0/1 (N, K); an unknown entry is neither wrong nor missed.
        most: so many pairs at most, those of the most images; of equals the lower labels first.

    Returns:
        [j, k, images, all images in which k is missed] of each pair.
    """
    compared = compare_label_sets(predictions, targets, mask)
    wrong, missed = (csr_array(found.astype(np.int64)) for found in (compared.wrong, compared.missed))
    pairs = (wrong.T @ missed).tocoo()
    order = np.lexsort((pairs.col, pairs.row, -pairs.data))[:most]
    misses = compared.missed.sum(axis=0)
    return [
        [int(pairs.row[i]), int(pairs.col[i]), int(pairs.data[i]), int(misses[pairs.col[i]])] for i in order
    ]


def label_ap(test: Arrays) -> list[float | None]:
    """Compute the average precision of each label on the `test` split; None where it has no positive."""
    found = average_precisions(test["scores"], test["targets"], test["mask"])
    return [None if np.isnan(value) else round(float(value), 6) for value in found]


def map_places(found: FeatureMap) -> dict[str, Any]:
    """Scale the points of a map into the unit square, both axes alike, so that distances stay what they are."""
    low, high = found.points.min(axis=0), found.points.max(axis=0)
    extent = float((high - low).max()) or 1.0
    scaled = (found.points - (low + high) / 2) / extent + 0.5
    return {
        "places": np.round(scaled, 4).ravel().tolist(),
        "share": [round(float(s), 4) for s in found.share],
    }


def bits(label_sets: NDArray[Any]) -> NDArray[np.uint8]:
    """Pack 0/1 `label_sets` (P, K), each image's bits from its lowest label on, into bytes (P, ceil(K / 8))."""
    return np.packbits(label_sets != 0, axis=1, bitorder="little")
