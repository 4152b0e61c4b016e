"""What the report keeps of a run's arrays: counts and bootstrap replicates, checked against its record."""

import hashlib
import json
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lsep_ml.metrics.bootstrap import PairedBootstrap, Replicates
from lsep_ml.metrics.functional import LABEL_SET_KEYS, LabelCounts, count_label_sets, label_set_metrics
from lsep_ml.runs.arrays import Arrays, read_arrays
from lsep_ml.runs.files import RESULT, TEST
from lsep_ml.runs.finished import Run
from lsep_ml.runs.record import RecordError

MOST_LABELS = 7
"""Images of this many labels or more share a bin."""

_TOLERANCE = 1e-5  # a record's metrics may have been computed in float32


@dataclass(frozen=True)
class Digest:
    """counts: of the whole test split, (K,). replicates: label-set metrics of bootstrap samples, (R, 8). sizes: images
    with i true and j predicted labels, (8, 8). content: hash of image ids, targets and mask. images: their number."""

    counts: LabelCounts
    replicates: Replicates
    sizes: NDArray[np.int64]
    content: str
    images: int


def digest_run(run: Run, bootstrap: PairedBootstrap) -> Digest:
    """Read a run's predictions.npz once.

    Raises:
        RecordError: it is missing, damaged, or gives other metrics than result.json.
    """
    test = read_arrays(run, TEST, "predictions", "targets", "mask", "image_ids")
    content = content_of(test, run.label_names)
    predictions, targets, mask = (test[name].astype(np.uint8) for name in ("predictions", "targets", "mask"))
    counts = count_label_sets(predictions, targets, mask)
    found = label_set_metrics(counts)
    for key in LABEL_SET_KEYS:
        if key in run.test and abs(run.test[key] - float(found[key])) > _TOLERANCE:
            raise RecordDisagrees(
                f"{RESULT} says test {key} = {run.test[key]:.6f}, {TEST} gives {float(found[key]):.6f}: one of them "
                "was changed; run the job again"
            )
    true, predicted = ((array * mask).sum(1).clip(max=MOST_LABELS) for array in (targets, predictions))
    bins = MOST_LABELS + 1
    sizes = np.bincount(true * bins + predicted, minlength=bins * bins).reshape(bins, bins)
    replicates = bootstrap.run_metrics(predictions, targets * mask, mask, content)
    return Digest(counts, replicates, sizes, content, len(targets))


class RecordDisagrees(RecordError):
    """A record whose numbers its own predictions contradict: its run is left out altogether."""


def content_of(test: Arrays, label_names: tuple[str, ...]) -> str:
    """A hash of what every run on one split must agree in: `label_names`, and image ids, targets and mask of `test`."""
    digest = hashlib.sha256(json.dumps([label_names, test["image_ids"].tolist()]).encode())
    for name in ("targets", "mask"):
        digest.update(np.ascontiguousarray(test[name]).tobytes())
    return digest.hexdigest()
