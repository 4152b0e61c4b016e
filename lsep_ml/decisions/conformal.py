"""A threshold with a guarantee on the expected share of missed labels."""

import math
from collections.abc import Iterable
from typing import Any, ClassVar, Literal

import numpy as np
import torch

from lsep_ml.decisions.base import FitOn
from lsep_ml.decisions.checks import MatrixBlocks, MatrixRows
from lsep_ml.decisions.label_blocks import fit_rule
from lsep_ml.decisions.per_class import PerClassThreshold
from lsep_ml.decisions.rules import ThresholdRule
from lsep_ml.decisions.search import Scores
from lsep_ml.metrics.functional import ratio


class ConformalRisk(ThresholdRule):
    """Names the labels with f_k(x) > theta_k, with E[missed share of an image's labels] <= alpha on new images.

    Conformal risk control (Angelopoulos et al., 2024) for any sample size n and any distribution: the largest
    threshold whose risk R on the calibration images keeps (n R + 1) / (n + 1) <= alpha. An image without
    labels misses nothing. The guarantee is on average over calibration sets and new images, both drawn alike,
    and holds only if the calibration images chose nothing else, such as the epoch of the network.

    shape: "global", one threshold, calibrated on all images; "per_class", guarded thresholds for each label
    chosen on one part of the images (drawn from `seed`), and one shift for all of them calibrated on the
    other, a share `calibration` of the images.
    """

    promises: ClassVar[Literal["recall", "precision"] | None] = "recall"

    def __init__(
        self,
        alpha: float = 0.1,
        shape: Literal["global", "per_class"] = "global",
        *,
        calibration: float = 0.5,
        criterion: str = "f1",
        seed: int = 0,
        fit_on: FitOn = "val",
    ) -> None:
        super().__init__(criterion, fit_on)
        if not 0 < alpha < 1:
            raise ValueError(f"alpha={alpha}: expected a share between 0 and 1")
        if shape not in ("global", "per_class"):
            raise ValueError(f"shape={shape!r}: expected 'global' or 'per_class'")
        if not 0 < calibration < 1:
            raise ValueError(f"calibration={calibration}: expected a share between 0 and 1")
        self.alpha, self.shape, self.calibration, self.seed = alpha, shape, calibration, seed
        self.fits_by_rows = shape == "global"
        self.register_buffer("calibrated_on", torch.tensor(0))

    def choices(self) -> dict[str, Any]:
        return {**super().choices(), "calibrated_on": int(self.calibrated_on)}

    def _fit(self, matrix: MatrixBlocks) -> None:
        rows, labels = matrix.judged(), matrix.scores.shape[1]
        base = np.zeros(labels, np.float32)
        if self.shape == "per_class":
            rows = np.random.default_rng(self.seed).permutation(rows)
            rows, tuning = np.split(rows, [round(self.calibration * len(rows))])
            per_class, tuned = (
                PerClassThreshold(criterion=self.criterion, seed=self.seed),
                matrix.take(tuning),
            )
            fit_rule(per_class, tuned.scores, tuned.targets, tuned.mask)
            base = per_class.theta.numpy()
        needed = math.ceil(1 / self.alpha) - 1
        if len(rows) < needed:
            raise ValueError(
                f"alpha={self.alpha} is too small for {len(rows)} calibration images: no threshold, not even one that "
                f"predicts every label, can promise it; at least {needed} images are needed"
            )
        critical = _critical_margin(matrix.rows(rows), base, len(rows), self.alpha)
        # just below, and rounded down: a score at the critical margin is predicted, the risk can only fall
        theta = np.nextafter((base.astype(np.float64) + critical).astype(np.float32), np.float32(-np.inf))
        self.theta = torch.from_numpy(theta) if self.shape == "per_class" else torch.tensor(theta[0])
        self.calibrated_on = torch.tensor(len(rows))


def _critical_margin(rows: Iterable[MatrixRows], base: Scores, images: int, alpha: float) -> float:
    """Return the highest margin of scores over `base` (K,) that must be predicted to keep the risk; the largest one
    where none must."""
    largest, found = -np.inf, []
    for scores, targets, known in rows:
        margins, positive = scores.astype(np.float64) - base, targets & known
        weight = positive * ratio(1, positive.sum(1))[:, None]  # a missed label's share of its image's labels
        largest = max(largest, margins.max())
        found.append((margins[positive], weight[positive]))
    of_positives, weights = (np.concatenate(of) for of in zip(*found, strict=True))
    order = np.argsort(of_positives, kind="stable")
    ranked, missed = of_positives[order], weights[order].cumsum()
    ends = np.append(ranked[1:] != ranked[:-1], True)[: len(ranked)]
    within = missed[ends] <= alpha * (images + 1) - 1 + 1e-12
    if within.all():
        return float(largest)
    return float(ranked[ends][within.argmin()])
