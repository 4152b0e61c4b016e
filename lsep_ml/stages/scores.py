"""Scores of the score layer, from stored features in always the same batches."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import nn

from lsep_ml.data.data_set import SPLITS
from lsep_ml.decisions.checks import RowMatrix
from lsep_ml.files import temporary_array
from lsep_ml.stages.extraction import Extraction, open_array
from lsep_ml.stages.sealed_rows import new_array, save_array
from lsep_ml.store.entries import Entry, Store
from lsep_ml.store.keys import SCORES, scores_made_by, weights_hash

LARGE = 2**28
"""Scores of the training split, 1 GiB, from which on they are not stored: few decisions ask for them."""

_LAYER = "weight", "bias"


def extract_scores(
    store: Store, features: Entry, score_layer: nn.Module, batch_size: int, stored_in: str = "float32"
) -> Extraction:
    """Return the scores by the score layer from stored features, or those stored beside them; found again by the
    features and the layer's state.

    Those of the training split by a linear layer are left out from `LARGE` on; the layer takes their place, see
    `training_scores`.

    stored_in: "float32", or "float16", of half the size: each score is rounded to its 11 leading bits (by 2^-11 of it
    at most), so that their order stays and some become equal.

    Raises:
        FloatingPointError: a score that is not finite, or too large for float16; names the split and the image.
    """

    def build(folder: Path) -> dict[str, Any]:
        if not store.processes.first:
            return {}
        started = time.perf_counter()
        labels: int = cast(Any, score_layer).out_features
        for split in SPLITS:
            images = len(open_array(features, f"{split}_features"))
            linear = isinstance(score_layer, nn.Linear) and not features.facts.get("scores")
            if split == "train" and linear and images * labels >= LARGE:
                for name in _LAYER:
                    weights = getattr(score_layer, name).detach().cpu().numpy()
                    save_array(folder / f"layer_{name}.npy", weights)
                continue
            scores = new_array(folder / f"{split}_scores.npy", np.dtype(stored_in), (images, labels))
            _fill(scores, features, split, score_layer, batch_size)
            scores.flush()
        return {"seconds": round(time.perf_counter() - started, 3), "batch_size": batch_size}

    made_by = scores_made_by(features.identity, weights_hash(score_layer), stored_in)
    return Extraction(features, store.get_or_build(SCORES, made_by, build))


class ComputedScores(RowMatrix):
    """Scores (N, K) of a linear layer, float32, computed from features whenever rows of them are read, and not kept.

    They have the bits of those that would be stored: as many rows are computed at a time as are there.

    Args:
        features: (N, D), which may be memory-mapped.
        layer: of D features.
        batch_size: rows of a stored batch.
    """

    dtype, by_labels = np.dtype(np.float32), False

    def __init__(self, features: np.ndarray, layer: nn.Linear, batch_size: int) -> None:
        self.features, self.layer, self.batch_size = features, layer, batch_size
        self.shape = len(features), layer.out_features

    def __getitem__(self, rows: Any) -> np.ndarray:
        """Return the scores of some rows: a slice, their numbers, or a mask."""
        chosen = np.arange(len(self))[rows]
        scores = np.empty((len(chosen), self.shape[1]), np.float32)
        of_last = len(self) - len(self) % self.batch_size  # the first row of a batch that is not whole
        in_whole, in_last = np.flatnonzero(chosen < of_last), np.flatnonzero(chosen >= of_last)
        for some in fixed_batches(len(in_whole), self.batch_size):
            places = in_whole[some]
            batch = np.zeros((self.batch_size, self.features.shape[1]), np.float32)
            batch[: len(places)] = self.features[chosen[places]]
            scores[places] = self._batch(batch)[: len(places)]
        if len(in_last):
            batch = self.features[of_last:].astype(np.float32)
            scores[in_last] = self._batch(batch)[chosen[in_last] - of_last]
        return scores

    @torch.inference_mode()
    def _batch(self, features: np.ndarray) -> np.ndarray:
        computed: np.ndarray = self.layer(torch.from_numpy(features)).numpy()
        return computed


def training_scores(extraction: Extraction, *, stored: bool = True) -> Any:
    """Return the training images' scores (N, K), as they are stored or, where they are not, in float32.

    stored: whether those that are not are computed now, all of them: they lie in a file then, so that they take no
    memory of their own, which is gone with the array. Otherwise they are `ComputedScores`. None: there are no scores,
    of a predictor.
    """
    entry = extraction.scores
    files = [entry.folder / f"layer_{name}.npy" for name in _LAYER]
    if not files[0].exists():
        return extraction.split("train").scores
    weight, bias = (torch.from_numpy(np.load(file, allow_pickle=False)) for file in files)
    layer = nn.utils.skip_init(nn.Linear, weight.shape[1], weight.shape[0])
    layer.load_state_dict({"weight": weight, "bias": bias})
    features, batch_size = open_array(extraction.features, "train_features"), entry.facts["batch_size"]
    if not stored:
        return ComputedScores(features, layer, batch_size)
    scores = temporary_array((len(features), len(weight)), entry.folder.parent)
    _fill(scores, extraction.features, "train", layer, batch_size)
    return scores


@torch.inference_mode()
def _fill(scores: np.ndarray, stored: Entry, split: str, score_layer: nn.Module, batch_size: int) -> None:
    device, features = cast(torch.Tensor, score_layer.weight).device, open_array(stored, f"{split}_features")
    width = stored.facts["width"] if stored.facts.get("scores") else None  # of f'(x), behind which they stand
    finite = np.empty(len(scores), bool)
    for rows in fixed_batches(len(scores), batch_size):
        batch = torch.from_numpy(features[rows].astype(np.float32))
        computed = (score_layer(batch.to(device)).cpu() if width is None else batch[:, width:]).numpy()
        with np.errstate(over="ignore"):
            scores[rows] = computed
        finite[rows] = np.isfinite(scores[rows]).all(axis=1)
    bad = np.flatnonzero(~finite)
    if len(bad):
        first = open_array(stored, f"{split}_image_ids")[bad[0]]
        raise FloatingPointError(
            f"{len(bad)} images of {split} have scores that are not finite, the first {first}"
            + ("; float16 ends at 65504: extraction.scores=float32" if scores.dtype == np.float16 else "")
        )


def fixed_batches(rows: int, batch_size: int) -> Iterator[slice]:
    """Give slices of `batch_size` rows: a row's float result depends on its batch, so batches are always the same."""
    return (slice(start, min(start + batch_size, rows)) for start in range(0, rows, batch_size))
