"""One job: a composed configuration in, a result record and its files out."""

import logging
import time
from importlib.metadata import version
from pathlib import Path
from platform import python_version
from typing import Any, cast

import numpy as np
from hydra.core.hydra_config import HydraConfig
from hydra.errors import InstantiationException
from hydra.types import RunMode
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning import seed_everything
from pytorch_lightning.utilities.exceptions import MisconfigurationException

from lsep_ml.data import ImageDataModule
from lsep_ml.files import write_json
from lsep_ml.identity import PREDICTION_PARTS, config_parts
from lsep_ml.models import Network
from lsep_ml.modules.label_prediction import LabelPrediction
from lsep_ml.stages.decision import fit_decision
from lsep_ml.stages.evaluation import evaluate
from lsep_ml.stages.extraction import Extraction, extract
from lsep_ml.stages.prediction import CHECKPOINT, HISTORY, read_history, train_prediction, write_history
from lsep_ml.stages.progress import console, quiet_lightning
from lsep_ml.stages.results import link_or_copy, print_result, write_files
from lsep_ml.store import Store

log = logging.getLogger(__name__)

_VERSIONED = (
    "lsep-ml",
    "torch",
    "torchvision",
    "pytorch-lightning",
    "torchmetrics",
    "hydra-core",
    "timm",
    "numpy",
)

EXPECTED_ERRORS = (ValueError, OSError, FloatingPointError, MisconfigurationException, InstantiationException)
"""What bad input raises; anything else is a fault of the program and keeps its traceback."""


def run_job(config: DictConfig) -> dict[str, Any]:
    """Run a job in Hydra's output folder; bad input ends it with one message and an exit code that is not 0."""
    hydra_config = HydraConfig.get()
    logging.captureWarnings(True)  # one way to the terminal and to the run's log
    quiet_lightning()
    try:
        return run(config, Path(hydra_config.runtime.output_dir))
    except EXPECTED_ERRORS as error:
        cause = error.__cause__ if isinstance(error, InstantiationException) and error.__cause__ else error
        log.error("%s: %s", type(cause).__name__, cause)
        if hydra_config.mode == RunMode.MULTIRUN:
            raise  # Hydra goes on with the other jobs and fails at the end
        raise SystemExit(1) from None


def run(config: DictConfig, folder: Path) -> dict[str, Any]:
    """Train or find the network, extract, fit the decision, evaluate; returns the record written to result.json."""
    store = Store(Path(config.paths.output) / "store")
    data = build_data(config)
    module = build_prediction(config, len(data.data_set.label_names))
    network = module.network
    sizes = {"labels": network.num_labels, "features": network.num_features}
    config = cast(DictConfig, OmegaConf.merge(config, {"sizes": sizes}))
    decision = instantiate(config.decision)  # before the long work, so that a bad option ends the run at once
    trainer = instantiate(config.trainer)
    device = trainer(logger=False, enable_progress_bar=False, enable_checkpointing=False).strategy.root_device

    parts = config_parts(config, PREDICTION_PARTS)
    prediction = train_prediction(store, parts, module, data, trainer, config.training.epochs, config.seed)
    images = {key: parts[key] for key in ("data", "transform")}
    extraction = extract(store, images, network, data, device, config.training.eval_batch_size)

    started = time.perf_counter()
    history = fit(config, decision, extraction)
    seconds = {
        "prediction": prediction.facts["seconds"],
        "extraction": extraction.features.facts["seconds"] + extraction.scores.facts["seconds"],
        "decision": round(time.perf_counter() - started, 3),
    }
    started = time.perf_counter()
    outcome = evaluate(decision, extraction)
    names = config.names
    link_or_copy(prediction.folder / CHECKPOINT, folder / CHECKPOINT)
    decision.save(folder / "decision.json")
    write_history(folder / HISTORY, read_history(prediction.folder / HISTORY) + history)
    write_files(folder, outcome, data.data_set, f"{names.data} test: {names.loss} + {names.decision}")
    seconds["evaluation"] = round(time.perf_counter() - started, 3)

    record = {
        **{key: str(names[key]) for key in ("data", "model", "loss", "decision")},
        "seed": config.seed,
        "split_hash": data.data_set.split_hash,
        "identity": prediction.identity,
        "stored": {
            "predictions": prediction.identity,
            "features": extraction.features.identity,
            "scores": extraction.scores.identity,
        },
        "choices": {"epoch": prediction.facts["epoch"], **decision.choices()},
        "metrics": {"val": outcome.val.metrics, "test": outcome.test.metrics},
        "intervals": {"test": outcome.intervals},
        "label_names": list(data.data_set.label_names),
        "counts": data.data_set.counts,
        "versions": {"python": python_version(), **{name: version(name) for name in _VERSIONED}},
        "seconds": seconds,
        "reused": {"prediction": prediction.reused, "extraction": extraction.features.reused},
        "config": OmegaConf.to_container(config, resolve=True),
    }
    write_json(folder / "result.json", record)
    print_result(record, folder)
    return record


def build_data(config: DictConfig) -> ImageDataModule:
    """The datamodule of a configuration; says what it found."""
    data: ImageDataModule = instantiate(config.data)(
        transform=instantiate(config.transform),
        batch_size=config.training.batch_size,
        eval_batch_size=config.training.eval_batch_size,
        training_seed=config.seed,
    )
    found = data.data_set
    images = ", ".join(f"{len(getattr(found, split).targets)} {split}" for split in ("train", "val", "test"))
    labels = float(found.train.targets.mean(axis=0).sum())
    log.info(
        "Data %s: %s images, %d labels, %.2f an image",
        config.names.data,
        images,
        len(found.label_names),
        labels,
    )
    return data


def build_prediction(config: DictConfig, num_labels: int) -> LabelPrediction:
    """The stage-1 module of a configuration, its weights drawn from `seed`."""
    seed_everything(config.seed, workers=True, verbose=False)
    network = Network(instantiate(config.model), num_labels, config.transform.mean, config.transform.std)
    return LabelPrediction(
        network,
        loss=instantiate(config.loss),
        loss_name=config.names.loss,
        optimizer=instantiate(config.optimizer),
        schedule=instantiate(config.schedule),
        score_layer_lr=config.training.score_layer_lr,
    )


def fit(config: DictConfig, decision: Any, extraction: Extraction) -> list[dict[str, Any]]:
    """Fit the decision on the split it asks for; returns its rows of the history."""
    names = {"both": ("train", "val")}.get(decision.fit_on, (decision.fit_on,))
    splits = [extraction.split(name) for name in names]
    log.info("Fitting decision %s on %s", config.names.decision, " and ".join(names))
    masks = [split.mask for split in splits if split.mask is not None]
    history: list[dict[str, Any]] = []

    def note_epoch(epoch: int, loss: float) -> None:
        history.append({"stage": "decision", "epoch": epoch + 1, "train_loss": loss})

    fit_decision(
        decision,
        _join([split.scores for split in splits]),
        _join([split.targets for split in splits]),
        _join([split.features for split in splits]),
        _join(masks) if masks else None,
        epochs=config.fitting.epochs,
        batch_size=config.fitting.batch_size,
        optimizer=instantiate(config.fitting.optimizer),
        seed=config.seed,
        progress=console.is_terminal,
        on_epoch=note_epoch,
    )
    return history


def _join(arrays: list[np.ndarray]) -> np.ndarray:
    return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)
