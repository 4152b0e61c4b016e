"""Calibrated probabilities of the labels, and what is decided from them."""

from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lsep_ml.decisions.base import FitOn, Rule
from lsep_ml.decisions.checks import Array, check_scores, float_tensor
from lsep_ml.decisions.expected_f1 import best_sizes
from lsep_ml.decisions.rules import ranks
from lsep_ml.decisions.search import Bools, Scores
from lsep_ml.metrics.calibration import platt_curve

Method = Literal["platt", "isotonic"]


class Calibrated(Rule):
    """The labels with P(k in Y | f_k(x)) > 1/2, calibrated label by label.

    If the labels are independent given the scores, this is the most probable label set, the one of highest
    expected exact match. method: "platt", a logistic curve of the score, fitted to Platt's smoothed targets
    (N+ + 1) / (N+ + 2) and 1 / (N- + 2), so that it exists also for separable labels and for labels without a
    positive; "isotonic", any increasing curve (scikit-learn), for plenty of data. A label without any known
    entry takes the curve of all entries pooled.
    """

    curves: Tensor

    def __init__(self, method: Method = "platt", *, fit_on: FitOn = "val") -> None:
        super().__init__("exact_match", fit_on)
        if method not in ("platt", "isotonic"):
            raise ValueError(f"method={method!r}: expected 'platt' or 'isotonic'")
        self.method = method
        # platt: slope and intercept (K, 2); isotonic: knots and probabilities, the last repeated (K, 2, M)
        self.register_buffer("curves", torch.zeros(0, dtype=torch.float64))

    def probabilities(self, scores: Array) -> Tensor:
        """P(k in Y | f_k(x)), float64 (N, K)."""
        check_scores(scores, int(self.num_labels))
        values = float_tensor(scores).double()
        if self.method == "platt":
            slope, intercept = self.curves.to(values.device).unbind(1)
            return torch.sigmoid(slope * values + intercept)
        columns = [
            np.interp(column, knots, shares)
            for column, (knots, shares) in zip(values.T.cpu().numpy(), self.curves.cpu().numpy(), strict=True)
        ]
        return torch.from_numpy(np.stack(columns, 1)).to(values.device)

    def _fit(self, scores: Scores, targets: Bools, known: Bools) -> None:
        fit = platt_curve if self.method == "platt" else _isotonic
        curves = []
        for label in range(scores.shape[1]):
            rows = known[:, label]
            own = scores[rows, label], targets[rows, label]
            curves.append(fit(*(own if rows.any() else (scores[known], targets[known]))))
        size = max(curve.shape[-1] for curve in curves)
        padded = [
            np.pad(curve, [(0, 0)] * (curve.ndim - 1) + [(0, size - curve.shape[-1])], "edge")
            for curve in curves
        ]
        self.curves = torch.from_numpy(np.stack(padded))

    def _select(self, scores: Tensor, features: Array | None) -> Tensor:
        return self.probabilities(scores) > 0.5


class ExpectedF1(Calibrated):
    """For each image the label set of highest expected F1, from calibrated probabilities p_k.

    The labels are taken as independent given the scores. The best set then consists of the m most probable
    labels for some m (Lewis 1995), and each m's expectation follows exactly from sums over label counts in
    O(K^2) for all m (Ye et al. 2012). F1 of an empty set is 1 if the image has no label, else 0. The smaller
    m on a tie.
    """

    def _select(self, scores: Tensor, features: Array | None) -> Tensor:
        probabilities = self.probabilities(scores)
        sizes = torch.from_numpy(best_sizes(probabilities.cpu().numpy()))
        return ranks(probabilities) < sizes.to(scores.device)[:, None]


def _isotonic(scores: NDArray[np.float32], positive: Bools) -> NDArray[np.float64]:
    """Knots and probabilities of the increasing curve, (2, M); flat outside."""
    from sklearn.isotonic import IsotonicRegression  # here: it takes a second to import

    model = IsotonicRegression(out_of_bounds="clip").fit(
        scores.astype(np.float64), positive.astype(np.float64)
    )
    return np.stack([model.X_thresholds_, model.y_thresholds_])
