"""What is withheld from a data set on purpose, to measure how methods bear it: labels, and images of a long tail."""

from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lsep_ml.data.data_set import DataSet, Images, Split
from lsep_ml.data.errors import DataError
from lsep_ml.metrics.indicator import SparseIndicator, Targets, dense_blocks, stacked

SinglePositive = Literal["single_positive"]
DroppedAs = Literal["unknown", "negative"]

_LABELS, _IMAGES = 1, 2  # second word of the seed
_CELLS = 2**24  # entries of sparse targets that are drawn for at a time
_MOST = 2**31  # entries, 4 bytes each, that a sparse mask is written down with


@dataclass(frozen=True)
class Withheld:
    """Withholds labels and images of a data set, by its seed; the test split stays whole.

    Of sparse targets nothing is drawn for every entry, but the gaps between the hidden ones, or, where those stand
    among the negatives, what becomes of the positives. The distribution is the same, the draws are others.

    Args:
        drop_labels: the share of the known entries of training and validation that is hidden, in [0, 1), each entry by
            a draw of its own; or "single_positive": all of an image's but one of its positives (Cole et al. 2021).
        dropped_as: what hidden entries are then: "unknown", which enter no loss, no choice and no metric; "negative",
            so that hidden positives stand among the negatives, as where nobody noted them.
        long_tail: images over those of the most frequent label that the rarest one keeps in training, in (0, 1); those
            of the ranks between decay by a constant factor (Cao et al. 2019). None: all images stay.

    Raises:
        DataError: a value out of its range; "single_positive" with "unknown", which leaves no known negative; in `of`,
            sparse targets of which more entries become unknown than can be written down.
    """

    drop_labels: float | SinglePositive = 0.0
    dropped_as: DroppedAs = "unknown"
    long_tail: float | None = None

    def __post_init__(self) -> None:
        single = self.drop_labels == "single_positive"
        if not single and (isinstance(self.drop_labels, str) or not 0 <= self.drop_labels < 1):
            raise DataError(f"data.drop_labels={self.drop_labels}: a share in [0, 1), or single_positive")
        if self.dropped_as not in get_args(DroppedAs):
            raise DataError(f"data.dropped_as={self.dropped_as}: unknown or negative")
        if single and self.dropped_as == "unknown":
            raise DataError(
                "data.drop_labels=single_positive leaves no negative known, and no loss learns from positives alone; "
                "with data.dropped_as=negative the hidden labels stand among the negatives"
            )
        if self.long_tail is not None and not 0 < self.long_tail < 1:
            raise DataError(f"data.long_tail={self.long_tail}: a number between 0 and 1, or null")

    def of(self, data_set: DataSet, seed: int) -> DataSet:
        """Return what is left of `data_set`; a function of its labels and `seed`. Images go first, then labels."""
        train, val, test = data_set.train, data_set.val, data_set.test
        if self.long_tail is not None:
            train = _rows(train, long_tailed_rows(train.targets, self.long_tail, [seed, _IMAGES]))
        if self.drop_labels != 0:
            streams = np.random.SeedSequence([seed, _LABELS]).spawn(2)
            train, val = (
                self._without_labels(split, np.random.default_rng(stream))
                for split, stream in zip((train, val), streams, strict=True)
            )
            if train.mask is not None and test.mask is None:  # all splits have a mask, or none
                sparse = isinstance(test.targets, SparseIndicator)
                known = SparseIndicator.all_known if sparse else np.ones
                test = replace(test, mask=known(test.targets.shape).astype(np.bool_))
        left_out = len(data_set.train) - len(train)
        dropped = {**data_set.dropped, **({"long tail": left_out} if left_out else {})}
        return replace(data_set, train=train, val=val, test=test, dropped=dropped)

    def _without_labels(self, split: Split, generator: np.random.Generator) -> Split:
        if isinstance(split.targets, SparseIndicator):
            return self._without_sparse_labels(split, split.targets, generator)
        targets, mask = split.targets, None if split.mask is None else np.asarray(split.mask)
        draws = generator.random(targets.shape, dtype=np.float32)
        if isinstance(self.drop_labels, str):
            kept = np.zeros(targets.shape, np.bool_)
            places = np.where(targets != 0, draws, -1).argmax(axis=1)
            kept[np.arange(len(split)), places] = True
        else:
            kept = draws >= self.drop_labels
        split = replace(split, targets=targets * kept, soft=None if split.soft is None else split.soft * kept)
        if self.dropped_as == "negative":
            return split
        return replace(split, mask=kept if mask is None else kept & mask)

    def _without_sparse_labels(
        self, split: Split, targets: SparseIndicator, generator: np.random.Generator
    ) -> Split:
        rows, labels = targets.nonzero()
        if self.dropped_as == "unknown":
            kept = _drawn(targets.shape, 1 - float(self.drop_labels), generator).within(split.mask)
            stay = np.concatenate([known[true != 0] for true, known in dense_blocks(targets, kept)])
            return replace(
                split, targets=SparseIndicator.of(rows[stay], labels[stay], targets.shape), mask=kept
            )
        draws = generator.random(len(rows), dtype=np.float32)
        if isinstance(self.drop_labels, str):
            order = np.lexsort((draws, rows))
            chosen = np.sort(order[np.append(rows[1:] != rows[:-1], np.ones(min(1, len(rows)), bool))])
        else:
            chosen = np.flatnonzero(draws >= self.drop_labels)
        return replace(split, targets=SparseIndicator.of(rows[chosen], labels[chosen], targets.shape))


def _drawn(shape: tuple[int, int], share: float, generator: np.random.Generator) -> SparseIndicator:
    """Draw a bool matrix, each entry True with the probability `share`: the gaps between those of the rarer kind are
    geometric.

    Raises:
        DataError: too many of both kinds.
    """
    rest, entries = share > 0.5, shape[0] * shape[1]
    rare = min(share, 1 - share)
    if rare * entries > _MOST:
        raise DataError(
            f"data.drop_labels={1 - share:g}: of {shape[0]} images x {shape[1]} labels, about {rare * entries:.0f} "
            f"entries would have to be written down one by one, and at most {_MOST} are; instead: "
            "data.dropped_as=negative, for which the positives alone are drawn for, or a smaller share"
        )
    size = max(1, _CELLS // shape[1])
    parts = []
    for start in range(0, shape[0], size):
        images = min(size, shape[0] - start)
        found, reached = [], -1
        while reached < images * shape[1]:
            cells = reached + generator.geometric(rare, int(rare * _CELLS) + 100).cumsum()
            reached = int(cells[-1])
            found.append(cells[cells < images * shape[1]])
        rows, labels = np.divmod(np.concatenate(found), shape[1])
        parts.append(SparseIndicator.of(rows, labels, (images, shape[1]), np.bool_, np.full(images, rest)))
    return stacked(parts)


def long_tailed_rows(targets: Targets, rarest: float, seed: int | list[int]) -> NDArray[np.int64]:
    """Choose rows of targets (N, K) whose label counts fall off from the most frequent label's n_0 to `rarest` n_0.

    The label of rank r may be on n_0 rarest^(r / (K - 1)) images, at least 1. Images are gone through in a random
    order; one is kept where none of its labels has reached its number, and so are all without a label. Sorted, int64.
    """
    frequency = targets.sum(axis=0, dtype=np.int64)
    rank = np.empty(len(frequency))
    rank[np.argsort(-frequency, kind="stable")] = np.arange(len(frequency))
    most = np.maximum(frequency.max() * rarest ** (rank / max(len(rank) - 1, 1)), 1)
    counts, kept = np.zeros(len(frequency), np.int64), []
    for row in np.random.default_rng(seed).permutation(len(targets)):
        labels = np.flatnonzero(targets[row])
        if (counts[labels] < np.floor(most[labels])).all():
            counts[labels] += 1
            kept.append(row)
    return np.sort(np.array(kept, np.int64))


class _Chosen:
    """Some of a sequence of images, in this order."""

    def __init__(self, images: Images, rows: NDArray[np.int64]) -> None:
        self.images, self.rows = images, rows
        self.checked = getattr(images, "checked", True)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, row: int, /) -> Tensor:
        return self.images[int(self.rows[row])]


def _rows(split: Split, rows: NDArray[np.int64]) -> Split:
    images: Images = (
        split.images[torch.from_numpy(rows)]
        if isinstance(split.images, Tensor)
        else _Chosen(split.images, rows)
    )
    return Split(
        images,
        split.targets[rows],
        None if split.mask is None else split.mask[rows],
        split.image_ids[rows],
        None if split.groups is None else split.groups[rows],
        None if split.soft is None else split.soft[rows],
    )
