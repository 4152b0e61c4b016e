"""What a result depends on, as hashes: the parts of the configuration that make it, and the state of a network.

Imports neither torch nor Lightning: run.py names its output folders by it before any heavy import.
"""

import hashlib
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any, cast

from omegaconf import DictConfig, OmegaConf

from lsep_ml.store.names import first_names

if TYPE_CHECKING:
    from torch import nn

PREDICTION_PARTS = (
    "data",
    "transform",
    "training",
    "model",
    "loss",
    "optimizer",
    "schedule",
    "trainer",
    "seed",
)
"""The parts of the configuration that make a stage-1 result; nothing of stage 2 is among them."""

DECISION_PARTS = ("decision", "fitting")
"""What stage 2 adds."""

RUN_PARTS = (*PREDICTION_PARTS, "predictor", *DECISION_PARTS)
"""All that makes a run; `predictor` is empty where the scores are the network's own."""

NEUTRAL = {
    "data": {"root", "num_workers", "cache", "pin_memory", "persistent_workers"},
    "trainer": {"accelerator", "devices", "num_nodes", "strategy"},
}
"""Where the data lie, what computes and with how many processes: they change no number that is asked for.

The number of processes does where each normalises its own share of a batch (trainer.sync_batchnorm=false).
"""


def config_parts(config: DictConfig, parts: Collection[str]) -> dict[str, Any]:
    """The named `parts` of a composed configuration, resolved; sizes known only at run time stand as letters."""
    own = {key: config._get_node(key) for key in config if key != "hydra"}
    known = cast(DictConfig, OmegaConf.merge(own, {"sizes": {"labels": "K", "features": "D"}}))
    plain = {}
    for part in parts:
        value = known[part]
        plain[part] = OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value
    return plain_parts(plain, parts)


def plain_parts(config: Mapping[str, Any], parts: Collection[str]) -> dict[str, Any]:
    """The named `parts` of a configuration of plain data, without what changes no number; nothing is interpolated.

    Names of ours are those that they had first (`lsep_ml.store.names`): an identity outlives the move of a function.

    Raises:
        KeyError: a part is missing.
    """
    plain = {}
    for part in parts:
        value = config[part]
        if isinstance(value, dict):
            neutral = NEUTRAL.get(part, set())
            if part == "trainer" and not value["sync_batchnorm"]:
                neutral = neutral - {"devices", "num_nodes"}
            value = {key: item for key, item in value.items() if key not in neutral}
        plain[part] = first_names(value)
    return plain


def weights_hash(module: "nn.Module") -> str:
    """sha256 over the names, types, shapes and bytes of a module's state, in hex; the same on every device."""
    import torch

    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()
