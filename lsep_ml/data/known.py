"""What training and measuring need of each split's labels, looked at before any long work."""

import logging
from collections.abc import Collection
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lsep_ml.data.data_set import SPLITS, DataSet, Split
from lsep_ml.data.errors import DataError
from lsep_ml.metrics.indicator import Known, SparseIndicator, Targets, dense_blocks

log = logging.getLogger(__name__)

_CONSEQUENCES = {
    "train": "nothing can be learnt from it",
    "val": "no epoch and no decision can be chosen on it",
    "test": "what is measured on it says nothing",
}


def lacking(targets: Any, mask: Any) -> str:
    """Return what 0/1 targets (N, K) have none of: "known label", "positive" or "negative"; "" where they have all
    three.

    mask: bool (N, K), True where the target is known; None: everywhere.
    """
    found = [targets.size > 0, bool(targets.any()), not targets.all()]
    if mask is not None:
        found = [False, False, False]
        for values, known in dense_blocks(targets, mask):
            places = known != 0, (values != 0) & (known != 0), (values == 0) & (known != 0)
            found = [before or bool(of.any()) for before, of in zip(found, places, strict=True)]
    lack = (
        what for what, there in zip(("known label", "positive", "negative"), found, strict=True) if not there
    )
    return next(lack, "")


def sentence(split: str, images: int, lack: str) -> str:
    """Say that a split of a data set has no label of a kind (see `lacking`), what follows, and the way out."""
    what = "no image with a known label" if lack == "known label" else f"no known {lack} of any label"
    if split == "test" and lack == "known label":
        consequence = "nothing can be measured on it, and its label sets are only predicted"
    else:
        consequence = _CONSEQUENCES.get(split, _CONSEQUENCES["train"])
    return f"{split} split, {images} images: {what}; {consequence}: label some of its images, or put others into it"


def check_known(data_set: DataSet) -> None:
    """Look at the labels of each split; what the test split lacks is logged as a warning.

    Raises:
        DataError: training or validation has no known label, no known positive or no known negative.
    """
    for name in SPLITS:
        split = data_set.split(name)
        lack = lacking(split.targets, split.mask)
        if lack and name != "test":
            raise DataError(f"data {data_set.name}, {sentence(name, len(split), lack)}")
        if lack:
            log.warning("data %s, %s", data_set.name, sentence(name, len(split), lack))


def without_unread(data_set: DataSet, unread: Collection[str]) -> DataSet:
    """Return the data set with every label of these images, which could not be read, unknown; itself where it has none
    of them."""
    splits = {name: _split_without_unread(data_set.split(name), unread) for name in SPLITS}
    if all(splits[name] is data_set.split(name) for name in SPLITS):
        return data_set
    for name, split in splits.items():
        if split.mask is None:  # all splits have a mask, or none
            splits[name] = replace(split, mask=_known_where(split, np.ones(len(split), bool)))
    return replace(data_set, train=splits["train"], val=splits["val"], test=splits["test"])


def _split_without_unread(split: Split, unread: Collection[str]) -> Split:
    """Return the split with every label of these images unknown; itself where it has none of them."""
    read = ~np.isin(split.image_ids, list(unread)) if unread else np.ones(len(split), bool)
    if read.all():
        return split
    targets: Targets
    if isinstance(split.targets, SparseIndicator):
        rows, columns = split.targets.nonzero()
        targets = SparseIndicator.of(rows[read[rows]], columns[read[rows]], split.targets.shape)
    else:
        targets = split.targets * read[:, None].astype(np.uint8)
    soft = None if split.soft is None else split.soft * read[:, None].astype(np.float32)
    return replace(split, targets=targets, mask=_known_where(split, read), soft=soft)


def _known_where(split: Split, read: NDArray[np.bool_]) -> Known:
    """Return what is known of the rows that were `read`; nothing is of the others."""
    mask, shape = split.mask, split.targets.shape
    if isinstance(mask, SparseIndicator):
        rows = np.repeat(np.arange(len(mask)), np.diff(mask.indptr))
        kept = read[rows]
        rest = read & (False if mask.rest is None else mask.rest)
        return SparseIndicator.of(rows[kept], mask.indices[kept], shape, np.bool_, rest)
    if mask is None and isinstance(split.targets, SparseIndicator):
        nothing = np.zeros(0, np.int64)
        return SparseIndicator.of(nothing, nothing, shape, np.bool_, read)
    return np.broadcast_to(read[:, None], shape) & (True if mask is None else np.asarray(mask))
