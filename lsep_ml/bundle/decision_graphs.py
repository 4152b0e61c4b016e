"""Every decision as a graph of tensor operations, for programs that are not Python.

Each says exactly what `predict` of the decision says, from buffers that the graph carries.
"""

from functools import singledispatch

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from lsep_ml.decisions import (
    Calibrated,
    CountEstimation,
    Decision,
    ExpectedF1,
    LearntDecision,
    ThresholdClass,
    ThresholdEstimation,
    TopK,
)
from lsep_ml.decisions.rules import ThresholdRule, ranks

_TIE = 1e-12  # as in decisions.expected_f1


class DecisionGraph(nn.Module):
    """(scores float32 (N, K), features float32 (N, D)) -> (label sets bool (N, K), what they were decided from).

    `extra` names the second output: thresholds float32 (N, K), counts int64 (N,), or probabilities float32 (N, K).
    """

    extra: str


@singledispatch
def decision_graph(decision: Decision) -> DecisionGraph:
    """The graph of a fitted decision.

    Raises:
        ValueError: a kind of decision that has none.
    """
    raise ValueError(f"decision {type(decision).__name__} has no graph; it cannot be exported")


class _Thresholds(DecisionGraph):
    extra = "thresholds"
    theta: Tensor

    def __init__(self, theta: Tensor) -> None:
        super().__init__()
        self.register_buffer("theta", theta.float())

    def forward(self, scores: Tensor, features: Tensor) -> tuple[Tensor, Tensor]:
        return scores > self.theta, torch.zeros_like(scores) + self.theta


class _Top(DecisionGraph):
    extra = "counts"

    def __init__(self, k: int) -> None:
        super().__init__()
        self.k = k

    def forward(self, scores: Tensor, features: Tensor) -> tuple[Tensor, Tensor]:
        places = ranks(scores)
        return places < self.k, torch.zeros_like(places[:, 0]) + self.k


class _EstimatedThresholds(DecisionGraph):
    extra = "thresholds"

    def __init__(self, decision: LearntDecision) -> None:
        super().__init__()
        self.decision = decision

    def forward(self, scores: Tensor, features: Tensor) -> tuple[Tensor, Tensor]:
        thresholds = self.decision.outputs(features).float() + torch.zeros_like(scores)
        return scores > thresholds, thresholds


class _EstimatedCounts(DecisionGraph):
    extra = "counts"

    def __init__(self, decision: CountEstimation) -> None:
        super().__init__()
        self.decision = decision

    def forward(self, scores: Tensor, features: Tensor) -> tuple[Tensor, Tensor]:
        counts = self.decision.outputs(features).argmax(1) + self.decision.lowest
        return ranks(scores) < counts[:, None], counts


class _Curves(DecisionGraph):
    """Labels of calibrated probability above 1/2."""

    extra = "probabilities"
    first: Tensor  # slopes (K,), or knots (K, M)
    second: Tensor  # intercepts (K,), or the probabilities at the knots (K, M)

    def __init__(self, decision: Calibrated) -> None:
        super().__init__()
        self.platt = decision.method == "platt"
        curves = decision.curves.double()
        first, second = curves.unbind(1)
        self.register_buffer("first", first)
        self.register_buffer("second", second)

    def forward(self, scores: Tensor, features: Tensor) -> tuple[Tensor, Tensor]:
        probabilities = self.probabilities(scores)
        return probabilities > 0.5, probabilities.float()

    def probabilities(self, scores: Tensor) -> Tensor:
        if self.platt:
            return torch.sigmoid(self.first * scores.double() + self.second)
        return _interpolate(scores.double(), self.first, self.second)


class _ExpectedF1(_Curves):
    """The size of highest expected F1, of the labels in the order of their probabilities."""

    def forward(self, scores: Tensor, features: Tensor) -> tuple[Tensor, Tensor]:
        probabilities = self.probabilities(scores)
        ranked = probabilities.sort(dim=1, descending=True, stable=True).values
        expected = _expected_f1(ranked)
        best = expected >= expected.amax(1, keepdim=True) - _TIE
        sizes = (best.int().cumsum(1) == 0).sum(1, keepdim=True)  # the first of the best
        return ranks(probabilities) < sizes, probabilities.float()


@decision_graph.register
def _(decision: ThresholdRule) -> DecisionGraph:
    return _Thresholds(decision.theta)


@decision_graph.register
def _(decision: TopK) -> DecisionGraph:
    return _Top(int(decision.k))


@decision_graph.register(ThresholdEstimation)
@decision_graph.register(ThresholdClass)
def _(decision: LearntDecision) -> DecisionGraph:
    return _EstimatedThresholds(decision)


@decision_graph.register
def _(decision: CountEstimation) -> DecisionGraph:
    return _EstimatedCounts(decision)


@decision_graph.register
def _(decision: Calibrated) -> DecisionGraph:
    return _Curves(decision)


@decision_graph.register
def _(decision: ExpectedF1) -> DecisionGraph:
    return _ExpectedF1(decision)


def _interpolate(values: Tensor, knots: Tensor, heights: Tensor) -> Tensor:
    """np.interp of values (N, K) on each label's knots (K, M), flat outside; the last knot may be repeated."""
    size = knots.shape[1]
    at = values[:, :, None]
    below = (at >= knots).sum(2, keepdim=True)
    left, right = (below - 1).clamp(0, size - 1), below.clamp(0, size - 1)
    shape = (*values.shape, size)
    (x0, x1), (y0, y1) = (
        [table.expand(shape).gather(2, index) for index in (left, right)] for table in (knots, heights)
    )
    width = torch.where(x1 > x0, x1 - x0, torch.ones_like(x1))
    inside = (y1 - y0) / width * (at - x0) + y0
    outside = torch.where(below == 0, heights[:, :1].expand_as(y0), heights[:, -1:].expand_as(y0))
    return torch.where((below == 0) | (below == size), outside, inside).squeeze(2)


def _expected_f1(ranked: Tensor) -> Tensor:
    """Expected F1 of the first m labels, (N, K + 1), as `decisions.expected_f1`, unrolled over the labels."""
    labels = ranked.shape[1]
    chosen = [torch.ones_like(ranked[:, :1])]  # chosen[m][:, c] = P(c of the first m are true)
    for m in range(labels):
        p = ranked[:, m : m + 1]
        chosen.append(pad((1 - p) * chosen[m], (0, 1)) + pad(p * chosen[m], (1, 0)))
    counts = torch.arange(1, labels + 1, dtype=ranked.dtype)
    inverse = (1 / torch.arange(1, 2 * labels + 1, dtype=ranked.dtype)).expand(ranked.shape[0], -1)
    expected = [chosen[labels][:, :1]]  # no label is true: the empty set is right
    terms = []
    for m in range(labels, 0, -1):
        terms.append((2 * counts[:m] * chosen[m][:, 1:] * inverse[:, m : 2 * m]).sum(1, keepdim=True))
        p = ranked[:, m - 1 : m]
        inverse = p * inverse[:, 1:] + (1 - p) * inverse[:, :-1]
    return torch.cat(expected + terms[::-1], 1)
