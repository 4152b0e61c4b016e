"""What a metric is: a quantity with a direction and a formula, and what formulas are functions of."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Share = Callable[[Any, Any, Any, Any], tuple[Any, Any]]
"""(correct, predicted, actual, known) of a label, an image or all entries -> numerator and denominator, integers."""


class Average(NamedTuple):
    """Takes the mean of `of` over the labels (macro) or the images (samples), or `of` all entries pooled (micro).

    of: for label sets a `Share`; for scores a function of `Cutoffs` (labels, entries) or of `ImageRanks` (images).
    """

    over: Literal["labels", "images", "entries"]
    of: Callable[..., Any]


class HarmonicMean(NamedTuple):
    """Computes 2 a b / (a + b) of two metrics of label sets."""

    first: Average
    second: Average


DASH = "–"
"""What stands for a value that is not there."""

Formula = Average | HarmonicMean


class Cutoffs(NamedTuple):
    """Says what the cut-offs of one ranking give, from the highest score; one a tie, (G, ...), trailing axes are
    replicates.

    found: positives in each tie. true_positives, above: positives, and all entries, down to its end. tied: negatives in
    it. negatives: in the whole ranking, (...). Ties without a positive may be left out.
    """

    found: Any
    true_positives: Any
    above: Any
    tied: Any
    negatives: Any


class ImageRanks(NamedTuple):
    """Holds the labels of each image by descending score, (N, K); unknown ones last.

    positive: which are true. above, positive_above: known labels, and true ones, with at least this score. positives,
    known: how many an image has, (N,).
    """

    positive: Any
    above: Any
    positive_above: Any
    positives: Any
    known: Any


@dataclass(frozen=True, kw_only=True)
class Quantity:
    """A number of a run: key (in result.json), name, short_name (in columns), note (its definition), unit ("%": a
    fraction shown in %)."""

    key: str
    name: str
    short_name: str
    note: str
    unit: str = "%"

    @property
    def label(self) -> str:
        """Return the name, and the short one where it is another."""
        return self.name if self.name == self.short_name else f"{self.name} ({self.short_name})"

    @property
    def heading(self) -> str:
        """Return the short name, and the unit where it is not %."""
        return self.short_name if self.unit == "%" else f"{self.short_name} ({self.unit})"

    @property
    def scale(self) -> float:
        """Return what the value is multiplied by to be shown."""
        return 100.0 if self.unit == "%" else 1.0

    @property
    def decimals(self) -> int:
        """Return how many are shown."""
        return 1 if self.unit == "%" else 2

    def show(self, value: float | None) -> str:
        """Return the value in its unit, without it; a dash for None."""
        return DASH if value is None else f"{self.scale * value:.{self.decimals}f}"

    def told(self, value: float | None) -> str:
        """Return the short name and the value with its unit."""
        return f"{self.short_name} {self.show(value)}{'%' if self.unit == '%' else f' {self.unit}'}"


@dataclass(frozen=True, kw_only=True)
class Metric(Quantity):
    """A quantity that judges. needs: what it is computed from; paper: whether the paper's tables have it."""

    formula: Formula
    needs: Literal["label sets", "scores"] = "label sets"
    higher_is_better: bool = True
    paper: bool = False

    def gain(self, values: Any) -> Any:
        """Return the values, negated where lower is better: what every search and every ordering maximises."""
        return values if self.higher_is_better else -values


def ratio(numerator: Any, denominator: Any) -> Floats:
    """Compute `numerator / denominator` in float64, 0 where the denominator is 0."""
    numerator, denominator = np.broadcast_arrays(numerator, denominator)
    result = np.zeros(numerator.shape)
    np.divide(numerator, denominator, out=result, where=denominator != 0, dtype=np.float64)
    return result


def harmonic_mean(precision: Floats, recall: Floats) -> Floats:
    """Compute 2 p r / (p + r), 0 where both are 0."""
    return ratio(2 * precision * recall, precision + recall)
