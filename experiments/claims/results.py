"""What the claims' scripts share: the table and the figure beside them, and intervals over seeds and draws."""

import csv
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from scipy import stats

from lsep_ml.files import atomic_write

FOLDER = Path(__file__).parent


def write_table(folder: Path, name: str, rows: Sequence[dict[str, Any]]) -> None:
    """Rows as CSV, numbers to five digits; one column for every key that occurs."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    with atomic_write(folder / f"{name}.csv") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        for row in rows:
            writer.writerow({key: _short(value) for key, value in row.items()})


def read_table(folder: Path, name: str) -> list[dict[str, str]]:
    """Rows written by `write_table`, as text."""
    with (folder / f"{name}.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def save(folder: Path, name: str, figure: Figure) -> None:
    """The figure as PNG."""
    temporary = folder / f"{name}.part.png"
    figure.savefig(temporary, dpi=150)
    os.replace(temporary, folder / f"{name}.png")


def mean_interval(values: Sequence[float]) -> tuple[float, float]:
    """The mean over seeds, and half the width of its 95% interval (Student's t; NaN for one seed)."""
    sample = np.asarray(values, float)
    if len(sample) < 2:
        return float(sample.mean()), float("nan")
    half = stats.t.ppf(0.975, len(sample) - 1) * sample.std(ddof=1) / len(sample) ** 0.5
    return float(sample.mean()), float(half)


def share_interval(successes: int, draws: int) -> tuple[float, float]:
    """The 95% interval of a share (Wilson's, which works at 0 and 1 too)."""
    interval = stats.binomtest(successes, draws).proportion_ci(0.95, method="wilson")
    return float(interval.low), float(interval.high)


def _short(value: Any) -> Any:
    return f"{value:.5g}" if isinstance(value, float) else value
