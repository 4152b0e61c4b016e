"""What a person sees while a stage works: a bar on a terminal, plain lines elsewhere."""

import logging
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.utilities.warnings import PossibleUserWarning
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from lsep_ml.terminal import console

log = logging.getLogger(__name__)

_BETWEEN = 0.2  # seconds between two looks at the loss


class EpochLines(Callback):
    """Logs one line an epoch, of `epochs` in all."""

    def __init__(self, epochs: int) -> None:
        self.epochs = epochs
        self._started = time.perf_counter()

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._started = time.perf_counter()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        metrics = trainer.callback_metrics
        log.info(
            "  epoch %*d/%d   train loss %.4f   val loss %.4f   val mAP %.2f%%   %.1f s",
            len(str(self.epochs)),
            trainer.current_epoch + 1,
            self.epochs,
            metrics["train/loss"],
            metrics["val/loss"],
            100 * metrics["val/map"],
            time.perf_counter() - self._started,
        )


class TrainingBar(Callback):
    """A bar over all steps of a training, with its epoch, the loss of a recent step and the time that is left."""

    def __init__(self, epochs: int) -> None:
        self.epochs = epochs
        self._shown_at = 0.0
        self._bar = Progress(
            TextColumn("epoch {task.fields[epoch]}/{task.fields[epochs]}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[loss]}"),
            TimeRemainingColumn(),
            console=console,
            transient=True,
        )
        self._task = self._bar.add_task("", epoch=1, epochs=epochs, loss="")

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._bar.update(self._task, total=self.epochs * int(trainer.num_training_batches))
        self._bar.start()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if time.monotonic() - self._shown_at < _BETWEEN:  # reading a loss waits for the device
            return
        self._shown_at = time.monotonic()
        done = trainer.current_epoch * int(trainer.num_training_batches) + batch_idx + 1
        loss = f"loss {float(outputs['loss']):.4f}"
        self._bar.update(self._task, completed=done, epoch=trainer.current_epoch + 1, loss=loss)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self._bar.stop()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self._bar.stop()


@contextmanager
def quiet_lightning() -> Iterator[None]:
    """Keep Lightning from logging on devices, products, buffers, and loader workers that cached arrays do not need."""
    loggers = [
        logging.getLogger(name)
        for name in (
            "pytorch_lightning.utilities.rank_zero",
            "pytorch_lightning.accelerators.cuda",
            "lightning_fabric.utilities.rank_zero",
            "lightning_fabric.utilities.distributed",
        )
    ]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=PossibleUserWarning)
        warnings.filterwarnings("ignore", message=".*LeafSpec.*")  # Lightning 2.6 on torch 2.15
        warnings.filterwarnings("ignore", message=".*fp16 is not supported on CPU")  # which build_job refuses
        # Its successor needs PyTorch 2.15.
        warnings.filterwarnings("ignore", message=".*`broadcast_buffers` is deprecated")
        for logger in loggers:
            logger.setLevel(logging.WARNING)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)


def progress_callbacks(epochs: int) -> list[Callback]:
    """Build the callbacks that show the progress of `epochs` epochs: lines, and on a terminal a bar between them."""
    bar: list[Callback] = [TrainingBar(epochs)] if console.is_terminal else []
    return [EpochLines(epochs), *bar]
