"""Where in the pictures that a report shows the scores of their labels come from."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import adaptive_avg_pool2d

from lsep_ml.data.loading import BatchedSplit
from lsep_ml.data.order import BatchKey
from lsep_ml.files import atomic_write
from lsep_ml.models.heads import place_scores
from lsep_ml.runs.heat_maps import SIDE, HeatMaps, as_bytes
from lsep_ml.stages.evaluation import SplitOutcome
from lsep_ml.stages.job import Job

MOST_LABELS, FURTHER = 12, 5


def heat_maps(job: Job, kept: Path, test: SplitOutcome, rows: Sequence[int]) -> HeatMaps | None:
    """Compute the heat maps of some `rows` of the `test` split: of the labels that are there, predicted, or of the five
    highest scores beside these, at most twelve an image.

    The frozen network runs on an image once; its places, averaged to at most SIDE x SIDE, are in the folder `kept`.
    None: the network's scores come from no places (`Network.places`), or no image could be read.
    """
    found, arrays, all_scores = [], test.arrays, test.arrays.scores
    if not hasattr(job.network.backbone, "places") or all_scores is None:
        return None
    for row in rows:
        places = _places(job, kept / f"{row}.npz", row)
        if places is None:
            return None
        if not places:
            continue
        known = None if arrays.mask is None else arrays.mask[row]
        labels = labels_to_show(all_scores[row], arrays.targets[row], test.predictions[row], known)
        of_image = torch.from_numpy(places["places"].astype(np.float32))[None].to(job.device)
        with torch.inference_mode():
            of_row = place_scores(job.network.score_layer, of_image, torch.from_numpy(labels).to(job.device))[
                0
            ]
        found.append((row, labels, of_row.cpu().numpy(), places["seen"]))
    if not found:
        return None
    counts = [len(labels) for _, labels, _, _ in found]
    maps, limits = as_bytes(np.concatenate([scores for _, _, scores, _ in found]))
    return HeatMaps(
        np.repeat([row for row, *_ in found], counts).astype(np.int32),
        np.concatenate([labels for _, labels, _, _ in found]).astype(np.int32),
        maps,
        limits,
        np.repeat([seen for *_, seen in found], counts, axis=0).astype(np.float32),
    )


def labels_to_show(
    scores: NDArray[np.float32],
    targets: NDArray[np.uint8],
    predicted: NDArray[np.uint8],
    known: NDArray[np.bool_] | None,
) -> NDArray[np.int64]:
    """Choose the labels of an image that have a heat map; all arrays (K,)."""
    of_set = (predicted != 0) | ((targets != 0) & (True if known is None else known))
    order = np.lexsort((-scores, ~of_set))
    return order[: min(MOST_LABELS, int(of_set.sum()) + FURTHER)]


def _places(job: Job, file: Path, row: int) -> dict[str, NDArray[np.float32]] | None:
    """Return the `places` (C, H, W) of a test image, and what is `seen` of it; nothing where it cannot be read, None
    where the network has no places."""
    if file.exists():
        with file.open("rb") as stored, np.load(stored, allow_pickle=False) as arrays:
            return dict(arrays)
    split, transform = job.data.data_set.test, job.data.transform
    assert transform is not None  # of images, or there were no places
    batch = BatchedSplit(split, transform)[BatchKey(None, np.array([row]))]
    if batch.unread:
        return {}
    found = job.network.eval().places(batch.images.to(job.device))
    if found is None:
        return None
    size = (min(SIDE, found.shape[2]), min(SIDE, found.shape[3]))
    limit = float(np.finfo(np.float16).max)
    averaged = adaptive_avg_pool2d(found, size)[0].clamp(-limit, limit).half().cpu().numpy()
    height, width = split.images[row].shape[-2:]
    arrays = {"places": averaged, "seen": np.array(transform.seen(height, width), np.float32)}
    with atomic_write(file, "wb", sync=False) as writing:
        np.savez(writing, **arrays)
    return arrays
