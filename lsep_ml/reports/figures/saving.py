"""How figures are saved: as files that are the same for the same figure, and in the page as a data address."""

import base64
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from lsep_ml.drawing import Sheet, draw, to_svg
from lsep_ml.files import atomic_write
from lsep_ml.reports.figures.style import DARK

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
