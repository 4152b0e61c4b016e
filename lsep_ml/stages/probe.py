"""Stage 1 of a probe by the solver: its score layer solved for, or found again."""

import logging
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig

from lsep_ml.data import DataSet
from lsep_ml.models import Network
from lsep_ml.runs.files import CHECKPOINT, HISTORY
from lsep_ml.runs.history import write_history
from lsep_ml.stages.extraction import FOLDS, OUT_OF_FOLD
from lsep_ml.stages.network import OnRow, stored_prediction
from lsep_ml.stages.sealed_rows import new_array, save_array
from lsep_ml.store.entries import Entry, Store
from lsep_ml.store.keys import NETWORKS
from lsep_ml.training.checkpoints import write_checkpoint
from lsep_ml.training.continuation import check_solvable
from lsep_ml.training.path import DecayPath, Kept, Solving
from lsep_ml.training.recipe import Loss

log = logging.getLogger(__name__)


def solving_of(config: DictConfig, loss: Loss, device: torch.device) -> Solving | None:
    """Return how the probe of `config` is solved with `loss`; None: it is trained by SGD.

    Raises:
        ValueError: an unknown solver, or a loss or a sampler that the solver has no use for.
    """
    training = config.training
    for name in ("mixup", "cutmix"):
        if training[name]:
            raise ValueError(
                f"training.{name}={training[name]}: a probe trains on features of images as they are; take "
                "training=finetune, with training.frozen_epochs=EPOCHS for a frozen backbone"
            )
    if training.solver not in ("lbfgs", "sgd"):
        raise ValueError(f"training.solver={training.solver}: lbfgs or sgd")
    if training.solver == "sgd":
        return None
    head = config.model.get("head", "linear")
    if head != "linear":
        raise ValueError(f"model.head={head}: a solver fits a linear layer; take training.solver=sgd")
    check_solvable(loss)
    if training.label_smoothing:
        raise ValueError(
            f"training.label_smoothing={training.label_smoothing}: a solver takes targets as they are; take "
            "training.label_smoothing=0, or training.solver=sgd"
        )
    if config.data.sampler != "plain":
        raise ValueError(
            f"data.sampler={config.data.sampler}: a solver takes every image once; take data.sampler=plain, or "
            "training.solver=sgd"
        )
    return Solving(
        loss,
        config.names.loss,
        training.weight_decay,
        training.tolerance,
        training.folds,
        config.seed,
        device,
    )


def solve_prediction(
    store: Store,
    made_by: dict[str, Any],
    network: Network,
    solving: Solving,
    data_set: DataSet,
    on_row: OnRow,
) -> Entry:
    """Fit the score layer of the `network`, unless the `store` has what it would become, which is found by `made_by`.

    The images of `data_set` are features. Of several processes the first solves, the others wait: the solution is that
    of one process to the last bit. Every solved problem is kept until all are, so that a killed run goes on after it,
    to the same bits.

    Beside the checkpoint the entry holds the training images' out-of-fold scores and their folds (`OutOfFold` in
    `lsep_ml.stages.extraction`). Its facts: `epoch`, the chosen row of the history; `weight_decay`; `value`,
    `gradient_norm`, `iterations` and `converged` at the end; `warnings`.

    Raises:
        FloatingPointError: features, a loss or a gradient that is not finite.
    """

    def build(folder: Path) -> dict[str, Any]:
        if not store.processes.first:
            return {}
        log.info("Solving the score layer on extracted features: loss %s", solving.name)
        started = time.perf_counter()
        path = DecayPath(solving, data_set, Kept(store.kept(NETWORKS, made_by)), on_row)
        decay = path.search()
        layer, facts = path.end(decay)
        network.score_layer.load_state_dict(path.images.standardisation.raw(layer)._asdict())
        write_checkpoint(folder / CHECKPOINT, {"state_dict": whole.state_dict()})
        write_history(folder / HISTORY, path.rows)
        if len(data_set.train) > 1:
            scores = new_array(
                folder / f"{OUT_OF_FOLD}.npy", np.dtype(np.float32), data_set.train.targets.shape
            )
            folds = path.out_of_fold(decay, layer, scores)[1]
            scores.flush()
            save_array(folder / f"{FOLDS}.npy", folds)
        return {**facts, "seconds": round(time.perf_counter() - started, 3)}

    whole = torch.nn.ModuleDict({"network": network})
    return stored_prediction(store, made_by, whole, build, on_row)
