"""A threshold with a guarantee on the precision of label sets."""

import math
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from lsep_ml.decisions.base import FitOn
from lsep_ml.decisions.checks import MatrixBlocks
from lsep_ml.decisions.learnt import NEVER
from lsep_ml.decisions.rules import ThresholdRule
from lsep_ml.decisions.search import Bools, Scores
from lsep_ml.metrics.functional import ratio
from lsep_ml.metrics.metric import Floats


class LearnThenTest(ThresholdRule):
    """Names the labels with f_k(x) > theta, where with probability 1 - delta the mean false share of label sets is <=
    alpha.

    The false share of an image is its wrong labels over its predicted ones, 0 of an empty set (the false discovery
    proportion). Learn then test (Angelopoulos et al., 2021): thresholds are tested from the highest down, each by a
    p-value of "the mean false share exceeds alpha" (Hoeffding-Bentkus, for any distribution and any n), until one is
    above delta; theta is the last before it. That is fixed-sequence testing, so no correction is needed, but the
    sequence may not be seen by the test: it is `steps` quantiles of the scores of one part of the images (drawn from
    `seed`), and the tests are on the other, a share `calibration` of the images. The guarantee is over draws of the
    images, which have chosen nothing else, such as the epoch of the network. Unknown labels enter neither share; images
    with none known are left out. Where already the first test fails, nothing is predicted, which is said. The scores
    that quantiles are taken of stand in memory.
    """

    fits_by_rows = True
    promises: ClassVar[Literal["recall", "precision"] | None] = "precision"

    def __init__(
        self,
        alpha: float = 0.2,
        delta: float = 0.1,
        *,
        calibration: float = 0.8,
        steps: int = 50,
        seed: int = 0,
        fit_on: FitOn = "val",
    ) -> None:
        super().__init__("f1", fit_on)
        for name, value in (("alpha", alpha), ("delta", delta), ("calibration", calibration)):
            if not 0 < value < 1:
                raise ValueError(f"{name}={value}: expected a share between 0 and 1")
        if steps < 2:
            raise ValueError(f"steps={steps}: expected at least 2")
        self.alpha, self.delta, self.calibration, self.steps, self.seed = (
            alpha,
            delta,
            calibration,
            steps,
            seed,
        )
        self.register_buffer("calibrated_on", torch.tensor(0))

    def choices(self) -> dict[str, Any]:
        return {**super().choices(), "calibrated_on": int(self.calibrated_on)}

    def problems(self, scores: Any, features: Any = None) -> list[str]:
        if float(self.theta) < NEVER:
            return []
        return [
            f"no threshold promises alpha={self.alpha} with delta={self.delta}: every predicted label set is empty"
        ]

    def _fit(self, matrix: MatrixBlocks) -> None:
        rows = np.random.default_rng(self.seed).permutation(matrix.judged())
        tested, learnt = np.split(rows, [round(self.calibration * len(rows))])
        needed = math.ceil(math.log(self.delta) / math.log1p(-self.alpha))
        if len(tested) < needed or len(learnt) == 0:
            raise ValueError(
                f"alpha={self.alpha}, delta={self.delta} are too small for {len(tested)} calibration images (of "
                f"{len(rows)}): not even a threshold without an error could promise it; at least {needed} are needed"
            )
        shares = np.linspace(1, 0, self.steps)
        seen = np.concatenate([scores[known] for scores, _, known in matrix.rows(learnt)])
        sequence = np.unique(np.quantile(seen, shares).astype(np.float32))[::-1]
        risks = np.concatenate([false_shares(*part, sequence) for part in matrix.rows(tested)]).mean(0)
        passed = p_value(risks, len(tested), self.alpha) <= self.delta
        number = len(passed) if passed.all() else int(passed.argmin())
        self.theta = torch.tensor(float(sequence[number - 1]) if number else NEVER)
        self.calibrated_on = torch.tensor(len(tested))


def false_shares(scores: Scores, targets: Bools, known: Bools, thresholds: Scores) -> Floats:
    """Return the false share of each image's label set at each threshold, (N, T), in [0, 1]; 0 of an empty set."""
    shares = []
    for theta in thresholds:
        chosen = (scores > theta) & known
        shares.append(ratio((chosen & ~targets).sum(1), chosen.sum(1)))
    return np.stack(shares, 1)


def p_value(risk: NDArray[np.float64], images: int, alpha: float) -> Floats:
    """Return the Hoeffding-Bentkus p-value of "the expected risk exceeds alpha", from the mean risk of `images` in [0,
    1].

    The smaller of exp(-n h(min(r, alpha), alpha)), h the relative entropy of two coins, and e P(Bin(n, alpha) <=
    ceil(n r)) (Bates et al., 2021).
    """
    from scipy.special import bdtr, rel_entr  # here: scipy takes a while to import

    low = np.minimum(risk, alpha)
    hoeffding = np.exp(-images * (rel_entr(low, alpha) + rel_entr(1 - low, 1 - alpha)))
    wrong = np.ceil(np.round(images * risk, 9))  # rounding errors of the mean are no further image
    return np.asarray(np.minimum(np.minimum(hoeffding, math.e * bdtr(wrong, images, alpha)), 1.0))
