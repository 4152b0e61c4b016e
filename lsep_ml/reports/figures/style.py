"""How a method looks in every figure: a colour for colour-blind eyes too, and a dash, marker and hatch for print."""

from collections.abc import Iterable
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lsep_ml.drawing import GROUND, INK, KINDS


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
