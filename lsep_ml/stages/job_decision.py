"""The decision of a job: what its configuration leaves to the data, and what its label sets must keep."""

import logging
from dataclasses import asdict
from typing import Any, cast

from omegaconf import DictConfig, OmegaConf

from lsep_ml.data.data_set import Split
from lsep_ml.data.label_groups import LabelGroups
from lsep_ml.decisions import Decision
from lsep_ml.decisions.constraints import Constraints
from lsep_ml.decisions.estimation import largest_count

log = logging.getLogger(__name__)


def with_label_groups(config: DictConfig, groups: LabelGroups) -> DictConfig:
    """Return the configuration with what the file of label groups says in the place of its name."""
    if "label_sets" not in config or config.label_sets.groups is None:
        return config
    return cast(DictConfig, OmegaConf.merge(config, {"label_sets": {"groups": asdict(groups)}}))


def constrained(config: DictConfig, decision: Decision | None) -> Decision | None:
    """Return the decision, its label sets kept to what `config.label_sets` asks for.

    Raises:
        ValueError: what cannot be kept together or by this decision, or label sets that no decision makes.
    """
    if "label_sets" not in config:
        return decision
    asked = cast(dict[str, Any], OmegaConf.to_container(config.label_sets, resolve=True))
    groups = asked.pop("groups") or {}
    constraints = Constraints(**asked, **groups)
    constraints.check(config.sizes.labels)
    if decision is not None:
        return decision.constrain(constraints)
    if constraints:
        raise ValueError(
            "label_sets: decision=none keeps a predictor's own label sets; choose a decision, or leave it out"
        )
    return None


def with_max_count(config: DictConfig, train: Split) -> DictConfig:
    """Return the configuration with the largest label count that is left to the training images, which is said."""
    if "max_count" not in config.decision or config.decision.max_count is not None:
        return config
    count = largest_count(train.targets, train.mask)
    log.info("decision.max_count = %d: it covers the labels of 99%% of the training images", count)
    return cast(DictConfig, OmegaConf.merge(config, {"decision": {"max_count": count}}))
