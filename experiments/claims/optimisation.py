"""Claim (section 3.1): LSEP "is differentiable and smooth everywhere, which makes it easier to optimize".

    python experiments/claims/optimisation.py [--seeds 0 1 2] [--epochs 8] [--full]

Trains a small network on small digit scenes with each loss at learning rates over four decades, SGD with momentum 0.9
at a constant rate. A rate works if the best validation mAP of its epochs is at least 90% of the highest that any loss
reaches at its best rate (means over seeds). Reported for each loss and seed: how many decades of rates work, their
ends (interpolated between the rates tried), and how many epochs the best rate takes to that mAP.

Two losses are there to tell the reasons apart. Pairwise logistic is the ranking loss made smooth and nothing else: a sum
over pairs, no outer logarithm. BP-MLL is smooth too; it is trained as it is and with its gradient clipped to norm 1.

Cost: 162 trainings of 2 to 6 seconds on one core, 13 minutes (--full: the default scenes and network, hours). They are
kept in outputs/store. Expectation: LSEP's range is wide, and what makes it so is not smoothness alone.
Writes optimisation_epochs.csv (every epoch), optimisation.csv (each loss), optimisation.png.
"""

import argparse
from collections import defaultdict
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from numpy.typing import NDArray
from results import FOLDER, mean_interval, read_table, save, write_table
from trainings import NETWORK, OUTPUT, SCENES, Row, history

from lsep_ml.reports.style import loss_looks

CLIPPED = "bpmll, clipped"
METHODS = {
    "lsep": ("loss=lsep",),
    "ranking": ("loss=ranking",),
    "warp": ("loss=warp",),
    "pairwise_logistic": ("loss=pairwise_logistic",),
    "bpmll": ("loss=bpmll", "trainer.gradient_clip_val=null"),
    CLIPPED: ("loss=bpmll", "trainer.gradient_clip_val=1"),
}
RATES = tuple(10.0**e for e in np.arange(-4, 0.5, 0.5))
SHARE = 0.9
"""Of the highest mAP, to be reached by a rate that works."""


def train(output: Path, seeds: list[int], epochs: int, rates: list[float], small: bool) -> list[Row]:
    """One row for each epoch of each training; a training that failed has a last row with the reason."""
    rows: list[Row] = []
    for name, overrides in METHODS.items():
        for seed in seeds:
            for rate in rates:
                about = {"loss": name, "rate": rate, "seed": seed}
                fixed = (f"seed={seed}", f"training.epochs={epochs}", "schedule=constant")
                size = (*SCENES, *NETWORK) if small else ()
                epoch_rows, failure = history(output, *overrides, *size, *fixed, f"optimizer.lr={rate:.6g}")
                for row in epoch_rows:
                    rows.append(
                        {
                            **about,
                            "epoch": int(row["epoch"]),
                            "train_loss": float(row["train_loss"]),
                            "val_map": float(row["val_map"]),
                            "clamped_rows": int(float(row.get("train_clamped_rows", 0))),
                            "failure": "",
                        }
                    )
                if failure:
                    rows.append({**about, "epoch": len(epoch_rows) + 1, "failure": failure.split(";")[0]})
                best = max((float(row["val_map"]) for row in epoch_rows), default=0)
                print(f"{name:18s} seed {seed}  rate {rate:8.4g}  mAP {best:.3f}  {failure[:60]}", flush=True)
    return rows


def summarise(rows: list[dict[str, str]]) -> tuple[float, list[Row]]:
    """The mAP to reach, and a row for each loss."""
    curves: dict[tuple[str, float, int], list[float]] = defaultdict(list)
    failed = set()
    for row in rows:
        key = (row["loss"], float(row["rate"]), int(row["seed"]))
        if row["failure"]:
            failed.add(key)
        else:
            curves[key].append(float(row["val_map"]))
    names = list(dict.fromkeys(row["loss"] for row in rows))
    rates = sorted({float(row["rate"]) for row in rows})
    seeds = sorted({int(row["seed"]) for row in rows})
    best = {
        name: np.array([[max(curves[name, rate, seed], default=0) for rate in rates] for seed in seeds])
        for name in names
    }
    target = SHARE * max(values.mean(0).max() for values in best.values())
    summary = []
    for name, values in best.items():
        ranges = [working_range(np.log10(rates), of_seed, target) for of_seed in values]
        chosen = rates[values.mean(0).argmax()]
        epochs = [first_epoch(curves[name, chosen, seed], target) for seed in seeds]
        own = [working_range(np.log10(rates), of_seed, SHARE * of_seed.max()) for of_seed in values]
        decades, half = mean_interval([high - low for low, high in ranges])
        own_decades, own_half = mean_interval([high - low for low, high in own])
        summary.append(
            {
                "loss": name,
                "best_rate": chosen,
                "best_map": mean_interval(values[:, values.mean(0).argmax()])[0],
                "best_map_half": mean_interval(values[:, values.mean(0).argmax()])[1],
                "decades": decades,
                "decades_half": half,
                "from_rate": 10 ** float(np.mean([low for low, _ in ranges])),
                "to_rate": 10 ** float(np.mean([high for _, high in ranges])),
                "decades_of_own_best": own_decades,
                "own_half": own_half,
                "epochs_to_target": " ".join("-" if epoch is None else str(epoch) for epoch in epochs),
                "failed_trainings": sum((name, rate, seed) in failed for rate in rates for seed in seeds),
                "trainings": len(rates) * len(seeds),
                "target_map": target,
            }
        )
    return target, summary


def working_range(logs: NDArray[np.float64], values: NDArray[np.float64], target: float) -> tuple[float, float]:
    """The ends, in log10, of the rates around the best one at which the value reaches the target, interpolated.

    An end of the rates tried is an end of the range; where not even the best reaches the target the range is empty.
    """
    best = int(values.argmax())
    if values[best] < target:
        return float(logs[best]), float(logs[best])
    ends = []
    for step, last in ((-1, 0), (1, len(logs) - 1)):
        at = best
        while at != last and values[at + step] >= target:
            at += step
        if at == last:
            ends.append(float(logs[at]))
        else:
            share = (values[at] - target) / (values[at] - values[at + step])
            ends.append(float(logs[at] + share * (logs[at + step] - logs[at])))
    return ends[0], ends[1]


def first_epoch(values: list[float], target: float) -> int | None:
    return next((epoch for epoch, value in enumerate(values, 1) if value >= target), None)


def plot(folder: Path) -> None:
    rows = read_table(folder, "optimisation_epochs")
    target, summary = summarise(rows)
    names = [row["loss"] for row in summary]
    looks = loss_looks(names)
    figure, (by_rate, by_epoch, losses) = plt.subplots(1, 3, figsize=(13, 4.4), layout="constrained")
    for row in summary:
        name, look = row["loss"], looks[row["loss"]]
        style = {"color": look.colour, "linestyle": look.dash, "marker": look.marker, "markersize": 4}
        mine = [r for r in rows if r["loss"] == name and not r["failure"]]
        rates = sorted({float(r["rate"]) for r in rows})
        seeds = sorted({r["seed"] for r in rows})
        best = [
            [max((float(r["val_map"]) for r in mine if (float(r["rate"]), r["seed"]) == (rate, seed)), default=0)
             for seed in seeds]
            for rate in rates
        ]
        by_rate.plot(rates, [np.mean(values) for values in best], label=name.replace("_", " "), **style)
        by_rate.fill_between(rates, [min(v) for v in best], [max(v) for v in best], color=look.colour, alpha=0.12, lw=0)
        curve: dict[int, list[tuple[float, float]]] = defaultdict(list)
        for r in mine:
            if float(r["rate"]) == row["best_rate"]:
                curve[int(r["epoch"])].append((float(r["val_map"]), float(r["train_loss"])))
        epochs = sorted(curve)
        means = np.array([np.mean(curve[epoch], axis=0) for epoch in epochs])
        by_epoch.plot(epochs, means[:, 0], **style)
        losses.plot(epochs, means[:, 1] / means[0, 1], **style)
    for axes in (by_rate, by_epoch):
        axes.axhline(target, color="0.5", lw=0.8)
        axes.grid(alpha=0.3)
    losses.grid(alpha=0.3)
    by_rate.set(xscale="log", xlabel="learning rate", ylabel="best validation mAP", title="over learning rates")
    by_epoch.set(xlabel="epoch", ylabel="validation mAP", title="at each loss's best rate")
    losses.set(xlabel="epoch", ylabel="training loss, first epoch = 1", title="at each loss's best rate")
    figure.legend(*by_rate.get_legend_handles_labels(), loc="outside lower center", ncols=6, frameon=False)
    save(folder, "optimisation", figure)
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--rates", type=float, nargs="*", default=RATES)
    parser.add_argument("--full", action="store_true", help="the default scenes and network instead of small ones")
    parser.add_argument("--output", type=Path, default=OUTPUT, help="where the trainings are kept")
    parser.add_argument("--folder", type=Path, default=FOLDER)
    arguments = parser.parse_args()
    rows = train(arguments.output, arguments.seeds, arguments.epochs, list(arguments.rates), not arguments.full)
    write_table(arguments.folder, "optimisation_epochs", rows)
    _, summary = summarise(read_table(arguments.folder, "optimisation_epochs"))
    write_table(arguments.folder, "optimisation", summary)
    for row in summary:
        print("  ".join(f"{value:.3g}" if isinstance(value, float) else f"{value!s:18s}" for value in row.values()))
    plot(arguments.folder)


if __name__ == "__main__":
    main()
