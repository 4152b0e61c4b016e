"""How a method looks in every figure, for colour-blind eyes and for print too, and how figures are saved."""

import base64
from collections.abc import Iterable
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from lsep_ml.drawing import GROUND, INK, KINDS, Sheet, draw, to_svg
from lsep_ml.files import atomic_write


class Look(NamedTuple):
    """Holds how a method looks; `colour` is of Okabe and Ito's palette, the others are matplotlib's codes."""

    colour: str
    dash: str | tuple[int, tuple[int, ...]]
    marker: str
    hatch: str
    width: float = 1.6


_LOSSES = {
    "lsep": Look("#0072B2", "-", "o", "", 2.4),
    "warp": Look("#E69F00", (0, (6, 2)), "s", "//"),
    "ranking": Look("#009E73", (0, (3, 1, 1, 1)), "^", ".."),
    "bpmll": Look("#CC79A7", (0, (1, 1)), "D", "xx"),
    "softmax": Look("#D55E00", (0, (4, 1, 1, 1, 1, 1)), "v", "\\\\"),
    "bce": Look("#555555", (0, (8, 3)), "P", "--"),
}
_OTHERS = [
    Look("#56B4E9", (0, (2, 2)), "X", "++"),
    Look("#882255", (0, (5, 1)), "*", "oo"),
    Look("#999933", (0, (1, 3)), "p", "||"),
    Look("#999999", (0, (3, 3)), "h", "**"),
]
_DECISIONS = {
    "thresh_est": _LOSSES["lsep"],
    "threshold": _LOSSES["warp"],
    "count_est": _LOSSES["ranking"],
    "topk": _LOSSES["bpmll"],
}

FAINT = "#8a8a8a"
WIDTH = 10.6
"""Inches: all figures of a report are as wide as its page."""
DARK = {
    "#000000": INK[1],
    INK[0]: INK[1],
    GROUND[0]: GROUND[1],
    **{kind.light: kind.dark for kind in KINDS.values()},
    "#0072b2": "#58b4ea",
    "#009e73": "#4fd0a8",
    "#d55e00": "#f0915e",
    "#882255": "#d97bb0",
    "#555555": "#b8bcc2",
    "#b0b0b0": "#565c63",
    "#cccccc": "#565c63",
}
"""What the colours of figures become on a dark page; those that are missing can be seen on both."""


def loss_looks(losses: Iterable[str]) -> dict[str, Look]:
    """Give each of `losses` a look, the same in every report; those of no fixed look get what is left, in order."""
    return _assign(losses, _LOSSES)


def decision_looks(decisions: Iterable[str]) -> dict[str, Look]:
    """Give each of `decisions` a look, as `loss_looks` does."""
    return _assign(decisions, _DECISIONS)


def new_figure(width: float, height: float) -> tuple[Figure, Axes]:
    """Make a figure of `width` by `height` inches with one pair of axes, without upper and right spines."""
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _assign(names: Iterable[str], fixed: dict[str, Look]) -> dict[str, Look]:
    names = list(dict.fromkeys(names))
    others = [name for name in names if name not in fixed]
    looks = {name: _OTHERS[position % len(_OTHERS)] for position, name in enumerate(others)}
    return {name: fixed.get(name) or looks[name] for name in names}


_PIXELS = 104  # an inch of a figure on the page
_QUALITY = 82


@dataclass(frozen=True)
class Drawing:
    """Holds a `figure` with what a reader needs beside it; `name` is its files', `caption` says what is seen."""

    name: str
    title: str
    caption: str
    figure: Figure | Sheet


@dataclass(frozen=True)
class SavedDrawing:
    """Holds a drawing as the page has it: the `address` of its SVG as data, its `width` in CSS pixels, its files."""

    title: str
    caption: str
    address: str
    width: int
    files: dict[str, str]


def save_drawing(drawing: Drawing, folder: Path, prefix: str) -> SavedDrawing:
    """Write `drawing` as PNG and SVG into `folder`; the page has the SVG, which is dark where the page is."""
    files = {kind: folder / f"{prefix}_{drawing.name}.{kind}" for kind in ("png", "svg")}
    with matplotlib.rc_context({"text.parse_math": False}):
        for file in files.values():
            save_figure(drawing.figure, file)
            if isinstance(drawing.figure, Figure):
                drawing.figure.set_layout_engine("none")  # laid out once
    width = (
        drawing.figure.width
        if isinstance(drawing.figure, Sheet)
        else round(_PIXELS * drawing.figure.get_figwidth())
    )
    shown = _data_uri("image/svg+xml", dark_too(files["svg"].read_text(encoding="utf-8")).encode())
    links = {kind: f"{folder.name}/{file.name}" for kind, file in files.items()}
    return SavedDrawing(drawing.title, drawing.caption, shown, width, links)


def save_figure(figure: Figure | Sheet, path: Path) -> None:
    """Write a figure in the format that the name of `path` says, png or svg; the same figure gives the same bytes."""
    kind = path.suffix[1:]
    with atomic_write(path, "wb") as file, matplotlib.rc_context({"svg.hashsalt": "lsep_ml"}):
        if isinstance(figure, Figure):
            figure.savefig(file, format=kind, dpi=130, metadata={"Date": None} if kind == "svg" else None)
        elif kind == "svg":
            file.write(to_svg(figure).encode())
        else:
            draw(figure).save(file, "PNG")


def dark_too(svg: str) -> str:
    """Let a dark page show `svg` in dark colours: each colour of DARK is replaced there."""
    rules = [f"svg {{ fill: {DARK['#000000']} }}"]  # matplotlib leaves the fill of black text out
    for light, dark in DARK.items():
        rules.append(f'[fill="{light}"], [style*="fill: {light}"] {{ fill: {dark} !important }}')
        rules.append(f'[style*="stroke: {light}"] {{ stroke: {dark} !important }}')
    style = f"<style>@media (prefers-color-scheme: dark) {{ {' '.join(rules)} }}</style>"
    start = svg.index(">", svg.index("<svg")) + 1
    return svg[:start] + style + svg[start:]


def picture_uri(picture: NDArray[np.uint8]) -> str:
    """Write `picture`, uint8 (h, w) or (h, w, 3), as a data address of a WebP."""
    buffer = BytesIO()
    Image.fromarray(picture).convert("RGB").save(buffer, "WEBP", quality=_QUALITY, method=4)
    return _data_uri("image/webp", buffer.getvalue())


def _data_uri(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"
