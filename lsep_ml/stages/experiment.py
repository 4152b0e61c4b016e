"""One experiment from end to end: a composed configuration in, a result record and its files out."""

import logging
import shutil
import time
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from platform import python_version
from typing import Any, cast

import numpy as np
from filelock import FileLock
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from lsep_ml.data import ImageDataModule
from lsep_ml.decisions import Decision
from lsep_ml.files import link_or_copy, write_json
from lsep_ml.processes.start import launch, log_beside
from lsep_ml.runs.files import CHECKPOINT, DECISION, HISTORY, SPLIT, UNFINISHED
from lsep_ml.runs.history import write_history
from lsep_ml.runs.record import write_record
from lsep_ml.stages.evaluation import evaluate
from lsep_ml.stages.extraction import Extraction, extract_features, extract_scores, feature_tensors
from lsep_ml.stages.job import Job, build_job, finished_record
from lsep_ml.stages.prediction import OnRow, train_prediction
from lsep_ml.stages.predictor import predict
from lsep_ml.stages.resolvers import register_resolvers
from lsep_ml.stages.results import hardware, print_result, write_files
from lsep_ml.stages.sweep import only_problems, sweeping
from lsep_ml.store.entries import Entry, Store
from lsep_ml.store.keys import DECISION_PARTS, config_parts
from lsep_ml.trackers import Trackers
from lsep_ml.training.fitting import fit_decision
from lsep_ml.training.progress import console, quiet_lightning
from lsep_ml.training.resume import Saving, States

log = logging.getLogger(__name__)

_VERSIONED = (
    "lsep-ml",
    "torch",
    "torchvision",
    "pytorch-lightning",
    "torchmetrics",
    "hydra-core",
    "timm",
    "scikit-learn",
    "numpy",
)


@quiet_lightning()
def run(config: DictConfig, folder: Path) -> dict[str, Any] | None:
    """Train or find the network, extract, fit the decision, evaluate; returns the record written to result.json.

    All of it in as many processes as `config.trainer` asks for; under torchrun or srun only the first returns the
    record. A run that finished before with the same identity is not done again, unless `force=true`.
    """
    record: dict[str, Any] | None = launch(_run_here, config.trainer, config, folder)
    return record


@quiet_lightning()
def _run_here(config: DictConfig, folder: Path) -> dict[str, Any] | None:
    """This process's part of a run: all train and extract, the first alone does the rest and has the record."""
    register_resolvers()  # in a process that was started for this job, nobody has
    log_beside(folder)
    if sweeping():
        only_problems()
    job = build_job(config)
    config, processes = job.config, job.processes
    console.quiet = not processes.first
    finished = processes.share(None if config.force else finished_record(job, folder))
    if finished:
        processes.part()
        log.info("This run finished before; nothing is done again (force=true does).")
        if not sweeping():
            print_result(finished, folder)
        return finished

    plain = cast(dict[str, Any], OmegaConf.to_container(config, resolve=True))
    if not processes.first:
        _train_and_extract(job, lambda row: None)
        return None
    write_json(folder / UNFINISHED, {"predictions": job.store.identity(job.made_by)})
    with Trackers(list(instantiate(config.logger).values())).run(plain, folder) as trackers:
        record = _run(job, plain, folder, trackers)
        trackers.result(record, folder)
    if not sweeping():
        print_result(record, folder)
    return record


def _train_and_extract(job: Job, on_row: OnRow) -> tuple[Entry, Extraction]:
    """The two stages that work on images, in all processes of the job."""
    training = job.config.training

    def train(source: ImageDataModule) -> Entry:
        return train_prediction(
            job.store,
            job.made_by,
            job.network,
            job.module,
            source,
            job.trainer,
            training.epochs,
            job.config.seed,
            on_row,
            Saving(**job.config.checkpoint),
        )

    def features() -> Entry:
        return extract_features(job.store, job.made_by["config"], job.network, job.data, job.device)

    if training.probe:  # the backbone is never trained: its features come first
        extracted = features()
        prediction = train(job.data.on_features(feature_tensors(extracted)))
    else:
        prediction = train(job.data)
        extracted = features()
    extraction = extract_scores(job.store, extracted, job.network.score_layer, job.data.eval_batch_size)
    job.processes.part()
    return prediction, extraction


def _run(job: Job, plain: dict[str, Any], folder: Path, trackers: Trackers) -> dict[str, Any]:
    config, data, decision = job.config, job.data, job.decision
    rows: list[dict[str, Any]] = []

    def note(row: dict[str, Any]) -> None:
        rows.append(row)
        trackers.row(row)

    prediction, extraction = _train_and_extract(job, note)
    in_use = {
        "predictions": prediction.identity,
        "features": extraction.features.identity,
        "scores": extraction.scores.identity,
    }
    write_json(folder / UNFINISHED, in_use)
    arrays, fitted_by = extraction, {}
    if job.predictor is not None:
        part = config_parts(config, ("predictor",))["predictor"]
        store = Store(job.store.root)  # this process's alone
        arrays = predict(store, extraction, job.predictor, part, config.seed, note)
        fitted_by["predictor"] = arrays.scores
    started = time.perf_counter()
    if decision is not None and not config.training.joint:  # which leaves the decision trained
        parts = config_parts(config, (*DECISION_PARTS, "seed"))
        made_by = {"config": parts, "scores": arrays.scores.identity}
        states = States(job.store.kept("decisions", made_by), Saving(**config.checkpoint))
        write_json(folder / UNFINISHED, in_use | {"decisions": states.folder.stem})
        states.folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(states.folder.with_suffix(".lock")):  # another start of the same command waits
            fit(config, decision, arrays, note, states)
            shutil.rmtree(states.folder, ignore_errors=True)
    fitted = time.perf_counter()
    outcome = evaluate(decision, arrays)
    for warning in outcome.warnings:
        log.warning("%s on validation: %s", config.names.decision, warning)
    names = config.names
    link_or_copy(prediction.folder / CHECKPOINT, folder / CHECKPOINT)
    data.data_set.write_split(folder / SPLIT)
    if decision is not None:
        decision.label_names = list(data.data_set.label_names)
        decision.save(folder / DECISION)
    write_history(folder / HISTORY, rows)
    write_files(folder, outcome, data.data_set, f"{names.data} test: {names.method} + {names.decision}")
    record = {
        **{key: str(names[key]) for key in ("data", "model", "loss", "predictor", "decision")},
        "seed": config.seed,
        "split_hash": data.data_set.split_hash,
        "identity": prediction.identity,
        "stored": {
            "predictions": prediction.identity,
            "features": extraction.features.identity,
            "scores": arrays.scores.identity,
        },
        "choices": {"epoch": prediction.facts["epoch"], **({} if decision is None else decision.choices())},
        "metrics": {"val": outcome.val.metrics, "test": outcome.test.metrics},
        "intervals": {"test": outcome.intervals},
        "warnings": outcome.warnings,
        "label_names": list(data.data_set.label_names),
        "counts": data.data_set.counts,
        "versions": {"python": python_version(), **{name: version(name) for name in _VERSIONED}},
        "hardware": hardware(job.device),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": {
            "prediction": prediction.facts["seconds"],
            "extraction": extraction.features.facts["seconds"] + extraction.scores.facts["seconds"],
            **{name: entry.facts["seconds"] for name, entry in fitted_by.items()},
            "decision": round(fitted - started, 3),
            "evaluation": round(time.perf_counter() - fitted, 3),
        },
        "reused": {
            "prediction": prediction.reused,
            "extraction": extraction.features.reused,
            **{name: entry.reused for name, entry in fitted_by.items()},
        },
        "config": plain,
    }
    write_record(folder, record)
    return record


def fit(
    config: DictConfig,
    decision: Decision,
    extraction: Extraction,
    on_row: OnRow,
    states: States | None = None,
) -> None:
    """Fit the decision on the split it asks for; `on_row` is shown its rows of the history."""
    names = {"both": ("train", "val")}.get(decision.fit_on, (decision.fit_on,))
    splits = [extraction.split(name) for name in names]
    log.info("Fitting decision %s on %s", config.names.decision, " and ".join(names))
    scores = [split.scores for split in splits if split.scores is not None]
    masks = [split.mask for split in splits if split.mask is not None]

    def note_epoch(epoch: int, loss: float) -> None:
        on_row({"stage": "decision", "epoch": epoch + 1, "train_loss": loss})

    fit_decision(
        decision,
        _join(scores),
        _join([split.targets for split in splits]),
        _join([split.features for split in splits]),
        _join(masks) if masks else None,
        epochs=config.fitting.epochs,
        batch_size=config.fitting.batch_size,
        optimizer=instantiate(config.fitting.optimizer),
        seed=config.seed,
        progress=console.is_terminal,
        on_epoch=note_epoch,
        states=states,
    )


def _join(arrays: list[np.ndarray]) -> np.ndarray:
    return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)
