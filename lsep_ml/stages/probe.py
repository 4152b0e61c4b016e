"""Stage 1 of a probe by the solver: its score layer solved for, or found again."""

import logging
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from torch import Tensor, nn

from lsep_ml.data import DataSet
from lsep_ml.models import Network
from lsep_ml.runs.files import CHECKPOINT, HISTORY
from lsep_ml.runs.history import write_history
from lsep_ml.stages.extraction import FOLDS, OUT_OF_FOLD, feature_tensors
from lsep_ml.stages.network import stored_prediction
from lsep_ml.stages.sealed_rows import new_array, save_array
from lsep_ml.stages.shared import Shared
from lsep_ml.store.entries import Entry, Store
from lsep_ml.store.keys import NETWORKS, hash_once
from lsep_ml.training.checkpoints import read_checkpoint, write_checkpoint
from lsep_ml.training.continuation import check_solvable
from lsep_ml.training.kept import Kept
from lsep_ml.training.linear_scores import ProbeFeatures
from lsep_ml.training.path import DecayPath, OnRow, Solving
from lsep_ml.training.recipe import Loss

log = logging.getLogger(__name__)

_BACKBONES: Shared[tuple[nn.Module, Tensor]] = Shared(1)
_SOLVED: Shared[dict[str, Tensor]] = Shared(1)
_FEATURES: Shared[ProbeFeatures] = Shared(1)


def shared_backbone(config: DictConfig) -> nn.Module:
    """Build the backbone; jobs of a sweep whose probes are solved leave it as it is, and share it.

    Torch's random state is left as the building leaves it: the score layer is drawn next.
    """

    def build() -> tuple[nn.Module, Tensor]:
        backbone = instantiate(config.model)
        hash_once(backbone)
        return backbone, torch.get_rng_state()

    if not config.training.probe or config.training.solver != "lbfgs":
        built: nn.Module = instantiate(config.model)
        return built
    made_by = [OmegaConf.to_container(config.model, resolve=True), config.seed]
    backbone, drawn = _BACKBONES.get(made_by, build)
    torch.set_rng_state(drawn)
    return backbone.cpu().train()


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
        instantiate(config.diagnostics),
    )


def _shared_features(features: Entry) -> ProbeFeatures:
    """Return stored features, standardised; a job of a sweep finds what the one before made of the same."""
    written = (features.folder / "train_features.npy").stat()

    def standardise() -> ProbeFeatures:
        tensors = feature_tensors(features.folder)
        return ProbeFeatures.of(tensors["train"], tensors["val"])

    return _FEATURES.get([str(features.folder), written.st_ino, written.st_mtime_ns], standardise)


def solve_prediction(
    store: Store,
    made_by: dict[str, Any],
    network: Network,
    solving: Solving,
    features: Entry,
    data_set: DataSet,
    on_row: OnRow,
) -> Entry:
    """Fit the score layer of the `network`, unless the `store` has what it would become, which is found by `made_by`.

    The images of `data_set` are the stored `features`. Jobs of a sweep that run in one process, one after the other,
    share what was read and standardised of them (`lsep_ml.training.linear_scores`).

    Several processes of a job solve together: each another fold of the out-of-fold scores, and of a problem that is
    solved some rows at a time each other rows (`Blocks.loss`); any other problem the first solves. The solution is that
    of one process to the last bit, on machines of one kind. Every solved problem is kept until all are, so that a
    killed run goes on after it, to the same bits.

    Beside the checkpoint the entry holds the training images' out-of-fold scores and their folds (`OutOfFold` in
    `lsep_ml.stages.extraction`). Its facts: `epoch`, the chosen row of the history; `weight_decay`; `value`,
    `gradient_norm`, `iterations` and `converged` at the end; `warnings`.

    Raises:
        FloatingPointError: features, a loss or a gradient that is not finite.
    """

    def build(folder: Path) -> dict[str, Any]:
        log.info("Solving the score layer on extracted features: loss %s", solving.name)
        started = time.perf_counter()
        first = store.processes.first
        kept = Kept(store.kept(NETWORKS, made_by), store.processes)
        path = DecayPath(solving, data_set, kept, on_row, _shared_features(features))
        decay = path.search()
        layer, facts = path.end(decay)
        if first:
            network.score_layer.load_state_dict(path.features.train.standardisation.raw(layer)._asdict())
            write_checkpoint(folder / CHECKPOINT, {"state_dict": whole.state_dict()})
            write_history(folder / HISTORY, path.rows)
        if len(data_set.train) > 1:
            shape, file = data_set.train.targets.shape, folder / f"{OUT_OF_FOLD}.npy"
            scores = new_array(file, np.dtype(np.float32), shape) if first else None
            folds = path.out_of_fold(decay, layer, scores)[1]
            if scores is not None:
                scores.flush()
                save_array(folder / f"{FOLDS}.npy", folds)
        return {**facts, "seconds": round(time.perf_counter() - started, 3)}

    whole = torch.nn.ModuleDict({"network": network})
    entry = stored_prediction(store, made_by, build, on_row)
    file = entry.folder / CHECKPOINT
    solved = _SOLVED.get([str(file), file.stat().st_mtime_ns], lambda: _score_layer(file))
    network.score_layer.load_state_dict(solved)
    return entry


def _score_layer(checkpoint: Path) -> dict[str, Tensor]:
    """Return what was solved for of a network in a checkpoint; its backbone is as it was."""
    state, own = read_checkpoint(checkpoint)["state_dict"], "network.score_layer."
    return {name.removeprefix(own): value.clone() for name, value in state.items() if name.startswith(own)}
