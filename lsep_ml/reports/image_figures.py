"""Figures made of test images: the paper's Figures 4 and 5, and images whose labels look wrong."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import TextPath
from numpy.typing import NDArray

from lsep_ml.reports.figures import FALSE_NEGATIVE, FALSE_POSITIVE, TRUE_POSITIVE

Picture = NDArray[np.uint8]
_TILE, _GAP, _LINE = 1.15, 0.12, 0.165  # inches
_FONT = 8.0


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
    size = left + columns * (_TILE + _GAP), len(rows) * height + 0.35
    figure = Figure(figsize=size)
    for line, (name, tiles) in enumerate(rows.items()):
        bottom = size[1] - (line + 1) * height + 0.24
        figure.text(
            (left - 0.1) / size[0],
            (bottom + _TILE / 2) / size[1],
            _shorten(name, 14),
            ha="right",
            va="center",
        )
        for column, tile in enumerate(tiles):
            axes = _axes(figure, left + column * (_TILE + _GAP), bottom, _TILE, _TILE)
            _show(axes, tile.picture)
            axes.set_xlabel(tile.caption, fontsize=_FONT, labelpad=2)
    figure.text(left / size[0], 0.1 / size[1], note, fontsize=9, color="#444444", va="bottom")
    return figure


def plot_label_sets(judged: Sequence[Judged], label_names: Sequence[str], columns: int = 3) -> Figure:
    """Figure 5: the same image under every method; found labels blue, wrong ones red, missed ones grey."""
    tile = 2.75
    blocks = [_label_lines(one, label_names, 72 * (tile - 0.1)) for one in judged]
    rows = [range(start, min(start + columns, len(judged))) for start in range(0, len(judged), columns)]
    picture = 1.6
    heights = [picture + 0.12 + _LINE * max(len(blocks[i]) for i in row) + 0.22 for row in rows]
    size = columns * (tile + 0.15), sum(heights) + 0.3
    figure = Figure(figsize=size)
    top = size[1]
    for row, height in zip(rows, heights, strict=True):
        for column, i in enumerate(row):
            left = column * (tile + 0.15) + 0.08
            _show(_axes(figure, left, top - picture, tile, picture), judged[i].picture)
            text = _axes(figure, left, top - height, tile, height - picture)
            text.axis("off")
            text.set(xlim=(0, 72 * tile), ylim=(0, 72 * (height - picture)))
            for number, line in enumerate(blocks[i]):
                for x, word, colour in line:
                    y = 72 * (height - picture - 0.1 - _LINE * number)
                    text.text(x, y, word, color=colour, fontsize=_FONT, va="top")
        top -= height
    legend = (
        ("✓ found", TRUE_POSITIVE),
        ("✗ predicted, not there", FALSE_POSITIVE),
        ("– missed", FALSE_NEGATIVE),
    )
    x = 0.08
    for word, colour in legend:
        figure.text(x / size[0], 0.08 / size[1], word, color=colour, fontsize=9)
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
    return float(TextPath((0, 0), text, size=size, prop=FontProperties()).get_extents().width)


def _axes(figure: Figure, left: float, bottom: float, width: float, height: float) -> Axes:
    """Axes at a place in inches."""
    across, up = figure.get_size_inches()
    return figure.add_axes((left / across, bottom / up, width / across, height / up))


def _show(axes: Axes, picture: Picture) -> None:
    interpolation = "nearest" if max(picture.shape[:2]) < 64 else None
    axes.imshow(picture, cmap="gray", vmin=0, vmax=255, interpolation=interpolation)
    axes.set_anchor("N")
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)


def _shorten(text: str, letters: int) -> str:
    return text if len(text) <= letters else text[: letters - 1] + "…"
