"""The images of a job, and the same images in the split whose features every other split of them takes."""

import logging
from typing import Any, NamedTuple, cast

from hydra.utils import get_object, instantiate
from omegaconf import DictConfig, OmegaConf

from lsep_ml.data import DataSet, ImageDataModule
from lsep_ml.data.data_set import SPLITS
from lsep_ml.data.known import check_known
from lsep_ml.data.mixing import Mixing
from lsep_ml.data.order import ProcessShare
from lsep_ml.decisions import Decision
from lsep_ml.decisions.estimation import CountEstimation
from lsep_ml.losses import smooths_labels
from lsep_ml.processes.group import ALONE, Processes
from lsep_ml.stages.shared import Shared

log = logging.getLogger(__name__)

_READ: Shared[DataSet] = Shared(2)  # the images as a job has them, and as they are divided first


class DividedFirst(NamedTuple):
    """Holds the images of a job in another split, and the configuration that says so."""

    config: DictConfig
    data: ImageDataModule


def build_data(config: DictConfig, processes: Processes = ALONE) -> ImageDataModule:
    """Return the datamodule of a configuration; says what it found, and what its splits lack (`check_known`)."""
    data = _read(config, processes)
    found = data.data_set
    check_known(found)
    images = ", ".join(f"{len(found.split(name))} {name}" for name in SPLITS)
    labels = float(found.train.targets.mean(axis=0).sum())
    log.info(
        "Data %s: %s images, %d labels, %.2f an image",
        config.names.data,
        images,
        len(found.label_names),
        labels,
    )
    if found.train.soft is not None:
        log.info(
            "%d targets of training lie between 0 and 1; the loss takes them as they are, everything else takes those "
            "of at least 1/2 for labels",
            int(((found.train.soft > 0) & (found.train.soft < 1)).sum()),
        )
    return data


def check_soft_targets(config: DictConfig) -> None:
    """Look, before any data are read, at whether the loss has a use for soft targets, where they are asked for.

    Raises:
        ValueError: it has none.
    """
    if config.data.get("soft_targets") and not smooths_labels(get_object(config.loss["_target_"])):
        raise ValueError(
            f"data.soft_targets=true: loss={config.names.loss} has no meaning for targets between 0 and 1; take "
            "loss=bce, softmax or zlpr, or data.soft_targets=false with targets of 0 and 1"
        )


def check_whole(config: DictConfig, decision: Decision | None, data_set: DataSet) -> None:
    """Look, before anything is trained, for an image whose labels are all known, where the decision learns from such.

    Raises:
        ValueError: neither training nor validation has one.
    """
    if not (isinstance(decision, CountEstimation) or (decision is not None and decision.counts_label_sets)):
        return
    if all(
        split.mask is not None and not split.mask.all(axis=1).any()
        for split in (data_set.train, data_set.val)
    ):
        hidden = ", or data.dropped_as=negative" if config.data.get("drop_labels") else ""
        raise ValueError(
            f"decision={config.names.decision} learns from images whose labels are all known, and training and "
            f"validation have none; take decision=thresh_linear or threshold, which go by known labels{hidden}"
        )


def _read(config: DictConfig, processes: Processes) -> ImageDataModule:
    build = instantiate(config.data)
    plain = [OmegaConf.to_container(config[section], resolve=True) for section in ("data", "transform")]

    def read(**options: Any) -> DataSet:
        return _READ.get(plain, lambda: build.keywords["reader"](**options))

    data: ImageDataModule = build(
        reader=read,
        transform=instantiate(config.transform),
        batch_size=config.training.batch_size,
        eval_batch_size=config.training.eval_batch_size,
        training_seed=config.seed,
        mixing=Mixing(config.training.mixup, config.training.cutmix),
        process=ProcessShare(processes.rank, processes.count),
    )
    return data


def divided_first(config: DictConfig, processes: Processes) -> DividedFirst | None:
    """Return the same images in the split whose features every other split of them takes; None: it is this one.

    That is the first fold, or of images that are divided anew (`data.resplit`) the split of their source, at seed 0.
    They are read in silence.
    """
    changes: dict[str, Any] = {}
    if config.data.get("folds") is not None:
        changes = {} if config.data.fold == 0 else {"fold": 0}
    elif config.data.get("resplit"):
        changes = {"resplit": False, "seed": 0}
    if not changes:
        return None
    said = logging.getLogger("lsep_ml.data")
    level = said.level
    said.setLevel(logging.ERROR)
    try:
        changed = cast(DictConfig, OmegaConf.merge(config, {"data": changes}))
        return DividedFirst(changed, _read(changed, processes))
    finally:
        said.setLevel(level)
