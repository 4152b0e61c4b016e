"""The figures of every label of a run, as its per_class.csv has them, packed to sit inside the page.

A label of very many is found there by its name. Columns are compressed (deflate), in base64; the page unpacks them when
they are first asked for.
"""

import base64
import itertools
import json
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lsep_ml.reports.errors import Json
from lsep_ml.runs.finished import Run
from lsep_ml.runs.per_class import read_per_class
from lsep_ml.runs.record import RecordError

SHARES = {"f1": "F1", "ap": "AP", "precision": "precision", "recall": "recall", "auroc": "AUROC"}
COUNTS = {"known": "known", "support": "images", "predicted": "predicted"}
LABEL_COLUMNS = [
    *({"key": key, "name": name, "kind": "share"} for key, name in SHARES.items()),
    *({"key": key, "name": name, "kind": "count"} for key, name in COUNTS.items()),
    {"key": "threshold", "name": "threshold", "kind": "number"},
]
"""What the page says of a label: by key, its heading, and how it is packed."""

NONE = 2**16 - 1
"""Stands for a share that is not defined; the others are thousandths, as the page shows them."""

LEFT_OUT = (
    "The figures of all labels of this run are left out, for the page would be too large; per_class.csv in its folder "
    "has them."
)


def label_figures(run: Run, images: int, thresholds: NDArray[Any] | None) -> Json | str:
    """Pack the figures of all labels of `run`, by LABEL_COLUMNS; a text where there are none, which says why.

    images: of the test split; without an unknown entry the number of known ones is left out. thresholds: (K,), where
    all images have the same.
    """
    try:
        columns = read_per_class(run)
    except RecordError as error:
        return f"{run.folder.name}: {error}"
    packed: Json = {}
    for key in COUNTS:
        if key != "known" or (columns[key] != images).any():
            packed[key] = deflated(columns[key].astype("<u4").tobytes())
    for key in SHARES:
        if not np.isnan(columns[key]).all():
            # Halves are rounded up, as the page rounds elsewhere.
            thousandths = np.nan_to_num(np.floor(1000 * columns[key] + 0.5), nan=NONE)
            packed[key] = deflated(thousandths.astype("<u2").tobytes())
    if thresholds is not None:
        packed["threshold"] = deflated(thresholds.astype("<f4").tobytes())
    return packed


def fit_figures(groups: Sequence[Json], room: int) -> None:
    """Leave in `groups`, the explorer's data, which is to take at most `room` bytes, the label figures of as many runs,
    the first ones, as fit; of the others a text says where they are."""
    runs = [run for group in groups for run in group["runs"] if not isinstance(run["figures"], str)]
    sizes = [sum(map(len, run["figures"].values())) for run in runs]
    room -= len(json.dumps(groups)) - sum(sizes)
    for run, taken in zip(runs, itertools.accumulate(sizes), strict=True):
        if taken > room:
            run["figures"] = LEFT_OUT


def packed_names(names: Sequence[str]) -> str:
    """Pack the names of all labels."""
    return deflated(json.dumps(names).encode())


def deflated(plain: bytes) -> str:
    """Compress bytes, in base64."""
    return base64.b64encode(zlib.compress(plain, 9)).decode("ascii")
