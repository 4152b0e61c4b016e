"""Draws docs/dashboard.png: the bars of `lsep-ml dashboard` for the digits, from the recorded runs, without W&B.

Command: python experiments/draw_dashboard.py
"""

import csv
from collections import defaultdict
from pathlib import Path
from statistics import fmean

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt

from lsep_ml.metrics import BY_KEY
from lsep_ml.trackers.dashboard import PAPER_DECISIONS, TABLE_METRICS

ROOT = Path(__file__).resolve().parent.parent
RUNS, PICTURE = ROOT / "experiments/table1_digits/runs.csv", ROOT / "docs/dashboard.png"


def read_bars(path: Path) -> dict[tuple[str, str], dict[str, float]]:
    """Return for each decision and metric the mean over the seeds of each loss, in %."""
    values: dict[tuple[str, str], dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    with path.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            for key in TABLE_METRICS:
                values[row["decision"], key][row["loss"]].append(100 * float(row[f"test_{key}"]))
    return {place: {loss: fmean(seeds) for loss, seeds in bars.items()} for place, bars in values.items()}


def main() -> None:
    """Draw a row of panels for each decision, a panel for each metric of Table 1."""
    bars = read_bars(RUNS)
    order = sorted(
        {loss for (decision, _), drawn in bars.items() if decision in PAPER_DECISIONS for loss in drawn}
    )
    colours = {loss: f"C{place}" for place, loss in enumerate(order)}
    size = 2.05 * len(TABLE_METRICS), 2.5 * len(PAPER_DECISIONS)
    figure, axes = plt.subplots(len(PAPER_DECISIONS), len(TABLE_METRICS), figsize=size, sharey=True)
    for line, decision in zip(axes, PAPER_DECISIONS, strict=True):
        for axis, key in zip(line, TABLE_METRICS, strict=True):
            found = bars.get((decision, key), {})
            names = [name for name in order if name in found]
            drawn = axis.bar(names, [found[name] for name in names], color=[colours[name] for name in names])
            axis.bar_label(drawn, fmt="%.1f", fontsize=6, padding=1)
            axis.set_title(f"test {BY_KEY[key].label}", fontsize=8)
            axis.tick_params(axis="x", labelrotation=60, labelsize=7)
            axis.tick_params(axis="y", labelsize=7)
            axis.spines[["top", "right"]].set_visible(False)
            axis.set_ylim(0, 100)
        line[0].set_ylabel(f"digits, {decision}\nmean over seeds, %", fontsize=8)
    figure.tight_layout()
    figure.savefig(PICTURE, dpi=110)


if __name__ == "__main__":
    main()
