"""What each kind of stored result is made by, and so when it is no longer valid; a table of it: docs/what-is-kept.md.

A result is found by the hash of what made it, and of nothing else: the sections of the configuration that make it, the
images, the state of a network. One that was made by something else is another result. Imports neither torch nor
Lightning: run.py names its output folders by it before any heavy import.
"""

import copy
import hashlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal
from weakref import WeakKeyDictionary

from lsep_ml.files import content_hash

if TYPE_CHECKING:
    from torch import nn

FORMAT_VERSION = 1
"""Part of every identity: raised when what is stored changes its meaning, which makes all that is stored invalid."""

SOLVER = 3
"""Part of what probes and linear thresholds are made by: raised when the solver ends elsewhere within its tolerance."""

NETWORKS = "predictions"
"""Kind of a trained network with its history, and of the states that a killed training continues from."""

RATES = "rates"
"""Kind of the search for a learning rate: what was tried, and what was chosen."""

TRIED = "tried"
"""Kind of a short training at one rate, in the folder of its search."""

FEATURES = "features"
"""Kind of the features of all images by a frozen backbone."""

SCORES = "scores"
"""Kind of the scores from features, by a score layer or by a predictor, and of a predictor's label sets."""

DECISION_STATES = "decisions"
"""Kind of the states that a killed training of a decision continues from; the fitted decision is the run's own file."""

LINEAR_FITS = "linear_thresholds"
"""Kind of the fits of linear thresholds without some folds, which `thresh_linear` and `support` share."""

PLACES = "places"
"""Kind of the places of test images that reports show, by a frozen backbone, added when they are first shown."""

WHOLE_IN_STATE = {"lsep_ml.models.SmallCNN", "lsep_ml.models.vgg16"}
"""Backbones whose state alone says what features they give in evaluation."""

NO_PART_OF_FEATURES = {"weights", "source"}
"""Options of a backbone that say where its state came from."""


def identity_of(made_by: Mapping[str, Any]) -> str:
    """Hash `made_by`, plain data, to what a result made by it is called: 16 hex digits."""
    return content_hash({**made_by, "format_version": FORMAT_VERSION})


def run_identity(sections: Mapping[str, Any]) -> str:
    """Hash what makes a run, its resolved RUN_SECTIONS but empty ones, to the 8 hex digits of its folder's name."""
    return content_hash({name: section for name, section in sections.items() if section != {}}, length=8)


def prediction_made_by(
    config: Mapping[str, Any], images: Mapping[str, str], label_names: Sequence[str], initial_weights: str
) -> dict[str, Any]:
    """Say what a trained network is made by.

    Args:
        config: the resolved PREDICTION_SECTIONS; of a probe what `probed_on` returns too, in a joint training the
            decision's section.
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


def probed_on(
    extraction: Mapping[str, Any],
    beside: Literal["places", "scores"] | None,
    stored_in: str,
    *,
    solved: bool,
) -> dict[str, Any]:
    """Return what a probe's network is made by besides: the section `extraction`, where it is not at its defaults, and
    the version of the solver.

    Args:
        extraction: the resolved section; its `max_gib` does not count, but what came of it, and `scores`, made later.
        beside: what is kept of an image beside f'(x), as `Running` has it.
        stored_in: the type of what a score layer is trained on.
        solved: by the solver; else it is trained by SGD.
    """
    counts = {key: value for key, value in extraction.items() if key not in ("max_gib", "scores")}
    if beside is not None:
        counts["store"] = stored_in if beside == "places" else None
    return {**({"extraction": counts} if counts else {}), **({"solver": SOLVER} if solved else {})}


def at_rate(prediction: Mapping[str, Any], rate: float, epochs: int) -> dict[str, Any]:
    """Say what a network is made by that is trained at another `rate`, for so many `epochs`, and else like this one."""
    made_by = copy.deepcopy(dict(prediction))
    made_by["config"]["optimizer"]["lr"] = rate
    made_by["config"]["training"]["epochs"] = epochs
    return made_by


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
    computed_in: str = "float32",
    stored_in: str = "float32",
    scores_by: str | None = None,
) -> dict[str, Any]:
    """Say what features are made by: always without augmentation, in a fixed order and fixed batches.

    Args:
        config: resolved sections of the configuration, `data`, `transform` and `model` among them.
        images: the hashes of the split and of the images (`DataSet.content`).
        backbone: `weights_hash` of the frozen backbone.
        batch_size: of the fixed batches; a row's last bits depend on it.
        channels_last: the memory layout, on which they depend too.
        computed_in: the precision of the backbone.
        stored_in: the type of what is kept.
        scores_by: `weights_hash` of the head whose scores are kept with the features; None: none are.
    """
    model = config["model"]
    built_by = {key: value for key, value in model.items() if key not in NO_PART_OF_FEATURES}
    sections = {} if model["_target_"] in WHOLE_IN_STATE else {"model": built_by}
    options = (
        ("channels_last", channels_last, False),
        ("computed_in", computed_in, "float32"),
        ("stored_in", stored_in, "float32"),
        ("scores_by", scores_by, None),
    )
    return {
        "config": {**_evaluated(config, files="images" in images), **sections},
        **images,
        "backbone": backbone,
        "batch_size": batch_size,
        "precision": "32-true",
        **{key: value for key, value, first in options if value != first},
    }


def _evaluated(config: Mapping[str, Any], files: bool) -> dict[str, Any]:
    """Return the sections of the images, without what training alone does with them: it makes no other features."""
    seen = {key: value for key, value in config["transform"].items() if key != "augment"}
    seen["flip"] = files and any(seen.get(key) is not None for key in ("resize", "crop"))
    return {"data": {**config["data"], "sampler": "plain", "repeat_threshold": 0.1}, "transform": seen}


def places_made_by(features: str) -> dict[str, Any]:
    """Say what the places of shown images are made by: the identity of the `features` that are pooled from them."""
    return {"features": features}


def taken_made_by(features: str, images: Mapping[str, str]) -> dict[str, Any]:
    """Say what features are made by that are taken from others: the identity of these `features`, and the hashes of the
    split and of the images that they are now in (`DataSet.content`)."""
    return {"features": features, **images}


def scores_made_by(features: str, score_layer: str, stored_in: str = "float32") -> dict[str, Any]:
    """Say what scores are made by: the identity of the `features`, `weights_hash` of the `score_layer`, and the type
    that they are stored in."""
    made_by = {"features": features, "score_layer": score_layer}
    return made_by if stored_in == "float32" else {**made_by, "stored_in": stored_in}


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
    scores: str, prediction: str | None, fit_on: str, folds: bytes, weight_decay: float | None
) -> dict[str, Any]:
    """Say what the fits of linear thresholds without some folds are made by.

    Args:
        scores: the identity of the scores, which are of the same features.
        prediction: that of the solved probe whose out-of-fold scores they may be fitted on.
        fit_on: of the decision.
        folds: the rows' folds, int64 (N,), as bytes.
        weight_decay: of the decision; None: chosen.
    """
    return {
        "scores": scores,
        "prediction": prediction,
        "fit_on": fit_on,
        "folds": hashlib.sha256(folds).hexdigest(),
        "weight_decay": weight_decay,
        "solver": SOLVER,
    }


def weights_hash(module: "nn.Module") -> str:
    """Hash names, types, shapes and bytes of the state of `module`: sha256 in hex, the same on every device."""
    digest: str = _digest(module, "").hexdigest()
    return digest


def hash_once(module: "nn.Module") -> None:
    """Say that the state of `module` stays as it is: `weights_hash` of it, and of what has it for `backbone`, does not
    read it again."""
    _HASHED[module] = {}


# modules that stay as they are, and sha256 of the state by prefix
_HASHED: "WeakKeyDictionary[nn.Module, dict[str, Any]]" = WeakKeyDictionary()


def _digest(module: "nn.Module", prefix: str) -> Any:
    """Return sha256 of the state of `module`, names after `prefix`."""
    import torch

    hashed = _HASHED.get(module, {})
    if prefix in hashed:
        return hashed[prefix].copy()
    state, digest = module.state_dict(prefix=prefix), hashlib.sha256()
    backbone, own = getattr(module, "backbone", None), f"{prefix}backbone."
    if backbone is not None and backbone in _HASHED and min(state) >= own:  # it comes first
        state = {name: tensor for name, tensor in state.items() if not name.startswith(own)}
        digest = _digest(backbone, own)
    for name, tensor in sorted(state.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    hashed[prefix] = digest.copy()
    return digest
