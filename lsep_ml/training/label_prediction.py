"""Stage 1: fit the scores f(x) with a loss over label pairs or labels."""

import itertools
import math
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import numpy as np
import torch
from pytorch_lightning import Callback, LightningModule
from pytorch_lightning.callbacks import WeightAveraging
from pytorch_lightning.plugins.precision import MixedPrecision, Precision
from pytorch_lightning.utilities.enums import GradClipAlgorithmType
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.optim import Optimizer

from lsep_ml.data import Batch
from lsep_ml.losses import LabelIndices, blockwise
from lsep_ml.metrics.functional import as_numpy, ranking_metrics
from lsep_ml.models import Network, Prediction, Probe
from lsep_ml.training.parameter_groups import backbone_groups, new_groups
from lsep_ml.training.recipe import Computing, Objective, Optimisation, whole_batch_loss

LARGE = 2**26
"""Scores of a training batch, 256 MiB, from which on they are computed by blocks of labels where they can be."""


class LabelPrediction(LightningModule):
    """Trains the scores of `network` by `objective`, and validates them by ranking metrics on raw scores.

    Args:
        network: what is trained: images -> features -> scores, or a probe, whose batches hold features for images.
        objective: the loss, and in joint training the decision whose loss is added.
        optimisation: optimizer, schedule, and which weights learn how fast.
        computing: memory layout, compiler and processes.

    A loss that compares images (the two-way loss) is that of the whole batch, whichever process has which part of it,
    or of the micro-batch where gradients are accumulated; val/loss is that of all validation images at once.

    Where images are mixed with others, share lambda their own, the loss is lambda times that for their own labels plus
    1 - lambda times that for the others', so that targets stay 0 or 1.

    Under mixed precision the backbone computes in half precision; the score layer, the scores and the loss are float32.

    From `LARGE` scores in a training batch on, those of a linear layer and a loss that `blockwise` has are never there
    all at once, and neither is their gradient; value and gradients are the same to rounding.

    Logs train/loss, val/loss and val/<key> for every key of `ranking_metrics`; each is the number that one process
    would log for the same scores.

    Raises:
        FloatingPointError: validation scores that are not finite, on all processes whichever has them.
    """

    def __init__(
        self,
        network: Network | Probe,
        objective: Objective,
        optimisation: Optimisation,
        computing: Computing | None = None,
    ) -> None:
        super().__init__()
        self.network = network
        self.objective = objective
        self.decision = objective.decision  # a module of this one, so that its weights are found in the state
        self.optimisation = optimisation
        self.computing = computing or Computing()
        # A compiled function: a compiled module would be a second one, its names in the state beginning with _orig_mod.
        backend = self.computing.backend
        self.extract = network.extract if backend is None else torch.compile(network.extract, backend=backend)
        # Of each step of this epoch: its images, and a row of their summed loss and counts. One tensor that grows:
        # small ones kept between the large ones of a step would part the memory into pieces too small for the next.
        self._images: list[int] = []
        self._sums = torch.empty(0, 1 + len(objective.diagnostics), dtype=torch.float64)
        # Of each batch of this epoch's validation: rows, losses, scores, targets, known entries.
        self._validated: list[tuple[np.ndarray, ...]] = []

    @property
    def loss_name(self) -> str:
        """Return what messages call the loss: `objective.name`."""
        return self.objective.name

    def forward(self, images: Tensor) -> Prediction:
        features = self._features(images)
        half = torch.is_autocast_enabled(features.device.type)
        with torch.autocast(features.device.type, enabled=False) if half else nullcontext():
            return Prediction(self.network.score_layer(features), features[:, : self.network.num_features])

    def _features(self, images: Tensor) -> Tensor:
        """Compute what the score layer reads, in its own type."""
        features = self.extract(images)
        return features.to(self.network.score_layer.weight.dtype)

    def configure_callbacks(self) -> list[Callback]:
        decay = self.optimisation.ema
        if decay is None:
            return []

        def towards(average: Tensor, current: Tensor, updates: Tensor) -> Tensor:
            return average + (1 - decay) * (current - average)  # which leaves constants as they are

        return [WeightAveraging(use_buffers=True, avg_fn=towards)]

    def on_fit_start(self) -> None:
        if self.computing.channels_last:
            self.network.to(memory_format=torch.channels_last)

    def on_train_epoch_start(self) -> None:
        self._images = []
        self._freeze()

    def on_train_start(self) -> None:
        self._freeze()  # a training that continues within an epoch does not start it

    def _freeze(self) -> None:
        trained = self.current_epoch >= self.optimisation.frozen_epochs
        self.network.backbone.requires_grad_(trained).train(trained)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        evaluated = self._by_blocks(batch) or self._at_once(batch)
        loss, *counts = evaluated(batch)
        if batch.others is not None:
            targets, mask, share, soft = batch.others
            other, *_ = evaluated(batch._replace(targets=targets, mask=mask, soft=soft))
            loss = share * loss + (1 - share) * other
        of_batch = loss.detach().double() * len(batch.rows)
        step = len(self._images)
        if step == len(self._sums):
            longer = of_batch.new_empty(max(256, 2 * step), 1 + len(counts))
            longer[:step] = self._sums
            self._sums = longer
        torch.stack([of_batch, *(count.double() for count in counts)], out=self._sums[step])
        self._images.append(len(batch.rows))
        return loss * batch.weight

    def _at_once(self, batch: Batch) -> Callable[[Batch], list[Tensor]]:
        """Return what computes, from all scores of the batch's images, their loss with given labels and its counts."""
        scores, features = self(batch.images)

        def evaluated(labels: Batch) -> list[Tensor]:
            known = scores.detach(), labels.targets, labels.mask
            counts = [count(*known) for count in self.objective.diagnostics.values()]
            return [self._loss(scores, features, labels), *counts]

        return evaluated

    def _by_blocks(self, batch: Batch) -> Callable[[Batch], list[Tensor]] | None:
        """Return what computes the same without all scores, where these are many; None: they are few, or needed."""
        layer, objective = self.network.score_layer, self.objective
        if not isinstance(layer, nn.Linear) or len(batch.rows) * layer.out_features < LARGE:
            return None
        soft = any(labels is not None and labels.soft is not None for labels in (batch, batch.others))
        half = layer.weight.dtype not in (torch.float32, torch.float64)
        together = blockwise(objective.loss, *objective.diagnostics.values())
        if together is None or soft or half or objective.label_smoothing or self.decision is not None:
            return None
        features = self._features(batch.images)

        def evaluated(labels: Batch) -> list[Tensor]:
            dense = not isinstance(labels.targets, LabelIndices)
            targets = LabelIndices.of(labels.targets) if dense else labels.targets
            losses, *counted = together(features, layer.weight, layer.bias, targets, labels.mask)
            return [losses.mean(), *(of_rows.sum() for of_rows in counted)]

        return evaluated

    def _loss(self, scores: Tensor, features: Tensor, batch: Batch) -> Tensor:
        loss = self.objective.loss
        if self.objective.compares_images:
            value = whole_batch_loss(loss, scores, batch, self.computing.gather, self.global_rank)
        else:
            targets = batch.targets if batch.soft is None else batch.soft
            value = loss(scores, self.objective.targets(targets, batch.mask), mask=batch.mask)
        if self.decision is None:
            return value
        of_decision = self.decision.loss(scores, batch.targets, features, batch.mask)
        return value + self.objective.decision_weight * of_decision

    def _training_values(self) -> dict[str, float]:
        """Compute mean loss and counts of the epoch so far, over all processes and without steps that were left out."""
        steps = self._steps()
        finite = steps[torch.isfinite(steps).all(dim=1)].T.tolist()
        images, loss, *counts = (math.fsum(column) for column in finite)  # the same in any order of the steps
        return {"loss": loss / images, **dict(zip(self.objective.diagnostics, counts, strict=True))}

    def _steps(self) -> Tensor:
        """Gather the images, summed loss and counts of this epoch's steps from all processes, (steps, 2 + counts)."""
        sums = self._sums[: len(self._images)].cpu()
        steps = torch.column_stack([torch.tensor(self._images, dtype=sums.dtype), sums])
        return torch.cat(self.computing.gather(steps))

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["steps"] = self._steps()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        if self.trainer.is_global_zero:  # it takes those of all
            steps = checkpoint["steps"]
            self._images = steps[:, 0].long().tolist()
            self._sums = steps[:, 1:].to(self.trainer.strategy.root_device)

    def on_validation_epoch_start(self) -> None:
        self._validated = []

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        scores = self(batch.images).scores.float()
        # Of a loss that compares images no image has one of its own; what is not finite stops all processes at the end.
        if self.objective.compares_images or not torch.isfinite(scores).all():
            losses = scores.new_empty(len(scores))
        else:
            losses = self.objective.loss(scores, batch.targets, mask=batch.mask, reduction="none")
        known = torch.ones_like(batch.targets) if batch.mask is None else batch.mask
        arrays = (batch.rows, losses, scores, batch.targets, known)
        self._validated.append(tuple(as_numpy(array) for array in arrays))

    def on_validation_epoch_end(self) -> None:
        batches = list(itertools.chain.from_iterable(self.computing.gather(self._validated)))
        self._validated = []
        losses, scores, targets, known = _by_row(batches)
        if not np.isfinite(scores).all():
            raise FloatingPointError(
                f"scores of loss={self.loss_name} are not finite at step {self.global_step}; lower optimizer.lr"
            )
        if self.objective.compares_images:
            tensors = (torch.from_numpy(array) for array in (scores, targets, known != 0))
            loss = float(self.objective.loss(next(tensors), next(tensors), mask=next(tensors)))
        else:
            loss = math.fsum(losses.tolist()) / len(losses)
        val = {"loss": loss, **ranking_metrics(scores, targets, known)}
        for name, count in self.objective.diagnostics.items():
            val[name] = float(count(*map(torch.from_numpy, (scores, targets, known != 0))))
        values = {f"train/{key}": value for key, value in self._training_values().items()}
        values |= {f"val/{key}": float(value) for key, value in val.items()}
        self.log_dict({key: torch.tensor(value, dtype=torch.float64) for key, value in values.items()})

    def optimizer_zero_grad(self, epoch: int, batch_idx: int, optimizer: Optimizer) -> None:
        # As the optimizer's own does, in less than half the time.
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                parameter.grad = None

    def configure_gradient_clipping(
        self,
        optimizer: Optimizer,
        gradient_clip_val: int | float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        if not gradient_clip_val:
            return
        plugin = self.trainer.precision_plugin
        if isinstance(plugin, MixedPrecision) and plugin.scaler is None:
            # bfloat16 scales no gradients, so a fused optimizer, which Lightning refuses here, has none to unscale.
            algorithm = GradClipAlgorithmType(gradient_clip_algorithm or "norm")
            Precision.clip_gradients(plugin, optimizer, gradient_clip_val, algorithm)
        else:
            self.clip_gradients(optimizer, gradient_clip_val, gradient_clip_algorithm)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        how = self.optimisation
        optimizer = how.optimizer(backbone_groups(self.network.backbone, how.layer_decay, how.decay_all))
        lr = optimizer.param_groups[0]["lr"]
        for group in optimizer.param_groups:
            group["lr"] = lr * group.get("lr_scale", 1.0)
        new_layers = [self.network.score_layer, *([self.decision] if self.decision is not None else [])]
        for group in new_groups(new_layers, how.decay_all):
            optimizer.add_param_group({**group, "lr": lr * how.score_layer_lr})
        schedule = how.schedule(optimizer, int(self.trainer.estimated_stepping_batches))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def _by_row(batches: list[tuple[np.ndarray, ...]]) -> list[np.ndarray]:
    """Return arrays in the order of the rows, the first of each, each once: a process without a batch of its own
    validates on another's. `batches`, rows before the arrays, is emptied on the way: not everything is there twice."""
    rows = np.unique(np.concatenate([batch[0] for batch in batches]))
    arrays = [np.empty((len(rows), *part.shape[1:]), part.dtype) for part in batches[0][1:]]
    while batches:
        of_batch, *parts = batches.pop()
        places = np.searchsorted(rows, of_batch)
        for array, part in zip(arrays, parts, strict=True):
            array[places] = part
    return arrays
