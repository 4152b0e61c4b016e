"""Which parameters learn how fast, and which of them decay: groups for an optimizer, by the layers of a backbone."""

from collections.abc import Iterable
from typing import Any

from torch import nn

Group = dict[str, Any]


def backbone_groups(backbone: nn.Module, layer_decay: float, decay_all: bool) -> list[Group]:
    """Group the parameters of `backbone`, those of its last layer first.

    Args:
        backbone: timm's, whose layers are those of timm's own recipes, or any other, whose layers are its convolutions
            and linear maps in the order of its modules, each with the norms behind it.
        layer_decay: factor on the rate from each layer to the one below.
        decay_all: whether biases, norms, what else has one dimension, and what a timm network says is not to decay
            (position embeddings, for instance) have the optimizer's weight decay; else they have none.

    Returns:
        Groups with `params`, with `lr_scale` where the rate decays, and with `weight_decay` 0 where nothing decays.
    """
    model: Any = getattr(backbone, "model", backbone)
    layers = _layers(model) if layer_decay != 1 else {}
    spared = set() if decay_all else set(getattr(model, "no_weight_decay", set)())
    last = max(layers.values(), default=0)
    groups: dict[tuple[int, bool], Group] = {}
    for name, parameter in model.named_parameters():
        layer, decays = layers.get(name, last), decay_all or (parameter.ndim > 1 and name not in spared)
        group = groups.setdefault((last - layer, not decays), _group(layer_decay ** (last - layer), decays))
        group["params"].append(parameter)
    return [groups[key] for key in sorted(groups)] or [_group(1.0, True)]


def new_groups(modules: Iterable[nn.Module], decay_all: bool) -> list[Group]:
    """Group the parameters of layers that are new, which learn at one rate; arguments as in `backbone_groups`."""
    parameters = [parameter for module in modules for parameter in module.parameters()]
    groups = []
    for decays in (True, False):
        group = _group(1.0, decays)
        group["params"] = [p for p in parameters if (decay_all or p.ndim > 1) == decays]
        groups.append(group)
    return [group for group in groups if group["params"]]


def _group(scale: float, decays: bool) -> Group:
    return {
        "params": [],
        **({} if scale == 1 else {"lr_scale": scale}),
        **({} if decays else {"weight_decay": 0.0}),
    }


def _layers(model: Any) -> dict[str, int]:
    """Name of a parameter -> its layer, from 0, the one nearest to the image."""
    if hasattr(model, "group_matcher"):
        from timm.models import group_parameters

        found: dict[str, int] = group_parameters(model, model.group_matcher(coarse=False), reverse=True)
        return found
    layers, layer = {}, -1
    for prefix, module in model.named_modules():
        own = dict(module.named_parameters(recurse=False))
        if any(parameter.ndim > 1 for parameter in own.values()):
            layer += 1
        layers.update({f"{prefix}.{name}".lstrip("."): max(layer, 0) for name in own})
    return layers
