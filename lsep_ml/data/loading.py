"""How batches of a split are loaded, by their row numbers."""

import logging
from collections.abc import Iterator
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from lsep_ml.data.data_set import Split
from lsep_ml.data.errors import ImageError
from lsep_ml.data.mixing import mixed
from lsep_ml.data.order import BatchKey, TrainingOrder
from lsep_ml.data.transform import Transform
from lsep_ml.metrics.indicator import Known, SparseIndicator, Targets

log = logging.getLogger(__name__)

_AUGMENTATION, _OPERATIONS = 1, 2  # third words of the seed, see order.py


MOST_UNREAD = 100
"""Images, one after the other, that cannot be read: then it is not they that are bad."""


class Others(NamedTuple):
    """Holds the label sets of the images that those of a batch are mixed with.

    targets: uint8 (B, K). mask: bool (B, K), or None. share: of the batch's own images in the mixed ones, in [0, 1].
    soft: as of `Batch`.
    """

    targets: Tensor
    mask: Tensor | None
    share: float
    soft: Tensor | None = None


class Batch(NamedTuple):
    """Holds what the network is fed: the `images` of a batch and what is known of their labels.

    Attributes:
        images: uint8 (B, C, H, W); in a probe, float features (B, D) in their place.
        targets: uint8 (B, K), 0 or 1.
        mask: bool (B, K), True = known; None when every entry of the data set is known.
        rows: int64 (B,), the images' places in their split.
        weight: that of their mean loss, see `BatchKey`.
        others: what is mixed into the images; None: nothing is.
        unread: (row, why) of images that could not be read: others are in their places, and all their labels are
            unknown.
        soft: float32 (B, K), targets in [0, 1] for the loss; None: it takes `targets`.
    """

    images: Tensor
    targets: Tensor
    mask: Tensor | None
    rows: Tensor
    weight: float = 1.0
    others: Others | None = None
    unread: tuple[tuple[int, str], ...] = ()
    soft: Tensor | None = None


class BatchedSplit(Dataset[Batch]):
    """Serves whole batches of `split`, so that nothing is collated row by row.

    A batch depends on nothing but its key, the epoch and the rows, so worker processes need no state. An image of a
    split whose images were not all opened before may be bad: the next one of the split that can be read stands in its
    place, so that the network is fed what images look like, and its labels are unknown, so that it enters no loss and
    no metric. That depends on its row alone.
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
        rows, unread = torch.from_numpy(key.rows), dict[int, str]()
        if key.mix is None:
            images = self._images(key.epoch, rows, unread)
            targets, mask = self._labels(rows, unread)
            soft = self._soft(rows, unread)
            return Batch(images, targets, mask, rows, key.weight, None, tuple(unread.items()), soft)
        partners = torch.from_numpy(key.mix.partners)
        read, places = torch.cat([rows, partners]).unique(return_inverse=True)  # each image once
        images = self._images(key.epoch, read, unread)[places]
        own, others = images.split(len(rows))
        images, share = mixed(own, others, key.mix)
        targets, mask = self._labels(rows, unread)
        mixed_in = Others(*self._labels(partners, unread), share, self._soft(partners, unread))
        soft = self._soft(rows, unread)
        return Batch(images, targets, mask, rows, key.weight, mixed_in, tuple(unread.items()), soft)

    def _labels(self, rows: Tensor, unread: dict[int, str]) -> tuple[Tensor, Tensor | None]:
        targets = _dense_rows(self.split.targets, rows)
        mask = None if self.split.mask is None else _dense_rows(self.split.mask, rows)
        if unread:
            read = torch.tensor([row not in unread for row in rows.tolist()])[:, None]
            targets, mask = targets * read, read.expand_as(targets) & (True if mask is None else mask)
        return targets, mask

    def _soft(self, rows: Tensor, unread: dict[int, str]) -> Tensor | None:
        if self.split.soft is None:
            return None
        soft = torch.from_numpy(self.split.soft)[rows]
        return soft * torch.tensor([row not in unread for row in rows.tolist()])[:, None] if unread else soft

    def _images(self, epoch: int | None, rows: Tensor, unread: dict[int, str]) -> Tensor:
        images = self.split.images
        if self.transform is None:
            assert isinstance(images, Tensor)
            return images.index_select(0, rows)
        if epoch is None or self.seed is None or not self.transform.is_random:
            if isinstance(images, Tensor):
                return self.transform(images.index_select(0, rows))
            return torch.stack([self.transform(self._image(row, unread)) for row in rows.tolist()])
        draws, seeds = _epoch_draws(self.seed, epoch, len(self)), _epoch_seeds(self.seed, epoch, len(self))
        return torch.stack(
            [
                self.transform(self._image(row, unread), draws[row].tolist(), int(seeds[row]))
                for row in rows.tolist()
            ]
        )

    def _image(self, row: int, unread: dict[int, str]) -> Tensor:
        """Return the image of `row`, or of the next row whose image can be read, and note why its own cannot."""
        images = self.split.images
        for other in range(row, row + min(len(self), MOST_UNREAD)):
            try:
                return images[other % len(self)]
            except ImageError as error:
                if getattr(images, "checked", True):
                    raise
                unread.setdefault(row, str(error))
        raise ImageError(f"{unread[row]}; and {MOST_UNREAD} images after it cannot be read either")


def _dense_rows(matrix: Targets | Known, rows: Tensor) -> Tensor:
    if isinstance(matrix, SparseIndicator):
        return torch.from_numpy(np.asarray(matrix[rows.numpy()]))
    return torch.from_numpy(matrix).index_select(0, rows)


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

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._unread: set[int] = set()  # rows that were said

    def __iter__(self) -> Iterator[Batch]:  # type: ignore[override]
        # A generator: nothing is loaded before the first batch is asked for, which is after the epoch is set.
        self._given = self.sampler.start = self._start
        self._start = 0
        # To ask torch's loader takes longer than to make a batch of images that are in memory.
        direct = not self.num_workers and not self.pin_memory
        batches = map(self.dataset.__getitem__, self.sampler) if direct else super().__iter__()
        for batch in batches:
            self._given += 1
            for row, why in batch.unread:
                if row not in self._unread:
                    self._unread.add(row)
                    log.warning("training image left out: %s", why)
            yield batch

    def state_dict(self) -> dict[str, Any]:
        """Return the place in the epoch, as plain data."""
        return {"batches": self._given}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Begin the next iteration at the place that `state` has."""
        self._start = state["batches"] % len(self)
