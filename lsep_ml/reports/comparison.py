"""Which differences are real: the paired bootstrap over test images and seeds."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lsep_ml.metrics.functional import LABEL_SET_KEYS, LabelCounts, label_set_metrics

LEVEL = 0.95
GROUPS = 5000
"""More images than this are drawn in so many random groups of equal size."""

Replicates = NDArray[np.float64]


class Draws(NamedTuple):
    """weights float32 (R, G), how often a group is drawn; order (N,), the images group by group; starts (G,)."""

    weights: NDArray[np.float32]
    order: NDArray[np.intp]
    starts: NDArray[np.intp]


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

    The draws of N images are made once and shared by every run on N images, so that differences between runs are
    paired. Up to GROUPS images are drawn one by one; more are first dealt into GROUPS random groups, which are drawn
    whole: the spread of a mean over images is the same, estimated from 5,000 groups, at a fraction of the cost.
    Deterministic in `seed`.
    """

    def __init__(self, replicates: int = 1000, seed: int = 0) -> None:
        self.replicates = replicates
        self._seed = seed
        self._draws: dict[int, Draws] = {}
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
        weights, order, starts = self._draws_of(len(columns))
        groups = np.add.reduceat(columns[order].astype(np.float32), starts, axis=0)
        return (weights @ groups).astype(np.float64)

    def _draws_of(self, images: int) -> Draws:
        """How often each group is drawn in each replicate, (R, G), and the images group by group."""
        if images not in self._draws:
            generator, groups = np.random.default_rng(self._seed), min(images, GROUPS)
            order = generator.permutation(images)
            starts = np.linspace(0, images, groups, endpoint=False).astype(np.intp)
            weights = generator.multinomial(groups, np.full(groups, 1 / groups), size=self.replicates)
            self._draws[images] = Draws(weights.astype(np.float32), order, starts)
        return self._draws[images]


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
