"""What the configuration of a job leaves open, taken from its data and from what its weights were trained with."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, cast

from omegaconf import DictConfig, OmegaConf

from lsep_ml.bundle.parts import Parts
from lsep_ml.bundle.start import preprocessing_of_start
from lsep_ml.data.data_set import Split
from lsep_ml.data.label_groups import LabelGroups
from lsep_ml.decisions import Decision
from lsep_ml.decisions.constraints import Constraints, LabelConflict
from lsep_ml.decisions.estimation import covering_count
from lsep_ml.models.preprocessing import preprocessing_of
from lsep_ml.stages.ranges import OF_THE_MODEL

log = logging.getLogger(__name__)

_PIXELS = ("mean", "std", "interpolation", "antialias")
"""What changes the pixels that weights were trained on; the size and what is in the picture are free."""


def with_preprocessing(config: DictConfig, start: Parts | None, warn: bool = True) -> DictConfig:
    """Return the configuration with the model's own in each place of the transform that says `model`, and a network
    that is named by its folder named by timm's name.

    What says something else stays, and where it is not what the weights were trained with, a warning says so.

    Args:
        config: a job's.
        start: the trained classifier that the job starts from, whose own preprocessing then counts.
        warn: whether this process is the one that speaks.

    Raises:
        ValueError: the transform asks for the model's own, and the model has none.
    """
    config = _with_own_options(config)
    transform = cast(dict[str, Any], OmegaConf.to_container(config.transform, resolve=True))
    source, own = _own(config, start)
    asked = [key for key, value in transform.items() if value == OF_THE_MODEL]
    lacking = [key for key in asked if key not in own]
    if lacking:
        raise ValueError(
            f"transform.{lacking[0]}=model: {source} says nothing of it; choose transform=small or transform=native, "
            f"or set {', '.join(f'transform.{key}' for key in lacking)}"
        )
    clashes = [
        f"transform.{key} is not what {source} was trained with: {own[key]}"
        for key in _PIXELS
        if key in own and key in transform and key not in asked and transform[key] != own[key]
    ]
    if clashes and warn:
        log.warning("%s", "; ".join(clashes))
    return cast(DictConfig, OmegaConf.merge(config, {"transform": {key: own[key] for key in asked}}))


def _with_own_options(config: DictConfig) -> DictConfig:
    """Return the configuration with timm's own name and options for a network that is named by its folder."""
    if config.model["_target_"] != "lsep_ml.models.timm_backbone":
        return config
    from lsep_ml.models.of_timm import resolved_model

    named = {
        key: value for key, value in config.model.items() if not OmegaConf.is_interpolation(config.model, key)
    }
    added = {key: value for key, value in resolved_model(named).items() if named.get(key) != value}
    return cast(DictConfig, OmegaConf.merge(config, {"model": added})) if added else config


def _own(config: DictConfig, start: Parts | None) -> tuple[str, Mapping[str, Any]]:
    """Return the name of the weights that the model starts from, and their preprocessing as a transform's options."""
    if start is not None:
        return str(start.source), preprocessing_of_start(start)
    model = cast(dict[str, Any], OmegaConf.to_container(config.model, resolve=True))
    found = preprocessing_of(model)
    name = model.get("source") or model.get("name", str(model["_target_"]).rpartition(".")[2])
    return str(name), {} if found is None else found.values()


def with_label_groups(config: DictConfig, groups: LabelGroups, label_names: Sequence[str]) -> DictConfig:
    """Return the configuration with what the file of label groups says in the place of its name.

    Raises:
        ValueError: labels that cannot be kept together, by their names.
    """
    if "label_sets" not in config or config.label_sets.groups is None:
        return config
    try:
        Constraints(**asdict(groups))
    except LabelConflict as error:
        file = config.label_sets.groups
        raise ValueError(f"data.groups_of_labels={file}: {error.naming(label_names)}") from None
    return cast(DictConfig, OmegaConf.merge(config, {"label_sets": {"groups": asdict(groups)}}))


def constrained(config: DictConfig, decision: Decision | None) -> Decision | None:
    """Return the decision, its label sets kept to what `config.label_sets` asks for.

    Raises:
        ValueError: what cannot be kept together or by this decision, or label sets that no decision makes.
    """
    if "label_sets" not in config:
        return decision
    asked = cast(dict[str, Any], OmegaConf.to_container(config.label_sets, resolve=True))
    groups, abstain = asked.pop("groups") or {}, asked.pop("abstain")
    constraints = Constraints(**asked, **groups)
    constraints.check(config.sizes.labels)
    if abstain is not None and config.data.get("folds") is not None:
        raise ValueError(
            f"label_sets.abstain={abstain}: with data.folds={config.data.folds} several networks test, and the "
            "confidence of one says nothing of another's; leave one of both out"
        )
    if decision is not None:
        return decision.constrain(constraints)
    if constraints or abstain is not None:
        raise ValueError(
            "label_sets: decision=none keeps a predictor's own label sets; choose a decision, or leave it out"
        )
    return None


def with_given_features(config: DictConfig, width: int | None) -> DictConfig:
    """Return the configuration with the number of features that the data have in the place of images in
    `model=given`."""
    if width is None:
        return config
    if "width" not in config.model or config.names.model != "given":
        raise ValueError(
            f"data={config.names.data} has features in the place of images, which model={config.names.model} does not "
            "take: model=given"
        )
    return cast(DictConfig, OmegaConf.merge(config, {"model": {"width": width}}))


def with_max_count(config: DictConfig, train: Split) -> DictConfig:
    """Return the configuration with the largest label count that is left to the training images, which is said."""
    if "max_count" not in config.decision or config.decision.max_count is not None:
        return config
    labelled = slice(None) if train.mask is None else train.mask.any(axis=1)
    count = covering_count(train.targets.sum(axis=1)[labelled])
    log.info("decision.max_count = %d: it covers the labels of 99%% of the training images", count)
    return cast(DictConfig, OmegaConf.merge(config, {"decision": {"max_count": count}}))
