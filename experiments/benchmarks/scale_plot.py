"""Draws the table that `experiments/scale.py --costs scale_cpu.csv` writes:

python experiments/benchmarks/scale_plot.py experiments/benchmarks/scale_cpu.csv

Above CPU seconds and below peak memory of each stage: at the left by the images, at the right by the labels.
"""

import os
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import polars as pl

STAGES = {"data": "0.6", "train": "#D55E00", "fit": "#0072B2", "evaluate": "#009E73"}
"""Stage -> colour (of Okabe and Ito, told apart by the colour-blind); the report takes a second at every size."""
AXES = (("images", "labels"), ("labels", "images"))


def draw(table: Path) -> None:
    """Writes the PNG beside the table; of each axis, the runs at the size of the other that most runs have."""
    rows = pl.read_csv(table)
    figure, panels = plt.subplots(2, 2, figsize=(9, 6), sharey="row", layout="constrained")
    for column, (along, other) in enumerate(AXES):
        sizes = rows.group_by(other).agg(pl.col(along).n_unique()).sort(along, other)
        fixed = sizes[other][-1]
        of_size = rows.filter(pl.col(other) == fixed).sort(along)
        for measure, panel in zip(("cpu_seconds", "peak_gib"), panels[:, column], strict=True):
            for stage, color in STAGES.items():
                of_stage = of_size.filter(pl.col("stage") == stage)
                panel.plot(of_stage[along], of_stage[measure], marker="o", color=color, label=stage)
            panel.set(xscale="log", xlabel=along)
            panel.grid(alpha=0.3)
        panels[0, column].set_yscale("log")
        panels[0, column].set_title(f"{fixed:,} {other}")
    panels[0, 0].set_ylabel("CPU seconds")
    panels[1, 0].set(ylabel="peak memory, GiB", ylim=(0, None))  # once both are drawn: they share it
    figure.legend(*panels[0, 0].get_legend_handles_labels(), loc="outside right center", frameon=False)
    target = table.with_suffix(".png")
    temporary = target.with_suffix(".part.png")
    figure.savefig(temporary, dpi=150)
    plt.close(figure)
    os.replace(temporary, target)


if __name__ == "__main__":
    draw(Path(sys.argv[1]))
