"""Label sets beside the truth as words (found, wrong, missed), and sheets of pictures with words beneath.

A sheet is laid out once, then drawn by Pillow or written as SVG.
"""

import base64
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import NamedTuple
from xml.sax.saxutils import escape

import matplotlib
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from lsep_ml.metrics.functional import compare_label_sets

INK = ("#1c1e21", "#e7e9eb")
GROUND = ("#ffffff", "#1d2024")
"""Colours of plain words and of the page beneath them: by day, and by night."""


class Kind(NamedTuple):
    """Says what becomes of a label: its `mark` and `meaning`, and its colour on `light` and on `dark` ground."""

    mark: str
    meaning: str
    light: str
    dark: str


KINDS = {
    "found": Kind("✓", "found", "#1f5fbf", "#86b6ff"),
    "wrong": Kind("✗", "predicted, not there", "#b3241b", "#ff8d83"),
    "missed": Kind("–", "missed", "#62666b", "#aeb4bb"),
}
"""Blue, red and grey, which colour-blind eyes tell apart too; the marks say the same."""

MOST = 30
"""Labels of a kind that are written of an image."""


class Word(NamedTuple):
    """Is a text that stays on one line where it fits there; `kind` is a key of KINDS, or "" for plain text."""

    text: str
    kind: str = ""


def label_words(
    predicted: NDArray[np.generic],
    true: NDArray[np.generic],
    known: NDArray[np.generic],
    label_names: Sequence[str],
) -> list[Word]:
    """Write the label set `predicted` of one image as words: labels found, wrong, missed; "none" without any.

    predicted, true, known: 0/1 or bool (K,). Labels that are not known are left out, and of more than MOST of a kind
    the first are written and the others counted.
    """
    words = []
    for kind, labels in compare_label_sets(predicted, true, known)._asdict().items():
        numbers, mark = np.flatnonzero(labels), KINDS[kind].mark
        words += [Word(f"{mark} {label_names[int(k)]}", kind) for k in numbers[:MOST]]
        if len(numbers) > MOST:
            words.append(Word(f"{mark} {len(numbers) - MOST:,} more", kind))
    return words or [Word("none")]


def legend() -> list[Word]:
    """Say in words what the marks mean."""
    return [Word(f"{kind.mark} {kind.meaning}", name) for name, kind in KINDS.items()]


Picture = NDArray[np.uint8]
Line = Sequence[Word]
Box = tuple[int, int, int, int]

SIZE, LINE = 15, 20
_MARGIN, _GAP, _SPACE, _INDENT = 6, 14, 9, 12
_PIXELATED = 64  # smaller pictures are enlarged as the pixels that they are


class Tile(NamedTuple):
    """Holds a `picture`, uint8 (h, w) or (h, w, 3), and the `lines` of words beneath."""

    picture: Picture
    lines: Sequence[Line]


class _Text(NamedTuple):
    x: int
    y: int
    text: str
    kind: str
    width: int


@dataclass
class Sheet:
    """Says what lies where, in pixels: `pictures` in boxes (x, y, width, height), `texts` by their left top corner."""

    width: int
    height: int = _MARGIN
    pictures: list[tuple[Box, Picture]] = field(default_factory=list)
    texts: list[_Text] = field(default_factory=list)

    def write(self, line: Line, x: int, y: int, width: int) -> int:
        """Put `line` at (x, y), wrapped at `width`; returns the y of the next line."""
        for row in _wrapped(line, width):
            self.texts += [_Text(x + at, y, word.text, word.kind, _length(word.text)) for at, word in row]
            y += LINE
        return y


def lay_out(
    sections: Mapping[str, Sequence[Tile]],
    columns: int,
    box: tuple[int, int],
    note: Line = (),
    title: str = "",
) -> Sheet:
    """Lay out tiles by `sections`, each below its name (nothing for ""), at most `columns` in a row.

    box: width and height in pixels that a picture may fill. note: a line below all tiles. title: a line above them.
    Labels are never cut: words that are wider than a tile are broken at a space, or where they must.
    """
    most = max((len(tiles) for tiles in sections.values()), default=0)
    wide = max(1, min(columns, most)) * (box[0] + _GAP) - _GAP
    sheet = Sheet(wide + 2 * _MARGIN)
    for heading in [title] if title else []:
        sheet.height = sheet.write([Word(heading)], _MARGIN, sheet.height, wide) + _GAP // 2
    for name, tiles in sections.items():
        if name:
            sheet.height = sheet.write([Word(name)], _MARGIN, sheet.height, wide)
        for start in range(0, len(tiles), columns):
            top, bottom = sheet.height, sheet.height
            for column, tile in enumerate(tiles[start : start + columns]):
                left, y = _MARGIN + column * (box[0] + _GAP), top + box[1] + 4
                sheet.pictures.append((_fitted(tile.picture, (left, top, *box)), tile.picture))
                for line in tile.lines:
                    y = sheet.write(line, left, y, box[0])
                bottom = max(bottom, y)
            sheet.height = bottom + _GAP // 2
    if note:
        sheet.height = sheet.write(note, _MARGIN, sheet.height, wide)
    sheet.height += _MARGIN
    return sheet


def draw(sheet: Sheet) -> Image.Image:
    """Draw `sheet` as an RGB image, dark on white."""
    page = Image.new("RGB", (sheet.width, sheet.height), GROUND[0])
    for (x, y, width, height), picture in sheet.pictures:
        way = Image.Resampling.NEAREST if _pixelated(picture) else Image.Resampling.LANCZOS
        page.paste(Image.fromarray(picture).convert("RGB").resize((width, height), way), (x, y))
    drawing = ImageDraw.Draw(page)
    for text in sheet.texts:
        drawing.text((text.x, text.y), text.text, fill=_colour(text.kind), font=_font())
    return page


def to_svg(sheet: Sheet) -> str:
    """Write `sheet` as SVG, with its texts as text and its pictures inside."""
    size = f'width="{sheet.width}" height="{sheet.height}"'
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} viewBox="0 0 {sheet.width} {sheet.height}"',
        f' font-family="DejaVu Sans, Verdana, sans-serif" font-size="{SIZE}">',
        f'<rect {size} fill="{GROUND[0]}"/>',
    ]
    for (x, y, width, height), picture in sheet.pictures:
        place = f'x="{x}" y="{y}" width="{width}" height="{height}"'
        style = ' style="image-rendering: pixelated"' if _pixelated(picture) else ""
        lines.append(f'<image {place}{style} preserveAspectRatio="none" href="{_png_uri(picture)}"/>')
    for text in sheet.texts:
        place = f'x="{text.x}" y="{text.y + SIZE}" textLength="{text.width}" fill="{_colour(text.kind)}"'
        lines.append(f'<text {place} lengthAdjust="spacingAndGlyphs">{escape(text.text)}</text>')
    return "\n".join([*lines, "</svg>", ""])


def _wrapped(line: Line, width: int) -> Iterable[list[tuple[int, Word]]]:
    """Place the words of `line` over as many lines as it takes.

    Indented are what follows a plain word that names the line, and the rest of a broken word.
    """
    rows: list[list[tuple[int, Word]]] = [[]]
    x, hanging = 0, _INDENT if line and not line[0].kind else 0
    for word in line:
        for number, piece in enumerate(_pieces(word.text, width - _INDENT)):
            if rows[-1] and x + _length(piece) > width:
                rows.append([])
                x = _INDENT if number else hanging
            rows[-1].append((x, Word(piece, word.kind)))
            x += _length(piece) + _SPACE
    return rows


def _pieces(text: str, width: int) -> Iterator[str]:
    """Break `text` into pieces no wider than `width`, at a space where there is one; what has no picture is a space."""
    text = "".join(letter if letter.isprintable() else " " for letter in text)
    while _length(text) > width and len(text) > 1:
        fits = max([1, *(n for n in range(1, len(text)) if _length(text[:n]) <= width)])
        space = text.rfind(" ", 2, fits + 1)
        cut = space if space > 0 else fits
        yield text[:cut]
        text = text[cut:].lstrip()
    yield text


def _fitted(picture: Picture, box: Box) -> Box:
    """Place `picture`, as large as it can be, in `box`: at its left, like the words beneath."""
    x, y, width, height = box
    rows, columns = picture.shape[:2]
    scale = min(width / columns, height / rows)
    wide, high = max(1, round(scale * columns)), max(1, round(scale * rows))
    return x, y + (height - high) // 2, wide, high


def _pixelated(picture: Picture) -> bool:
    return max(picture.shape[:2]) < _PIXELATED


def _colour(kind: str) -> str:
    return KINDS[kind].light if kind else INK[0]


def _length(text: str) -> int:
    return round(_font().getlength(text))


@cache
def _font() -> ImageFont.FreeTypeFont:
    # DejaVu comes with matplotlib and draws most scripts
    return ImageFont.truetype(
        str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"), SIZE
    )


def _png_uri(picture: Picture) -> str:
    buffer = BytesIO()
    Image.fromarray(picture).save(buffer, "PNG")
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"
