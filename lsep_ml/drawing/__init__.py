"""Pictures with label sets beneath: what is found, wrong and missed, laid out once; without torch."""

from lsep_ml.drawing.sheet import (
    GROUND,
    INK,
    KINDS,
    Sheet,
    Tile,
    Word,
    draw,
    label_words,
    lay_out,
    legend,
    to_svg,
)

__all__ = [
    "GROUND",
    "INK",
    "KINDS",
    "Sheet",
    "Tile",
    "Word",
    "draw",
    "label_words",
    "lay_out",
    "legend",
    "to_svg",
]
