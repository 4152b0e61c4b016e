"""Calibrated probabilities of the labels, and what is decided from them."""

from functools import cache
from typing import ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import pad

from lsep_ml.decisions.base import Decided, FitOn, Rule
from lsep_ml.decisions.checks import BLOCK, Array, MatrixBlocks, check_scores, float_tensor
from lsep_ml.decisions.log_odds import LogOddsEstimator
from lsep_ml.decisions.rules import highest
from lsep_ml.decisions.search import Bools
from lsep_ml.metrics.calibration import curves_by_label, platt_curve
from lsep_ml.metrics.counts import known_entries
from lsep_ml.metrics.metric import Floats

Method = Literal["platt", "isotonic"]
_CELLS = 4_000_000  # probabilities held at a time: bounds the memory
_TIE = 1e-12
# the score that stands for an infinite one, which a slope of 0 has no use for
_MOST = torch.finfo(torch.float32).max
_LEAST = 1e-6  # the probability that stands for 0 where log odds are asked for


class Calibrated(Rule, LogOddsEstimator):
    """Names the labels with P(k in Y | f_k(x)) > 1/2, calibrated label by label.

    If the labels are independent given the scores, this is the most probable label set, the one of highest
    expected exact match. method: "platt", a logistic curve of the score, fitted to Platt's smoothed targets
    (N+ + 1) / (N+ + 2) and 1 / (N- + 2), so that it exists also for separable labels and for labels without a
    positive; "isotonic", any increasing curve (scikit-learn), for plenty of data. A label without any known
    entry takes the curve of all entries pooled.
    """

    decides_by: ClassVar[tuple[str, ...]] = ("probabilities",)
    curves: Tensor

    def __init__(self, method: Method = "platt", *, fit_on: FitOn = "val") -> None:
        super().__init__("exact_match", fit_on)
        if method not in ("platt", "isotonic"):
            raise ValueError(f"method={method!r}: expected 'platt' or 'isotonic'")
        self.method = method
        # platt: slope and intercept (K, 2); isotonic: knots and probabilities, the last repeated (K, 2, M)
        self.register_buffer("curves", torch.zeros(0, dtype=torch.float64))

    def probabilities(self, scores: Array) -> Tensor:
        """Return P(k in Y | f_k(x)), float64 (N, K)."""
        check_scores(scores, int(self.num_labels))
        return self._probabilities(float_tensor(scores).to(self.curves.device))

    def log_odds_of(self, scores: Tensor, features: Tensor | None = None) -> Tensor:
        if self.method == "platt":
            first, second = self.curves.unbind(1)
            return first * scores.double().clamp(-_MOST, _MOST) + second
        return torch.logit(self._probabilities(scores).clamp(_LEAST, 1 - _LEAST))

    def forward(self, scores: Tensor, features: Tensor | None = None) -> Decided:
        probabilities = self._probabilities(scores).float()
        return Decided(probabilities > 0.5, probabilities=probabilities)

    def _probabilities(self, scores: Tensor) -> Tensor:
        if self.method == "platt":
            return torch.sigmoid(self.log_odds_of(scores))
        return _interpolate(scores.double(), *self.curves.unbind(1))

    def _fit(self, matrix: MatrixBlocks) -> None:
        fit = platt_curve if self.method == "platt" else _isotonic

        @cache
        def pooled() -> Floats:
            entries = [(scores[known], targets[known]) for scores, targets, known in matrix.rows()]
            return fit(*map(np.concatenate, zip(*entries, strict=True)))

        curves = [
            curve
            for block in matrix
            for curve in curves_by_label(
                fit, block.scores, block.targets, known_entries(block.scores, block.known), pooled
            )
        ]
        size = max(curve.shape[-1] for curve in curves)
        padded = [
            np.pad(curve, [(0, 0)] * (curve.ndim - 1) + [(0, size - curve.shape[-1])], "edge")
            for curve in curves
        ]
        self.curves = torch.from_numpy(np.stack(padded))


class ExpectedF1(Calibrated):
    """For each image the label set of highest expected F1, from calibrated probabilities p_k.

    The labels are taken as independent given the scores. The best set then consists of the m most probable
    labels for some m (Lewis 1995), and each m's expectation follows exactly from sums over label counts in
    O(K^2) for all m (Ye et al. 2012): 3 seconds and 1 GiB for an image of 10,000 labels. F1 of an empty set is 1 if the
    image has no label, else 0. The smaller m on a tie.
    """

    decides_by: ClassVar[tuple[str, ...]] = ("counts", "probabilities")

    def forward(self, scores: Tensor, features: Tensor | None = None) -> Decided:
        probabilities = self._probabilities(scores).float()
        counts = best_sizes(probabilities.double())
        return Decided(highest(probabilities, counts), counts=counts, probabilities=probabilities)

    def _rows_at_once(self) -> int:
        return min(BLOCK, rows_at_once(int(self.num_labels)))


def _interpolate(values: Tensor, knots: Tensor, heights: Tensor) -> Tensor:
    """Piecewise linear curves at values (N, K): a label's heights (K, M) at its knots (K, M), flat outside.

    Knots increase; the last may be repeated.
    """
    size = knots.shape[1]
    columns = values.T.clamp(knots[:, :1], knots[:, -1:]).contiguous()
    below = torch.searchsorted(knots.contiguous(), columns, right=True)  # knots that are not above the value
    left, right = (below - 1).clamp(0, size - 1), below.clamp(0, size - 1)
    (x0, x1), (y0, y1) = ([table.gather(1, place) for place in (left, right)] for table in (knots, heights))
    width = torch.where(x1 > x0, x1 - x0, torch.ones_like(x1))
    return ((y1 - y0) / width * (columns - x0) + y0).T


def _isotonic(scores: NDArray[np.float32], positive: Bools) -> NDArray[np.float64]:
    """Knots and probabilities of the increasing curve, (2, M); flat outside."""
    from sklearn.isotonic import IsotonicRegression  # here: it takes a second to import

    model = IsotonicRegression(out_of_bounds="clip").fit(
        scores.astype(np.float64), positive.astype(np.float64)
    )
    return np.stack([model.X_thresholds_, model.y_thresholds_])


def rows_at_once(num_labels: int) -> int:
    """Return how many images `best_sizes` should be given at a time."""
    return max(1, _CELLS // (num_labels + 1) ** 2)


def best_sizes(probabilities: Tensor) -> Tensor:
    """Return how many of an image's most probable labels to take, int64 (N,), from probabilities float64 (N, K)."""
    expected = expected_f1(probabilities.sort(dim=1, descending=True, stable=True).values)
    best = expected >= expected.amax(1, keepdim=True) - _TIE
    return (best.int().cumsum(1) == 0).sum(1)  # the first of the best


def expected_f1(ranked: Tensor) -> Tensor:
    """Compute the expected F1 of the first m labels, m = 0..K, (N, K + 1), from descending probabilities (N, K).

    With C of the m chosen and D of the other labels true, F1 = 2 C / (m + C + D): the sum over C of
    2 C P(C) E[1 / (m + C + D)]. P(C) is built label by label from the front, E[1 / (a + D)] from the back.
    """
    labels = ranked.shape[1]
    columns = ranked.split(1, dim=1)
    chosen = [torch.ones_like(columns[0])]  # chosen[m][:, c] = P(C = c) among the first m
    for p in columns:
        chosen.append(pad((1 - p) * chosen[-1], (0, 1)) + pad(p * chosen[-1], (1, 0)))
    places = torch.arange(1, 2 * labels + 1, dtype=ranked.dtype, device=ranked.device)
    counts, inverse = places[:labels], (1 / places).expand(ranked.shape[0], -1)  # of a = 1, 2, ...
    expected = [chosen[labels][:, :1]]  # no label is true: the empty set is right
    terms = []
    for m in range(labels, 0, -1):
        terms.append((2 * counts[:m] * chosen[m][:, 1:] * inverse[:, m : 2 * m]).sum(1, keepdim=True))
        p = columns[m - 1]
        inverse = p * inverse[:, 1:] + (1 - p) * inverse[:, :-1]
    return torch.cat(expected + terms[::-1], 1)
