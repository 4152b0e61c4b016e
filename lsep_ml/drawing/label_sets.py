"""A label set beside the truth, as words: every label is found, wrong or missed."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

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

    predicted, true, known: 0/1 or bool (K,). Labels that are not known are left out.
    """
    compared = compare_label_sets(predicted, true, known)._asdict()
    words = [
        Word(f"{KINDS[kind].mark} {label_names[int(k)]}", kind)
        for kind, labels in compared.items()
        for k in np.flatnonzero(labels)
    ]
    return words or [Word("none")]


def legend() -> list[Word]:
    """Say in words what the marks mean."""
    return [Word(f"{kind.mark} {kind.meaning}", name) for name, kind in KINDS.items()]
