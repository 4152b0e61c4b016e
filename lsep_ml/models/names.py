"""Names of timm's networks: what they stand for, and what is close to one that stands for nothing."""

from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import timm
from timm.models import PretrainedCfg, get_pretrained_cfg, parse_model_name
from timm.models._hub import load_model_config_from_path

from lsep_ml.models.published import hub_file

CONFIG = "config.json"
WEIGHTS = ("model.safetensors", "pytorch_model.bin")
"""The files of a network's folder, on the hub or on disk, as timm writes them."""


@dataclass(frozen=True)
class PublishedFolder:
    """A network that is published as a folder: `hf-hub:owner/model[@revision]` or `local-dir:PATH`.

    architecture: timm's name. options: of `timm.create_model`, which the folder says it was built with. cfg: what timm
    knows of its weights.
    """

    name: str
    architecture: str
    options: dict[str, Any] = field(default_factory=dict)
    cfg: PretrainedCfg = field(default_factory=PretrainedCfg)

    def weights(self) -> Path:
        """Return the file with its weights, downloaded if need be.

        Raises:
            FileNotFoundError: it is not to be had.
        """
        kind, place = parse_model_name(self.name)
        if kind == "hf-hub":
            return hub_file(place, WEIGHTS)
        folder = Path(place)
        usual = [folder / name for name in WEIGHTS]
        others = [*sorted(folder.glob("*.safetensors")), *sorted(folder.glob("*.pth"))]
        found = next((file for file in (*usual, *others) if file.is_file()), None)
        if found is None:
            raise FileNotFoundError(f"model.name={self.name}: no {' or '.join(WEIGHTS)} in {folder}")
        return found


def source_of(name: str) -> PublishedFolder | None:
    """Return the folder that a name with a prefix stands for; None for a name of timm's own.

    Raises:
        ValueError: a prefix that is neither hf-hub nor local-dir, a path without one, or a network that timm has not.
        FileNotFoundError: the folder's config.json is not to be had.
    """
    try:
        kind, place = parse_model_name(name)
    except ValueError as error:
        raise ValueError(f"model.name={name!r}: {error}") from error
    if kind is None:
        return None
    folder = hub_file(place, (CONFIG,)).parent if kind == "hf-hub" else Path(place)
    if not (folder / CONFIG).is_file():
        raise FileNotFoundError(f"model.name={name}: no {CONFIG} in {folder}; timm's save_for_hf writes one")
    try:
        cfg, architecture, options = load_model_config_from_path(folder)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(f"model.name={name}: {folder / CONFIG} is none of timm's ({error!r})") from error
    _check_architecture(name, architecture)
    known = {key.name for key in fields(PretrainedCfg)}
    own = {key: _tuples(value) for key, value in cfg.items() if key in known and value is not None}
    options = {key: value for key, value in (options or {}).items() if key != "num_classes"}
    return PublishedFolder(name, architecture, options, PretrainedCfg(**own))


def _tuples(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def pretrained_cfg(name: str) -> PretrainedCfg:
    """Return what timm knows of the weights of a name (of the default ones for a name without a tag).

    Raises:
        ValueError: unknown name or tag; says which are close.
        FileNotFoundError: of `hf-hub:` and `local-dir:`, what says it is not to be had.
    """
    source = source_of(name)
    if source is not None:
        return source.cfg
    architecture = name.partition(".")[0]
    _check_architecture(name, architecture)
    try:
        found = get_pretrained_cfg(name)
    except RuntimeError as error:
        tagged = ", ".join(timm.list_pretrained(f"{architecture}.*")) or "none"
        raise ValueError(f"model.name={name!r}: no such weights; there are: {tagged}") from error
    return PretrainedCfg() if found is None else found


def _check_architecture(name: str, architecture: str) -> None:
    if not timm.is_model(architecture):
        close = ", ".join(get_close_matches(architecture, timm.list_models(), n=5)) or "none"
        raise ValueError(f"model.name={name!r}: not a timm model; close names: {close}")
