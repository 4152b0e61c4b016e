"""Stage 2 as a LightningModule: the one training loop of the learnt decisions."""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.core.optimizer import LightningOptimizer
from torch import Tensor, nn
from torch.nn.utils import get_total_norm
from torch.optim import SGD, Optimizer
from torch.utils.data import BatchSampler, DataLoader, Dataset, RandomSampler, Sampler

from lsep_ml.decisions import LearntDecision
from lsep_ml.decisions.checks import Array, float_tensor

OptimizerFactory = Callable[[Iterable[nn.Parameter]], Optimizer]

_BLOCK = 64
"""Batches that are loaded at once: a loader and a Trainer take longer over each than a small network over a step."""


class DecisionBatch(NamedTuple):
    """Some cached rows: scores (B, K), targets (B, K), features (B, D), and mask (B, K) or None."""

    scores: Tensor
    targets: Tensor
    features: Tensor
    mask: Tensor | None


@torch.no_grad()
def take_step(optimizer: Optimizer, weights: Sequence[Tensor], gradients: Sequence[Tensor]) -> None:
    """Have the `optimizer` of these weights take a step.

    That of SGD with momentum and nothing else is taken here, as torch takes it but in place, `gradients` included: a
    third of the time.
    """
    group = optimizer.param_groups[0]
    buffers = [optimizer.state.get(weight, {}).get("momentum_buffer") for weight in weights]
    special = any(
        group.get(name) for name in ("nesterov", "maximize", "dampening", "fused", "differentiable")
    )
    if (
        type(optimizer) is not SGD
        or special
        or isinstance(group["lr"], Tensor)
        or any(b is None for b in buffers)
    ):
        for weight, gradient in zip(weights, gradients, strict=True):
            weight.grad = gradient
        optimizer.step()
        return
    for weight, gradient, buffer in zip(weights, gradients, buffers, strict=True):
        if group["weight_decay"]:
            gradient.add_(weight, alpha=group["weight_decay"])
        buffer.mul_(group["momentum"]).add_(gradient)
        weight.add_(buffer, alpha=-group["lr"])


class CachedRows(Dataset[list[DecisionBatch]]):
    """Holds cached arrays, of which it reads a few batches of rows at a time."""

    def __init__(self, scores: Array, targets: Array, features: Array, mask: Array | None) -> None:
        self.scores, self.targets, self.features, self.mask = scores, targets, features, mask

    def __len__(self) -> int:
        return len(self.scores)

    def __getitem__(self, batches: Sequence[Sequence[int]]) -> list[DecisionBatch]:
        rows: Any = np.concatenate(batches)
        lengths = [len(batch) for batch in batches]

        def parts(array: Array) -> list[Tensor]:
            if isinstance(array, np.ndarray):  # faster than by brackets
                found = torch.from_numpy(np.take(array, rows, 0).astype(np.float32, copy=False))
            else:
                found = float_tensor(array[torch.from_numpy(rows) if isinstance(array, Tensor) else rows])
            # As aligned in memory as a batch read alone, on which the last bits of its products may depend.
            return [part.clone() for part in found.split(lengths)]

        columns = parts(self.scores), parts(self.targets), parts(self.features)
        masks = [None] * len(batches) if self.mask is None else [part != 0 for part in parts(self.mask)]
        return [DecisionBatch(*batch) for batch in zip(*columns, masks, strict=True)]


class _Blocks(Sampler[list[list[int]]]):
    """Hands out the batches of a sampler several at a time."""

    def __init__(self, batches: BatchSampler, size: int) -> None:
        self.batches, self.size = batches, size

    def __len__(self) -> int:
        return -(-len(self.batches) // self.size)

    def __iter__(self) -> Iterator[list[list[int]]]:
        batches, count = iter(self.batches), len(self.batches)
        for start in range(0, count, self.size):
            # Never one more than there are: a random sampler that is asked draws the next order.
            yield list(islice(batches, min(self.size, count - start)))


def shuffled(rows: CachedRows, batch_size: int, seed: int) -> DataLoader[list[DecisionBatch]]:
    """Load `rows` in batches, in an order that is drawn anew for each epoch from the loader's `generator`."""
    order = torch.Generator().manual_seed(seed)
    batches = BatchSampler(RandomSampler(rows, generator=order), batch_size, drop_last=False)
    return DataLoader(rows, batch_size=None, sampler=_Blocks(batches, _BLOCK), generator=order)


class LabelDecision(pl.LightningModule):
    """Trains `decision` by its own loss on cached scores and features; no network is touched.

    A training step takes a list of batches, and one optimizer step for each of them.

    on_epoch(epoch, loss) is called after every epoch, from 0, with the loss averaged over the images; in a training
    that continues, for the epochs before too.
    """

    def __init__(
        self,
        decision: LearntDecision,
        optimizer: OptimizerFactory,
        on_epoch: Callable[[int, float], None] | None = None,
    ) -> None:
        super().__init__()
        self.decision = decision
        self.optimizer_factory = optimizer
        self.on_epoch = on_epoch
        self._total, self._images = torch.tensor(0.0), 0
        self._losses: list[float] = []  # of the epochs so far
        self._steps = 0
        self.automatic_optimization = False

    def training_step(self, batches: list[DecisionBatch], batch_idx: int) -> None:
        optimizer = self.optimizers()
        assert isinstance(optimizer, LightningOptimizer)
        # Lightning's way around a step takes longer than the step. It counts these batches as one step of its own.
        by_lightning = getattr(self.trainer.precision_plugin, "scaler", None) is not None
        by_hand = self.device.type == "cpu" and self.decision.learns_by_outputs
        total, images, last = self._total, 0, batches[-1]
        weights, itself = list(self.decision.parameters()), optimizer.optimizer
        for batch in batches:
            if by_lightning or batch is last or not by_hand or torch.is_autocast_enabled("cpu"):
                loss = self.decision.loss(*batch)
                optimizer.zero_grad()
                self.manual_backward(loss)
                (optimizer if by_lightning or batch is last else itself).step()
            else:
                loss, gradients = self.decision.gradients(*batch)
                take_step(itself, weights, gradients)
            total = total + loss.detach() * len(batch.scores)
            images += len(batch.scores)
        self._steps += len(batches)
        self._total, self._images = total, self._images + images

    def on_train_epoch_start(self) -> None:
        self._total, self._images = torch.tensor(0.0, dtype=torch.float64, device=self.device), 0

    def on_train_epoch_end(self) -> None:
        loss = float(self._total) / self._images
        largest = get_total_norm([weight.detach() for weight in self.decision.parameters()], math.inf)
        if not math.isfinite(loss) or not largest.isfinite():
            what = "a weight is" if math.isfinite(loss) else "the loss is"
            raise FloatingPointError(
                f"{type(self.decision).__name__}: {what} not finite at step {self._steps} "
                f"(epoch {self.current_epoch + 1}); lower fitting.optimizer.lr"
            )
        self._losses.append(loss)
        if self.on_epoch is not None:
            self.on_epoch(self.current_epoch, loss)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["losses"], checkpoint["steps"] = self._losses, self._steps

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self._losses, self._steps = checkpoint["losses"], checkpoint.get("steps", 0)
        if self.on_epoch is not None:
            for epoch, loss in enumerate(self._losses):
                self.on_epoch(epoch, loss)

    def configure_optimizers(self) -> Any:
        return self.optimizer_factory(self.decision.parameters())
