"""What every number and switch of a configuration may be, checked when it is composed, before anything is read."""

import math
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from functools import cache
from inspect import Parameter, signature
from typing import Any

from hydra.utils import get_object
from omegaconf import DictConfig, OmegaConf

from lsep_ml.data.augment import AUGMENTATIONS
from lsep_ml.runs.finished import QUANTITIES
from lsep_ml.stages.kinds import Kind, Range, Switch, Text
from lsep_ml.store.sections import resolved_sections

OF_THE_MODEL = "model"
"""A value of the transform that stands for the model's own (`lsep_ml.stages.completion`)."""

LARGEST_SIDE = 4096
"""Pixels; a batch of larger images takes tens of gigabytes."""


_COUNT, _NOT_NEGATIVE = Range(1), Range(0)
_POSITIVE, _REAL = Range(0, real=True, above=True), Range(real=True)
_SHARE, _INNER_SHARE = Range(0, 1, real=True), Range(0, 1, real=True, above=True, below=True)
_SIDE = Range(1, LARGEST_SIDE, null=True, many=True)

RANGES: Mapping[str, Kind] = {
    "seed": Range(0, 2**32 - 1),
    "solver": Text(("lbfgs", "sgd")),
    "max_count": Range(1, null=True),
    "objective": Text(tuple(QUANTITIES)),
    "rates.of.*": Text(null=True),
    "rates.sgd": _POSITIVE,
    "rates.adam*": _POSITIVE,
    "*.epochs": _COUNT,
    "deterministic": Switch(),
    "force": Switch(),
    "plan": Switch(),
    "pictures": Switch(),
    "checkpoint.every_n_steps": Range(1, null=True),
    "checkpoint.every_minutes": Range(0, real=True, above=True, null=True),
    "training.compile": Text(null=True),
    "schedule.warmup": _SHARE,
    "schedule.final": _SHARE,
    "schedule.milestones": Range(0, 1, real=True, above=True, below=True, many=True, one=False),
    "schedule.gamma": _POSITIVE,
    "training.batch_size": _COUNT,
    "training.eval_batch_size": _COUNT,
    "training.frozen_epochs": _NOT_NEGATIVE,
    "training.score_layer_lr": _POSITIVE,
    "training.decision_weight": Range(0, real=True, null=True),
    "training.ema": Range(0, 1, real=True, above=True, below=True, null=True),
    "training.mixup": Range(0, 1000, real=True),
    "training.cutmix": Range(0, 1000, real=True),
    "training.label_smoothing": Range(0, 1, real=True, below=True),
    "training.layer_decay": Range(0, 1, real=True, above=True),
    "training.decay_all": Switch(),
    "training.patience": Range(1, null=True),
    "training.channels_last": Switch(),
    "training.probe": Switch(),
    "training.joint": Switch(),
    "training.weight_decay": Range(0, real=True, above=True, null=True),
    "training.tolerance": _POSITIVE,
    "training.folds": Range(2),
    "extraction.batch_size": Range(1, null=True),
    "extraction.channels_last": Switch(null=True),
    "extraction.max_gib": Range(0, real=True),
    "extraction.scores": Text(("float32", "float16")),
    "fitting.batch_size": _COUNT,
    "*optimizer.lr": Range(0, real=True),
    "*optimizer.momentum": Range(0, 1, real=True, below=True),
    "*optimizer.weight_decay": Range(0, real=True),
    "trainer.accelerator": Text(),
    "trainer.devices": Text(("auto",), other=Range(0, many=True)),  # a number of devices, or the devices
    "trainer.accumulate_grad_batches": _COUNT,
    "trainer.gradient_clip_val": Range(0, real=True, above=True, null=True),
    "trainer.skip_nan_steps": _NOT_NEGATIVE,
    "trainer.num_nodes": _COUNT,
    "trainer.sync_batchnorm": Switch(),
    "data.root": Text(),
    "data.labels": Text(null=True),
    "data.classes": Text(null=True, many=True),
    "data.separator": Text(null=True),
    "data.cache": Text(null=True),
    "data.train": Text(other=_COUNT),
    "data.val": Text(null=True, other=_COUNT),
    "data.test": Text(null=True, other=_COUNT),
    "data.seed": Range(0, 2**32 - 1),
    "data.num_workers": _NOT_NEGATIVE,
    "data.pin_memory": Switch(null=True),
    "data.persistent_workers": Switch(),
    "data.holdout": Range(0, 1, real=True, below=True),
    "data.resplit": Switch(),
    "data.soft_targets": Switch(),
    "data.twins": Text(("report", "together", "ignore")),
    "data.folds": Range(2, null=True),
    "data.fold": Range(0, null=True),
    "data.shares": Range(0, 1, real=True, above=True, below=True, many=True, one=False),
    "data.repeat_threshold": _SHARE,
    "data.drop_labels": Text(("single_positive",), other=Range(0, 1, real=True, below=True)),
    "data.groups_of_labels": Text(null=True),
    "label_sets.min_labels": _NOT_NEGATIVE,
    "label_sets.max_labels": Range(1, null=True),
    "data.dropped_as": Text(("unknown", "negative")),
    "data.long_tail": Range(0, 1, real=True, above=True, below=True, null=True),
    "data.train_images": _COUNT,
    "data.max_bytes": _COUNT,
    "data.check": Text(("full", "sample", "on_read")),
    "data.canvas": Range(8, LARGEST_SIDE),
    "data.density": Range(0, 1000, real=True),
    "data.max_digits": Range(1, 1000),
    "data.tail": Range(0, 100, real=True),
    "data.noise": Range(0, 100, real=True),
    "transform.resize": _SIDE,
    "transform.crop": _SIDE,
    "transform.flip": Switch(),
    "transform.augment": Text(tuple(AUGMENTATIONS), null=True, many=True, built=True),
    "transform.decode": Text(("full", "scaled")),
    "transform.test_flip": Switch(),
    "transform.channels": Range(1, 3),
    "transform.std": Range(0, real=True, above=True, many=True),
    "transform.mean": Range(real=True, many=True),
    "transform.crop_pct": Range(0, 2, real=True, above=True),
    "transform.antialias": Switch(),
    "model.widths": Range(1, 65536, many=True, one=False),
    "model.num_features": Range(1, 2**20),
    "model.strict": Switch(),
    "model.head_lambda": Range(0, real=True),
    "model.dropout": Range(0, 1, real=True, below=True),
    "loss.margin": _REAL,
    "loss.max_pairs": Range(1, null=True),
    "loss.gamma*": Range(0, real=True),
    "loss.alpha": Range(0, 1, real=True, null=True),
    "loss.shift": Range(0, 1, real=True, below=True),
    "loss.temperature": _POSITIVE,
    "loss.hill": Range(1, real=True),
    "loss.tau": Range(0, 1, real=True, above=True),
    "loss.top_k": _COUNT,
    "loss.tolerance": _POSITIVE,
    "loss.scale": _POSITIVE,
    "loss.slope": _POSITIVE,
    "loss.pos_weight": Text(
        ("balanced", "tempered"), null=True, other=Range(0, real=True, above=True, many=True, one=False)
    ),
    "loss.pos_weight_cap": Range(1, real=True),
    "loss.sampled": Switch(),
    "loss.weighted": Switch(),
    "label_sets.abstain": Range(0, 1, real=True, above=True, null=True),
    "decision.guard": Switch(),
    "decision.standardize": Switch(),
    "decision.zero_class": Switch(),
    "predictor.neighbours": _COUNT,
    "predictor.smoothing": _POSITIVE,
    "predictor.chains": _COUNT,
    "predictor.size": _COUNT,
    "predictor.hidden": _COUNT,
    "predictor.batch_size": _COUNT,
    "predictor.beam": _COUNT,
    "predictor.dropout": Range(0, 1, real=True, below=True),
    "predictor.estimator.C": _POSITIVE,
    "predictor.estimator.max_iter": _COUNT,
    "decision.steps": Range(2),
    "decision.min_k": _COUNT,
    "decision.max_k": _COUNT,
    "decision.max_count": Range(1, null=True),
    "decision.hidden": Range(1, 2**20, many=True, one=False),
    "decision.alpha": _INNER_SHARE,
    "decision.delta": _INNER_SHARE,
    "decision.miss_cost": _POSITIVE,
    "decision.calibration": _INNER_SHARE,
    "decision.beta": _POSITIVE,
    "decision.max_sets": _COUNT,
    "decision.weight_decay": Range(0, real=True, null=True),
    "decision.folds": Range(2),
    "decision.seed": Range(0, 2**32 - 1),
    "decision.min_precision": Range(0, 1, real=True, above=True, null=True),
    "decision.min_recall": Range(0, 1, real=True, above=True, null=True),
}
"""Dotted keys (patterns) of options and what they take; the first that fits counts. Of others, numbers are finite."""


def check_ranges(config: DictConfig) -> None:
    """Look at every value of a composed configuration.

    Raises:
        ValueError: a value that its option does not take; names the option, the value, and what is expected.
    """
    plain = resolved_sections(config, [str(key) for key in config if key != "hydra"])
    for key, value in _leaves(plain):
        if key.startswith("transform.") and value == OF_THE_MODEL:
            continue
        expected = find_range(key)
        if expected is not None:
            if not expected.takes(value):
                raise ValueError(f"{key}={_shown(value)}: expected {expected}")
        elif not _finite(value):
            raise ValueError(f"{key}={_shown(value)}: expected a finite number")


def check_options(config: DictConfig) -> None:
    """Look at what is handed to the parts that a configuration names, before any image is read.

    Raises:
        ValueError: an option that the part has not; names it, its value, and those that there are.
    """
    for section in ("loss", "optimizer", "schedule", "model", "predictor", "decision"):
        given: Any = OmegaConf.to_container(config[section]) if config[section] else {}
        if "_target_" not in given:
            continue
        target = given["_target_"]
        takes = _parameters(target)
        if any(parameter.kind is Parameter.VAR_KEYWORD for parameter in takes.values()):
            continue
        for name in given:
            if not name.startswith("_") and name not in takes:
                there = [key for key in given if key in takes and not key.startswith("_")]
                raise ValueError(
                    f"{section}.{name}={given[name]}: {target.rpartition('.')[2]} has no such option; it has "
                    f"{', '.join(there) or 'none'}"
                )


@cache
def _parameters(target: str) -> Mapping[str, Parameter]:
    return signature(get_object(target)).parameters


@cache
def find_range(key: str) -> Kind | None:
    """Return what the option with this dotted key takes; None where anything may be asked of it."""
    return next((kind for pattern, kind in RANGES.items() if fnmatchcase(key, pattern)), None)


def _leaves(value: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Return every value that is not itself an object, or of which more is asked, with its dotted key."""
    for key, item in value.items():
        if isinstance(item, dict) and find_range(f"{prefix}{key}") is None:
            yield from _leaves(item, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", item


def _finite(value: Any) -> bool:
    if isinstance(value, list):
        return all(_finite(item) for item in value)
    return not isinstance(value, float) or math.isfinite(value)


def _shown(value: Any) -> str:
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
