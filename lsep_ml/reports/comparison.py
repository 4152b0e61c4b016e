"""Which differences are real: the paired bootstrap over test images and seeds."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lsep_ml.metrics.functional import LABEL_SET_KEYS, LabelCounts, label_set_metrics

LEVEL = 0.95
_BLOCK = 100  # replicates at a time: bounds the memory
Replicates = NDArray[np.float64]


@dataclass(frozen=True)
class Comparison:
    """A metric's difference between two rows, in points of %, with its 95% interval."""

    first: str
    second: str
    key: str
    difference: float
    low: float
    high: float

    @property
    def real(self) -> bool:
        """Whether the interval leaves out 0."""
        return self.low > 0 or self.high < 0


class PairedBootstrap:
    """Metrics of many runs on the same bootstrap samples of the test images.

    The weights of N images are drawn once and shared by every run on N images, so that differences between runs are
    paired. Deterministic in `seed`.
    """

    def __init__(self, replicates: int = 1000, seed: int = 0) -> None:
        self.replicates = replicates
        self._seed = seed
        self._weights: dict[int, NDArray[np.uint8]] = {}
        self._actual: dict[str, NDArray[np.float64]] = {}

    def run_metrics(
        self,
        predictions: NDArray[np.uint8],
        targets: NDArray[np.uint8],
        mask: NDArray[np.uint8],
        content: str,
    ) -> Replicates:
        """The label-set metrics (R, 8) of every replicate, in the order of LABEL_SET_KEYS.

        predictions, targets, mask: 0/1 (N, K); `content` names targets and mask, whose counts are kept. A replicate's
        counts are a product of its weights with 0/1 columns: exact in float32 below 2^24.
        """
        known = np.any(mask, axis=1)
        if content not in self._actual:
            self._actual[content] = self._weighted(np.column_stack([targets, known]))
        actual = self._actual[content]
        predictions = predictions * mask
        exact = np.all(predictions == targets, axis=1) & known
        counts = self._weighted(np.column_stack([predictions & targets, predictions, exact]))
        labels = targets.shape[1]
        values = label_set_metrics(
            LabelCounts(
                correct=counts[:, :labels],
                predicted=counts[:, labels:-1],
                actual=actual[:, :-1],
                exact=counts[:, -1],
                images=actual[:, -1],
            )
        )
        return np.stack([values[key] for key in LABEL_SET_KEYS], axis=1)

    def mean_over_seeds(self, runs: Sequence[Replicates]) -> Replicates:
        """A row's replicates (R, 8): the mean over its runs, which are drawn with replacement too.

        Rows of equally many runs draw the same positions, so that their seeds stay paired.
        """
        draws = np.random.default_rng([self._seed, len(runs)]).integers(
            0, len(runs), (self.replicates, len(runs))
        )
        stacked = np.stack(runs)
        every = np.arange(self.replicates)[:, None]
        mean: Replicates = stacked[draws, every].mean(axis=1)
        return mean

    def _weighted(self, columns: NDArray[np.uint8]) -> NDArray[np.float64]:
        """Sums of 0/1 columns (N, C) over every replicate's images, (R, C)."""
        numbers = columns.astype(np.float32)
        sums = [block.astype(np.float32) @ numbers for block in _blocks(self._weights_of(len(numbers)))]
        return np.vstack(sums).astype(np.float64)

    def _weights_of(self, images: int) -> NDArray[np.uint8]:
        """How often each image is drawn in each replicate, (R, N)."""
        if images not in self._weights:
            generator, uniform = np.random.default_rng(self._seed), np.full(images, 1 / images)
            weights = np.empty((self.replicates, images), np.uint8)
            for block in _blocks(weights):
                # A count above 255 does not occur: it is about Poisson(1).
                block[:] = generator.multinomial(images, uniform, size=len(block))
            self._weights[images] = weights
        return self._weights[images]


def _blocks(weights: NDArray[np.uint8]) -> Iterator[NDArray[np.uint8]]:
    """Views of some replicates at a time."""
    return (weights[start : start + _BLOCK] for start in range(0, len(weights), _BLOCK))


def interval(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The 95% percentile interval (2, ...) over the first axis."""
    return np.quantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)


def compare(
    first: str,
    second: str,
    means: tuple[NDArray[np.float64], NDArray[np.float64]],
    replicates: tuple[Replicates, Replicates],
) -> list[Comparison]:
    """Every metric's difference, first minus second; means (8,) and replicates (R, 8) are fractions."""
    low, high = 100 * interval(replicates[0] - replicates[1])
    difference = 100 * (means[0] - means[1])
    return [
        Comparison(first, second, key, float(d), float(lo), float(hi))
        for key, d, lo, hi in zip(LABEL_SET_KEYS, difference, low, high, strict=True)
    ]
