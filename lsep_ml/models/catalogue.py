"""timm's pretrained networks, for people who choose one: what each costs, gives, and wants of its images."""

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import timm

from lsep_ml.models.names import pretrained_cfg
from lsep_ml.models.preprocessing import Preprocessing, timm_preprocessing

COLUMNS = ("architecture", "tags", "parameters", "features", "before_pooling")
"""Of backbones.csv: tags are those under which timm publishes weights of one and the same network, blank-separated."""

_HEAD = (
    "name",
    "parameters",
    "features",
    "before pooling",
    "size",
    "interpolation",
    "crop",
    "mean",
    "std",
    "licence",
)


@dataclass(frozen=True)
class Known:
    """A pretrained network.

    name: with its tag, as timm lists it. parameters: without the classifier. features: D of `model.pool=trained`.
    before_pooling: map, patches or class+patches (tokens). These three are None for a name newer than the table;
    features also for a network without a pooling of its own, which needs another `model.pool`.
    channels: of its images. wants: what it wants of them. licence: of the weights; None where timm does not know it.
    """

    name: str
    parameters: int | None
    features: int | None
    before_pooling: str | None
    channels: int
    wants: Preprocessing
    licence: str | None

    def values(self) -> dict[str, Any]:
        """Return the keys of `backbones --json`; size is [channels, height, width]."""
        wants = self.wants
        return {
            "name": self.name,
            "parameters": self.parameters,
            "features": self.features,
            "size": [self.channels, *wants.crop],
            "mean": list(wants.mean),
            "std": list(wants.std),
            "interpolation": wants.interpolation,
            "crop_pct": wants.crop_pct,
        }


def known_backbones(pattern: str = "") -> list[Known]:
    """Return timm's pretrained names that match a pattern, in timm's order; nothing is built or downloaded.

    Args:
        pattern: as timm takes it ("vit_*dinov3*", "resnet50" for all its tags); where nothing matches, a part of the
            name.

    Raises:
        ValueError: nothing matches.
    """
    names = timm.list_pretrained(pattern) or timm.list_pretrained(f"*{pattern}*")
    if not names:
        raise ValueError(f"backbones {pattern!r}: no pretrained name matches; patterns are as 'vit_*dinov3*'")
    return [_known(name) for name in names]


def _known(name: str) -> Known:
    cfg = pretrained_cfg(name)
    parameters, features, before_pooling = _measured().get(name, (None, None, None))
    licence = None if cfg.license in (None, "unknown") else str(cfg.license)
    return Known(
        name, parameters, features, before_pooling, cfg.input_size[0], timm_preprocessing(name), licence
    )


@cache
def _measured() -> dict[str, tuple[int, int | None, str]]:
    """Name -> parameters, features and what is before pooling, as experiments/backbones.py measured them."""
    table = files("lsep_ml.models").joinpath("backbones.csv")
    with table.open(encoding="utf-8") as file:
        return {
            f"{row['architecture']}.{tag}".rstrip("."): (
                int(row["parameters"]),
                int(row["features"]) if row["features"] else None,
                row["before_pooling"],
            )
            for row in csv.DictReader(file)
            for tag in row["tags"].split(" ")
        }


def table_lines(backbones: Sequence[Known]) -> Iterator[str]:
    """Return the same as a table in text, a line a network below a line of heads."""
    rows = [_HEAD, *(_cells(known) for known in backbones)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def _cells(known: Known) -> tuple[str, ...]:
    wants = known.wants
    height, width = wants.crop
    return (
        known.name,
        "?" if known.parameters is None else f"{known.parameters / 1e6:.1f} M",
        "?" if known.features is None else str(known.features),
        known.before_pooling or "?",
        str(height) if height == width else f"{height} x {width}",
        wants.interpolation,
        f"{wants.crop_pct:g}",
        " ".join(f"{value:g}" for value in wants.mean),
        " ".join(f"{value:g}" for value in wants.std),
        known.licence or "?",
    )
