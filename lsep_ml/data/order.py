"""Which rows come in which batch: the training order, a function of (seed, epoch), and the fixed order.

Neither depends on the number of processes; of several, each loads its share.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Sampler

from lsep_ml.data.errors import DataError
from lsep_ml.data.mixing import UNMIXED, Mix, Mixing
from lsep_ml.metrics.indicator import Targets


class BatchKey(NamedTuple):
    """Names a batch by its `epoch` (None: no augmentation) and `rows`; `weight` is that of the mean loss over them.

    weight: the rows of this process, times the number of processes, over the rows of the whole batch, so that the mean
    over processes of their weighted means is the mean over the whole batch; 1 where there is one process.

    mix: how the images are mixed with others of the whole batch; None: they are not.
    """

    epoch: int | None
    rows: NDArray[np.int64]
    weight: float = 1.0
    mix: Mix | None = None


class ProcessShare(NamedTuple):
    """Says which of `processes` this one is: number `rank`, from 0."""

    rank: int = 0
    processes: int = 1


WHOLE = ProcessShare()

_ORDER = 0  # third word of the seed, so that order, augmentation and mixing draw from different streams


class TrainingOrder(Sampler[BatchKey]):
    """Gives batches of `batch_size` rows in random order, a new order each epoch.

    Lightning calls `set_epoch` before each epoch; a plain loop does it by hand.

    Args:
        num_rows: rows 0 .. num_rows - 1.
        batch_size: rows per batch. The last batch takes what remains; a single remaining row joins the batch
            before it, because batch normalisation cannot train on one image.
        seed: the order is a function of (seed, epoch).
        repeats: None for each row once an epoch; else how often each row comes in expectation, all at least
            1. A row r then comes floor or ceil of repeats[r] times, and every epoch has the same length
            ceil(sum of repeats).
        process: this process, which takes its share of the rows of every batch.
        mixing: how the images of a batch are mixed, a function of (seed, epoch, batch).

    Raises:
        DataError: a batch has fewer rows than there are processes.
    """

    def __init__(
        self,
        num_rows: int,
        batch_size: int,
        seed: int,
        repeats: NDArray[np.float64] | None = None,
        process: ProcessShare = WHOLE,
        mixing: Mixing = UNMIXED,
    ) -> None:
        _check_batch_size(batch_size)
        self.num_rows = num_rows
        self.batch_size = batch_size
        self.seed = seed
        self.repeats = repeats
        self.process = process
        self.mixing = mixing
        self.epoch = 0
        self.start = 0  # the batch that an iteration begins with
        least = min((stop - start for start, stop in self._bounds()), default=process.processes)
        if least < process.processes:
            raise DataError(
                f"training.batch_size={batch_size}: a batch of {least} images is left for "
                f"{process.processes} processes; choose another batch size or fewer devices"
            )

    def set_epoch(self, epoch: int) -> None:
        """Go to `epoch`: the next iteration gives its batches."""
        self.epoch = epoch

    def rows(self) -> NDArray[np.int64]:
        """Return all rows of this epoch, in its order."""
        rng = np.random.default_rng([self.seed, self.epoch, _ORDER])
        if self.repeats is None:
            return rng.permutation(self.num_rows)
        return rng.permutation(_systematic_sample(self.repeats, rng))

    def __len__(self) -> int:
        return len(self._bounds())

    def __iter__(self) -> Iterator[BatchKey]:
        rows = self.rows()
        rank, processes = self.process
        for number, (start, stop) in enumerate(self._bounds()[self.start :], self.start):
            whole_batch = rows[start:stop]
            own = whole_batch if processes == 1 else np.array_split(whole_batch, processes)[rank]
            mix = None
            if self.mixing:
                whole = self.mixing.draw(self.seed, self.epoch, number, whole_batch)
                mix = whole._replace(partners=np.array_split(whole.partners, processes)[rank])
            yield BatchKey(self.epoch, own, len(own) * processes / (stop - start), mix)

    def _bounds(self) -> list[tuple[int, int]]:
        length = self.num_rows if self.repeats is None else _epoch_length(self.repeats)
        bounds = _chunks(length, self.batch_size)
        if length % self.batch_size == 1 and len(bounds) > 1:
            bounds[-2:] = [(bounds[-2][0], length)]
        return bounds


class FixedOrder(Sampler[BatchKey]):
    """Gives rows 0 .. `num_rows` - 1 in order, in batches of `batch_size` that are always the same.

    A row's float result depends on the rows computed with it, so processes share out whole batches: `process` takes
    those numbered rank, rank + processes, ... One for which there is none takes batch 0 again, because every
    process needs a batch; what is computed of them is put together by the rows' numbers.
    """

    def __init__(self, num_rows: int, batch_size: int, process: ProcessShare = WHOLE, first: int = 0) -> None:
        """Begin with the batch `first`, below their number; those before it are left out and shared out to none."""
        _check_batch_size(batch_size)
        self.num_rows = num_rows
        self.batch_size = batch_size
        self.process = process
        self.first = first

    def __len__(self) -> int:
        return len(self._bounds())

    def __iter__(self) -> Iterator[BatchKey]:
        for start, stop in self._bounds():
            yield BatchKey(None, np.arange(start, stop))

    def _bounds(self) -> list[tuple[int, int]]:
        bounds = _chunks(self.num_rows, self.batch_size)[self.first :]
        return bounds[self.process.rank :: self.process.processes] or bounds[:1]


def repeat_factors(targets: Targets, threshold: float) -> NDArray[np.float64]:
    """Compute from `targets` how often an epoch shows each image, rare labels more often (repeat-factor sampling).

    r_i = max over the labels k of image i of max(1, sqrt(t / p_k)), with p_k the share of images that have
    label k (Gupta, Dollár, Girshick: LVIS, CVPR 2019, section 4.2). An image without labels has r_i = 1.

    Args:
        targets: uint8 (N, K).
        threshold: t, the share below which a label counts as rare, in (0, 1].

    Returns:
        float64 (N,), at least 1.
    """
    if not 0 < threshold <= 1:
        raise DataError(f"data.repeat_threshold={threshold}: a share of the images, above 0 and at most 1")
    share = targets.mean(axis=0)
    of_label = np.maximum(1.0, np.sqrt(threshold / np.where(share > 0, share, 1.0)))
    factors = np.ones(len(targets))
    rows, labels = targets.nonzero()
    np.maximum.at(factors, rows, of_label[labels])
    return factors


def _epoch_length(repeats: NDArray[np.float64]) -> int:
    # a sum of whole numbers must not round up by its last digit
    return int(np.ceil(repeats.sum() * (1 - 1e-12)))


def _systematic_sample(repeats: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.int64]:
    """Draw each row floor or ceil of `repeats` times, in expectation `repeats` (scaled to a whole total).

    Rows are shuffled before they are walked through, so that neighbours in the data are drawn independently.
    """
    length = _epoch_length(repeats)
    shuffled = rng.permutation(len(repeats))
    reached = np.cumsum(repeats[shuffled])
    ticks = np.floor(reached * (length / reached[-1]) + rng.random())
    ticks[-1] = length
    return np.repeat(shuffled, np.diff(ticks, prepend=0.0).astype(np.int64))


def _chunks(length: int, size: int) -> list[tuple[int, int]]:
    return [(start, min(start + size, length)) for start in range(0, length, size)]


def _check_batch_size(batch_size: int) -> None:
    if batch_size < 1:
        raise DataError(f"batch_size={batch_size}: at least 1")
