"""What a training of stage 1 is made of beside its network: what is minimised, how, and in what form it is computed."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from lsep_ml.decisions import LearntDecision
from lsep_ml.losses import compares_images

Loss = Callable[..., Tensor]


@dataclass(frozen=True)
class Objective:
    """What is minimised: `loss(scores, targets, mask=mask)`, and in joint training a decision's own loss beside it.

    loss: a function of `lsep_ml.losses`, its options bound.
    name: what messages call the loss.
    decision: a learnt decision that is trained at the same time, its gradient flowing into the network; None trains the
        prediction alone, as the paper does.
    decision_weight: factor on the decision's loss.
    diagnostics: name -> function of (scores, targets, mask) that counts rows of a batch; the counts are summed over an
        epoch and logged as train/<name>.
    """

    loss: Loss
    name: str
    decision: LearntDecision | None = None
    decision_weight: float = 1.0
    diagnostics: Mapping[str, Callable[..., Tensor]] = field(default_factory=dict)

    @property
    def compares_images(self) -> bool:
        """Whether the loss is no sum over images, but compares them."""
        return compares_images(self.loss)


@dataclass(frozen=True)
class Optimisation:
    """How the objective is minimised.

    optimizer: parameter groups -> optimizer.
    schedule: (optimizer, total number of steps) -> learning-rate schedule, stepped after every batch.
    score_layer_lr: factor on the learning rate of the new score layer.
    frozen_epochs: epochs at the start in which the backbone stays as it is, its batch norms included.
    ema: decay of an exponential moving average of the weights and of batch norm's statistics; validation and every
        checkpoint's `state_dict` are the average's. None: no average.
    """

    optimizer: Callable[[Iterable[dict[str, Any]]], Optimizer]
    schedule: Callable[[Optimizer, int], LRScheduler]
    score_layer_lr: float = 1.0
    frozen_epochs: int = 0
    ema: float | None = None


def _alone(value: Any) -> list[Any]:
    return [value]


@dataclass(frozen=True)
class Computing:
    """In what form a training is computed, and with which processes; none of it is meant to change a result.

    channels_last: whether the convolutions compute in that memory layout.
    backend: of torch.compile, for images -> features; None: not compiled. The names of the state stay the same.
    gather: a value -> every process's, in the order of their ranks, where several train together; each trains on its
        share of a batch and validates on its share of the validation batches.
    """

    channels_last: bool = False
    backend: str | None = None
    gather: Callable[[Any], list[Any]] = _alone
