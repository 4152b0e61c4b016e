"""One experiment from end to end: a composed configuration in, a result record and its files out."""

import logging
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import version
from pathlib import Path
from platform import python_version
from typing import Any, cast

from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from lsep_ml.data import DataSet
from lsep_ml.files import link_or_copy, write_json
from lsep_ml.processes.start import keep_freed_memory, launch, log_beside, own_rank
from lsep_ml.runs.files import CHECKPOINT, DECISION, HEAT_MAPS, HISTORY, RANK_LOG, SPLIT, UNFINISHED
from lsep_ml.runs.heat_maps import write_heat_maps
from lsep_ml.runs.history import write_history
from lsep_ml.runs.per_class import RECORDED, per_class_record
from lsep_ml.runs.printed import print_result
from lsep_ml.runs.record import write_record
from lsep_ml.stages.decision import fit_and_judge
from lsep_ml.stages.earlier import finished_record
from lsep_ml.stages.evaluation import evaluate
from lsep_ml.stages.extraction import UNREAD
from lsep_ml.stages.folds import fold_jobs, joined, say_fold
from lsep_ml.stages.heat_maps import heat_maps
from lsep_ml.stages.job import Job, build_job
from lsep_ml.stages.rates import rate_record
from lsep_ml.stages.resolvers import register_resolvers
from lsep_ml.stages.results import hardware, write_files
from lsep_ml.stages.sweep import only_problems, sweeping
from lsep_ml.stages.trained import predicted, train_and_extract
from lsep_ml.store.entries import Entry
from lsep_ml.store.keys import (
    FEATURES,
    NETWORKS,
    PLACES,
    RATES,
    SCORES,
    identity_of,
    places_made_by,
)
from lsep_ml.terminal import console
from lsep_ml.trackers import Trackers
from lsep_ml.training.progress import quiet_lightning

log = logging.getLogger(__name__)

SHOWN_UNREAD = 5
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
def run(config: DictConfig, folder: Path, overrides: Sequence[str] | None = None) -> dict[str, Any] | None:
    """Train or find the network, extract, fit the decision, evaluate; returns the record written to result.json.

    All of it in as many processes as `config.trainer` asks for; under torchrun or srun only the first returns the
    record. A run that finished before with the same identity is not done again, unless `force=true`. With `data.folds`
    the job of each fold is done first, in a folder below; what they say of their test images together is the test of
    this one, which trains on all images.

    Args:
        config: composed.
        folder: for the files of the run.
        overrides: what the configuration was composed with, for the record; None: not known.
    """
    own = None if overrides is None else list(overrides)
    of_folds = fold_jobs(config, folder)
    for fold, (of_fold, below) in enumerate(of_folds):
        below.mkdir(parents=True, exist_ok=True)
        found = launch(_run_here, of_fold.trainer, of_fold, below, None, False)
        if found is not None:
            say_fold(found, fold, len(of_folds))
    record: dict[str, Any] | None = launch(_run_here, config.trainer, config, folder, own)
    return record


@quiet_lightning()
def _run_here(
    config: DictConfig, folder: Path, overrides: list[str] | None, shown: bool = True
) -> dict[str, Any] | None:
    """This process's part of a run: all train, extract and fit; the first alone does the rest and has the record, which
    is printed where it is to be `shown` and not one of a sweep."""
    register_resolvers()  # in a process that was started for this job, nobody has
    log_beside(folder / RANK_LOG.format(own_rank()))
    keep_freed_memory()
    if sweeping():
        only_problems()
    job = build_job(config)
    config, processes = job.config, job.processes
    console.quiet = not processes.first
    finished = processes.share(None if config.force else finished_record(job, folder))
    if finished:
        processes.disconnect()
        log.info("This run finished before; nothing is done again (force=true does).")
        if shown and not sweeping():
            print_result(finished, folder, console)
        return finished

    plain = cast(dict[str, Any], OmegaConf.to_container(config, resolve=True))
    if not processes.first:
        trained = train_and_extract(job, lambda row: None, lambda in_use: None)
        extraction = predicted(job, trained.extraction, lambda row: None)
        fit_and_judge(job, extraction, lambda row: None, folder, {})
        processes.disconnect()
        return None
    write_json(folder / UNFINISHED, {NETWORKS: identity_of(job.made_by)})
    with Trackers(list(instantiate(config.logger).values())).run(plain, folder) as trackers:
        made = _run(job, folder, trackers, overrides)
        called = {} if overrides is None else {"overrides": overrides}
        if made["rate"]["chosen"] == "search":
            plain["optimizer"]["lr"] = made["rate"]["lr"]
        record = write_record(folder, {**made, **called, "config": plain})
        trackers.result(record, folder)
    if shown and not sweeping():
        print_result(record, folder, console)
    return record


def _run(job: Job, folder: Path, trackers: Trackers, overrides: Sequence[str] | None) -> dict[str, Any]:
    config, data, decision = job.config, job.data, job.decision
    rows: list[dict[str, Any]] = []

    def note(row: dict[str, Any]) -> None:
        rows.append(row)
        trackers.row(row)

    trained = train_and_extract(job, note, lambda in_use: write_json(folder / UNFINISHED, in_use))
    prediction, extraction, searched = trained.prediction, trained.extraction, trained.searched
    in_use = {
        **({} if searched is None else {RATES: searched.identity}),
        NETWORKS: prediction.identity,
        FEATURES: extraction.features.identity,
        SCORES: extraction.scores.identity,
    }
    write_json(folder / UNFINISHED, in_use)
    seconds = {
        "prediction": prediction.facts["seconds"],
        "extraction": extraction.features.facts["seconds"] + extraction.scores.facts["seconds"],
    }
    reused = {"prediction": prediction.reused, "extraction": extraction.features.reused}
    if searched is not None:
        seconds["rates"], reused["rates"] = searched.facts["seconds"], searched.reused
    if job.predictor is not None:
        extraction = predicted(job, extraction, note)
        in_use[SCORES] = extraction.scores.identity
        seconds["predictor"] = extraction.scores.facts["seconds"]
        reused["predictor"] = extraction.scores.reused
    if decision is not None:
        decision.label_names = list(data.data_set.label_names)
    started = time.perf_counter()
    judged = fit_and_judge(job, extraction, note, folder, in_use)
    fitted = time.perf_counter()
    job.processes.disconnect()
    cross_tested, of_folds = None, None
    if data.data_set.cross_tested:
        cross_tested, of_folds = joined(folder, config.data.folds, extraction.split("test"))
    unread = extraction.features.facts.get(UNREAD, {})
    if unread:
        shown = "; ".join(list(unread.values())[:SHOWN_UNREAD]) + (
            "; ..." if len(unread) > SHOWN_UNREAD else ""
        )
        log.warning("%d images cannot be read and are left out: %s", len(unread), shown)
    abstain = config.label_sets.abstain if "label_sets" in config else None
    outcome = evaluate(decision, extraction, judged, cross_tested, abstain)
    if outcome.unseen is not None:
        images = len(outcome.test.predictions)
        log.info("%d of %d test images have a label set that no candidate is", outcome.unseen, images)
    level = logging.INFO if sweeping() else logging.WARNING  # a sweep names them once, at its end
    for warning in outcome.warnings:
        log.log(level, "%s on validation: %s", config.names.decision, warning)
    of_training = [
        *([] if searched is None else searched.facts["warnings"]),
        *prediction.facts.get("warnings", []),
    ]
    for warning in of_training:
        log.log(level, "%s: %s", config.names.loss, warning)
    link_or_copy(prediction.folder / CHECKPOINT, folder / CHECKPOINT)
    data.data_set.write_split(folder / SPLIT)
    if decision is not None:
        decision.save(folder / DECISION)
    write_history(folder / HISTORY, rows)
    names = config.names
    title = f"{names.data} test: {names.method} + {names.decision}"
    pictures = config.get("pictures", True)
    shown_rows, of_labels = write_files(folder, outcome, data.data_set, title, pictures=pictures)
    if pictures and job.predictor is None and cross_tested is None:
        kept = job.store.folder(PLACES, places_made_by(extraction.features.identity))
        maps = heat_maps(job, kept, outcome.test, shown_rows)
        if maps is not None:
            in_use[PLACES] = kept.name
            write_heat_maps(folder / HEAT_MAPS, maps)
    seconds["decision"] = round(fitted - started, 3)
    seconds["evaluation"] = round(time.perf_counter() - fitted, 3)
    return {
        **{key: str(names[key]) for key in ("data", "model", "loss", "predictor", "decision")},
        "seed": config.seed,
        "split_hash": data.data_set.split_hash,
        "identity": prediction.identity,
        "stored": in_use,
        "rate": rate_record(config, overrides, searched, identity_of(job.made_by)),
        "choices": {
            "epoch": prediction.facts["epoch"],
            **({"probe_weight_decay": prediction.facts["weight_decay"]} if job.solving else {}),
            **({} if decision is None else decision.choices()),
        },
        **({"solution": _solution(prediction)} if job.solving else {}),
        **({} if outcome.unseen is None else {"unseen_label_sets": outcome.unseen}),
        **({} if outcome.abstention is None else {"abstention": outcome.abstention}),
        "metrics": {"val": outcome.val.metrics, "test": outcome.test.metrics},
        "intervals": {"test": outcome.intervals},
        **per_class_record(of_labels),
        **({} if of_folds is None else {"folds": of_folds}),
        "warnings": [*of_training, *outcome.warnings],
        "label_names": list(data.data_set.label_names),
        "counts": _counts(data.data_set, unread),
        **({"unread": unread} if unread else {}),
        "versions": _versions(),
        "hardware": hardware(job.device),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": seconds,
        "reused": reused,
    }


@cache
def _versions() -> dict[str, str]:
    return {"python": python_version(), **{name: version(name) for name in _VERSIONED}}


def _counts(data_set: DataSet, unread: Mapping[str, str]) -> dict[str, Any]:
    """Return what is counted of a data set, images that could not be read as those that are left out; the positives of
    at most RECORDED labels."""
    many = len(data_set.label_names) > RECORDED
    counts = {key: value for key, value in data_set.counts.items() if not (many and key == "positives")}
    return {**counts, "dropped": {**counts["dropped"], "unreadable": len(unread)}} if unread else counts


def _solution(prediction: Entry) -> dict[str, Any]:
    """Return what the record says of how a probe was solved."""
    keys = ("value", "gradient_norm", "iterations", "converged", "convex")
    return {key: prediction.facts[key] for key in keys}
