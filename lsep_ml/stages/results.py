"""What a run leaves beside its record: the arrays of both splits, thumbnails and figures."""

import math
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn.functional import interpolate, pad

from lsep_ml.data import DataSet
from lsep_ml.data.cores import available_cores
from lsep_ml.data.data_set import Images
from lsep_ml.data.errors import ImageError
from lsep_ml.runs.arrays import Arrays, write_predictions, write_thumbnails
from lsep_ml.runs.feature_map import map_features, write_feature_map
from lsep_ml.runs.files import FEATURE_MAP, PER_CLASS, TEST, THUMBNAILS, VALIDATION
from lsep_ml.runs.per_class import per_class_rows, write_per_class
from lsep_ml.stages.evaluation import Outcome, SplitOutcome

_THUMBNAIL, _KEPT = 160, 500


def write_files(
    folder: Path, outcome: Outcome, data_set: DataSet, title: str, *, pictures: bool = True
) -> tuple[list[int], list[dict[str, Any]]]:
    """Write into `folder` the arrays of both splits, thumbnails, tables and figures, as far as the run has scores;
    returns the test rows that have a thumbnail, and the row of each label in per_class.csv.

    pictures: whether the figures are drawn.
    """
    # Here: training starts without matplotlib.
    from lsep_ml.reports.figures.of_run import draw_run, rows_to_show

    _write_split(folder / VALIDATION, outcome.val, data_set.label_names)
    test = _write_split(folder / TEST, outcome.test, data_set.label_names)
    rows = rows_to_show(test.get("scores"), test["targets"], test["mask"], test.get("thresholds"))
    thumbnails = _THUMBNAILS.of(data_set.test.images, rows.tolist())
    write_thumbnails(folder / THUMBNAILS, thumbnails)
    of_labels = per_class_rows(
        data_set.label_names, test["predictions"], test["targets"], test["mask"], test.get("scores")
    )
    write_per_class(folder / PER_CLASS, of_labels)
    write_feature_map(folder / FEATURE_MAP, map_features(outcome.test.arrays.features))
    if pictures:
        draw_run(folder, test, thumbnails, title)
    return list(thumbnails), of_labels


def _write_split(path: Path, outcome: SplitOutcome, label_names: Sequence[str]) -> Arrays:
    arrays = outcome.arrays
    columns = {
        "targets": arrays.targets,
        "predictions": outcome.predictions,
        "mask": arrays.mask,
        "image_ids": arrays.image_ids,
        "scores": None if arrays.scores is None else np.asarray(arrays.scores, np.float32),
        "thresholds": outcome.thresholds,
    }
    return write_predictions(path, columns, label_names)


def _image(images: Images, row: int) -> torch.Tensor:
    """Return an image; black where it cannot be read and none were checked before."""
    try:
        return images[row]
    except ImageError:
        if getattr(images, "checked", True):
            raise
        return torch.zeros(1, _THUMBNAIL, _THUMBNAIL, dtype=torch.uint8)


def _thumbnail(image: torch.Tensor) -> np.ndarray:
    if image.ndim == 1:  # features in the place of an image: their values as the pixels of a square
        side = math.ceil(math.sqrt(len(image)))
        low, high = image.min(), image.max()
        pixels = (image - low) * (255 / max(float(high - low), 1e-12))
        return pad(pixels, (0, side * side - len(image))).reshape(side, side).to(torch.uint8).numpy()
    scale = _THUMBNAIL / max(image.shape[-2:])
    if scale < 1:
        size = [max(1, round(scale * side)) for side in image.shape[-2:]]
        small = interpolate(image[None].float(), size, mode="bilinear", antialias=True)[0]
        image = small.round().clamp(0, 255).to(torch.uint8)
    array: np.ndarray = image.permute(1, 2, 0).numpy()
    return array[:, :, 0] if array.shape[2] == 1 else array


class _Thumbnails:
    """Makes thumbnails, and keeps some of the images that it made the last of: the jobs of a sweep show many of the
    same."""

    def __init__(self) -> None:
        self._images: Callable[[], Any] = lambda: None
        self._made: dict[int, np.ndarray] = {}

    def of(self, images: Images, rows: Sequence[int]) -> dict[int, np.ndarray]:
        """Return row -> thumbnail."""
        if self._images() is not images or len(self._made) > _KEPT:
            self._images, self._made = weakref.ref(images), {}
        for row in rows:
            if row not in self._made:
                self._made[row] = _thumbnail(_image(images, row))
        return {row: self._made[row] for row in rows}


_THUMBNAILS = _Thumbnails()


def hardware(device: torch.device) -> str:
    """Name what computes on `device`: the GPU, or the number of CPU cores that this process may use."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else f"{available_cores()} CPU cores"
