"""What each kind of stored result is made by, and so when it is no longer valid; a table of it: docs/what-is-kept.md.

A result is found by the hash of what made it, and of nothing else: the sections of the configuration that make it, the
images, the state of a network. One that was made by something else is another result. Imports neither torch nor
Lightning: run.py names its output folders by it before any heavy import.
"""

import hashlib
from collections.abc import Collection, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, cast

from omegaconf import DictConfig, OmegaConf

from lsep_ml.files import content_hash
from lsep_ml.store.names import first_names

if TYPE_CHECKING:
    from torch import nn

FORMAT_VERSION = 1
"""Part of every identity: raised when what is stored changes its meaning, which makes all that is stored invalid."""

PREDICTIONS = "predictions"
"""Kind of a trained network with its history, and of the states that a killed training continues from."""

RATES = "rates"
"""Kind of the search for a learning rate: what was tried, and what was chosen."""

FEATURES = "features"
"""Kind of the features of all images by a frozen backbone."""

SCORES = "scores"
"""Kind of the scores from features, by a score layer or by a predictor, and of a predictor's label sets."""

DECISIONS = "decisions"
"""Kind of the states that a killed training of a decision continues from; the fitted decision is the run's own file."""

LINEAR_FITS = "linear_thresholds"
"""Kind of the fits of linear thresholds without some folds, which `thresh_linear` and `support` share."""

PREDICTION_SECTIONS = (
    "data", "transform", "training", "model", "loss", "optimizer", "schedule", "trainer", "seed",
)  # fmt: skip
"""The sections of the configuration that make a trained network; nothing of stage 2 is among them."""

DECISION_SECTIONS = ("decision", "fitting")
"""What stage 2 adds."""

RUN_SECTIONS = (*PREDICTION_SECTIONS, "rates", "extraction", "predictor", *DECISION_SECTIONS, "label_sets")
"""All that makes a run; `predictor` is empty where the scores are the network's own, `label_sets` where these are what
the decision says."""

NEUTRAL = {
    "data": {
        "root",
        "num_workers",
        "cache",
        "pin_memory",
        "persistent_workers",
        "max_bytes",
        "groups_of_labels",
    },
    "decision": {"shift_invariant"},
    "model": {"strict"},
    "rates": {"sgd", "adam", "adamw", "of"},  # what of them is used is the optimizer's
    "extraction": {"batch_size", "channels_last"},  # not of features, whose last bits depend on them
    "trainer": {"accelerator", "devices", "num_nodes", "strategy"},
}
"""Where the data lie, what computes and with how many processes: they change no number that is asked for. What the loss
says of itself is the loss's.

The number of processes does where each normalises its own share of a batch (trainer.sync_batchnorm=false).
"""

_OF_CRITERIA = {"beta": 1.0, "miss_cost": 1.0}

AT_FIRST: dict[str, dict[str, Any]] = {
    "data": {
        **dict.fromkeys(("long_tail", "folds", "fold", "label_names")),
        "drop_labels": 0.0,
        "dropped_as": "unknown",
        "check": "full",
    },
    "loss": {"pos_weight": None, "pos_weight_cap": 20.0},
    "model": {"pool": "trained", "head": "linear", "head_lambda": 0.1},
    "extraction": {"precision": "float32", "store": "float32", "max_gib": 16},
    "transform": {"augment": None, "test_flip": False},
    "training": {
        "mixup": 0.0,
        "cutmix": 0.0,
        "label_smoothing": 0.0,
        "layer_decay": 1.0,
        "decay_all": True,
        "patience": None,
    },
    "label_sets": {"min_labels": 0, "max_labels": None, "groups": None, "abstain": None},
    "lsep_ml.decisions.TopK": _OF_CRITERIA,
    "lsep_ml.decisions.GlobalThreshold": _OF_CRITERIA,
    "lsep_ml.decisions.CappedThreshold": _OF_CRITERIA,
    "lsep_ml.decisions.LinearThresholds": _OF_CRITERIA,
    "lsep_ml.decisions.LabelSetSupport": _OF_CRITERIA,
    "lsep_ml.decisions.PerClassThreshold": {"miss_cost": 1.0},
    "lsep_ml.decisions.ThresholdEstimation": {"criterion": "f1", "offset": "none", **_OF_CRITERIA},
    "rates": {"search": None},
}
"""Options of a section, or of what a `_target_` builds, that came later, at the value that means what was done before:
left out, so that it is still found."""

WHOLE_IN_STATE = {"lsep_ml.models.SmallCNN", "lsep_ml.models.vgg16"}
"""Backbones whose state alone says what features they give in evaluation."""

NO_PART_OF_FEATURES = {"weights", "source"}
"""Options of a backbone that say where its state came from."""

_OF_SOLVED_PROBES = {"solver", "weight_decay", "tolerance", "folds"}
"""Keys of `training` that came with the solver of probes; what SGD makes of a probe is known without them."""


def identity_of(made_by: Mapping[str, Any]) -> str:
    """Hash `made_by`, plain data, to what a result made by it is called: 16 hex digits."""
    return content_hash({**made_by, "format_version": FORMAT_VERSION})


def prediction_made_by(
    config: Mapping[str, Any], images: Mapping[str, str], label_names: Sequence[str], initial_weights: str
) -> dict[str, Any]:
    """Say what a trained network is made by.

    Args:
        config: the resolved PREDICTION_SECTIONS; in a joint training the decision's section too.
        images: the hashes of the split and of the images (`DataSet.content`).
        label_names: K names.
        initial_weights: `weights_hash` of the network before it is trained.
    """
    return {
        "config": dict(config),
        **images,
        "label_names": list(label_names),
        "initial_weights": initial_weights,
    }


def search_made_by(search: Mapping[str, Any], prediction: Mapping[str, Any]) -> dict[str, Any]:
    """Say what the search for a rate is made by: its options, and what makes the network at the rate it begins with."""
    return {"search": dict(search), "prediction": dict(prediction)}


def features_made_by(
    config: Mapping[str, Any],
    images: Mapping[str, str],
    backbone: str,
    batch_size: int,
    *,
    channels_last: bool = False,
    options: Mapping[str, Any] = MappingProxyType({}),
) -> dict[str, Any]:
    """Say what features are made by: always without augmentation, in a fixed order and fixed batches.

    Args:
        config: resolved sections of the configuration, `data`, `transform` and `model` among them.
        images: the hashes of the split and of the images (`DataSet.content`).
        backbone: `weights_hash` of the frozen backbone.
        batch_size: of the fixed batches; a row's last bits depend on it.
        channels_last: the memory layout, on which they depend too.
        options: the others of the extraction that are not at their first values.
    """
    model = config["model"]
    built_by = {key: value for key, value in model.items() if key not in NO_PART_OF_FEATURES}
    sections = {} if model["_target_"] in WHOLE_IN_STATE else {"model": built_by}
    return {
        "config": {**_evaluated(config, files="images" in images), **sections},
        **images,
        "backbone": backbone,
        "batch_size": batch_size,
        "precision": "32-true",
        **({"channels_last": True} if channels_last else {}),
        **options,
    }


def _evaluated(config: Mapping[str, Any], files: bool) -> dict[str, Any]:
    """Return the sections of the images, without what training alone does with them: it makes no other features."""
    seen = {key: value for key, value in config["transform"].items() if key != "augment"}
    seen["flip"] = files and any(seen.get(key) is not None for key in ("resize", "crop"))
    return {"data": {**config["data"], "sampler": "plain", "repeat_threshold": 0.1}, "transform": seen}


def taken_made_by(features: str, images: Mapping[str, str]) -> dict[str, Any]:
    """Say what features are made by that are taken from others: the identity of these `features`, and the hashes of the
    split and of the images that they are now in (`DataSet.content`)."""
    return {"features": features, **images}


def scores_made_by(features: str, score_layer: str) -> dict[str, Any]:
    """Say what scores are made by: the identity of the `features`, and `weights_hash` of the `score_layer`."""
    return {"features": features, "score_layer": score_layer}


def predictor_made_by(features: str, config: Any, seed: int) -> dict[str, Any]:
    """Say what a predictor's scores and label sets are made by.

    Args:
        features: the identity of the features that it is fitted on.
        config: the resolved section `predictor`.
        seed: of the run.
    """
    return {"features": features, "predictor": config, "seed": seed}


def decision_made_by(config: Mapping[str, Any], scores: str) -> dict[str, Any]:
    """Say what the states of a decision's training are made by: sections and seed in `config`, and its `scores`."""
    return {"config": dict(config), "scores": scores}


def linear_fits_made_by(
    scores: str, prediction: str | None, fit_on: str, folds: str, weight_decay: float | None
) -> dict[str, Any]:
    """Say what the fits of linear thresholds without some folds are made by.

    Args:
        scores: the identity of the scores, which are of the same features.
        prediction: that of the solved probe whose out-of-fold scores they may be fitted on.
        fit_on: of the decision.
        folds: the hash of the rows' folds.
        weight_decay: of the decision; None: chosen.
    """
    return {
        "scores": scores,
        "prediction": prediction,
        "fit_on": fit_on,
        "folds": folds,
        "weight_decay": weight_decay,
    }


def with_open_sizes(config: DictConfig) -> DictConfig:
    """Return `config` without Hydra's own section; sizes, which only a run knows, stand as letters, so it resolves."""
    own = {key: config._get_node(key) for key in config if key != "hydra"}
    return cast(DictConfig, OmegaConf.merge(own, {"sizes": {"labels": "K", "features": "D"}}))


def config_sections(config: DictConfig, sections: Collection[str]) -> dict[str, Any]:
    """Return the `sections` of a composed `config`, resolved; sizes known only at run time stand as letters."""
    known = with_open_sizes(config)
    plain = {}
    for section in sections:
        value = known[section]
        plain[section] = OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value
    return plain_sections(plain, sections)


def plain_sections(config: Mapping[str, Any], sections: Collection[str]) -> dict[str, Any]:
    """Return the `sections` of `config`, plain data, without what changes no number; nothing is interpolated.

    Names of ours are those that they had first (`lsep_ml.store.names`): an identity outlives the move of a function.

    Raises:
        KeyError: a section is missing.
    """
    plain = {}
    for section in sections:
        value = config[section]
        if isinstance(value, dict):
            neutral = NEUTRAL.get(section, set())
            if section == "trainer" and not value["sync_batchnorm"]:
                neutral = neutral - {"devices", "num_nodes"}
            if section == "data" and not value.get("resplit"):
                neutral = neutral | {"resplit"}
            if section == "data" and value.get("twins") != "together":
                neutral = neutral | {"twins"}
            if section == "training" and value.get("solver") == "sgd":
                neutral = neutral | _OF_SOLVED_PROBES
            value = {key: item for key, item in value.items() if key not in neutral}
        plain[section] = as_at_first(section, value)
    return plain


def as_at_first(section: str, value: Any) -> Any:
    """Return `value`, the plain data of a `section`, as an earlier version would have had it where it means the same.

    Options that came later are left out at the value of `AT_FIRST`, and names of ours are those that they had first.
    """
    if isinstance(value, Mapping):
        first = {**AT_FIRST.get(section, {}), **AT_FIRST.get(str(value.get("_target_")), {})}
        value = {key: item for key, item in value.items() if not (key in first and item == first[key])}
    return first_names(value)


def weights_hash(module: "nn.Module") -> str:
    """Hash names, types, shapes and bytes of the state of `module`: sha256 in hex, the same on every device."""
    import torch

    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()
