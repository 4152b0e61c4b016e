"""What label sets get wrong, for the page: which label is predicted where which is missing, and where on a map."""

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from lsep_ml.metrics.functional import average_precisions, compare_label_sets
from lsep_ml.runs.arrays import Arrays
from lsep_ml.runs.feature_map import FeatureMap

CONFUSIONS = 20
"""The page has at most so many pairs of labels of each run."""

NEIGHBOURS = 15
"""Of each image, that UMAP keeps together: its default."""

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
    """Scale two coordinates of each image into the unit square, both axes alike, so that distances stay what they are.

    Those of UMAP (McInnes et al. 2018) on the principal components, where `umap-learn` is installed and images are
    enough for its neighbourhoods, else the first two components. share: of the variance, of these; None of UMAP.
    """
    points = umap_points(found.points)
    by_umap = points is not None
    if points is None:
        points = found.points[:, :2]
    low, high = points.min(axis=0), points.max(axis=0)
    extent = float((high - low).max()) or 1.0
    scaled = (points - (low + high) / 2) / extent + 0.5
    return {
        "places": np.round(scaled, 4).ravel().tolist(),
        "share": None if by_umap else round(float(found.share[:2].sum()), 4),
    }


def umap_points(components: NDArray[np.float32]) -> NDArray[np.float32] | None:
    """Compute UMAP's two coordinates, float32 (P, 2), of principal components (P, A): the same for the same components.

    None: `umap-learn` is not installed, or the components are too few or of too few images.
    """
    if len(components) <= NEIGHBOURS or components.shape[1] <= 2:
        return None
    return _umap(components.tobytes(), len(components))


@lru_cache(maxsize=64)  # all losses of a probe have the same features
def _umap(components: bytes, images: int) -> NDArray[np.float32] | None:
    try:
        from umap import UMAP  # optional, and it takes seconds
    except ImportError:
        return None
    points = np.frombuffer(components, np.float32).reshape(images, -1)
    found = UMAP(n_neighbors=NEIGHBOURS, random_state=0, n_jobs=1).fit_transform(points)
    return np.asarray(found, np.float32)


def bits(label_sets: NDArray[Any]) -> NDArray[np.uint8]:
    """Pack 0/1 `label_sets` (P, K), each image's bits from its lowest label on, into bytes (P, ceil(K / 8))."""
    return np.packbits(label_sets != 0, axis=1, bitorder="little")
