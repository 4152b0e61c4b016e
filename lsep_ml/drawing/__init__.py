"""Pictures with label sets beneath: what is found, wrong and missed, laid out once; without torch.

label_sets  the marks and colours of found, wrong and missed, and a label set as words of these kinds
sheet       pictures with words beneath, laid out once; drawn by Pillow, or written as SVG
"""

from lsep_ml.drawing.label_sets import GROUND, INK, KINDS, Word, label_words, legend
from lsep_ml.drawing.sheet import Sheet, Tile, draw, lay_out, to_svg

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
