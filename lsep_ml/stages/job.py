"""All a job is made of, built from a composed configuration before any long work starts."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning import Trainer, seed_everything
from torch import nn

from lsep_ml.bundle.start import start_from, starting_point
from lsep_ml.data import ImageDataModule
from lsep_ml.data.data_set import SPLITS, Split
from lsep_ml.decisions import Decision, LearntDecision
from lsep_ml.losses import ClassCounts, with_class_counts
from lsep_ml.losses.kernels.class_counts import positive_weights
from lsep_ml.metrics.indicator import dense_blocks
from lsep_ml.models import Network, Probe, take_score_rows
from lsep_ml.models.batch_norm import sync_batch_norm
from lsep_ml.predictors import Predictor
from lsep_ml.processes.group import ALONE, Processes, join_processes, started_by_launcher
from lsep_ml.runs.files import STORE
from lsep_ml.stages.completion import (
    constrained,
    with_given_features,
    with_label_groups,
    with_max_count,
    with_preprocessing,
)
from lsep_ml.stages.job_data import DividedFirst, build_data, check_soft_targets, check_whole, divided_first
from lsep_ml.stages.network import Training
from lsep_ml.stages.predictor import check_predictor
from lsep_ml.stages.probe import shared_backbone, solving_of
from lsep_ml.stages.ranges import check_options, check_ranges
from lsep_ml.stages.rates import check_rates
from lsep_ml.stages.running import Running
from lsep_ml.stages.shared import Shared
from lsep_ml.stages.size import check_size
from lsep_ml.store.entries import Store
from lsep_ml.store.keys import prediction_made_by, probed_on, weights_hash
from lsep_ml.store.names import current_names
from lsep_ml.store.sections import PREDICTION_SECTIONS, config_sections
from lsep_ml.training.label_prediction import LabelPrediction
from lsep_ml.training.path import Solving
from lsep_ml.training.progress import quiet_lightning
from lsep_ml.training.recipe import Computing, Loss, Objective, Optimisation
from lsep_ml.training.resume import Saving

log = logging.getLogger(__name__)

_DEVICE: Shared[torch.device] = Shared(1)


@dataclass(frozen=True, kw_only=True)
class Job:
    """All a job is made of, built before any long work, so that bad input ends it at once."""

    config: DictConfig  # with the sizes known
    store: Store  # and the processes that this job is worked on by
    data: ImageDataModule
    network: Network
    training: Training
    solving: Solving | None  # of a probe by the solver, in the training's place
    predictor: Predictor | None  # None: the network's own score layer
    decision: Decision | None  # None: the predictor's own label sets
    device: torch.device
    running: Running  # of the frozen backbone
    made_by: dict[str, Any]  # the trained network
    divided_first: DividedFirst | None = None  # of a probe: of whose features those of this job are taken

    @property
    def processes(self) -> Processes:
        """Return the processes that this job is worked on by."""
        return self.store.processes

    @property
    def shown(self) -> tuple[dict[str, Any], ImageDataModule]:
        """Return the images that a frozen backbone is shown, and the sections of the configuration that say which: this
        job's, or the same images as they are divided first."""
        sections = self.made_by["config"]
        if self.divided_first is None:
            return sections, self.data
        changed, data = self.divided_first
        return {**sections, **config_sections(changed, ("data",))}, data


_OURS = {
    "callbacks": "callbacks are those of the job",
    "logger": "logger=csv,wandb,... on its own",
    "max_epochs": "training.epochs",
    "max_steps": "training.epochs",
    "plugins": "trainer.precision and trainer.sync_batchnorm",
    "strategy": "trainer=ddp",
    "check_val_every_n_epoch": "validation ends every epoch",
    "val_check_interval": "validation ends every epoch",
    "limit_train_batches": "data.train or another data set",
    "limit_val_batches": "data.val or another data set",
}
"""Arguments of the Trainer that a job sets itself, and what to use in their place."""


@quiet_lightning()
def build_job(config: DictConfig) -> Job:
    """Read the data, build the network and the decision, and find the device of a configuration.

    Raises:
        ValueError: an argument of the trainer that the job sets itself; `training=joint` with a decision that is not
            learnt; a precision that the device has not; an unknown backend of torch.compile; a predictor that does not
            go with the decision, the training or the data; a decision that cannot be fitted at the size of the data.
    """
    config = with_current_names(config)
    check_ranges(config)
    check_options(config)
    check_soft_targets(config)
    check_rates(config)
    for key in _OURS.keys() & config.trainer.keys():
        raise ValueError(f"trainer.{key}={config.trainer[key]}: set by the job; instead: {_OURS[key]}")
    trainer, processes, device = _joined(config)
    start = starting_point(config.model.get("weights"))
    config = with_preprocessing(config, start, warn=processes.first)
    data = build_data(config, processes)
    config = with_given_features(config, data.data_set.feature_width)
    seed_everything(config.seed, workers=True, verbose=False)
    transform = config.transform
    label_names = data.data_set.label_names
    backbone = shared_backbone(config) if start is None else instantiate(config.model, weights=None)
    flip = transform.get("test_flip", False)
    network = Network(backbone, len(label_names), transform.mean, transform.std, flip)
    take_published_rows(network, label_names)
    if processes.count > 1 and config.trainer.sync_batchnorm:
        sync_batch_norm(network, device)
    if start is not None:
        start_from(network, label_names, start)
    sizes = {"labels": network.num_labels, "features": network.num_features}
    config.sizes.update(sizes)  # the caller's is left as it was: with_preprocessing gives another
    config = with_max_count(config, data.data_set.train)
    instantiate(config.fitting.optimizer)  # which stage 2 builds; what cannot be built is said now
    predictor = instantiate(config.predictor) if config.predictor else None
    config = with_label_groups(config, data.label_groups, label_names)
    decision = constrained(config, instantiate(config.decision) if config.decision else None)
    check_predictor(config, predictor, data.data_set.train)
    check_whole(config, decision, data.data_set)
    if config.trainer.precision == "16-mixed" and device.type == "cpu":
        raise ValueError("trainer.precision=16-mixed: needs a GPU; on the CPU take bf16-mixed or 32-true")
    backend = config.training.compile
    if backend is not None and backend not in torch.compiler.list_backends(exclude_tags=()):
        raise ValueError(
            f"training.compile={backend}: no backend of torch.compile; take inductor, or null for none"
        )
    running = Running.on(device, config.extraction, config.training.eval_batch_size)
    images = sum(len(data.data_set.split(split)) for split in SPLITS)
    running = running.of_head(network, config, images)
    sections = config_sections(config, (*PREDICTION_SECTIONS, "extraction", "decision"))
    extraction, of_decision = sections.pop("extraction"), sections.pop("decision")
    if config.training.probe:
        solved = config.training.solver == "lbfgs"
        sections |= probed_on(extraction, running.beside, running.store, solved=solved)
    joint = None
    if config.training.joint:
        if not isinstance(decision, LearntDecision):
            raise ValueError(
                f"training=joint: decision={config.names.decision} has nothing to train; take thresh_est or count_est"
            )
        if decision.chooses_offsets:
            raise ValueError(
                f"training=joint: there is no decision without a part of the images to choose an offset by; "
                f"decision.offset=none, not {config.decision.offset}"
            )
        joint = decision
        sections["decision"] = of_decision
    loss = build_loss(config, data.data_set.train)
    solving = solving_of(config, loss, device) if config.training.probe else None
    if decision is not None and joint is None:
        here = processes.count // config.trainer.get("num_nodes", 1)
        check_size(decision, data.data_set, out_of_fold=solving is not None, processes=here)
    every_epoch = config.training.probe and running.beside == "scores"
    probed = Probe(network) if config.training.probe and not every_epoch else network
    of_module = config
    if every_epoch:
        frozen = {"training": {"frozen_epochs": config.training.epochs}}
        of_module = cast(DictConfig, OmegaConf.merge(config, frozen))
    module = build_prediction(of_module, probed, processes, joint, loss)
    saving = Saving(**config.checkpoint)
    return Job(
        config=config,
        store=Store(Path(config.paths.output) / STORE, processes),
        data=data,
        network=network,
        training=Training(
            module, trainer, config.training.epochs, config.seed, saving, config.training.patience
        ),
        solving=solving,
        predictor=predictor,
        decision=decision,
        device=device,
        running=running,
        made_by=prediction_made_by(sections, data.data_set.content, label_names, weights_hash(network)),
        divided_first=divided_first(config, processes) if config.training.probe else None,
    )


def _joined(config: DictConfig) -> tuple[Callable[..., Trainer], Processes, torch.device]:
    """Return what `join_processes` returns; a job of a sweep by itself finds the device that the one before it has."""
    trainer = instantiate(config.trainer)
    join = partial(
        join_processes,
        trainer,
        unused=config.training.frozen_epochs > 0
        or (config.training.probe and config.model.get("head", "linear") != "linear")
        or config.model.get("pool", "trained") != "trained",
    )
    if started_by_launcher():
        return join()
    options = OmegaConf.to_container(config.trainer, resolve=True)
    return trainer, ALONE, _DEVICE.get(options, lambda: join()[2])


def take_published_rows(network: Network, label_names: Sequence[str]) -> None:
    """Start from the score rows that came with the backbone's weights, of labels of the same name."""
    rows = getattr(network.backbone, "score_rows", None)
    linear = isinstance(network.score_layer, nn.Linear)
    if rows is not None and linear and rows.weight.shape[1] == network.num_features:
        kept = take_score_rows(network.score_layer, label_names, *rows)
        log.info("The weights came with the score rows of %d of these labels", len(kept))


def with_current_names(config: DictConfig) -> DictConfig:
    """Return the configuration, where it was written for an earlier version, with the names that its functions have
    now."""
    plain = OmegaConf.to_container(config, resolve=False)
    renamed = current_names(plain)
    return config if renamed == plain else OmegaConf.create(renamed)


def _function(config: DictConfig) -> Loss:
    """Build a function of scores, its options bound by Python: over Hydra's partials a call takes as long as a loss."""
    built = instantiate(config)
    return partial(built.func, *built.args, **built.keywords) if isinstance(built, partial) else built


def build_loss(config: DictConfig, train: Split) -> Loss:
    """Give the loss of `config`, with the class counts of the training images where it takes them."""
    loss = _function(config.loss)

    def counts() -> ClassCounts:
        of_rows = [
            ClassCounts.of(torch.from_numpy(targets), None if mask is None else torch.from_numpy(mask))
            for targets, mask in dense_blocks(train.targets, train.mask)
        ]
        return ClassCounts(*(torch.stack(each).sum(0) for each in zip(*of_rows, strict=True)))

    loss = with_class_counts(loss, counts)
    options = getattr(loss, "keywords", {})
    if "pos_weight" in options:  # another number of them than of labels is said now, not in the first step
        cap, of_labels = options.get("pos_weight_cap", 1.0), torch.empty(0, train.targets.shape[1])
        positive_weights(of_labels, options["pos_weight"], cap, options["class_counts"])
    return loss


def build_prediction(
    config: DictConfig,
    network: Network | Probe,
    processes: Processes = ALONE,
    decision: LearntDecision | None = None,
    loss: Loss | None = None,
) -> LabelPrediction:
    """Build the stage-1 module of `config` around the `network`, and the `decision` in joint training.

    loss: that of `build_loss`; None: as it is configured.
    """
    training = config.training
    objective = Objective(
        loss or _function(config.loss),
        config.names.loss,
        decision,
        1.0 if decision is None else training.decision_weight,
        {name: _function(counted) for name, counted in config.diagnostics.items()},
        training.label_smoothing,
    )
    optimisation = Optimisation(
        instantiate(config.optimizer),
        instantiate(config.schedule),
        training.score_layer_lr,
        training.frozen_epochs,
        training.ema,
        training.layer_decay,
        training.decay_all,
    )
    computing = Computing(training.channels_last, training.compile, processes.gather)
    return LabelPrediction(network, objective, optimisation, computing)
