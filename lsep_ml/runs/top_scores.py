"""Scores of very many labels as a run keeps them: the highest of each image, and those of its positives."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lsep_ml.metrics.counts import row_slices

LARGE = 2**28
"""Entries of a split's scores, 1 GiB, from which on a run keeps its highest ones only."""

KEPT = 256
"""Scores that are kept of an image, and those of its positives beside them."""


SAYS = "all others stand as high as they can be, so that average precision and the like are at least what is read"
"""What is to be known of scores that were read from them."""


class TopScores(NamedTuple):
    """Holds the `KEPT` highest scores of each image (of equal ones those of the lower label) and all its positives'.

    Of every other label of an image only this is known: its score is at most the lowest of the highest, `below`. So
    exact are: the label sets of the k highest scores, where the k-th is above `below`; those of thresholds not under
    `below`; and where positives above it stand among all scores.

    `dense` puts what is not kept at `below`, as high as it can be: each negative is then ranked no lower than it was,
    and average precision, and all that falls as negatives rise, is at most what it was. Put at the lowest number
    instead, it is at least what it was: the two enclose it.

    values float32 (M,), columns int32 (M,): of each row in the order of the labels. starts int64 (N + 1,): where each
    row begins. below float32 (N,).
    """

    values: NDArray[np.float32]
    columns: NDArray[np.int32]
    starts: NDArray[np.int64]
    below: NDArray[np.float32]

    @classmethod
    def of(cls, scores: NDArray[Any], targets: Any, kept: int = KEPT) -> "TopScores":
        """Keep what is to be kept of scores float (N, K), which may be memory-mapped; targets 0/1 (N, K)."""
        kept = min(kept, scores.shape[1])
        values, columns, lengths, below = [], [], [], []
        for rows in row_slices(*scores.shape):
            block = np.asarray(scores[rows], np.float32)
            lowest = np.partition(block, -kept, axis=1)[:, -kept]
            above, equal = block > lowest[:, None], block == lowest[:, None]
            room = kept - above.sum(1, keepdims=True)
            chosen = above | (equal & (equal.cumsum(1) <= room)) | (np.asarray(targets[rows]) != 0)
            values.append(block[chosen])
            columns.append(np.nonzero(chosen)[1].astype(np.int32))
            lengths.append(chosen.sum(1))
            below.append(lowest)
        starts = np.append(0, np.concatenate(lengths).cumsum())
        return cls(np.concatenate(values), np.concatenate(columns), starts, np.concatenate(below))

    @classmethod
    def found_in(cls, arrays: Mapping[str, NDArray[Any]]) -> "TopScores":
        """Take them from arrays under the names of `named`; raises KeyError for one that is missing."""
        return cls(*(arrays[f"scores_{name}"] for name in cls._fields))

    def named(self) -> dict[str, NDArray[Any]]:
        """Return the arrays under the names that they have in a file."""
        return {f"scores_{name}": array for name, array in self._asdict().items()}

    def dense(self, labels: int) -> NDArray[np.float32]:
        """Return scores float32 (N, labels); what is not kept stands at `below`.

        Raises ValueError for arrays that do not belong together.
        """
        values, columns, starts, below = self
        whole = len(values) == len(columns) and len(starts) == len(below) + 1 and starts[0] == 0
        if not whole or starts[-1] != len(values) or (np.diff(starts) < 0).any():
            raise ValueError("scores_starts, scores_columns and scores_values do not belong together")
        if len(columns) and not 0 <= columns.min() <= columns.max() < labels:
            raise ValueError(f"scores_columns: {columns.min()} to {columns.max()} of {labels} labels")
        scores = np.repeat(below.astype(np.float32)[:, None], labels, axis=1)
        scores[np.repeat(np.arange(len(below)), np.diff(starts)), columns] = values
        return scores
