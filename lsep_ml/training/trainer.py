"""The trainer of stage 1, as the configuration's group `trainer` names it, and the watch over its steps."""

import logging
import math
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.profilers import PassThroughProfiler
from torch import Tensor, distributed
from torch.nn.utils import get_total_norm
from torch.optim import Optimizer

log = logging.getLogger(__name__)


def build_trainer(*, skip_nan_steps: int = 0, callbacks: Sequence[Callback] = (), **options: Any) -> Trainer:
    """Build a `pytorch_lightning.Trainer` with `options` that watches its steps (`FiniteSteps`).

    Args:
        skip_nan_steps: how many steps in a row may be left out because they are not finite.
        callbacks: those that follow the watch.
        options: further arguments of the Trainer; with `deterministic`, no kernel is chosen by timing it.
    """
    if options.get("deterministic"):
        options["benchmark"] = False
    elif not torch.are_deterministic_algorithms_enabled():
        options.pop("deterministic", None)  # to say so once more would load torch's compiler
    options.setdefault("profiler", Untimed())
    return Trainer(callbacks=[FiniteSteps(skip_nan_steps), *callbacks], **options)


class Untimed(PassThroughProfiler):
    """Times nothing, in less time: Lightning asks fifty times a step."""

    def profile(self, action_name: str) -> AbstractContextManager[None]:  # type: ignore[override]
        return _NOTHING


_NOTHING = nullcontext()


class FiniteSteps(Callback):
    """Looks at the loss and the largest gradient entry of every optimizer step, the mean over all processes.

    Args:
        skip: so many bad steps in a row are left out (weights and momentum stay, the schedule goes on), counted and
            said; the next one stops the training. What the step did to buffers (batch norm's statistics) is undone.
            This waits for the device at every step. With 0, the first bad step stops it, and on a GPU a step is judged
            while the next one is computed, so that nothing waits; no checkpoint is written and no validation begun
            before the last step is judged.

    With a loss scaler (trainer.precision=16-mixed) infinite gradients are the scaler's matter: only the loss is judged.

    Raises:
        ValueError: `skip` is negative.
        FloatingPointError: in a training; names what is not finite, the loss function, the step and the epoch.
    """

    def __init__(self, skip: int = 0) -> None:
        if skip < 0:
            raise ValueError(f"trainer.skip_nan_steps={skip}: at least 0")
        self.skip = skip
        self.skipped = 0
        self._in_a_row = 0
        self._loss: Tensor | None = None
        self._buffers: list[tuple[Tensor, Tensor]] = []  # and their values before the step
        self._pending: tuple[Tensor, torch.cuda.Event, str] | None = None

    def state_dict(self) -> dict[str, Any]:
        return {"skipped": self.skipped, "in_a_row": self._in_a_row}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.skipped, self._in_a_row = state_dict["skipped"], state_dict["in_a_row"]

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        if self.skip and self._loss is None:  # the first batch of a step
            self._buffers = [(buffer, buffer.clone()) for buffer in pl_module.buffers()]

    def on_before_backward(self, trainer: Trainer, pl_module: LightningModule, loss: Tensor) -> None:
        # Of accumulated batches the sum, which is finite only if all of them are.
        self._loss = loss.detach() if self._loss is None else self._loss + loss.detach()

    def on_before_optimizer_step(
        self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer
    ) -> None:
        assert self._loss is not None
        loss, self._loss = self._loss.float(), None
        if trainer.world_size > 1:
            loss = loss.clone()
            distributed.all_reduce(loss)  # as the gradients are: all stop, or leave a step out, together
            loss /= trainer.world_size
        gradients = [
            p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None
        ]
        on_cpu = loss.device.type == "cpu"
        if on_cpu and all(math.isfinite(sums) for sums in (loss, *map(torch.sum, gradients))):
            self._in_a_row = 0  # only finite entries have a finite sum, which takes a tenth of a norm's time
            return
        scaled = getattr(trainer.precision_plugin, "scaler", None) is not None
        largest = torch.zeros_like(loss) if scaled else get_total_norm(gradients, math.inf).to(loss)
        values = torch.stack([loss, largest])
        place = (
            f"of loss={getattr(pl_module, 'loss_name', '?')} became {{}} at step {trainer.global_step} "
            f"(epoch {trainer.current_epoch + 1}); "
            "lower optimizer.lr, or bound the gradient with trainer.gradient_clip_val=1"
        )
        self._judge()
        if self.skip:
            self._leave_out(trainer, optimizer, values, place)
        elif values.is_cuda:
            event = torch.cuda.Event()
            copy = values.to("cpu", non_blocking=True)
            event.record()
            self._pending = copy, event, place
        else:
            _require_finite(values, place)

    def _judge(self) -> None:
        if self._pending is not None:
            values, event, place = self._pending
            self._pending = None
            event.synchronize()
            _require_finite(values, place)

    def _leave_out(self, trainer: Trainer, optimizer: Optimizer, values: Tensor, place: str) -> None:
        if bool(torch.isfinite(values).all()):
            self._in_a_row = 0
            return
        self._in_a_row += 1
        if self._in_a_row > self.skip:
            _require_finite(values, f"{place}; {self.skip} steps before it were left out")
        self.skipped += 1
        for buffer, before in self._buffers:
            buffer.copy_(before)
        optimizer.zero_grad(set_to_none=True)  # an optimizer passes over parameters without a gradient
        log.warning("Left out step %d, not finite: %d in all so far.", trainer.global_step, self.skipped)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._judge()

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        self._judge()


def _require_finite(values: Tensor, place: str) -> None:
    for name, value in zip(("the loss", "the gradient"), values.tolist(), strict=True):
        if not math.isfinite(value):
            raise FloatingPointError(f"{name} {place.format(value)}")
