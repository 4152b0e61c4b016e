"""A figure's way out: into files that are the same for the same figure, and into the page as a data address."""

import base64
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from lsep_ml.files import atomic_write

_PIXELS = 104  # an inch of a figure on the page
_QUALITY = 82


@dataclass(frozen=True)
class Drawing:
    """A figure with what a reader needs beside it.

    name: of its files. caption: what is seen and how it was made. photographs: it shows images, not only marks.
    """

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
            shown = _webp_uri(image)
    else:
        shown = _data_uri("image/svg+xml", svg.read_bytes())
    width = round(_PIXELS * drawing.figure.get_figwidth())
    files = f"{folder.name}/{png.stem}.png, .svg"
    return SavedDrawing(drawing.title, drawing.caption, shown, width, drawing.photographs, files)


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure in the format that the name of `path` says; the same figure gives the same bytes."""
    kind = path.suffix[1:]
    with atomic_write(path, "wb") as file, matplotlib.rc_context({"svg.hashsalt": "lsep_ml"}):
        figure.savefig(file, format=kind, dpi=130, metadata={"Date": None} if kind == "svg" else None)


def picture_uri(picture: NDArray[np.uint8]) -> str:
    """A small image, uint8 (h, w) or (h, w, 3), as a data address of a WebP."""
    return _webp_uri(Image.fromarray(picture))


def _webp_uri(image: Image.Image) -> str:
    buffer = BytesIO()
    image.convert("RGB").save(buffer, "WEBP", quality=_QUALITY, method=4)
    return _data_uri("image/webp", buffer.getvalue())


def _data_uri(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"
