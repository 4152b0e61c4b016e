"""The learning rate of a training: how it was chosen, and the short search that chooses it on validation mAP."""

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import torch
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from torch import nn

from lsep_ml.data import ImageDataModule
from lsep_ml.models import Network
from lsep_ml.stages.network import Training, fit_or_continue
from lsep_ml.store.entries import Entry, Store
from lsep_ml.store.keys import RATES, TRIED, at_rate, search_made_by
from lsep_ml.training.label_prediction import LabelPrediction
from lsep_ml.training.probe import next_outwards
from lsep_ml.training.resume import Checkpoints

log = logging.getLogger(__name__)

FIRST = (0, -2, 2)
"""Half decades from the given rate that every search tries in this order: itself, a tenth and ten times of it."""

WIDEST = (-8, 8)
"""As far as a search goes while the best rate lies at its edge: four decades."""


def check_rates(config: DictConfig) -> None:
    """Raise ValueError where `config` asks for a search that cannot be made."""
    search = config.rates.get("search")
    if search is None:
        return
    if not isinstance(search, DictConfig):
        raise ValueError(f"rates.search={search}: expected its options; take rates=search")
    if config.training.probe and config.training.solver == "lbfgs":
        raise ValueError(
            "rates=search: a probe by the solver has no learning rate; take rates=given, or training.solver=sgd"
        )
    if not config.optimizer.get("lr"):
        raise ValueError("rates=search: begins at optimizer.lr, which is not set or 0")


def next_step(maps: Mapping[int, float]) -> int | None:
    """Return the half decade that a search goes on with after those in `maps`, which have their validation mAP; None:
    it ends.

    FIRST, then on by decades while the best is the lowest or the highest of all, within WIDEST, then the neighbours of
    the best, so that at the end both of them have been tried.
    """
    outwards = next_outwards(maps, FIRST, WIDEST, best_rate, stride=2)
    if outwards is not None:
        return outwards
    best = best_rate(maps)
    beside = (step for step in (best - 1, best + 1) if WIDEST[0] <= step <= WIDEST[1])
    return next((step for step in beside if step not in maps), None)


def best_rate(maps: Mapping[int, float]) -> int:
    """Return the half decade of the highest validation mAP, the smaller rate on a tie."""
    return max(maps, key=lambda step: (maps[step], -step))


def rate_at(given: float, step: int) -> float:
    """Return the rate so many half decades from the `given` one, in two digits; the given one itself at 0."""
    return given if step == 0 else float(f"{given * 10 ** (step / 2):.2g}")


class AtRates:
    """Gives the training of a job, and what makes its result, at any learning rate, each from the same start.

    Args:
        config: of the job.
        network: whose state now is the start.
        training: of the job, at the given rate.
        made_by: what makes its result.
    """

    def __init__(
        self, config: DictConfig, network: Network, training: Training, made_by: Mapping[str, Any]
    ) -> None:
        self.config, self.training, self.made_by = config, training, made_by
        self.whole = nn.ModuleDict({"network": network})
        if training.module.decision is not None:
            self.whole["decision"] = training.module.decision
        self._start = {name: value.clone() for name, value in self.whole.state_dict().items()}

    @property
    def options(self) -> dict[str, Any]:
        """Return how the rate is searched, plain."""
        return cast(dict[str, Any], OmegaConf.to_container(self.config.rates.search, resolve=True))

    @property
    def given(self) -> float:
        """Return the rate of the configuration."""
        return float(self.config.optimizer.lr)

    def at(self, rate: float, epochs: int | None = None) -> tuple[Training, dict[str, Any]]:
        """Put everything back to the start; returns the training at `rate`, of so many `epochs`, and what makes it."""
        self.whole.float().to(memory_format=torch.contiguous_format)
        self.whole.load_state_dict(self._start)
        epochs = self.training.epochs if epochs is None else epochs
        optimizer = OmegaConf.merge(self.config.optimizer, {"lr": rate})
        old = self.training.module
        optimisation = replace(old.optimisation, optimizer=instantiate(optimizer))
        module = LabelPrediction(old.network, old.objective, optimisation, old.computing)
        return replace(self.training, module=module, epochs=epochs), at_rate(self.made_by, rate, epochs)


def search_rate(store: Store, rates: AtRates, data: ImageDataModule) -> Entry:
    """Search for the rate of the highest validation mAP in short trainings, unless the `store` has what was found.

    Every finished try is kept until all are, and a killed one goes on from where it was, so that a killed search ends
    with the same numbers. A training that diverges has no mAP and is never chosen.

    Its facts: `lr`, `map` (of the short training), `tried` (each with `lr`, `map`, `epoch`, `seconds`, and `error`
    where it diverged), `epochs` of each, `warnings`, `seconds`.

    Raises:
        FloatingPointError: every training diverged.
    """
    options = rates.options
    made_by = search_made_by(options, rates.made_by)

    def build(folder: Path) -> dict[str, Any]:
        epochs, name = options["epochs"], rates.training.module.loss_name
        log.info("Searching the learning rate of %s: trainings of %d epochs", name, epochs)
        own = Store(store.kept(RATES, made_by), store.processes)
        tried: list[dict[str, Any]] = []
        maps: dict[int, float] = {}
        while (step := next_step(maps)) is not None:
            lr = rate_at(rates.given, step)
            log.info("Rate %g, number %d", lr, len(tried) + 1)
            facts = _try(own, *rates.at(lr, epochs), data)
            if facts["map"] is None:
                log.info("Rate %g diverges: %s", lr, facts["error"])
            maps[step] = -math.inf if facts["map"] is None else facts["map"]
            tried.append({"lr": lr, **facts})
        best = best_rate(maps)
        chosen = tried[list(maps).index(best)]
        if chosen["map"] is None:
            raise FloatingPointError(
                f"rates=search: loss={name} diverged at every rate from {min(t['lr'] for t in tried):g} to "
                f"{max(t['lr'] for t in tried):g}: {chosen['error']}; bound the gradient with "
                "trainer.gradient_clip_val=1"
            )
        log.info("Rate %g of %d tried: validation mAP %.2f%%", chosen["lr"], len(tried), 100 * chosen["map"])
        return {
            "lr": chosen["lr"],
            "map": chosen["map"],
            "epochs": epochs,
            "tried": tried,
            "warnings": _warnings(best, chosen["lr"]),
            "seconds": round(sum(t["seconds"] for t in tried), 3),
        }

    entry = store.get_or_build(RATES, made_by, build)
    if entry.reused:
        log.info("Learning rate %g was searched before: %s.", entry.facts["lr"], entry.identity)
    return entry


def _try(store: Store, training: Training, made_by: dict[str, Any], data: ImageDataModule) -> dict[str, Any]:
    """Train at one rate; returns the highest validation mAP, its epoch, and the seconds it took."""

    def build(folder: Path) -> dict[str, Any]:
        checkpoints = Checkpoints(store.kept(TRIED, made_by), training.saving)
        try:
            facts = fit_or_continue(store, folder, training, data, checkpoints, lambda row: None)
        except FloatingPointError as error:  # in all processes at once: what is judged is of all
            return {"map": None, "epoch": None, "seconds": 0.0, "error": str(error).partition(";")[0]}
        return {"map": facts["validation"]["map"], "epoch": facts["epoch"], "seconds": facts["seconds"]}

    return store.get_or_build(TRIED, made_by, build).facts


def _warnings(best: int, lr: float) -> list[str]:
    at_end = best in WIDEST
    return [f"the best learning rate, {lr:g}, lies at the end of what is tried"] if at_end else []


def rate_record(
    config: DictConfig, overrides: Sequence[str] | None, searched: Entry | None, given: str
) -> dict[str, Any]:
    """Return what result.json says in `rate` of the learning rate of a run.

    `chosen`: solver (there is none), search, given (with the command), tuned (for this loss, by a recorded sweep),
    other (for the loss in `of`) or default (for none). `lr`. Of a search what it tried, and `given`, the identity at
    the rate it began with.
    """
    if config.training.probe and config.training.solver == "lbfgs":
        return {"chosen": "solver"}
    if searched is not None:
        told = {key: searched.facts[key] for key in ("lr", "map", "epochs", "tried")}
        return {"chosen": "search", **told, "given": given}
    rate: dict[str, Any] = {"lr": config.optimizer.get("lr")}
    keys = [override.lstrip("+").partition("=")[0] for override in overrides or ()]
    of = (config.rates.get("of") or {}).get(config.optimizer._target_.rpartition(".")[2].lower())
    if any(key == "optimizer.lr" or (key.startswith("rates.") and "search" not in key) for key in keys):
        return {"chosen": "given", **rate}
    if of is None:
        return {"chosen": "default", **rate}
    return {"chosen": "tuned", **rate} if of == config.names.loss else {"chosen": "other", "of": of, **rate}
