"""Thresholds that are linear in the features, fitted as calibrated log odds, then moved to serve a criterion."""

from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lsep_ml.decisions.base import Decided, FitOn
from lsep_ml.decisions.checks import Array, MatrixBlocks, check_fit
from lsep_ml.decisions.log_odds import HonestRows, LogOddsDecision, LogOddsEstimator
from lsep_ml.decisions.offset import MovedThresholds, Offset

LOG_SCALE = 20.0
"""The largest logarithm of s or 1 / s: products of s with scores stay finite in single precision."""


class LinearThresholds(MovedThresholds, LogOddsDecision):
    """Names the labels with f_k(x) > theta_k(x) = (b_k + w_k x + offset_k) / s, for standardised features x.

    z = s f - b - W x are log odds: W (K, D), b (K,) and one s > 0 minimise cross entropy (`loss`), which is convex.
    The offset is chosen as `MovedThresholds` says. `probabilities` are sigmoid(z), without the offset. A label without
    a known positive is never named.

    weight_decay: factor on |W|^2; None: chosen by `fit_decision`, by log loss on rows not fitted on.

    The solver holds scores and targets of all rows that it fits on at once, in at least 16 bytes an entry.
    """

    decides_by: ClassVar[tuple[str, ...]] = ("thresholds", "probabilities")
    decay: Tensor

    def __init__(
        self,
        num_features: int,
        num_labels: int,
        *,
        criterion: str = "f1",
        beta: float = 1.0,
        miss_cost: float = 1.0,
        offset: Offset = "class",
        weight_decay: float | None = None,
        fit_on: FitOn = "crossfit",
    ) -> None:
        if weight_decay is not None and not weight_decay >= 0:
            raise ValueError(f"weight_decay={weight_decay}: expected a number of at least 0, or None")
        goal: dict[str, Any] = {"criterion": criterion, "beta": beta, "miss_cost": miss_cost}
        super().__init__(num_features, num_labels, (), True, fit_on, **goal, offset=offset)
        self.weight_decay = weight_decay
        self.log_scale = nn.Parameter(torch.zeros(()))
        self.register_buffer("decay", torch.tensor(weight_decay or 0.0, dtype=torch.float64))

    @property
    def estimator(self) -> LogOddsEstimator:
        return self

    @property
    def linear_thresholds(self) -> "LinearThresholds":
        return self

    def choices(self) -> dict[str, Any]:
        return {
            "weight_decay": float(self.decay),
            "scale": float(self.scale.detach()),
            "offset": self.offsets.tolist(),
        }

    def loss(self, scores: Tensor, targets: Tensor, features: Tensor, mask: Tensor | None = None) -> Tensor:
        """Compute K times the mean binary cross entropy of z of known entries, plus the weight decay times |W|^2."""
        cross_entropy = super().loss(scores, targets, features, mask)
        return cross_entropy + self.decay.to(cross_entropy) * self.weight.square().sum()

    def loss_of(self, outputs: Tensor, scores: Tensor, targets: Tensor, mask: Tensor | None = None) -> Tensor:
        """Compute K times the mean binary cross entropy of z = s f - outputs, of known entries."""
        scores, targets = scores.to(outputs.dtype), targets.to(outputs.dtype)
        weights = torch.ones_like(targets) if mask is None else mask.to(outputs.dtype)
        weights = weights * (self.num_labels / weights.sum().clamp_min(1))
        log_odds = self.scale * scores - outputs
        return F.binary_cross_entropy_with_logits(log_odds, targets, weights, reduction="sum")

    @property
    def scale(self) -> Tensor:
        """Return s, within bounds, since scores that separate all labels ask for an infinite one."""
        return torch.exp(self.log_scale.clamp(-LOG_SCALE, LOG_SCALE))

    @property
    def linear(self) -> nn.Linear:
        """Return the layer x -> b + W x."""
        layer = self.head[0]
        assert isinstance(layer, nn.Linear)
        return layer

    @property
    def weight(self) -> Tensor:
        """Return W, (K, D)."""
        return self.linear.weight

    def forward(self, scores: Tensor, features: Tensor | None = None) -> Decided:
        assert features is not None
        thresholds = self._estimate(features)
        probabilities = torch.sigmoid(self.log_odds_of(scores, features)).float()
        return Decided(scores > thresholds, thresholds, probabilities=probabilities)

    def reset(
        self, scores: Array, targets: Array, features: Array, mask: Array | None = None, *, seed: int = 0
    ) -> None:
        """Start from scratch: W = 0, no offsets, and a scale and b that make the scores rough log odds.

        Nothing is drawn. Raises ValueError for data nothing can be fitted on, and features that are not finite.
        """
        check_fit(scores, targets, mask)
        blocks, size = MatrixBlocks.of(scores, targets, mask), scores.shape[0] * scores.shape[1]
        mean = sum(rows.scores.sum(dtype=np.float64) for rows in blocks.rows()) / size
        squares = sum(np.square(rows.scores - np.float64(mean)).sum() for rows in blocks.rows())
        spread = float(np.sqrt(squares / size))
        with torch.no_grad():
            self.log_scale.fill_(-np.log(max(spread, 1e-6)))
        super().reset(scores, targets, features, mask, seed=seed)

    def choose(self, rows: HonestRows) -> None:
        """Choose the offsets, and see which labels have no known positive."""
        self.choose_offsets(rows.log_odds, rows.targets, rows.known)

    def problems(self, scores: Array, features: Array | None = None) -> list[str]:
        named = self._in_blocks(lambda *rows: self._label_sets(*rows).any(), scores, features)
        found = [] if torch.stack(named).any() else ["every predicted label set is empty"]
        return [*found, *self.never_named()]

    def _constant(self, scores: Array, targets: Array, mask: Array | None) -> Tensor:
        sums, positives, known = np.zeros((3, self.num_labels))
        for rows in MatrixBlocks.of(scores, targets, mask).rows():
            sums += rows.scores.astype(np.float64).sum(0)
            positives += (rows.targets & rows.known).sum(0)
            known += rows.known.sum(0)
        share, scale = (positives + 0.5) / (known + 1), float(self.scale.detach())
        return torch.from_numpy(scale * (sums / len(scores)) - np.log(share / (1 - share))).float()

    def _draw(self, generator: torch.Generator, bias: Tensor) -> None:
        with torch.no_grad():
            self.weight.zero_()
            self.linear.bias.copy_(bias)
