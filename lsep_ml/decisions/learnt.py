"""What learnt decisions share: an MLP on the frozen features, and how it starts."""

from abc import abstractmethod
from collections.abc import Sequence
from itertools import pairwise
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lsep_ml.decisions.base import Decided, Decision, FitOn
from lsep_ml.decisions.checks import Array, check_features, check_fit, row_blocks
from lsep_ml.metrics.counts import row_slices
from lsep_ml.metrics.functional import as_numpy, known_entries

NEVER = float(np.finfo(np.float32).max)
"""The threshold that no score exceeds."""


class LearntDecision(Decision):
    """A head on the features, f'(x) -> outputs: by default 100 units, ReLU, 10 units, ReLU, the output layer.

    A narrow ReLU layer dies when its first steps are large; the head then predicts a constant. Two things
    keep it alive: the features are standardised (buffers, set by `reset` from the training features;
    `standardize=False` leaves features as they are), and the output bias starts at the best constant, so that
    no large common error has to be driven through the hidden layers first. Hidden weights are drawn for ReLU
    (He et al., 2015).
    """

    needs_features = True
    fits_by_rows = True
    learns_from_scores: ClassVar[bool] = True
    """Whether what it learns depends on the scores, not on targets and features alone."""

    num_labels: int
    feature_mean: Tensor
    feature_scale: Tensor

    def __init__(
        self,
        num_features: int,
        num_labels: int,
        num_outputs: int,
        hidden: Sequence[int],
        standardize: bool,
        fit_on: FitOn,
    ) -> None:
        super().__init__(fit_on)
        self.num_features, self.num_labels = num_features, num_labels
        self.hidden, self.standardize = tuple(hidden), standardize
        sizes = [num_features, *hidden]
        layers: list[nn.Module] = []
        with torch.random.fork_rng(devices=[]):  # the weights are drawn below, from a generator of their own
            for inputs, outputs in pairwise(sizes):
                layers += [nn.Linear(inputs, outputs), nn.ReLU()]
            self.head = nn.Sequential(*layers, nn.Linear(sizes[-1], num_outputs))
        self.register_buffer("feature_mean", torch.zeros(num_features))
        self.register_buffer("feature_scale", torch.ones(num_features))
        self._draw(torch.Generator().manual_seed(0), torch.zeros(num_outputs))

    @property
    def chooses_offsets(self) -> bool:
        """Say whether offsets are chosen after the training, on log odds of images that it was not trained on."""
        return False

    def outputs(self, features: Tensor) -> Tensor:
        """Return the head's outputs for features (N, D), differentiable, in the head's dtype."""
        return self.head(self.standardised(features))

    def standardised(self, features: Tensor) -> Tensor:
        """Return the features (N, D) as the head takes them, in its dtype."""
        return (features.to(self.feature_mean.dtype) - self.feature_mean) * self.feature_scale

    def loss(self, scores: Tensor, targets: Tensor, features: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return the training loss, a mean over images; differentiable in scores, features and the head."""
        return self.loss_of(self.outputs(features), scores, targets, mask)

    @abstractmethod
    def loss_of(self, outputs: Tensor, scores: Tensor, targets: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return the training loss by the head's outputs for the images, in which it is differentiable."""

    @property
    def learns_by_outputs(self) -> bool:
        """Say whether the loss goes by the head's outputs, and by no other weights than the head's."""
        alone = len(list(self.parameters())) == len(list(self.head.parameters()))
        return alone and type(self).loss is LearntDecision.loss

    @torch.no_grad()
    def gradients(
        self, scores: Tensor, targets: Tensor, features: Tensor, mask: Tensor | None = None
    ) -> tuple[Tensor, list[Tensor]]:
        """Return the loss and its gradients in the head's weights and biases, of a decision that learns by outputs.

        They are autograd's, on a CPU to the last bit. Through the small layers of a head autograd takes longer to find
        its way than their products take.
        """
        layers = [layer for layer in self.head if isinstance(layer, nn.Linear)]
        inputs = [self.standardised(features)]
        for layer in layers[:-1]:
            inputs.append(F.linear(inputs[-1], layer.weight, layer.bias).relu_())
        outputs = F.linear(inputs[-1], layers[-1].weight, layers[-1].bias)
        loss, slopes = self.slopes(outputs, scores, targets, mask)
        found = []
        for place, given in reversed(list(enumerate(inputs))):
            found += [slopes.sum(0), slopes.T @ given]
            if place:
                slopes = torch.ops.aten.threshold_backward(slopes @ layers[place].weight, given, 0)
        return loss, found[::-1]

    def slopes(
        self, outputs: Tensor, scores: Tensor, targets: Tensor, mask: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return the loss by the head's outputs and its gradient in them: autograd's, or to the last bit by formula."""
        with torch.enable_grad():
            outputs = outputs.detach().requires_grad_()
            loss = self.loss_of(outputs, scores, targets, mask)
        (slopes,) = torch.autograd.grad(loss, outputs)
        return loss.detach(), slopes

    def reset(
        self, scores: Array, targets: Array, features: Array, mask: Array | None = None, *, seed: int = 0
    ) -> None:
        """Start from scratch: draw the head's weights from `seed` and set what the training data determine.

        That is the standardisation of the features and the bias of the output layer. Features are read in
        blocks. Raises ValueError for data nothing can be fitted on, see `check_fit`, and features that are not finite.
        """
        check_fit(scores, targets, mask)
        check_features(features, len(scores), self.num_features, type(self).__name__)
        mean, scale = _moments(features)
        if self.standardize:
            self.feature_mean = mean.to(self.feature_mean)
            self.feature_scale = scale.to(self.feature_scale)
        self._draw(torch.Generator().manual_seed(seed), self._constant(scores, targets, mask))

    def problems(self, scores: Array, features: Array | None = None) -> list[str]:
        """Return what is suspicious about a fitted head on these data: constant, or only empty label sets."""

        def looked_at(scores: Tensor, features: Tensor | None) -> Tensor:
            """Return the lowest and the highest estimate of each label, and whether any is named, (3, K) or (3, 1)."""
            decided = self.constrained(scores, features)
            estimates = decided.thresholds if decided.thresholds is not None else decided.counts
            assert estimates is not None
            estimates = estimates.where(estimates < NEVER, 0).reshape(len(estimates), -1)
            low, high = estimates.amin(0), estimates.amax(0)
            return torch.stack([low, high, decided.label_sets.any().to(low.dtype).expand_as(low)])

        low, high, named = torch.stack(self._in_blocks(looked_at, scores, features)).unbind(1)
        low, high = low.amin(0), high.amax(0)
        found = []
        if (high - low).amax() <= 1e-6 * torch.maximum(-low, high).amax().clamp_min(1):
            found.append(
                "the head predicts the same for every image (a dead ReLU layer, or nothing to learn); "
                "lower the learning rate, standardise the features or check them"
            )
        if not named.any():
            found.append("every predicted label set is empty")
        return found

    @abstractmethod
    def _constant(self, scores: Array, targets: Array, mask: Array | None) -> Tensor:
        """Return the best constant output, up to a simple estimate."""

    @torch.no_grad()
    def _draw(self, generator: torch.Generator, bias: Tensor) -> None:
        linear = [layer for layer in self.head if isinstance(layer, nn.Linear)]
        for layer in linear:
            # uniform, of variance 2 / inputs before a ReLU and 1 / (3 inputs), as in torch, in the last
            bound = (6 if layer is not linear[-1] else 1) / layer.in_features
            weight = torch.empty(layer.weight.shape).uniform_(-(bound**0.5), bound**0.5, generator=generator)
            layer.weight.copy_(weight)
            layer.bias.zero_()
        linear[-1].bias.copy_(bias)

    @torch.no_grad()
    def _estimates(self, features: Array | None, rows: int) -> Tensor:
        """Return what `_estimate` says of checked features, block by block."""
        device = self.feature_mean.device
        blocks = row_blocks(self._checked_features(features, rows))
        return torch.cat([self._estimate(block.to(device)) for block in blocks])

    @abstractmethod
    def _estimate(self, features: Tensor) -> Tensor:
        """Return what the head estimates for each image: thresholds float32 (N, K) or (N, 1), or counts int64 (N,)."""

    def _checked_features(self, features: Array | None, rows: int) -> Array:
        return check_features(features, rows, self.num_features, type(self).__name__)


class LearntThresholds(LearntDecision):
    """Names the labels with f_k(x) > theta_k(x), the head's outputs: one for each label, or one for all of an
    image's."""

    decides_by: ClassVar[tuple[str, ...]] = ("thresholds",)

    def thresholds(self, features: Array | None, n: int) -> Tensor:
        """Return theta(x) for the `n` images and every label, float32 (n, K)."""
        return self._estimates(features, n).expand(n, self.num_labels)

    def forward(self, scores: Tensor, features: Tensor | None = None) -> Decided:
        assert features is not None
        thresholds = self._estimate(features).expand_as(scores)
        return Decided(scores > thresholds, thresholds)

    def _estimate(self, features: Tensor) -> Tensor:
        return self.outputs(features).float()


def _moments(features: Array) -> tuple[Tensor, Tensor]:
    """Mean and inverse standard deviation (1 where a feature is constant) over the rows, (D,)."""
    total, square, shift = torch.zeros(()), torch.zeros(()), torch.zeros(())
    for number, block in enumerate(row_blocks(features)):
        values = block.double().cpu()
        if not torch.isfinite(values).all():
            raise ValueError("features: NaN or infinite values; check the network that made them")
        if number == 0:
            shift = values.mean(0)
        total = total + (values - shift).sum(0)
        square = square + (values - shift).square().sum(0)
    mean = total / len(features)
    deviation = (square / len(features) - mean.square()).clamp_min(0).sqrt()
    constant = deviation <= 1e-6 * (mean + shift).abs()
    return mean + shift, torch.where(constant, 1.0, 1 / deviation)


def middle_threshold(scores: Array, targets: Array, mask: Array | None) -> float:
    """Return the middle between the mean scores of positives and of negatives, where learnt thresholds start."""
    sums, counts = np.zeros(2), np.zeros(2, np.int64)
    for rows in row_slices(*scores.shape):
        values, labels = as_numpy(scores[rows]), as_numpy(targets[rows]) != 0
        known = known_entries(labels, None if mask is None else mask[rows])
        for kind, of in enumerate((values[labels & known], values[~labels & known])):
            sums[kind] += of.sum(dtype=np.float64)
            counts[kind] += len(of)
    positive, negative = sums / counts
    return float(positive + negative) / 2
