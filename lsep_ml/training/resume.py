"""What lets a killed training go on with the same numbers: its whole state on disk, and no stream of randomness."""

import logging
import re
import shutil
import signal
import threading
import time
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import numpy as np
import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.callbacks import Checkpoint
from torch import Tensor

from lsep_ml.training.checkpoints import UNREADABLE, read_checkpoint, write_checkpoint

log = logging.getLogger(__name__)

TERMINATED = 128 + signal.SIGTERM
"""The exit code of a process that was asked to end, and can be started again: 143."""

_SAME_SIGNAL = 1.0  # seconds


@dataclass(frozen=True)
class Saving:
    """Says how often the state of a training is saved between its epochs' ends, where it always is; None: never."""

    every_n_steps: int | None = None
    every_minutes: float | None = None

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if value is not None and value <= 0:
                raise ValueError(f"checkpoint.{name}={value}: above 0, or null for never")


class States(Checkpoint):
    """Saves the whole state of a training, to go on from, when an epoch ends and saving is due, or it is to end.

    SIGTERM and Ctrl-C (SIGINT) save, then end the process with exit code 143 or 130; a second Ctrl-C ends it at once.
    `state-<step>.ckpt` is written by rank 0; the two newest are kept.
    """

    def __init__(self, folder: Path, saving: Saving) -> None:
        self.folder, self.saving = folder, saving
        self.saved: list[tuple[Path, str | None]] = []  # newest last, and the file that each refers to
        self._signal: int | None = None  # that asks the training to end
        self._signalled_at = 0.0
        self._before: Any = None  # what handled SIGINT
        self._saved_at, self._saved_step = 0.0, 0

    @property
    def last_good(self) -> Path | None:
        """Return the state that was saved or found last."""
        return self.saved[-1][0] if self.saved else None

    @property
    def finished(self) -> Path:
        """Return the folder for what else the same call has finished, such as trainings without some rows."""
        return self.folder / "finished"

    def newest(self) -> Path | None:
        """Find the newest state that is undamaged together with the file that it refers to; warn of damaged ones."""
        files = {
            int(found[1]): file
            for file in self.folder.glob("state-*.ckpt")
            if (found := re.fullmatch(r"state-(\d+)\.ckpt", file.name))
        }
        for _, file in sorted(files.items(), reverse=True):
            try:
                other = self._refers_to(read_checkpoint(file)["callbacks"].get(self.state_key, {}))
                if other is not None:
                    read_checkpoint(self.folder / other)
            except UNREADABLE as error:
                log.warning("%s cannot be continued from (%s): an older state is looked for.", file, error)
                continue
            self.saved = [(file, other)]
            return file
        if files:
            log.warning("No undamaged state of this training is left in %s: it starts again.", self.folder)
        return None

    def _refers_to(self, state: dict[str, Any]) -> str | None:
        """Return the name of the file that the `state` of this callback cannot do without; None: there is none."""
        return None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._saved_at, self._saved_step = time.monotonic(), trainer.global_step
        if threading.current_thread() is threading.main_thread():
            # In place of Lightning's handler, which saves nothing; Lightning puts back what was there before.
            signal.signal(signal.SIGTERM, self._on_signal)
            self._before = signal.signal(signal.SIGINT, self._on_signal)

    def _on_signal(self, signum: int, frame: FrameType | None) -> None:
        # A launcher hands a signal on that its processes have already had: only a later one is a person's second.
        again = self._signal is not None and time.monotonic() - self._signalled_at > _SAME_SIGNAL
        if signum == signal.SIGINT and again:
            raise KeyboardInterrupt
        if self._signal is None:
            self._signal, self._signalled_at = signum, time.monotonic()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self._restore()

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self._restore()

    def _restore(self) -> None:
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)
            self._before = None

    def _end(self) -> NoReturn:
        raise SystemExit(128 + (self._signal or signal.SIGTERM))

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._save_if_due(trainer)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._signal is not None:  # too late to save again
            self._end()

    def _save_if_due(self, trainer: Trainer) -> None:
        steps, minutes = self.saving.every_n_steps, self.saving.every_minutes
        due = minutes is not None and time.monotonic() - self._saved_at >= 60 * minutes
        if steps is not None and trainer.global_step - self._saved_step >= steps:
            due = True
        if trainer.strategy.reduce_boolean_decision(due or self._signal is not None, all=False):
            self._save(trainer)

    def _save(self, trainer: Trainer) -> None:
        file = self.folder / f"state-{trainer.global_step}.ckpt"
        trainer.save_checkpoint(file, weights_only=False)
        before = [kept for kept in self.saved if kept[0] != file]
        self.saved = [*before, (file, self._refers_to(self.state_dict()))][-2:]
        if trainer.is_global_zero:
            kept = {
                self.finished.name,
                *(name for state, other in self.saved for name in (state.name, other)),
            }
            for path in self.folder.iterdir():
                if path.name not in kept:
                    shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        self._saved_at, self._saved_step = time.monotonic(), trainer.global_step
        if trainer.strategy.reduce_boolean_decision(self._signal is not None, all=False):
            name = "Ctrl-C" if self._signal == signal.SIGINT else "SIGTERM"
            log.warning("%s: saved %s; started again, this run continues from there.", name, file)
            self._end()


class Checkpoints(States):
    """Saves the states of stage 1 and the weights of its best epoch.

    States are saved at the end of every epoch, and within it as often as `saving` says; never within accumulated steps,
    nor between an epoch's last step and its validation. Beside them lie the weights that they call the best so far,
    `best-<epoch>.ckpt`: highest val/map, the earlier epoch on a tie.
    """

    def __init__(self, folder: Path, saving: Saving) -> None:
        super().__init__(folder, saving)
        self.best: dict[str, Any] = {"file": None, "score": None}
        self._best_is_new = False

    def best_weights(self) -> dict[str, Tensor]:
        """Read the weights of the best epoch's module."""
        state: dict[str, Tensor] = read_checkpoint(self.folder / self.best["file"])["state_dict"]
        return state

    def state_dict(self) -> dict[str, Any]:
        return {"best": dict(self.best)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.best = dict(state_dict["best"])

    def _refers_to(self, state: dict[str, Any]) -> str | None:
        name: str | None = state["best"]["file"]
        return name

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *batch: Any) -> None:
        if trainer.fit_loop.epoch_loop._num_ready_batches_reached() or trainer.fit_loop._should_accumulate():
            return
        self._save_if_due(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        score = float(trainer.callback_metrics["val/map"])
        if self.best["score"] is None or score > self.best["score"]:
            self.best = {"file": f"best-{trainer.current_epoch + 1}.ckpt", "score": score}
            self._best_is_new = True
        self._save(trainer)

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        if self._best_is_new and trainer.is_global_zero:
            write_checkpoint(self.folder / self.best["file"], {"state_dict": checkpoint["state_dict"]})
        self._best_is_new = False


_SEEDS = 256
"""Steps of an epoch whose seeds are made at once: one alone takes as long as a small layer."""


@lru_cache(maxsize=1)
def _seeds(seed: int, epoch: int, steps: range, rank: int) -> list[int]:
    sequences = (np.random.SeedSequence((seed, epoch, step, rank)) for step in steps)
    return [int(sequence.generate_state(1, np.uint64)[0]) for sequence in sequences]


class StepSeed(Callback):
    """Makes what a step draws from torch's random streams (dropout, sampled pairs) a function of (seed, step, rank).

    Nothing drawn before matters then, so a training that continues draws what it would have drawn.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        first = batch_idx - batch_idx % _SEEDS
        steps = range(first, min(first + _SEEDS, int(trainer.num_training_batches)))
        seed = _seeds(self.seed, trainer.current_epoch, steps, trainer.global_rank)[batch_idx - first]
        # torch.manual_seed does this for every kind of device, and takes longer than a small step to note it for those
        # that are not in use.
        torch.default_generator.manual_seed(seed)
        device = trainer.strategy.root_device
        if device.type != "cpu":
            torch.get_device_module(device).manual_seed(seed)


def end_on_sigterm() -> None:
    """Have SIGTERM end this process with exit code 143 from now on, cleaning up on the way; a training saves first."""

    def end(signum: int, frame: FrameType | None) -> None:
        raise SystemExit(TERMINATED)

    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, end)
