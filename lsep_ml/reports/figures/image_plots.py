"""Figures made of test images: the paper's Figures 4 and 5, and images whose labels look wrong."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import text_to_path
from numpy.typing import NDArray

from lsep_ml.reports.figures.of_run import FALSE_NEGATIVE, FALSE_POSITIVE, TRUE_POSITIVE

Picture = NDArray[np.uint8]
_TILE, _GAP, _LINE = 1.15, 0.12, 0.165  # inches
_FONT = 8.0
_LEGEND = (
    ("✓ found", TRUE_POSITIVE),
    ("✗ predicted, not there", FALSE_POSITIVE),
    ("– missed", FALSE_NEGATIVE),
)


class Tile(NamedTuple):
    """A picture with a caption below it."""

    picture: Picture
    caption: str


class Judged(NamedTuple):
    """A picture with its label sets under several methods, bool (K,) each, and what is true and known of it."""

    picture: Picture
    predictions: Mapping[str, NDArray[np.bool_]]
    true: NDArray[np.bool_]
    known: NDArray[np.bool_]


def plot_rows_of_images(rows: Mapping[str, Sequence[Tile]], note: str) -> Figure:
    """One line of pictures for each name, with a caption below each; `note` stands below all.

    Figure 4 with the images of a class from the lowest to the highest estimated threshold; also images whose labels
    look wrong.
    """
    columns = max(len(tiles) for tiles in rows.values())
    left, height = 0.95, _TILE + 0.34
    figure, canvas = _canvas(left + columns * (_TILE + _GAP), len(rows) * height + 0.35)
    for line, (name, tiles) in enumerate(rows.items()):
        bottom = (len(rows) - line - 1) * height + 0.59
        canvas.text(left - 0.1, bottom + _TILE / 2, _shorten(name, 14), ha="right", va="center")
        for column, tile in enumerate(tiles):
            x = left + column * (_TILE + _GAP)
            _show(canvas, tile.picture, x, bottom, _TILE, _TILE)
            canvas.text(x + _TILE / 2, bottom - 0.04, tile.caption, fontsize=_FONT, ha="center", va="top")
    canvas.text(left, 0.1, note, fontsize=9, color="#444444", va="bottom")
    return figure


def plot_label_sets(judged: Sequence[Judged], label_names: Sequence[str], columns: int = 3) -> Figure:
    """Figure 5: the same image under every method; found labels blue, wrong ones red, missed ones grey."""
    tile, picture, gap = 2.75, 1.6, 0.15
    blocks = [_label_lines(one, label_names, 72 * (tile - 0.1)) for one in judged]
    rows = [range(start, min(start + columns, len(judged))) for start in range(0, len(judged), columns)]
    heights = [picture + 0.3 + _LINE * max(len(blocks[i]) for i in row) for row in rows]
    figure, canvas = _canvas(columns * (tile + gap), sum(heights) + 0.3)
    top = sum(heights) + 0.25
    for row, height in zip(rows, heights, strict=True):
        for column, i in enumerate(row):
            left = column * (tile + gap) + 0.08
            _show(canvas, judged[i].picture, left, top - picture, tile, picture)
            for number, line in enumerate(blocks[i]):
                for x, word, colour in line:
                    y = top - picture - 0.08 - _LINE * number
                    canvas.text(left + x / 72, y, word, color=colour, fontsize=_FONT, va="top")
        top -= height
    x = 0.08
    for word, colour in _LEGEND:
        canvas.text(x, 0.08, word, color=colour, fontsize=9)
        x += _width(word, 9) / 72 + 0.3
    return figure


_Line = list[tuple[float, str, str]]


def _label_lines(judged: Judged, label_names: Sequence[str], width: float) -> list[_Line]:
    """Words with their places, wrapped at `width` points: a line or more for each method."""
    lines: list[_Line] = []
    for method, predicted in judged.predictions.items():
        line: _Line = [(0.0, f"{method}:", "#111111")]
        x = _width(f"{method}:") + 4
        words = _words(predicted, judged.true, judged.known, label_names) or [("nothing", "#111111")]
        for word, colour in words:
            length = _width(word)
            if x + length > width and len(line) > 1:
                lines.append(line)
                line, x = [], 10.0
            line.append((x, word, colour))
            x += length + 6
        lines.append(line)
    return lines


def _words(
    predicted: NDArray[np.bool_],
    true: NDArray[np.bool_],
    known: NDArray[np.bool_],
    label_names: Sequence[str],
) -> list[tuple[str, str]]:
    kinds = (
        (predicted & true & known, "✓", TRUE_POSITIVE),
        (predicted & ~true & known, "✗", FALSE_POSITIVE),
        (~predicted & true & known, "–", FALSE_NEGATIVE),
    )
    return [
        (f"{mark}{_shorten(label_names[int(k)], 18)}", colour)
        for chosen, mark, colour in kinds
        for k in np.flatnonzero(chosen)
    ]


def _width(text: str, size: float = _FONT) -> float:
    """A text's width in points."""
    width, _, _ = text_to_path.get_text_width_height_descent(text, FontProperties(size=size), False)
    return float(width)


def _canvas(width: float, height: float) -> tuple[Figure, Axes]:
    """A figure and invisible axes all over it, measured in inches: far quicker than axes for each image."""
    figure = Figure(figsize=(width, height))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.axis("off")
    axes.set(xlim=(0, width), ylim=(0, height), autoscale_on=False)
    return figure, axes


def _show(canvas: Axes, picture: Picture, left: float, bottom: float, width: float, height: float) -> None:
    """A picture as large as it can be in this box, in its middle."""
    rows, columns = picture.shape[:2]
    scale = min(width / columns, height / rows)
    x, y = left + (width - scale * columns) / 2, bottom + (height - scale * rows) / 2
    canvas.imshow(
        picture,
        cmap="gray",
        vmin=0,
        vmax=255,
        interpolation="nearest" if max(rows, columns) < 64 else None,
        extent=(x, x + scale * columns, y, y + scale * rows),
        aspect="auto",
    )


def _shorten(text: str, letters: int) -> str:
    return text if len(text) <= letters else text[: letters - 1] + "…"
