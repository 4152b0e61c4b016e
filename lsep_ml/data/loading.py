"""How batches of a split are loaded, by their row numbers."""

from collections.abc import Iterator
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from lsep_ml.data.data_set import Split
from lsep_ml.data.indicator import Known, SparseIndicator, Targets
from lsep_ml.data.mixing import mixed
from lsep_ml.data.order import BatchKey, TrainingOrder
from lsep_ml.data.transform import Transform

_AUGMENTATION, _OPERATIONS = 1, 2  # third words of the seed, see order.py


class Others(NamedTuple):
    """Holds the label sets of the images that those of a batch are mixed with.

    targets: uint8 (B, K). mask: bool (B, K), or None. share: of the batch's own images in the mixed ones, in [0, 1].
    """

    targets: Tensor
    mask: Tensor | None
    share: float


class Batch(NamedTuple):
    """Holds what the network is fed: the `images` of a batch and what is known of their labels.

    Attributes:
        images: uint8 (B, C, H, W); in a probe, float features (B, D) in their place.
        targets: uint8 (B, K), 0 or 1.
        mask: bool (B, K), True = known; None when every entry of the data set is known.
        rows: int64 (B,), the images' places in their split.
        weight: that of their mean loss, see `BatchKey`.
        others: what is mixed into the images; None: nothing is.
    """

    images: Tensor
    targets: Tensor
    mask: Tensor | None
    rows: Tensor
    weight: float = 1.0
    others: Others | None = None


class BatchedSplit(Dataset[Batch]):
    """Serves whole batches of `split`, so that nothing is collated row by row.

    A batch depends on nothing but its key, the epoch and the rows, so worker processes need no state.
    """

    def __init__(self, split: Split, transform: Transform | None, seed: int | None = None) -> None:
        """Serve the images of `split` through `transform`, or as they are where it is None.

        The augmentation of a row is a function of (`seed`, epoch, row); None: there is none.
        """
        self.split = split
        self.transform = transform
        self.seed = seed

    def __len__(self) -> int:
        return len(self.split)

    def __getitem__(self, key: BatchKey) -> Batch:
        rows = torch.from_numpy(key.rows)
        targets, mask = self._labels(rows)
        if key.mix is None:
            return Batch(self._images(key.epoch, rows), targets, mask, rows, key.weight)
        partners = torch.from_numpy(key.mix.partners)
        read, places = torch.cat([rows, partners]).unique(return_inverse=True)  # each image once
        images = self._images(key.epoch, read)[places]
        own, others = images.split(len(rows))
        images, share = mixed(own, others, key.mix)
        return Batch(images, targets, mask, rows, key.weight, Others(*self._labels(partners), share))

    def _labels(self, rows: Tensor) -> tuple[Tensor, Tensor | None]:
        mask = self.split.mask
        return _dense_rows(self.split.targets, rows), None if mask is None else _dense_rows(mask, rows)

    def _images(self, epoch: int | None, rows: Tensor) -> Tensor:
        images = self.split.images
        if self.transform is None:
            assert isinstance(images, Tensor)
            return images[rows]
        if epoch is None or self.seed is None or not self.transform.is_random:
            if isinstance(images, Tensor):
                return self.transform(images[rows])
            return torch.stack([self.transform(images[row]) for row in rows.tolist()])
        draws, seeds = _epoch_draws(self.seed, epoch, len(self)), _epoch_seeds(self.seed, epoch, len(self))
        return torch.stack(
            [self.transform(images[row], draws[row].tolist(), int(seeds[row])) for row in rows.tolist()]
        )


def _dense_rows(matrix: Targets | Known, rows: Tensor) -> Tensor:
    if isinstance(matrix, SparseIndicator):
        return torch.from_numpy(np.asarray(matrix[rows.numpy()]))
    return torch.from_numpy(matrix)[rows]


@lru_cache(maxsize=1)
def _epoch_draws(seed: int, epoch: int, num_rows: int) -> NDArray[np.float64]:
    """Draw the random numbers of each row in `epoch`, (`num_rows`, 3), uniform in [0, 1)."""
    return np.random.default_rng([seed, epoch, _AUGMENTATION]).random((num_rows, 3))


@lru_cache(maxsize=1)
def _epoch_seeds(seed: int, epoch: int, num_rows: int) -> NDArray[np.int64]:
    """Draw the seed of each row's further operations in `epoch`, (`num_rows`,)."""
    return np.random.default_rng([seed, epoch, _OPERATIONS]).integers(2**63, size=num_rows)


class TrainingLoader(DataLoader[Batch]):
    """Loads batches in a `TrainingOrder`; its place in the epoch can be saved, and returned to.

    What comes before that place is not loaded again, and what workers have loaded ahead does not count.
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
        """Return the place in the epoch, as plain data."""
        return {"batches": self._given}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Begin the next iteration at the place that `state` has."""
        self._start = state["batches"] % len(self)
