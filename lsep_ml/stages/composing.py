"""The configurations of a sweep's jobs, each composed once."""

import copy
from typing import Any

from omegaconf import DictConfig

COMPOSED = 200
"""At most so many configurations wait for their job: each takes a megabyte."""


def compose_once(loader: Any) -> None:
    """Have a sweep's `loader` of configurations give again what it composed before, from files that it reads once.

    Hydra composes the jobs of a sweep twice, all of them to see that it can be done and each when its turn comes, and
    reads some thirty files for each.
    """
    for source in loader.repository.sources:
        _read_once(source)
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
