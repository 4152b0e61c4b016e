"""What a person can move of a decision, and the label set of one image wherever it is moved to."""

from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray

from lsep_ml.bundle.predictions import Predictions
from lsep_ml.decisions import Decision
from lsep_ml.decisions.learnt import NEVER
from lsep_ml.decisions.log_odds import LogOddsDecision
from lsep_ml.decisions.rules import ranks


@dataclass(frozen=True)
class Knob:
    """Holds a number that a decision depends on. start: what was fitted. whole: it counts labels."""

    name: str
    start: float
    whole: bool = False


@dataclass(frozen=True)
class ImageReading:
    """Says how one image was decided: by values above their thresholds, or else by the `count` of highest value.

    values: scores, or probabilities where `probable`, float64 (K,). thresholds: float64 (K,), or None where labels are
    counted.
    """

    values: NDArray[np.float64]
    thresholds: NDArray[np.float64] | None
    count: int
    probable: bool = False

    def moved(self, offset: float) -> Self:
        """Change all thresholds of the image, or its count, by `offset`."""
        if self.thresholds is not None:
            return replace(self, thresholds=self.thresholds + offset)
        return replace(self, count=min(max(self.count + round(offset), 0), len(self.values)))

    @property
    def label_set(self) -> NDArray[np.bool_]:
        """Decide the labels, bool (K,)."""
        if self.thresholds is not None:
            return self.values > self.thresholds
        places: NDArray[np.int64] = ranks(torch.from_numpy(self.values)[None])[0].numpy()
        return places < self.count

    @property
    def reach(self) -> tuple[float, float]:
        """Return the offsets between which the label set goes from one extreme to the other."""
        if self.thresholds is None:
            return -self.count, len(self.values) - self.count
        if self.probable:
            return -float(self.thresholds.max()), 1 - float(self.thresholds.min())
        margins = self.values - self.thresholds
        return float(margins.min()), float(margins.max())


def knob_of(decision: Decision) -> Knob:
    """Choose the knob of a fitted `decision`: its one number where it has one, else an offset to what it decides by."""
    chosen = decision.choices()
    if "counts" in decision.decides_by:
        if "k" in chosen:
            return Knob("Labels an image, k", float(chosen["k"]), whole=True)
        return Knob("Labels more or fewer than estimated", 0.0, whole=True)
    if "thresholds" in decision.decides_by:
        if isinstance(chosen.get("theta"), float):
            return Knob("Threshold θ", chosen["theta"])
        return Knob("All thresholds higher or lower by", 0.0)
    if isinstance(decision, LogOddsDecision):
        return Knob("All thresholds on probabilities higher or lower by", 0.0)
    return Knob("Labels of a probability above", 0.5)


def read_image_decision(decision: Decision, found: Predictions) -> ImageReading:
    """Read the first image of `found`, predictions that `decision` made."""
    count = int(found.label_sets[0].sum())
    if found.thresholds is not None:
        values, thresholds = (array[0].astype(np.float64) for array in (found.scores, found.thresholds))
        never = thresholds >= NEVER
        return ImageReading(values, np.where(never, values.max() + 1, thresholds), count)
    if found.probabilities is None:
        return ImageReading(found.scores[0].astype(np.float64), None, count)
    values = found.probabilities[0].astype(np.float64)
    if "counts" in decision.decides_by:
        return ImageReading(values, None, count, True)
    # A set that was chosen as a whole may have a label of lower probability, and lack one of higher.
    within, without = np.minimum(0.5, values - 1e-6), np.maximum(0.5, values)
    return ImageReading(values, np.where(found.label_sets[0], within, without), count, True)
