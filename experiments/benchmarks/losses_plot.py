"""Draws the table that losses.py writes: python experiments/benchmarks/losses_plot.py losses_cpu.csv"""

import csv
import os
import sys
from pathlib import Path

import matplotlib.pyplot as plt
from matplotlib.axes import Axes

LINES = {
    ("ours", "lsep"): ("LSEP", "#D55E00", "-", "o"),
    ("ours", "bpmll"): ("BP-MLL", "#E69F00", "-", "s"),
    ("ours", "softmax"): ("softmax", "#009E73", "-", "^"),
    ("ours", "ranking"): ("ranking", "#0072B2", "-", "D"),
    ("ours", "warp"): ("WARP", "#CC79A7", "-", "v"),
    ("ours", "two_way"): ("two-way", "#56B4E9", "-", "P"),
    ("ours", "asl"): ("ASL", "0.55", "-", "x"),
    ("rivals", "lsep, K x K"): ("LSEP over all pairs", "#D55E00", "--", "o"),
    ("rivals", "ranking, K x K"): ("ranking over all pairs", "#0072B2", "--", "D"),
    ("rivals", "multilabel_margin (torch)"): ("torch's multilabel margin", "0.2", "--", "x"),
}
"""(group, loss) -> legend, colour (of Okabe and Ito, told apart by the colour-blind), line style, marker."""


def draw(table: Path) -> None:
    """Writes the PNG beside the table."""
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4.2), layout="constrained")
    draw_column(left, rows, "ratio_to_bce", "time of forward + backward, BCE = 1")
    draw_column(right, rows, "peak_to_scores", "peak memory, scores = 1")
    left.axhline(1, color="black", linewidth=0.8)
    figure.legend(*left.get_legend_handles_labels(), loc="outside right center", frameon=False, fontsize=9)
    target = table.with_suffix(".png")
    temporary = target.with_suffix(".part.png")
    figure.savefig(temporary, dpi=150)
    plt.close(figure)
    os.replace(temporary, target)


def draw_column(axes: Axes, rows: list[dict[str, str]], column: str, title: str) -> None:
    for (group, loss), (label, color, style, marker) in LINES.items():
        points = [
            (int(row["labels"]), float(row[column]))
            for row in rows
            if (row["group"], row["loss"]) == (group, loss)
        ]
        labels, values = zip(*points, strict=True) if points else ((), ())
        axes.plot(labels, values, style, color=color, label=label, marker=marker, markersize=4)
    axes.set(xscale="log", yscale="log", xlabel="labels K", title=title)
    axes.grid(alpha=0.3)


if __name__ == "__main__":
    draw(Path(sys.argv[1]))
