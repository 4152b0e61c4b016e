"""Which image sizes a timm network takes, tried without memory or arithmetic, on torch's meta device."""

from collections.abc import Iterator, Mapping
from typing import Any

import timm
import torch

from lsep_ml.models.names import pretrained_cfg

_NAMED = 3  # sizes in a message
_TRIED = 12  # at most, to find these


def size_options(name: str, size: tuple[int, int], options: Mapping[str, Any]) -> dict[str, Any]:
    """Options of `timm.create_model` under which the network takes images of this size.

    A network of a fixed size is built for it by `img_size`; others take what they are given.

    Raises:
        ValueError: it cannot take that size; names some that it can.
    """
    cfg = pretrained_cfg(name)
    if size == tuple(cfg.input_size[1:]) or "img_size" in options:
        return dict(options)
    sized = {**options, **({"img_size": size} if cfg.fixed_input_size else {})}
    problem = _problem(name, size, sized)
    if problem is None:
        return sized
    working = []
    for other in _others(size, (cfg.input_size[1], cfg.input_size[2])):
        again = {**sized, **({"img_size": other} if "img_size" in sized else {})}
        if _problem(name, other, again) is None:
            working.append(other)
        if len(working) == _NAMED:
            break
    known = ", ".join(str(side[0]) if side[0] == side[1] else str(list(side)) for side in working)
    raise ValueError(
        f"transform.crop={list(size)}: not a size for {name} ({problem}); sizes that work: {known}"
    )


def _problem(name: str, size: tuple[int, int], options: Mapping[str, Any]) -> str | None:
    """Why the network does not run on images of a size; None where it does."""
    try:
        with torch.device("meta"), torch.inference_mode():
            model = timm.create_model(name, pretrained=False, num_classes=0, **options).eval()
            model(torch.zeros(1, options.get("in_chans", 3), *size))
    except Exception as error:  # each architecture refuses in its own way
        return (str(error).strip() or type(error).__name__).splitlines()[0]
    return None


def _others(size: tuple[int, int], own: tuple[int, int]) -> Iterator[tuple[int, int]]:
    """Return the network's own size, then squares of usual patches and strides near the one asked for."""
    yield own
    near = {
        step * (side // step + more)
        for side in size
        for step in (14, 16, 32, own[0] // 7 or 1)
        for more in (0, 1)
    }
    candidates = sorted(near - {0, own[0]}, key=lambda side: (abs(side - max(size)), side))
    yield from ((side, side) for side in candidates[:_TRIED])
