"""What of a configuration counts: its sections as plain data, without what changes no number, under their first names.

Imports neither torch nor Lightning: run.py names its output folders by it before any heavy import.
"""

from collections.abc import Collection, Mapping
from typing import Any

from omegaconf import DictConfig, OmegaConf

from lsep_ml.store.names import first_names

PREDICTION_SECTIONS = (
    "data", "transform", "training", "model", "loss", "optimizer", "schedule", "trainer", "seed",
)  # fmt: skip
"""The sections of the configuration that make a trained network; nothing of stage 2 is among them."""

DECISION_SECTIONS = ("decision", "fitting")
"""What stage 2 adds."""

LATER_SECTIONS = ("rates", "extraction", "predictor", "label_sets")
"""What records of earlier versions lack, which means that it is empty."""

RUN_SECTIONS = (*PREDICTION_SECTIONS, *LATER_SECTIONS, *DECISION_SECTIONS)
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
        "soft_targets": False,
        "dropped_as": "unknown",
        "check": "full",
    },
    "loss": {"pos_weight": None, "pos_weight_cap": 20.0},
    "model": {"pool": "trained", "head": "linear", "head_lambda": 0.1},
    "extraction": {"precision": "float32", "store": "float32", "scores": "float32", "max_gib": 16},
    "transform": {"augment": None, "test_flip": False, "decode": "full"},
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

_OF_SOLVED_PROBES = {"solver", "weight_decay", "tolerance", "folds"}
"""Keys of `training` that came with the solver of probes; what SGD makes of a probe is known without them."""


def resolved_sections(config: DictConfig, sections: Collection[str]) -> dict[str, Any]:
    """Return the `sections` of a composed `config` as plain data, resolved; sizes known only at run time are letters.

    The sizes of `config` are letters meanwhile: to copy it for that takes longer than all else.
    """
    known = OmegaConf.to_container(config.sizes)
    config.sizes.update({"labels": "K", "features": "D"})
    try:
        values = {section: config[section] for section in sections}
        return {
            section: OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value
            for section, value in values.items()
        }
    finally:
        config.sizes.update(known)


def config_sections(config: DictConfig, sections: Collection[str]) -> dict[str, Any]:
    """Return the `sections` of a composed `config`, resolved, without what changes no number."""
    return plain_sections(resolved_sections(config, sections), sections)


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
            if section == "data" and not value.get("drop_labels"):
                neutral = neutral | {"dropped_as"}
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
