"""Names of timm's networks: what they stand for, and what is close to one that stands for nothing."""

from difflib import get_close_matches

import timm
from timm.models import PretrainedCfg, get_pretrained_cfg


def pretrained_cfg(name: str) -> PretrainedCfg:
    """What timm knows of the weights of a name (of the default ones for a name without a tag).

    Raises:
        ValueError: unknown name or tag; says which are close.
    """
    architecture = name.partition(".")[0]
    if not timm.is_model(architecture):
        close = ", ".join(get_close_matches(architecture, timm.list_models(), n=5)) or "none"
        raise ValueError(f"model.name={name!r}: not a timm model; close names: {close}")
    try:
        found = get_pretrained_cfg(name)
    except RuntimeError as error:
        tagged = ", ".join(timm.list_pretrained(f"{architecture}.*")) or "none"
        raise ValueError(f"model.name={name!r}: no such weights; there are: {tagged}") from error
    return PretrainedCfg() if found is None else found
