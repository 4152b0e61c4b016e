"""How a backbone is described as plain data and built of it: what is read can only name one of an explicit table."""

import pkgutil
from collections.abc import Callable, Collection, Mapping
from typing import Any

from torch import nn

KNOWN = (
    "lsep_ml.models.SmallCNN",
    "lsep_ml.models.vgg16",
    "lsep_ml.models.timm_backbone",
    "lsep_ml.models.GivenFeatures",
)
"""Builders, by the name a configuration calls them (`model._target_`); imported when one is built."""

# where training started says nothing about where it ended
_NOT_KEPT = {"_target_", "weights", "source", "strict"}
_REFUSED = ("checkpoint_path", "pretrained", "cache_dir")  # of timm: would read or fetch other files


def describe_backbone(model: Mapping[str, Any]) -> dict[str, Any]:
    """Describe `model`, a resolved `config.model`, as {"backbone": name, "options": plain data}."""
    options = {key: value for key, value in model.items() if key not in _NOT_KEPT}
    return {"backbone": model["_target_"], "options": options}


def build_backbone(description: Mapping[str, Any], allow: Collection[str] = ()) -> nn.Module:
    """Build the backbone of `description`, randomly initialised; nothing is downloaded.

    Args:
        description: what `describe_backbone` gave.
        allow: dotted names of backbones outside this package that may be imported and called, because the caller
            trusts them. They are called with the options alone.

    Raises:
        ValueError: a name that is neither known nor allowed, or options that the backbone does not take.
    """
    name, options = description["backbone"], description["options"]
    if name not in KNOWN and name not in allow:
        raise ValueError(
            f"backbone {name!r} is none of {', '.join(KNOWN)}; importing it runs its code. If you trust it, "
            f"allow it by name: load(path, allow=[{name!r}]), or --allow {name}"
        )
    for key, value in options.items():
        if key.startswith(_REFUSED) or not _is_plain(value):
            raise ValueError(f"backbone {name!r}: option {key}={value!r} is not allowed in a bundle")
    # hf-hub:, local-dir: of timm read and fetch files
    if name in KNOWN and ":" in str(options.get("name", "")):
        raise ValueError(
            f"backbone {name!r}: name={options['name']!r} is not a timm model, which a bundle names"
        )
    build: Callable[..., nn.Module] = pkgutil.resolve_name(name)
    return _called(name, build, {**options, "weights": None} if name in KNOWN else options)


def _called(name: str, build: Callable[..., nn.Module], options: Mapping[str, Any]) -> nn.Module:
    try:
        return build(**options)
    except TypeError as error:
        raise ValueError(f"backbone {name!r} cannot be built with {dict(options)}: {error}") from error


def _is_plain(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return all(_is_plain(item) for item in value)
    return value is None or isinstance(value, bool | int | float | str)
