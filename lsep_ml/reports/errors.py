"""What label sets get wrong, for the page: which label is predicted where which is missing, where on a map, and what
the network sees in a picture."""

import base64
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from lsep_ml.metrics.functional import average_precisions, compare_label_sets
from lsep_ml.reports.records import LeftOut
from lsep_ml.runs.feature_map import FeatureMap
from lsep_ml.runs.finished import Run
from lsep_ml.runs.heat_maps import HeatMaps, read_heat_maps
from lsep_ml.runs.record import RecordError

CONFUSIONS = 20
"""The page has at most so many pairs of labels of each run."""

NEIGHBOURS = 15
"""Of each image, that UMAP keeps together: its default."""

HEAT_MAP_BYTES = 2**19
"""The page has at most about so many bytes of heat maps of a data set, those of its first networks."""

MOST_LABELS = 1000
"""The page has no map of runs with more labels: it would hold more bits of label sets than all else."""

Json = dict[str, Any]
Held = Mapping[str, Any]  # arrays of a split, as `read_held` gives them
Labels = NDArray[np.intp]


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


def label_ap(test: Held) -> list[float | None]:
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


def packed_heat_maps(
    sharing: list[Run],
    test: Held,
    shown: NDArray[np.intp],
    labels: Labels,
    room: int,
    problems: list[LeftOut],
) -> Json | None:
    """Pack the heat maps of the pictures that all `sharing` runs left, one of each label in a picture; None where there
    are none or they take more than `room` bytes.
    """
    found: list[HeatMaps] = []
    for run in sharing:
        try:
            own = read_heat_maps(run, len(test["targets"]))
        except RecordError as error:
            problems.append(LeftOut(run.folder, f"{error}; its heat maps are left out"))
            continue
        if own is not None and (not found or own.maps.shape[1:] == found[0].maps.shape[1:]):
            found.append(own)
    if not found:
        return None
    every = HeatMaps(*(np.concatenate(arrays) for arrays in zip(*found, strict=True)))
    pictures = {int(row): place for place, row in enumerate(shown)}
    places = np.array([pictures.get(int(row), -1) for row in every.rows])
    columns = np.array(places_of(labels, every.labels))
    away = (places < 0) | (columns < 0)
    at, first = np.unique(np.where(away, -1, places * len(labels) + columns), return_index=True)
    at, first = at[at >= 0], first[at >= 0]
    maps = in_base64(every.maps[first], np.uint8)
    if not len(at) or len(maps) > room:
        return None
    seen = np.zeros((len(shown), 4), np.float32)
    seen[places[first]] = every.seen[first]
    return {
        "size": list(every.maps.shape[1:]),
        "at": in_base64(at, np.uint32),
        "maps": maps,
        "limits": in_base64(every.limits[first], np.float32),
        "seen": in_base64(seen, np.float32),
    }


def places_of(labels: Labels, some: NDArray[np.integer[Any]]) -> list[int]:
    """Return where `some` labels stand among the page's; -1 of one that it has not."""
    at = np.searchsorted(labels, some).clip(max=len(labels) - 1)
    return np.where(labels[at] == some, at, -1).tolist()


def in_base64(array: NDArray[Any], kind: type[np.generic]) -> str:
    """Write `array` as little-endian bytes of `kind` in base64."""
    little = np.ascontiguousarray(array, dtype=np.dtype(kind).newbyteorder("<"))
    return base64.b64encode(little.tobytes()).decode("ascii")
