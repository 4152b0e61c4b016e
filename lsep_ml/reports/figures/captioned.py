"""A figure with what a reader needs beside it, and its files."""

from dataclasses import dataclass
from pathlib import Path

import matplotlib
from matplotlib.figure import Figure
from PIL import Image

from lsep_ml.reports.figures.encoding import address, webp_uri
from lsep_ml.reports.figures.one_run import save_figure

_PIXELS = 104  # an inch of a figure on the page


@dataclass(frozen=True)
class Drawing:
    """name: of its files; caption: what is seen and how it was made; photographs: it shows images, not only marks."""

    name: str
    title: str
    caption: str
    figure: Figure
    photographs: bool = False


@dataclass(frozen=True)
class SavedDrawing:
    """A drawing inside the page: its data address, its width in CSS pixels, and the names of its files."""

    title: str
    caption: str
    address: str
    width: int
    photographs: bool
    files: str


def save_drawing(drawing: Drawing, folder: Path, prefix: str) -> SavedDrawing:
    """Write a drawing as PNG and SVG; the page shows the SVG, or where photographs are in it a WebP of the PNG."""
    png, svg = (folder / f"{prefix}_{drawing.name}.{kind}" for kind in ("png", "svg"))
    with matplotlib.rc_context({"text.parse_math": False}):
        save_figure(drawing.figure, png)
        drawing.figure.set_layout_engine("none")  # laid out once
        save_figure(drawing.figure, svg)
    if drawing.photographs:
        with Image.open(png) as image:
            shown = webp_uri(image)
    else:
        shown = address("image/svg+xml", svg.read_bytes())
    width = round(_PIXELS * drawing.figure.get_figwidth())
    files = f"{folder.name}/{png.stem}.png, .svg"
    return SavedDrawing(drawing.title, drawing.caption, shown, width, drawing.photographs, files)
