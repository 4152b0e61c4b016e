"""Thresholds that are linear in the features, fitted as calibrated log odds, then moved to serve a criterion."""

from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lsep_ml.decisions.base import Decided, FitOn
from lsep_ml.decisions.checks import Array
from lsep_ml.decisions.learnt import LearntThresholds
from lsep_ml.decisions.log_odds import HonestRows, LogOddsDecision, LogOddsEstimator
from lsep_ml.decisions.per_class import PerClassThreshold
from lsep_ml.decisions.rules import GlobalThreshold
from lsep_ml.metrics import BY_KEY, LABEL_SET_KEYS
from lsep_ml.metrics.functional import as_numpy
from lsep_ml.metrics.metric import Average

Offset = Literal["class", "one", "none"]
NEVER = float(np.finfo(np.float32).max)
"""The threshold that no score exceeds."""

LOG_SCALE = 20.0
"""The largest logarithm of s or 1 / s: products of s with scores stay finite in single precision."""


class LinearThresholds(LearntThresholds, LogOddsEstimator, LogOddsDecision):
    """Names the labels with f_k(x) > theta_k(x) = (b_k + w_k x + offset_k) / s, for standardised features x.

    z = s f - b - W x are log odds: W (K, D), b (K,) and one s > 0 minimise cross entropy (`loss`), which is convex.
    Cross entropy cuts at probability one half; the offset moves the cut to where the criterion is highest on log odds
    that come from fits without the row they are of. `probabilities` are sigmoid(z), without the offset. A label without
    a known positive is never named.

    offset: "class", one offset a label; "one", the same for all labels; "none". A criterion that is no mean over labels
    takes one. weight_decay: factor on |W|^2; None: chosen by `fit_decision`, by log loss on rows not fitted on.
    """

    decides_by: ClassVar[tuple[str, ...]] = ("thresholds", "probabilities")
    offsets: Tensor
    decay: Tensor

    def __init__(
        self,
        num_features: int,
        num_labels: int,
        *,
        criterion: str = "f1",
        offset: Offset = "class",
        weight_decay: float | None = None,
        fit_on: FitOn = "crossfit",
    ) -> None:
        if criterion not in LABEL_SET_KEYS:
            raise ValueError(f"criterion={criterion!r}: expected one of {', '.join(LABEL_SET_KEYS)}")
        if offset not in ("class", "one", "none"):
            raise ValueError(f"offset={offset!r}: expected 'class', 'one' or 'none'")
        if weight_decay is not None and not weight_decay >= 0:
            raise ValueError(f"weight_decay={weight_decay}: expected a number of at least 0, or None")
        super().__init__(num_features, num_labels, num_labels, (), True, fit_on)
        self.criterion, self.offset, self.weight_decay = criterion, offset, weight_decay
        self.log_scale = nn.Parameter(torch.zeros(()))
        self.register_buffer("offsets", torch.zeros(num_labels))
        self.register_buffer("decay", torch.tensor(weight_decay or 0.0, dtype=torch.float64))

    @property
    def estimator(self) -> LogOddsEstimator:
        return self

    def choices(self) -> dict[str, Any]:
        return {
            "weight_decay": float(self.decay),
            "scale": float(self.scale.detach()),
            "offset": self.offsets.tolist(),
        }

    def loss(self, scores: Tensor, targets: Tensor, features: Tensor, mask: Tensor | None = None) -> Tensor:
        """K times the mean binary cross entropy of z over the known entries, plus the weight decay times |W|^2."""
        inputs = self.standardised(features)
        scores, targets = scores.to(inputs.dtype), targets.to(inputs.dtype)
        weights = torch.ones_like(targets) if mask is None else mask.to(inputs.dtype)
        weights = weights * (self.num_labels / weights.sum().clamp_min(1))
        log_odds = self.scale * scores - self.head(inputs)
        cross_entropy = F.binary_cross_entropy_with_logits(log_odds, targets, weights, reduction="sum")
        return cross_entropy + self.decay.to(inputs) * self.weight.square().sum()

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
        """W, (K, D)."""
        return self.linear.weight

    def log_odds_of(self, scores: Tensor, features: Tensor | None = None) -> Tensor:
        assert features is not None
        linear = self.outputs(features)
        return self.scale * scores.to(linear.dtype) - linear

    def forward(self, scores: Tensor, features: Tensor | None = None) -> Decided:
        assert features is not None
        thresholds = self._estimate(features)
        probabilities = torch.sigmoid(self.log_odds_of(scores, features)).float()
        return Decided(scores > thresholds, thresholds, probabilities=probabilities)

    def reset(
        self, scores: Array, targets: Array, features: Array, mask: Array | None = None, *, seed: int = 0
    ) -> None:
        """Start from scratch: W = 0, no offsets, and a scale and b that make the scores rough log odds.

        Nothing is drawn. Raises ValueError for features that are not finite.
        """
        spread = float(as_numpy(scores).std(dtype=np.float64))
        with torch.no_grad():
            self.log_scale.fill_(-np.log(max(spread, 1e-6)))
        self.offsets.zero_()
        super().reset(scores, targets, features, mask, seed=seed)

    def choose(self, rows: HonestRows) -> None:
        """Choose the offsets, and see which labels have no known positive."""
        named = (rows.targets & rows.known).any(0)
        offsets = np.zeros(self.num_labels, np.float32)
        if self.offset != "none" and self._to_choose(rows):
            rule: PerClassThreshold | GlobalThreshold = (
                PerClassThreshold(criterion=self.criterion, guard=False)
                if self.offset == "class" and _by_label(self.criterion)
                else GlobalThreshold("exact", criterion=self.criterion)
            )
            offsets += rule.fit(rows.log_odds, rows.targets, rows.known).theta.numpy()
        offsets[~named] = NEVER
        self.offsets = torch.from_numpy(offsets).to(self.offsets)

    def problems(self, scores: Array, features: Array | None = None) -> list[str]:
        found = [] if self.predict(scores, features).any() else ["every predicted label set is empty"]
        never = np.flatnonzero(as_numpy(self.offsets) >= NEVER)
        if len(never):
            names = [str(label) if self.label_names is None else self.label_names[label] for label in never]
            found.append(f"never named, since no image it was fitted on has them: {', '.join(names)}")
        return found

    def _to_choose(self, rows: HonestRows) -> bool:
        """Return whether there is anything to choose between: known entries of both kinds."""
        positive = rows.targets[rows.known]
        return bool(positive.any() and not positive.all())

    def _estimate(self, features: Tensor) -> Tensor:
        thresholds = (self.outputs(features) + self.offsets) / self.scale
        return torch.where(self.offsets < NEVER, thresholds, NEVER).float()

    def _constant(self, scores: Array, targets: Array, mask: Array | None) -> Tensor:
        values, labels = as_numpy(scores).astype(np.float64), as_numpy(targets) != 0
        known = np.ones(labels.shape, bool) if mask is None else as_numpy(mask) != 0
        share = ((labels & known).sum(0) + 0.5) / (known.sum(0) + 1)
        scale = float(self.scale.detach())
        return torch.from_numpy(scale * values.mean(0) - np.log(share / (1 - share))).float()

    def _draw(self, generator: torch.Generator, bias: Tensor) -> None:
        with torch.no_grad():
            self.weight.zero_()
            self.linear.bias.copy_(bias)


def _by_label(criterion: str) -> bool:
    """Return whether a criterion is a mean over labels, so that each label can be chosen for on its own."""
    formula = BY_KEY[criterion].formula
    return isinstance(formula, Average) and formula.over == "labels"
