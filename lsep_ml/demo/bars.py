"""One image's decision as HTML: the label set in words, and every label's value as a bar with its threshold marked."""

import math
from collections.abc import Sequence
from functools import cache

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined, Template

from lsep_ml.demo.knobs import ImageReading


def render_bars(label_names: Sequence[str], fitted: ImageReading, reading: ImageReading) -> str:
    """Render the `bars.html` of `reading`; `fitted` is the same image as the decision was fitted.

    Labels stand in the order of their values, ties in their own. All bars start at the lowest value or threshold, or at
    0 for probabilities; they and the marks share one scale.
    """
    low, high = _scale(fitted, reading)
    chosen, before = reading.label_set, fitted.label_set
    digits = max(0, 2 - math.floor(math.log10(high - low)))
    order = np.argsort(-reading.values, kind="stable").tolist()
    rows = [
        {
            "name": label_names[k],
            "chosen": bool(chosen[k]),
            "value": float(reading.values[k]),
            "threshold": None if reading.thresholds is None else float(reading.thresholds[k]),
        }
        for k in order
    ]
    return _template().render(
        rows=rows,
        labels=[label_names[k] for k in order if chosen[k]],
        added=[label_names[k] for k in order if chosen[k] and not before[k]],
        removed=[label_names[k] for k in order if before[k] and not chosen[k]],
        counted=reading.thresholds is None,
        what="probability" if reading.probable else "score",
        number=lambda value: f"{value:.{digits}f}",
        low=low,
        high=high,
        share=lambda value: f"{100 * min(max((value - low) / (high - low), 0), 1):.2f}%",
    )


def _scale(fitted: ImageReading, reading: ImageReading) -> tuple[float, float]:
    """Choose from where to where bars are drawn; thresholds as fitted lie within, so that moving rescales little."""
    if reading.probable:
        return 0.0, 1.0
    shown = [reading.values, *(r.thresholds for r in (fitted, reading) if r.thresholds is not None)]
    low, high = float(np.min(shown)), float(np.max(shown))
    room = 0.03 * (high - low) or 1.0
    return low - room, high + room


@cache
def _template() -> Template:
    environment = Environment(
        loader=PackageLoader("lsep_ml.demo"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("bars.html")
