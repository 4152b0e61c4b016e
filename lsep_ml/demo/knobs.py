"""What a person can move of a decision, and the label set of one image wherever it is moved to."""

from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray

from lsep_ml.bundle.predictions import Predictions
from lsep_ml.decisions import Calibrated, Decision, ExpectedF1, TopK
from lsep_ml.decisions.rules import ThresholdRule, ranks


@dataclass(frozen=True)
class Knob:
    """A number that a decision depends on. start: what was fitted. whole: it counts labels."""

    name: str
    start: float
    whole: bool = False


@dataclass(frozen=True)
class Reading:
    """How one image was decided: the labels whose value is above their threshold, or else the `count` of highest value.

    values: scores, or probabilities where `probable`, float64 (K,). thresholds: float64 (K,), or None where labels are
    counted.
    """

    values: NDArray[np.float64]
    thresholds: NDArray[np.float64] | None
    count: int
    probable: bool = False

    def moved(self, offset: float) -> Self:
        """The same image with all thresholds, or the count, changed by `offset`."""
        if self.thresholds is not None:
            return replace(self, thresholds=self.thresholds + offset)
        return replace(self, count=min(max(self.count + round(offset), 0), len(self.values)))

    @property
    def label_set(self) -> NDArray[np.bool_]:
        """The labels, bool (K,)."""
        if self.thresholds is not None:
            return self.values > self.thresholds
        places: NDArray[np.int64] = ranks(torch.from_numpy(self.values)[None])[0].numpy()
        return places < self.count

    @property
    def reach(self) -> tuple[float, float]:
        """The offsets between which the label set goes from one extreme to the other."""
        if self.thresholds is None:
            return -self.count, len(self.values) - self.count
        if self.probable:
            return -float(self.thresholds.max()), 1 - float(self.thresholds.min())
        margins = self.values - self.thresholds
        return float(margins.min()), float(margins.max())


def knob_of(decision: Decision) -> Knob:
    """The knob of a fitted decision: its one number where it has one, else an offset to what it estimates."""
    match decision:
        case TopK():
            return Knob("Labels an image, k", float(decision.k), whole=True)
        case Calibrated() if not isinstance(decision, ExpectedF1):
            return Knob("Labels of a probability above", 0.5)
        case ThresholdRule() if decision.theta.ndim == 0:
            return Knob("Threshold θ", float(decision.theta))
        case _ if hasattr(decision, "thresholds"):
            return Knob("All thresholds higher or lower by", 0.0)
    return Knob("Labels more or fewer than estimated", 0.0, whole=True)


def read_image_decision(decision: Decision, found: Predictions) -> Reading:
    """The reading of the first image of predictions that `decision` made."""
    count = int(found.label_sets[0].sum())
    if isinstance(decision, Calibrated):
        values = decision.probabilities(found.scores[:1])[0].numpy()
        halves = None if isinstance(decision, ExpectedF1) else np.full_like(values, 0.5)
        return Reading(values, halves, count, probable=True)
    thresholds = None if found.thresholds is None else found.thresholds[0].astype(np.float64)
    return Reading(found.scores[0].astype(np.float64), thresholds, count)
