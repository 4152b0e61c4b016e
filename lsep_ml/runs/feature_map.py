"""A map of the test images by their features: a few coordinates an image, for a report that has no features."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lsep_ml.runs.arrays import read_npz, write_npz
from lsep_ml.runs.files import FEATURE_MAP
from lsep_ml.runs.finished import Run
from lsep_ml.runs.record import RecordError

POINTS = 400
"""A map has at most so many images, evenly spaced over the split."""

AXES = 30
"""Principal components that are kept; the first two are a map, and of all of them UMAP makes another."""


class FeatureMap(NamedTuple):
    """Holds where images lie: their `rows` in the split (P,), `points` float32 (P, A), and each axis's `share` (A,).

    A is at least 2, and 2 in maps of earlier versions.

    share: of the variance of the features of these images.
    """

    rows: NDArray[np.int64]
    points: NDArray[np.float32]
    share: NDArray[np.float32]


def map_features(features: NDArray[Any]) -> FeatureMap:
    """Compute the first AXES principal components of `features` (N, D), of at most POINTS evenly spaced rows.

    The points are the rows of U S for X = U S V^T, X the features less their mean; the larger end of each axis is
    positive. Axes that the features do not have are 0, and so is every point where one is not finite.
    """
    images = len(features)
    rows = np.unique(np.linspace(0, images - 1, min(POINTS, images)).round().astype(np.int64))
    some = np.asarray(features[rows], np.float64)
    if not np.isfinite(some).all():
        some = np.zeros_like(some)
    centred = some - some.mean(axis=0)
    # The images are few and the features many: the eigenvectors of X X^T are U, its eigenvalues S squared.
    squares, vectors = np.linalg.eigh(centred @ centred.T)
    squares, vectors = squares[::-1].clip(min=0), vectors[:, ::-1]
    axes = max(2, min(AXES, len(rows)))
    points, share = np.zeros((len(rows), axes)), np.zeros(axes)
    total = float(np.square(centred).sum())
    for axis in range(min(axes, len(rows))):
        if total > 0 and squares[axis] > 1e-12 * total:
            column = vectors[:, axis] * np.sqrt(squares[axis])
            points[:, axis] = column * np.sign(column[np.abs(column).argmax()])
            share[axis] = squares[axis] / total
    return FeatureMap(rows, points.astype(np.float32), share.astype(np.float32))


def write_feature_map(path: Any, found: FeatureMap) -> None:
    """Write `found` to `path` as .npz."""
    write_npz(path, found._asdict())


def read_feature_map(run: Run, images: int) -> FeatureMap | None:
    """Read the map that `run` left, whose test split has so many `images`; None where it left none.

    Raises:
        RecordError: it is damaged, or of another split.
    """
    if not (run.folder / FEATURE_MAP).exists():
        return None
    found = FeatureMap(**read_npz(run, FEATURE_MAP, FeatureMap._fields))
    rows, points, share = found
    fits = rows.ndim == 1 and share.ndim == 1 and points.shape == (len(rows), len(share)) and len(share) >= 2
    if (
        not fits
        or not np.isfinite(points).all()
        or (len(rows) and not 0 <= rows.min() <= rows.max() < images)
    ):
        raise RecordError(f"{FEATURE_MAP}: no map of {images} images; run the job again")
    return found
