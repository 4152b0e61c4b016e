"""Batches of a split, loaded by their row numbers."""

from collections.abc import Iterator
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from lsep_ml.data.data_set import Split
from lsep_ml.data.order import BatchKey, TrainingOrder
from lsep_ml.data.transform import Transform

_AUGMENTATION = 1  # third word of the seed, see order.py


class Batch(NamedTuple):
    """What the network is fed.

    Attributes:
        images: uint8 (B, C, H, W); in a probe, float features (B, D) in their place.
        targets: uint8 (B, K), 0 or 1.
        mask: bool (B, K), True = known; None when every entry of the data set is known.
        rows: int64 (B,), the images' places in their split.
        weight: of their mean loss, see BatchKey.
    """

    images: Tensor
    targets: Tensor
    mask: Tensor | None
    rows: Tensor
    weight: float = 1.0


class BatchedSplit(Dataset[Batch]):
    """A split whose items are whole batches, so that nothing is collated row by row.

    An item's key holds all it depends on, the epoch and the rows, so that worker processes need no state.
    """

    def __init__(self, split: Split, transform: Transform | None, seed: int = 0) -> None:
        """`seed`: a row's augmentation is a function of (seed, epoch, row). transform=None: images as they are."""
        self.split = split
        self.transform = transform
        self.seed = seed
        self._targets = torch.from_numpy(split.targets)
        self._mask = None if split.mask is None else torch.from_numpy(split.mask)

    def __len__(self) -> int:
        return len(self.split)

    def __getitem__(self, key: BatchKey) -> Batch:
        epoch, row_numbers, weight = key
        rows = torch.from_numpy(row_numbers)
        mask = None if self._mask is None else self._mask[rows]
        return Batch(self._images(epoch, rows), self._targets[rows], mask, rows, weight)

    def _images(self, epoch: int | None, rows: Tensor) -> Tensor:
        images = self.split.images
        if self.transform is None:
            assert isinstance(images, Tensor)
            return images[rows]
        if epoch is None or not self.transform.is_random:
            if isinstance(images, Tensor):
                return self.transform(images[rows])
            return torch.stack([self.transform(images[row]) for row in rows.tolist()])
        draws = _epoch_draws(self.seed, epoch, len(self))
        return torch.stack([self.transform(images[row], draws[row].tolist()) for row in rows.tolist()])


@lru_cache(maxsize=1)
def _epoch_draws(seed: int, epoch: int, num_rows: int) -> NDArray[np.float64]:
    """Uniform in [0, 1), (num_rows, 3): each row's random numbers of this epoch."""
    return np.random.default_rng([seed, epoch, _AUGMENTATION]).random((num_rows, 3))


class TrainingLoader(DataLoader[Batch]):
    """Batches in a `TrainingOrder`, whose place in the epoch can be saved, and returned to without loading what was
    before it. What workers have loaded ahead does not count.
    """

    sampler: TrainingOrder
    _given = 0  # batches of this epoch that were handed out
    _start = 0

    def __iter__(self) -> Iterator[Batch]:  # type: ignore[override]
        # A generator: nothing is loaded before the first batch is asked for, which is after the epoch is set.
        self._given = self.sampler.start = self._start
        self._start = 0
        for batch in super().__iter__():
            self._given += 1
            yield batch

    def state_dict(self) -> dict[str, Any]:
        """The place in the epoch."""
        return {"batches": self._given}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Begin the next iteration at that place."""
        self._start = state["batches"] % len(self)
