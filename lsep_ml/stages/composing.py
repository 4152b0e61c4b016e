"""The configurations of jobs, composed in less time: those of a sweep once each, from what is read and parsed once."""

import copy
from functools import lru_cache, wraps
from types import FunctionType
from typing import Any

import omegaconf
from hydra._internal import defaults_list
from hydra.core.default_element import InputDefault
from omegaconf import DictConfig, OmegaConf

COMPOSED = 200
"""At most so many configurations wait for their job: each takes a megabyte."""

PARSED = 1000
"""At most so many interpolations are kept parsed."""


def parse_once() -> None:
    """Have OmegaConf parse an interpolation the first time that it resolves it; a job has a hundred, many the same."""
    for name in ("base", "_utils"):
        names: Any = vars(getattr(omegaconf, name, object))
        if isinstance(names.get("parse"), FunctionType):  # of no other version, and for the first time
            names["parse"] = lru_cache(PARSED)(names["parse"])


def compose_once(loader: Any) -> None:
    """Have a sweep's `loader` of configurations give again what it composed before, from files that it reads once.

    Hydra composes the jobs of a sweep twice, all of them to see that it can be done and each when its turn comes, and
    reads some thirty files for each.
    """
    for source in loader.repository.sources:
        _read_once(source)
    _list_choices_for_interpolations()
    compose = loader.load_sweep_config
    composed: dict[tuple[str, ...], DictConfig] = {}

    def load_sweep_config(master_config: DictConfig, sweep_overrides: list[str]) -> DictConfig:
        key = tuple(sweep_overrides)
        if key in composed:
            return composed.pop(key)  # which the job may change
        config: DictConfig = compose(master_config, sweep_overrides)
        if len(composed) < COMPOSED:
            composed[key] = config
        return config

    loader.load_sweep_config = load_sweep_config


def _read_once(source: Any) -> None:
    """Have a `source` of configurations give anew what it read before: what it gives becomes a part of a job's."""
    read = source.load_config
    found: dict[str, Any] = {}

    def load_config(config_path: str) -> Any:
        if config_path not in found:
            found[config_path] = read(config_path)
        return copy.deepcopy(found[config_path])

    source.load_config = load_config


def _list_choices_for_interpolations() -> None:
    """Have Hydra list all choices only for a list of defaults with an interpolation, which goes by them: for every list
    that takes a quarter of a composition."""
    choices = getattr(defaults_list, "_create_interpolation_map", None)
    if choices is None or hasattr(choices, "__wrapped__"):  # of another version, or of an earlier sweep
        return
    none = OmegaConf.create()

    @wraps(choices)
    def where_asked_for(overrides: Any, defaults: Any, *options: Any, **named: Any) -> Any:
        if all(isinstance(default, InputDefault) and not default.is_interpolation() for default in defaults):
            return none
        return choices(overrides, defaults, *options, **named)

    vars(defaults_list)[choices.__name__] = where_asked_for
