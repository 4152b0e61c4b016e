"""Stage 1: train the label prediction network, or find it again."""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer, seed_everything
from torch import nn

from lsep_ml.data import ImageDataModule
from lsep_ml.models import Network
from lsep_ml.runs.files import CHECKPOINT, HISTORY
from lsep_ml.runs.history import read_history, write_history
from lsep_ml.store.entries import Entry, Store
from lsep_ml.store.keys import NETWORKS
from lsep_ml.training.checkpoints import CheckedCheckpointIO, read_checkpoint, write_checkpoint
from lsep_ml.training.final_warnings import at_clamp, constant_map, not_above_constant
from lsep_ml.training.label_prediction import LabelPrediction
from lsep_ml.training.path import OnRow
from lsep_ml.training.progress import progress_callbacks
from lsep_ml.training.resume import Checkpoints, Saving, StepSeed

log = logging.getLogger(__name__)


class History(Callback):
    """Collects one row of metrics an epoch, and shows it to `on_row`; a training that continues has its old rows."""

    def __init__(self, on_row: OnRow) -> None:
        self.rows: list[dict[str, float | int | str]] = []
        self.on_row = on_row
        self._started = time.perf_counter()
        self._spent = 0.0  # seconds of this epoch before the training was interrupted

    def state_dict(self) -> dict[str, Any]:
        spent = self._spent + time.perf_counter() - self._started
        return {"rows": list(self.rows), "spent": spent}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.rows, self._spent = state_dict["rows"], state_dict["spent"]
        for row in self.rows:
            self.on_row(row)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._started = time.perf_counter()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        metrics = {
            key.replace("/", "_"): float(value) for key, value in sorted(trainer.callback_metrics.items())
        }
        lr = trainer.optimizers[0].param_groups[0]["lr"]
        row = {
            "stage": "prediction",
            "epoch": trainer.current_epoch + 1,
            **metrics,
            "lr": lr,
            "seconds": round(self._spent + time.perf_counter() - self._started, 3),
        }
        self._started, self._spent = time.perf_counter(), 0.0
        self.rows.append(row)
        self.on_row(row)


class Patience(Callback):
    """Ends a training when validation mAP has not risen for so many `epochs`; it has no state but the `history`'s."""

    def __init__(self, history: History, epochs: int) -> None:
        self.history, self.epochs = history, epochs

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._end(trainer)  # a training that was killed after it had ended

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._end(trainer)

    def _end(self, trainer: Trainer) -> None:
        rows = self.history.rows
        if rows and len(rows) - int(_chosen(rows)["epoch"]) >= self.epochs:
            trainer.should_stop = True


def _chosen(rows: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """Return the epoch of highest validation mAP, the earlier on a tie."""
    return max(rows, key=lambda row: row["val_map"])


@dataclass(frozen=True)
class Training:
    """Says how a network is trained.

    module: holds the network, or in a probe its score layer. trainer: builds the Trainer, given what is the training's
    own. epochs, seed: of the configuration. saving: how often what a killed training continues from is saved. patience:
    epochs without a better validation mAP after which it ends; None: it does not.
    """

    module: LabelPrediction
    trainer: Callable[..., Trainer]
    epochs: int
    seed: int
    saving: Saving
    patience: int | None = None


def train_prediction(
    store: Store,
    made_by: dict[str, Any],
    network: Network,
    training: Training,
    data: ImageDataModule,
    on_row: OnRow,
) -> Entry:
    """Train the `network` on `data`, unless the `store` has what it would become, which is found by `made_by`.

    On return it, and the decision that was trained with it, hold the chosen epoch's weights, in float32 and the usual
    memory layout whatever the training computed in; so does the stored checkpoint, the whole network also after a
    probe. A training that was killed continues from the state last saved to the same end. The epoch is the one of
    highest validation mAP, the earlier on a tie; no decision enters the choice. `on_row` is shown every row of the
    history, when it is made or when it is found.

    Raises:
        FloatingPointError: a loss or score that is not finite; names the last good checkpoint.
    """
    module = training.module

    def build(folder: Path) -> dict[str, Any]:
        what = "label prediction" if module.network is network else "the score layer on extracted features"
        checkpoints = Checkpoints(store.kept(NETWORKS, made_by), training.saving)
        facts = fit_or_continue(store, folder, training, data, checkpoints, on_row, what=what)
        whole.float().to(memory_format=torch.contiguous_format)
        if store.processes.first:
            # Read again from the disk: what was damaged since it was written is not sealed.
            whole.load_state_dict(whole.state_dict() | checkpoints.best_weights())
            write_checkpoint(folder / CHECKPOINT, {"state_dict": whole.state_dict()})
        return facts

    whole = nn.ModuleDict({"network": network})  # under the names that LabelPrediction gives them
    if module.decision is not None:
        whole["decision"] = module.decision
    entry = stored_prediction(store, made_by, build, on_row)
    whole.load_state_dict(read_checkpoint(entry.folder / CHECKPOINT)["state_dict"])
    return entry


def fit_or_continue(
    store: Store,
    folder: Path,
    training: Training,
    data: ImageDataModule,
    checkpoints: Checkpoints,
    on_row: OnRow,
    *,
    what: str = "label prediction",
) -> dict[str, Any]:
    """Train, in all processes of the `store`, from the newest state of `checkpoints` if there is one.

    The history is left in `folder`; returns what came of it. what: messages call it so.

    Raises:
        FloatingPointError: a loss or score that is not finite; names the last good checkpoint.
    """
    # Where several processes train, all continue from what the first one finds.
    saved = store.processes.share(checkpoints.newest() if store.processes.first else None)
    if saved is None:
        log.info("Training %s: %d epochs, loss %s", what, training.epochs, training.module.loss_name)
    else:
        log.info("Continuing to train %s from %s", what, saved)
    return _fit(folder, training, data, checkpoints, saved, on_row)


def stored_prediction(
    store: Store,
    made_by: dict[str, Any],
    build: Callable[[Path], dict[str, Any]],
    on_row: OnRow,
) -> Entry:
    """Find what `made_by` made of a network, or `build` it.

    The rows of a history that is found are shown to `on_row`.
    """
    entry = store.get_or_build(NETWORKS, made_by, build)
    if entry.reused:
        log.info("Label prediction %s was trained before: no network is trained.", entry.identity)
        for row in read_history(entry.folder / HISTORY):
            on_row(row)
    return entry


def training_warnings(rows: Sequence[Mapping[str, Any]], constant: float) -> list[str]:
    """Say what is suspicious about a training that left these `rows` of history.

    constant: the validation mAP of scores that are the same for all images.
    """
    epochs, chosen = len(rows), _chosen(rows)
    warnings = [f"{said}; lower optimizer.lr" for said in at_clamp(chosen)]
    warnings += not_above_constant(chosen["val_map"], constant)
    if epochs > 1 and chosen["epoch"] == 1:
        warnings.append(f"the best epoch is the first of {epochs}; lower optimizer.lr")
    if epochs > 1 and chosen["epoch"] == epochs:
        warnings.append(f"the best epoch is the last of {epochs}; more training.epochs may be better")
    return warnings


def _fit(
    folder: Path,
    training: Training,
    data: ImageDataModule,
    checkpoints: Checkpoints,
    saved: Path | None,
    on_row: OnRow,
) -> dict[str, Any]:
    """Train, from the state in `saved` if any; the history is left in `folder`, and what came of it is returned."""
    epochs, seed, history = training.epochs, training.seed, History(on_row)
    seed_everything(seed, workers=True, verbose=False)
    patience = [] if training.patience is None else [Patience(history, training.patience)]
    run = training.trainer(
        max_epochs=epochs,
        callbacks=[StepSeed(seed), history, *patience, checkpoints, *progress_callbacks(epochs)],
        plugins=[CheckedCheckpointIO()],
        logger=False,
        default_root_dir=folder,
        num_sanity_val_steps=0,
        enable_model_summary=False,
        enable_progress_bar=False,
        use_distributed_sampler=False,
    )
    try:
        run.fit(training.module, datamodule=data, ckpt_path=saved)
    except FloatingPointError as error:
        good = checkpoints.last_good
        kept = f"the last good checkpoint is {good}" if good else "no checkpoint was written before"
        raise FloatingPointError(f"{error}; {kept}") from None
    if run.is_global_zero:
        write_history(folder / HISTORY, history.rows)
    chosen = _chosen(history.rows)
    return {
        "warnings": training_warnings(history.rows, constant_map(data.data_set.val)),
        "epoch": chosen["epoch"],
        "epochs": epochs,
        "validation": {
            key.removeprefix("val_"): value for key, value in chosen.items() if key.startswith("val_")
        },
        "seconds": round(sum(float(row["seconds"]) for row in history.rows), 3),
    }
