"""What a training of stage 1 is made of beside its network: what is minimised, how, and in what form it is computed."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from lsep_ml.data import Batch
from lsep_ml.decisions import LearntDecision
from lsep_ml.losses import compares_images, smoothed, smooths_labels

Loss = Callable[..., Tensor]
Gather = Callable[[Any], list[Any]]
"""A value -> every process's, in the order of their ranks."""


@dataclass(frozen=True)
class Objective:
    """Says what is minimised: `loss(scores, targets, mask=mask)`, and in joint training a decision's own loss beside
    it.

    loss: a function of `lsep_ml.losses`, its options bound.
    name: what messages call the loss.
    decision: a learnt decision that is trained at the same time, its gradient flowing into the network; None trains the
        prediction alone, as the paper does.
    decision_weight: factor on the decision's loss.
    diagnostics: name -> function of (scores, targets, mask) that counts rows of a batch; the counts are summed over an
        epoch and logged as train/<name>, those of validation as val/<name>.
    label_smoothing: how far the targets of training are moved, in [0, 1) (`lsep_ml.losses.smoothed`); validation has
        them as they are.

    Raises:
        ValueError: label smoothing for a loss that has no meaning for targets between 0 and 1.
    """

    loss: Loss
    name: str
    decision: LearntDecision | None = None
    decision_weight: float = 1.0
    diagnostics: Mapping[str, Callable[..., Tensor]] = field(default_factory=dict)
    label_smoothing: float = 0.0

    def __post_init__(self) -> None:
        if self.label_smoothing and not smooths_labels(self.loss):
            raise ValueError(
                f"training.label_smoothing={self.label_smoothing}: loss={self.name} has no meaning for targets between "
                "0 and 1; take loss=bce, softmax or zlpr, or training.label_smoothing=0"
            )

    def targets(self, targets: Tensor, mask: Tensor | None) -> Tensor:
        """Give what the loss is trained with for `targets` (N, K), 0/1 or soft; the entries in `mask` are known."""
        if not self.label_smoothing:
            return targets
        return smoothed(self.loss, targets, mask, self.label_smoothing)

    @property
    def compares_images(self) -> bool:
        """Return whether the loss is no sum over images, but compares them."""
        return compares_images(self.loss)


@dataclass(frozen=True)
class Optimisation:
    """Says how the objective is minimised.

    optimizer: parameter groups -> optimizer.
    schedule: (optimizer, total number of steps) -> learning-rate schedule, stepped after every batch.
    score_layer_lr: factor on the learning rate of the new score layer.
    frozen_epochs: epochs at the start in which the backbone stays as it is, its batch norms included.
    ema: decay of an exponential moving average of the weights and of batch norm's statistics; validation and every
        checkpoint's `state_dict` are the average's. None: no average.
    layer_decay: factor on the learning rate from each layer of the backbone to the one below.
    decay_all: whether biases, norms and what else has one dimension have the optimizer's weight decay, or none.
    """

    optimizer: Callable[[Iterable[dict[str, Any]]], Optimizer]
    schedule: Callable[[Optimizer, int], LRScheduler]
    score_layer_lr: float = 1.0
    frozen_epochs: int = 0
    ema: float | None = None
    layer_decay: float = 1.0
    decay_all: bool = True


def _alone(value: Any) -> list[Any]:
    return [value]


@dataclass(frozen=True)
class Computing:
    """Says in what form a training is computed, and with which processes; none of it is meant to change a result.

    channels_last: whether the convolutions compute in that memory layout.
    backend: of torch.compile, for images -> features; None: not compiled. The names of the state stay the same.
    gather: a value -> every process's, in the order of their ranks, where several train together; each trains on its
        share of a batch and validates on its share of the validation batches.
    """

    channels_last: bool = False
    backend: str | None = None
    gather: Gather = _alone


def whole_batch_loss(
    loss: Callable[..., Tensor], scores: Tensor, batch: Batch, gather: Gather, rank: int
) -> Tensor:
    """Return the loss of the whole batch, on every process, from the scores (n, K) of this one's part of it.

    Its gradient reaches this part alone, multiplied so that, once the training has multiplied it by `batch.weight` and
    averaged it over the processes, it is the gradient of that one loss.
    """
    own = scores.detach().cpu(), batch.targets.cpu(), None if batch.mask is None else batch.mask.cpu()
    parts = gather(own)
    of_all = [part.to(scores.device) for part, _, _ in parts]
    of_all[rank] = scores
    targets = torch.cat([part for _, part, _ in parts]).to(scores.device)
    mask = None if batch.mask is None else torch.cat([part for _, _, part in parts]).to(scores.device)
    value = loss(torch.cat(of_all), targets, mask=mask)
    return value.detach() + (len(parts) / batch.weight) * (value - value.detach())
