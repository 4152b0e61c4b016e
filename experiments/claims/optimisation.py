"""Claim (section 3.1): LSEP "is differentiable and smooth everywhere, which makes it easier to optimize".

    python experiments/claims/optimisation.py [--seeds 0 1 2 3 4] [--epochs 10] [--cnn]

Trains a perceptron (three hidden layers of 64) on features of digit scenes with each loss at nine learning rates over
four decades, SGD with momentum 0.9 at a constant rate. A rate works if the best validation mAP of its epochs is at
least 90% of the highest that any loss reaches at its best rate (mean over seeds). For each loss and seed: how many
decades of rates work (ends interpolated), and how many epochs the best rate takes to that mAP.

Two losses tell the reasons apart. Pairwise logistic is the ranking loss made smooth and nothing else: a sum over pairs,
no outer logarithm. BP-MLL is smooth too; it is trained as it is, and with its gradient clipped to norm 1.

Cost: two minutes on one core. --cnn trains a small convolutional network on the images instead, by the main job,
for 8 epochs, and keeps it in outputs/store: 5 minutes a seed. Expectation: LSEP's range is the widest of
the losses that are not clipped, and not because it is smooth.
Writes optimisation_epochs.csv (every epoch), optimisation.csv (each loss), optimisation.png; with --cnn
optimisation_cnn_epochs.csv and so on.
"""

import argparse
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

import ensemble
import matplotlib.pyplot as plt
import numpy as np
from numpy.typing import NDArray
from results import FOLDER, mean_interval, read_table, save, write_table
from trainings import NETWORK, OUTPUT, SCENES, Row, cached_features, history

from lsep_ml import losses
from lsep_ml.reports.figures.style import loss_looks


class Method(NamedTuple):
    loss: str
    clip: float | None = None


METHODS = {name: Method(name) for name in ("lsep", "ranking", "warp", "pairwise_logistic", "bpmll")}
METHODS["bpmll, clipped"] = Method("bpmll", clip=1.0)
RATES = [float(10**e) for e in np.arange(-4, 0.01, 0.5)]
SHARE = 0.9
"""Of the highest mAP, to be reached by a rate that works."""


def train_perceptrons(output: Path, seeds: list[int], epochs: int, rates: list[float]) -> list[Row]:
    """One row for each epoch of each training; a training that failed ends with the reason."""
    problem = cached_features(output)
    rows: list[Row] = []
    for name, (loss, clip) in METHODS.items():
        print(name, flush=True)
        found = ensemble.train(problem, getattr(losses, f"{loss}_loss"), rates, seeds, epochs, clip=clip)
        rows += [{"loss": name, **row} for row in found]
    return rows


def train_networks(output: Path, seeds: list[int], epochs: int, rates: list[float]) -> list[Row]:
    """The same by the main job."""
    rows: list[Row] = []
    for name, (loss, clip) in METHODS.items():
        for seed in seeds:
            for rate in rates:
                about = {"loss": name, "rate": rate, "seed": seed}
                options = [
                    f"loss={loss}",
                    f"seed={seed}",
                    f"optimizer.lr={rate:.6g}",
                    f"training.epochs={epochs}",
                ]
                options += [f"trainer.gradient_clip_val={clip or 'null'}", "schedule=constant"]
                found, failure = history(output, *options, *SCENES, *NETWORK)
                for row in found:
                    numbers = {key: float(row[key]) for key in ("train_loss", "val_map")}
                    rows.append({**about, "epoch": int(row["epoch"]), **numbers, "failure": ""})
                if failure:
                    failed = {"epoch": len(found) + 1, "val_map": 0.0, "failure": "not finite"}
                    rows.append({**about, **failed})
                print(
                    f"{name:18s} seed {seed}  rate {rate:.4g}  {len(found)} epochs  {failure[:60]}",
                    flush=True,
                )
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


def working_range(
    logs: NDArray[np.float64], values: NDArray[np.float64], target: float
) -> tuple[float, float]:
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


def plot(folder: Path, name: str) -> None:
    rows = read_table(folder, f"{name}_epochs")
    target, summary = summarise(rows)
    names = [row["loss"] for row in summary]
    looks = loss_looks(names)
    figure, (by_rate, by_epoch, by_loss) = plt.subplots(1, 3, figsize=(13, 4.4), layout="constrained")
    rates = sorted({float(row["rate"]) for row in rows})
    for row in summary:
        look = looks[row["loss"]]
        style = {"color": look.colour, "linestyle": look.dash, "marker": look.marker, "markersize": 4}
        best: dict[float, dict[str, float]] = defaultdict(lambda: defaultdict(float))
        curve: dict[int, list[tuple[float, float]]] = defaultdict(list)
        for r in rows:
            if r["loss"] == row["loss"] and not r["failure"]:
                of_rate, mean_ap = best[float(r["rate"])], float(r["val_map"])
                of_rate[r["seed"]] = max(of_rate[r["seed"]], mean_ap)
                if float(r["rate"]) == row["best_rate"]:
                    curve[int(r["epoch"])].append((mean_ap, float(r["train_loss"])))
        reached = [list(best[rate].values()) or [0.0] for rate in rates]
        by_rate.plot(
            rates, [np.mean(values) for values in reached], label=row["loss"].replace("_", " "), **style
        )
        low, high = [min(values) for values in reached], [max(values) for values in reached]
        by_rate.fill_between(rates, low, high, color=look.colour, alpha=0.12, linewidth=0)
        epochs = sorted(curve)
        means = np.array([np.mean(curve[epoch], axis=0) for epoch in epochs])
        by_epoch.plot(epochs, means[:, 0], **style)
        by_loss.plot(epochs, means[:, 1] / means[0, 1], **style)
    for axes in (by_rate, by_epoch):
        axes.axhline(target, color="0.5", linewidth=0.8)
    for axes in (by_rate, by_epoch, by_loss):
        axes.grid(alpha=0.3)
    by_rate.set(
        xscale="log", xlabel="learning rate", ylabel="best validation mAP", title="each rate (0: not finite)"
    )
    by_epoch.set(xlabel="epoch", ylabel="validation mAP", title="at each loss's best rate")
    by_loss.set(xlabel="epoch", ylabel="training loss, first epoch = 1", title="at each loss's best rate")
    figure.legend(*by_rate.get_legend_handles_labels(), loc="outside lower center", ncols=6, frameon=False)
    save(folder, name, figure)
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2, 3, 4])
    parser.add_argument("--epochs", type=int, help="10; 8 with --cnn")
    parser.add_argument("--rates", type=float, nargs="*")
    parser.add_argument("--cnn", action="store_true", help="train convolutional networks on the images")
    parser.add_argument("--output", type=Path, default=OUTPUT, help="where trainings are kept")
    parser.add_argument("--folder", type=Path, default=FOLDER)
    arguments = parser.parse_args()
    name = "optimisation_cnn" if arguments.cnn else "optimisation"
    train = train_networks if arguments.cnn else train_perceptrons
    rates = arguments.rates or RATES
    rows = train(arguments.output, arguments.seeds, arguments.epochs or (8 if arguments.cnn else 10), rates)
    write_table(arguments.folder, f"{name}_epochs", rows)
    _, summary = summarise(read_table(arguments.folder, f"{name}_epochs"))
    write_table(arguments.folder, name, summary)
    for row in summary:
        print(
            "  ".join(
                f"{value:.3g}" if isinstance(value, float) else f"{value!s:18s}" for value in row.values()
            )
        )
    plot(arguments.folder, name)


if __name__ == "__main__":
    main()
