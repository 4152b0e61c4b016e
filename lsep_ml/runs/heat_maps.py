"""Heat maps of the pictures that a report shows: a label's score at every place of an image, as small as a byte."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lsep_ml.runs.arrays import read_npz, write_npz
from lsep_ml.runs.files import HEAT_MAPS
from lsep_ml.runs.finished import Run
from lsep_ml.runs.record import RecordError

SIDE = 14
"""Places on a side, at most: finer maps are averaged."""


class HeatMaps(NamedTuple):
    """Holds M maps, each of a label in a test image.

    rows, labels: which, int32 (M,). maps: uint8 (M, H, W), from 0 at the lowest score of a place to 255 at the highest.
    limits: these, float32 (M, 2). seen: top, left, height and width of what a map covers of its image, as shares of the
    image's height and width, float32 (M, 4).
    """

    rows: NDArray[np.int32]
    labels: NDArray[np.int32]
    maps: NDArray[np.uint8]
    limits: NDArray[np.float32]
    seen: NDArray[np.float32]


def as_bytes(scores: NDArray[np.float32]) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Return the `maps` and `limits` of scores float32 (M, H, W)."""
    low, high = scores.min(axis=(1, 2)), scores.max(axis=(1, 2))
    extent = np.where(high > low, high - low, 1)
    scaled = 255 * (scores - low[:, None, None]) / extent[:, None, None]
    return scaled.round().astype(np.uint8), np.stack([low, high], axis=1).astype(np.float32)


def write_heat_maps(path: Path, found: HeatMaps) -> None:
    """Write `found` to `path` as .npz."""
    write_npz(path, found._asdict())


def read_heat_maps(run: Run, images: int) -> HeatMaps | None:
    """Read the heat maps that `run` left, whose test split has so many `images`; None where it left none.

    Raises:
        RecordError: they are damaged, or of another split.
    """
    if not (run.folder / HEAT_MAPS).exists():
        return None
    found = HeatMaps(**read_npz(run, HEAT_MAPS, HeatMaps._fields))
    number, labels = len(found.rows), len(run.label_names)
    shapes = (number,), (number,), (number, *found.maps.shape[1:3]), (number, 2), (number, 4)
    fits = tuple(array.shape for array in found) == shapes and found.maps.dtype == np.uint8
    if (
        not fits
        or 0 in found.maps.shape
        or max(found.maps.shape[1:]) > SIDE
        or not 0 <= found.rows.min() <= found.rows.max() < images
        or not 0 <= found.labels.min() <= found.labels.max() < labels
        or not np.isfinite(found.limits).all()
        or not np.isfinite(found.seen).all()
    ):
        raise RecordError(
            f"{HEAT_MAPS}: no heat maps of {images} images and {labels} labels; run the job again"
        )
    return found
