"""Stage 2 as a LightningModule: the one training loop of the learnt decisions."""

import math
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import pytorch_lightning as pl
import torch
from pytorch_lightning.core.optimizer import LightningOptimizer
from torch import Tensor, nn
from torch.nn.utils import get_total_norm
from torch.optim import Optimizer

from lsep_ml.decisions import LearntDecision

OptimizerFactory = Callable[[Iterable[nn.Parameter]], Optimizer]


class DecisionBatch(NamedTuple):
    """Some cached rows: scores (B, K), targets (B, K), features (B, D), and mask (B, K) or None."""

    scores: Tensor
    targets: Tensor
    features: Tensor
    mask: Tensor | None


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
        total, images, last = self._total, 0, batches[-1]
        for batch in batches:
            loss = self.decision.loss(*batch)
            total = total + loss.detach() * len(batch.scores)
            images += len(batch.scores)
            optimizer.zero_grad()
            if by_lightning or batch is last:
                self.manual_backward(loss)
                optimizer.step()
            else:
                loss.backward()
                optimizer.optimizer.step()
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
