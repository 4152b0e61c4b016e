"""Claim (section 3.2): the bias term inside LSEP's logarithm "is crucial for getting numeric stability".

    python experiments/claims/overflow.py [--seeds 0 1 2] [--epochs 4]

Trains the perceptron of optimisation.py with LSEP and with BP-MLL (as it is, and with the gradient clipped to norm 1),
at nine learning rates, in float64, float32, bfloat16 and float16 (the last two: weights in float32, products in half).
Counted: trainings that end in numbers that are not finite, and rows whose exponent passes the limit at which this
library holds BP-MLL, just before exp leaves the floating-point range (float64: 700, float16: 11, else 80). Rows are
counted up to the end of the epoch in which a training fails.

Cost: two minutes on one core. Expectation: BP-MLL fails from a low rate on, in every precision; LSEP fails only at
rates at which any loss does. Writes overflow.csv and overflow.png.
"""

import argparse
from collections import defaultdict
from pathlib import Path

import ensemble
import matplotlib.pyplot as plt
import numpy as np
import torch
from optimisation import METHODS
from results import FOLDER, read_table, save, write_table
from trainings import OUTPUT, Row, cached_features

from lsep_ml import losses
from lsep_ml.reports.figures.style import loss_looks

PRECISIONS = ("float64", "float32", "bfloat16", "float16")
COMPARED = ("lsep", "bpmll", "bpmll, clipped")
RATES = [float(10**e) for e in np.arange(-3.5, 0.51, 0.5)]


def train(output: Path, seeds: list[int], epochs: int) -> list[Row]:
    """One row for each loss, precision and rate, over the seeds."""
    problem = cached_features(output)
    rows: list[Row] = []
    for name in COMPARED:
        loss, clip = METHODS[name]
        for precision in PRECISIONS:
            found = ensemble.train(
                problem,
                getattr(losses, f"{loss}_loss"),
                RATES,
                seeds,
                epochs,
                clip=clip,
                precision=getattr(torch, precision),
            )
            of_rate: dict[float, list[Row]] = defaultdict(list)
            for row in found:
                of_rate[row["rate"]].append(row)
            for rate, epoch_rows in of_rate.items():
                seen = len(epoch_rows) * len(problem.features)
                clamped = sum(row["clamped_rows"] for row in epoch_rows)
                best = [max(row["val_map"] for row in epoch_rows if row["seed"] == seed) for seed in seeds]
                rows.append(
                    {
                        "loss": name,
                        "precision": precision,
                        "rate": rate,
                        "trainings": len(seeds),
                        "failed": sum(row["failure"] != "" for row in epoch_rows),
                        "clamped_rows": clamped,
                        "rows": seen,
                        "best_map": float(np.mean(best)),
                    }
                )
            print(name, precision, "failed:", *(row["failed"] for row in rows[-len(RATES) :]), flush=True)
    return rows


def plot(folder: Path) -> None:
    rows = read_table(folder, "overflow")
    looks = loss_looks(COMPARED)
    figure, panels = plt.subplots(
        2, len(PRECISIONS), figsize=(13, 5.6), layout="constrained", sharex=True, sharey="row"
    )
    for precision, (failed, clamped) in zip(PRECISIONS, panels.T, strict=True):
        for name in COMPARED:
            mine = [row for row in rows if (row["loss"], row["precision"]) == (name, precision)]
            look = looks[name]
            style = {"color": look.colour, "linestyle": look.dash, "marker": look.marker, "markersize": 4}
            rates = [float(row["rate"]) for row in mine]
            failed.plot(
                rates, [100 * int(r["failed"]) / int(r["trainings"]) for r in mine], label=name, **style
            )
            clamped.plot(rates, [int(r["clamped_rows"]) + 1 for r in mine], **style)
        failed.set(xscale="log", title=precision)
        clamped.set(yscale="log", xlabel="learning rate")
        failed.grid(alpha=0.3)
        clamped.grid(alpha=0.3)
    panels[0, 0].set_ylabel("trainings not finite, %")
    panels[1, 0].set_ylabel("1 + rows past the limit")
    figure.legend(
        *panels[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False
    )
    save(folder, "overflow", figure)
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--output", type=Path, default=OUTPUT, help="where the features' network is kept")
    parser.add_argument("--folder", type=Path, default=FOLDER)
    arguments = parser.parse_args()
    write_table(arguments.folder, "overflow", train(arguments.output, arguments.seeds, arguments.epochs))
    plot(arguments.folder)


if __name__ == "__main__":
    main()
