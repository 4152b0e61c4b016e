"""Every loss on the same frozen features, each at its own optimum: a score layer solved for, its weight decay chosen.

    python experiments/losses_probe/losses_probe.py NAME FEATURES.npz...

A FEATURES.npz holds train_features (N, D), train_targets 0/1 (N, K), and the same for val and test. Several files are
a seed each; with one file a seed draws what is hidden and left out, so that the data as they are have one seed. For
each loss the layer minimises loss + w |W|^2 by L-BFGS; w is climbed to by factors of the root of 10 while validation
mAP rises, from the one that NAME.csv has, where it has one. Decisions are fitted on validation, but for threshold
estimation, which the paper fits on training; test only reports. Four settings: the data as they are; half of the
training positives hidden, so that they stand among the negatives; a long tail, training images left out until the
rarest label has a handful; both.

Writes beside this file NAME.csv (every run's own metrics), NAME_compared.csv (means over the seeds, their 95% intervals
and those of the paired differences from bce, by resampled test images), NAME.md (the tables) and NAME.png, after every
seed. What the CSVs have of settings that are not asked for is kept; with --settings and nothing after it, tables and
picture are made anew.
"""

import argparse
import csv
import json
import math
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lsep_ml import fit_decision, losses
from lsep_ml.data.withheld import long_tailed_rows
from lsep_ml.decisions import GlobalThreshold, LinearThresholds, PerClassThreshold, ThresholdEstimation
from lsep_ml.files import atomic_write
from lsep_ml.metrics import count_label_sets, label_set_metrics, ranking_metrics
from lsep_ml.metrics.bootstrap import percentiles, replicate_weights
from lsep_ml.training.solver import minimise

mpl.use("Agg")
import matplotlib.pyplot as plt

NAMES = (
    "lsep",
    "warp",
    "bpmll",
    "ranking",
    "softmax",
    "pairwise_logistic",
    "tkpr",
    "two_way",
    "zlpr",
    "bce",
    "bce balanced",
    "bce tempered",
    "focal",
    "asl",
    "hill",
    "splc",
    "distribution_balanced",
    "ldam",
    "soft_f1",
)
OPTIONS: dict[str, dict[str, Any]] = {
    "bce balanced": {"pos_weight": "balanced"},
    "bce tempered": {"pos_weight": "tempered"},
}
SETTINGS = {
    "whole": (0.0, False),
    "half hidden": (0.5, False),
    "long tail": (0.0, True),
    "long tail, half hidden": (0.5, True),
}
"""Share of the positives that is hidden, and whether training images are left out until there is a long tail."""
SEEDS = (0, 1, 2)
STEP = math.sqrt(10)
START = {"bpmll": 1.0, "soft_f1": 1e-4}
"""Where the climb begins, of losses on another scale than the rest."""
RAREST = 1 / 400
REPLICATES = 1000
RIVAL = "bce"


DECISIONS = {
    "threshold": "one threshold",
    "per_class": "a threshold a label",
    "thresh_est": "threshold estimation",
    "thresh_linear": "thresholds linear in the features",
}
MEASURES = ("map", *(f"{decision}_{key}" for decision in DECISIONS for key in ("exact_match", "f1")))
Row = dict[str, Any]


class Split(NamedTuple):
    """features float32 (N, D), targets 0/1 (N, K)."""

    features: Tensor
    targets: Tensor


class Data(NamedTuple):
    """The splits of one seed, and the weights (R, test images) by which its test images are resampled."""

    train: Split
    val: Split
    test: Split
    weights: NDArray[np.float64]


class Solved(NamedTuple):
    """A score layer's scores on the splits, and how it was reached."""

    train: Tensor
    val: Tensor
    test: Tensor
    facts: dict[str, Any]


def read(paths: list[Path], seed: int) -> Data:
    """The splits of a seed, their features centred and divided by one number, as training has them."""
    at = seed if len(paths) > 1 else 0
    with np.load(paths[at], allow_pickle=False) as arrays:
        raw = [(arrays[f"{name}_features"], arrays[f"{name}_targets"]) for name in ("train", "val", "test")]
    centre = raw[0][0].mean(0)
    scale = np.sqrt(np.square(raw[0][0] - centre).mean())
    blocks = [block.astype(np.float64) for block in replicate_weights(len(raw[2][1]), REPLICATES, at)]
    splits = (Split(torch.from_numpy((x - centre) / scale).float(), torch.from_numpy(y)) for x, y in raw)
    return Data(*splits, np.concatenate(blocks))


def changed(train: Split, hidden: float, tail: bool, seed: int) -> Split:
    """Training data with images left out and positives hidden, by seed."""
    generator = np.random.default_rng(seed)
    targets = train.targets.numpy()
    rows = long_tailed_rows(targets, RAREST, seed) if tail else np.arange(len(targets))
    shown = generator.random(targets[rows].shape) >= hidden
    return Split(train.features[rows], torch.from_numpy(targets[rows] * shown).to(torch.uint8))


def loss_of(name: str, targets: Tensor) -> Callable[..., Tensor]:
    function = getattr(losses, f"{name.split()[0]}_loss")
    loss = losses.with_class_counts(function, lambda: losses.ClassCounts.of(targets))
    return lambda scores, given: loss(scores, given, **OPTIONS.get(name, {}))


def solved(name: str, train: Split, val: Split, test: Split, start: float | None = None) -> Solved:
    """The score layer at the weight decay of the highest validation mAP; at `start`, where that is known."""
    loss = loss_of(name, train.targets)
    num_labels, num_features = train.targets.shape[1], train.features.shape[1]
    tried: dict[float, tuple[float, Solved]] = {}

    def attempt(decay: float) -> float:
        if decay in tried:
            return tried[decay][0]
        weight = torch.zeros(num_labels, num_features, requires_grad=True)
        bias = torch.zeros(num_labels, requires_grad=True)
        if name == "soft_f1":  # flat where nothing is known yet: it starts near its labels' shares
            share = train.targets.float().mean(0).clamp(1e-3, 0.999)
            bias.data = torch.logit(share)

        def objective() -> Tensor:
            scores = torch.addmm(bias, train.features, weight.T)
            return loss(scores, train.targets) + decay * weight.square().sum()

        solution = minimise([weight, bias], objective, tolerance=2e-3, max_iterations=150)
        with torch.no_grad():
            scores = [torch.addmm(bias, split.features, weight.T) for split in (train, val, test)]
        value = ranking_metrics(scores[1], val.targets)["map"]
        facts = {
            "weight_decay": f"{decay:.3g}",
            "iterations": solution.iterations,
            "converged": solution.converged,
            "gradient_norm": f"{solution.gradient_norm:.2g}",
            "val_map": value,
        }
        tried[decay] = value, Solved(*scores, facts)
        return value

    if start is not None:
        attempt(start)
        return tried[start][1]
    best = START.get(name, 0.03)
    for factor in (STEP, 1 / STEP):
        while attempt(best * factor) > attempt(best) and len(tried) < 10:
            best *= factor
    return tried[best][1]


def label_sets(name: str, solution: Solved, train: Split, val: Split, test: Split) -> Tensor:
    """The test label sets of a decision by its name, bool (N, K)."""
    sizes = test.features.shape[1], test.targets.shape[1]
    if name == "thresh_est":
        given = solution.train, train.targets, train.features
        return fit_decision(ThresholdEstimation(*sizes), *given).predict(solution.test, test.features)
    if name == "thresh_linear":
        given = solution.val, val.targets, val.features
        return fit_decision(LinearThresholds(*sizes), *given).predict(solution.test, test.features)
    rule = GlobalThreshold() if name == "threshold" else PerClassThreshold()
    return rule.fit(solution.val, val.targets).predict(solution.test)


def measured(solution: Solved, test: Split, sets_of: dict[str, Tensor]) -> Row:
    """Test metrics of the scores, and of the label sets of each decision."""
    row = {f"test_{key}": float(value) for key, value in ranking_metrics(solution.test, test.targets).items()}
    for name, sets in sets_of.items():
        values = label_set_metrics(count_label_sets(sets, test.targets))
        row |= {f"test_{name}_{key}": float(value) for key, value in values.items()}
    return row


def resampled(data: Data, solution: Solved, sets_of: dict[str, Tensor]) -> NDArray[np.float64]:
    """MEASURES on resampled test images, (measures, R)."""
    scores, targets, weights = solution.test.numpy(), data.test.targets.numpy() != 0, data.weights
    total, labels = np.zeros(len(weights)), np.zeros(len(weights))
    for f, y in zip(scores.T, targets.T, strict=True):
        order = np.argsort(-f, kind="stable")
        drawn = weights[:, order]
        found = drawn * y[order]
        precision = found.cumsum(1) / np.maximum(drawn.cumsum(1), 1)
        positives = found.sum(1)
        total += (found * precision).sum(1) / np.maximum(positives, 1)
        labels += positives > 0  # mAP is over labels with positives
    lines = [total / labels]
    for sets in sets_of.values():
        chosen = sets.numpy()
        hit, named = weights @ (chosen & targets), weights @ chosen + weights @ targets
        exact = weights @ (chosen == targets).all(1) / weights.sum(1)
        lines += [exact, (2 * hit / np.maximum(named, 1)).mean(1)]
    return np.stack(lines)


def runs(
    paths: list[Path], setting: str, names: list[str], decays: dict[tuple[str, str, int], float], folder: Path
) -> Iterator[tuple[Row, NDArray[np.float64]]]:
    """Every run's row and its MEASURES on resampled test images.

    decays: of setting, loss and seed, if known. folder: of runs that an earlier call made, and of those made now.
    """
    hidden, tail = SETTINGS[setting]
    for seed in SEEDS if hidden or tail or len(paths) > 1 else SEEDS[:1]:
        data = read(paths, seed)
        train = changed(data.train, hidden, tail, seed)
        for name in names:
            made = folder / f"{setting} {seed} {name}.npz"
            if made.exists():
                with np.load(made, allow_pickle=False) as arrays:
                    yield json.loads(str(arrays["row"])), arrays["draws"]
                continue
            start = time.process_time()
            solution = solved(name, train, data.val, data.test, decays.get((setting, name, seed)))
            solving = time.process_time() - start
            sets_of = {of: label_sets(of, solution, train, data.val, data.test) for of in DECISIONS}
            row = {"setting": setting, "seed": seed, "loss": name, "train_images": len(train.targets)}
            row |= {"rarest": int(train.targets.sum(0).min()), **solution.facts}
            row |= measured(solution, data.test, sets_of)
            row |= {"solve_seconds": solving, "all_seconds": time.process_time() - start}
            print(
                f"{setting:24s}{seed}  {name:22s}w {row['weight_decay']:>8s}  {row['iterations']:4d} "
                f"{'' if row['converged'] else '!'}  mAP {100 * row['test_map']:.1f}  "
                f"{solving:.1f} s, {row['all_seconds']:.1f} s",
                flush=True,
            )
            drawn = resampled(data, solution, sets_of)
            with atomic_write(made, "wb") as file:
                np.savez(file, row=np.array(json.dumps(row)), draws=drawn)
            yield row, drawn


def compared(setting: str, rows: list[Row], draws: dict[str, NDArray[np.float64]]) -> list[Row]:
    """Means over the seeds with their intervals, and the interval of the difference from the rival.

    draws: the mean over the seeds of each loss's MEASURES on resampled test images.
    """
    summary = []
    for name, drawn in draws.items():
        of = [row for row in rows if row["loss"] == name]
        for at, measure in enumerate(MEASURES):
            values = [row[f"test_{measure}"] for row in of]
            row = {"setting": setting, "loss": name, "measure": measure, "mean": np.mean(values)}
            row["deviation"] = np.std(values, ddof=1) if len(values) > 1 else 0.0
            row |= {"seeds": len(values), "converged": all(row["converged"] for row in of)}
            row["low"], row["high"] = percentiles(drawn[at])
            row["against_low"], row["against_high"] = percentiles(drawn[at] - draws[RIVAL][at])
            summary.append(row)
    return summary


def without_intervals(rows: list[Row]) -> list[Row]:
    """Means over the seeds of runs whose resampled test images are gone."""
    summary = []
    for setting, name in dict.fromkeys((row["setting"], row["loss"]) for row in rows):
        of = [row for row in rows if (row["setting"], row["loss"]) == (setting, name)]
        for measure in (measure for measure in MEASURES if f"test_{measure}" in of[0]):
            values = [row[f"test_{measure}"] for row in of]
            row = {"setting": setting, "loss": name, "measure": measure, "mean": np.mean(values)}
            row["deviation"] = np.std(values, ddof=1) if len(values) > 1 else 0.0
            summary.append(row | {"seeds": len(values), "converged": all(row["converged"] for row in of)})
    return summary


def verdict(row: Row) -> str:
    if row["loss"] == RIVAL or "against_low" not in row:
        return ""
    return "+" if row["against_low"] > 0 else "-" if row["against_high"] < 0 else "="


def tables(summary: list[Row]) -> str:
    """A table a setting, in Markdown, the best mAP first; the best of a column in bold."""
    of = {(row["setting"], row["loss"], row["measure"]): row for row in summary}
    parts = []
    for setting in (setting for setting in SETTINGS if any(key[0] == setting for key in of)):
        names = {name for s, name, _ in of if s == setting}
        measures = [m for m in MEASURES if all((setting, name, m) in of for name in names)]
        best = {m: max(of[setting, name, m]["mean"] for name in names) for m in measures}
        head = ["loss", "mAP", f"against {RIVAL}"]
        head += [m.replace("_exact_match", ": exact").replace("_f1", ": F1") for m in measures[1:]]
        lines = [f"## {setting.capitalize()}", "", f"| {' | '.join(head)} |"]
        lines.append("| --- |" + " ---: |" * (len(head) - 1))
        for name in sorted(names, key=lambda name: -of[setting, name, "map"]["mean"]):
            cells = [f"`{name}`" + ("" if of[setting, name, "map"]["converged"] else "*")]
            for measure in measures:
                row = of[setting, name, measure]
                number = f"{100 * row['mean']:.1f}"
                number = f"**{number}**" if row["mean"] == best[measure] else number
                if measure == "map":
                    cells.append(number + (f" ± {100 * row['deviation']:.1f}" if row["seeds"] > 1 else ""))
                    span = ""
                    if verdict(row):
                        ends = (100 * row[end] for end in ("against_low", "against_high"))
                        span = f"{verdict(row)} ({' to '.join(f'{end:+.1f}' for end in ends)})"
                    cells.append(span)
                else:
                    cells.append(f"{number} {verdict(row)}".strip())
            lines.append(f"| {' | '.join(cells)} |")
        parts.append("\n".join(lines))
    note = (
        f"In %, means over up to {len(SEEDS)} seeds (±: their standard deviation). Beside each number its paired 95% "
        f"verdict against `{RIVAL}`: + above, - below, = not told apart. *: the solver stopped before its tolerance."
    )
    return "\n\n".join([note, *parts]) + "\n"


def spread(heights: NDArray[np.float64], gap: float) -> NDArray[np.float64]:
    """The heights nearest to `heights` (least squares) that keep their order and lie `gap` apart."""
    order = np.argsort(heights, kind="stable")
    steps = gap * np.arange(len(order))
    groups: list[tuple[float, int]] = []  # mean, size: isotonic regression by pooling neighbours
    for value in heights[order] - steps:
        groups.append((float(value), 1))
        while len(groups) > 1 and groups[-2][0] > groups[-1][0]:
            (b, m), (a, n) = groups.pop(), groups.pop()
            groups.append(((a * n + b * m) / (n + m), n + m))
    moved = np.empty(len(order))
    moved[order] = np.repeat([mean for mean, _ in groups], [size for _, size in groups]) + steps
    return moved


def picture(summary: list[Row], path: Path) -> None:
    """mAP against exact match on whole data, each loss a point with its 95% intervals, under two decisions.

    Names stand in a column beside the points, apart from each other, a thin line from each to its point.
    """
    of = {(row["loss"], row["measure"]): row for row in summary if row["setting"] == "whole"}
    names = list(dict.fromkeys(name for name, _ in of))
    figure, both = plt.subplots(1, 2, figsize=(13, 6.4), layout="constrained", sharex=True, sharey=True)
    for axes, decision in zip(both, ("threshold", "thresh_linear"), strict=True):
        points = []
        for name in names:
            x, y = of[name, "map"], of[name, f"{decision}_exact_match"]
            color = "#b3261e" if name == "lsep" else "#1f4e79" if name == RIVAL else "#555555"
            at, errors = (
                (100 * x["mean"], 100 * y["mean"]),
                [[[100 * abs(row["mean"] - row[end])] for end in ("low", "high")] for row in (y, x)],
            )
            axes.errorbar(*at, *errors, color=color, alpha=0.18, lw=1)
            axes.plot(*at, "o", color=color, ms=4.5)
            points.append((*at, name, color))
        low, high = axes.get_ylim()
        edge = max(100 * of[name, "map"]["high"] for name in names)
        beside = edge + 0.03 * (edge - axes.get_xlim()[0])
        for (x, y, name, color), height in zip(
            points, spread(np.array([p[1] for p in points]), (high - low) / 26), strict=True
        ):
            axes.plot([x, beside], [y, height], color=color, lw=0.5, alpha=0.35, zorder=1)
            axes.text(beside, height, f" {name}", fontsize=8.5, color=color, va="center", clip_on=False)
        axes.set(xlabel="test mAP, %", title=DECISIONS[decision])
        axes.set_xlim(right=beside + 0.3 * (edge - axes.get_xlim()[0]))
        axes.set_xticks([tick for tick in axes.get_xticks() if axes.get_xlim()[0] <= tick <= edge])
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    both[0].set_ylabel("test exact match, %")
    figure.savefig(path, dpi=130)
    plt.close(figure)


def kept(path: Path, asked: list[str]) -> list[Row]:
    """The rows that a CSV has of settings that are not asked for."""
    if not path.exists():
        return []
    with path.open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["setting"] not in asked]
    texts = {"setting", "loss", "measure", "weight_decay", "gradient_norm"}
    return [
        {k: v if k in texts else float(v) for k, v in row.items() if v != "" and k != "converged"}
        | {"converged": row["converged"] == "True"}
        for row in rows
    ]


def write(path: Path, rows: list[Row]) -> None:
    rows = sorted(rows, key=lambda row: list(SETTINGS).index(row["setting"]))
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(dict.fromkeys(key for row in rows for key in row)), restval="")
        writer.writeheader()
        for row in rows:
            writer.writerow({k: f"{v:.5g}" if isinstance(v, float) else v for k, v in row.items()})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("name", help="of the files it writes")
    parser.add_argument("features", type=Path, nargs="*")
    parser.add_argument("--settings", nargs="*", default=list(SETTINGS), choices=list(SETTINGS))
    parser.add_argument("--losses", nargs="*", default=list(NAMES), choices=list(NAMES))
    parser.add_argument("--search", action="store_true", help="choose weight decays that NAME.csv has anew")
    parser.add_argument(
        "--runs", type=Path, help="a folder that keeps finished runs, so that a killed call goes on"
    )
    parser.add_argument("--folder", type=Path, default=Path(__file__).parent)
    arguments = parser.parse_args()
    of_runs, of_losses = (arguments.folder / f"{arguments.name}{end}.csv" for end in ("", "_compared"))
    decays = {
        (row["setting"], row["loss"], int(row["seed"])): float(row["weight_decay"])
        for row in ([] if arguments.search else kept(of_runs, []))
    }
    made = arguments.runs or Path(tempfile.mkdtemp())
    for setting in arguments.settings:
        rows: list[Row] = []
        draws: dict[str, NDArray[np.float64]] = {}
        for row, drawn in runs(arguments.features, setting, arguments.losses, decays, made):
            rows.append(row)
            draws[row["loss"]] = draws.get(row["loss"], 0) + drawn
            if row["loss"] == arguments.losses[-1]:
                write(of_runs, rows + kept(of_runs, [setting]))
                means = {name: drawn / (row["seed"] + 1) for name, drawn in draws.items()}
                write(of_losses, compared(setting, rows, means) + kept(of_losses, [setting]))
    summary = kept(of_losses, [])
    summary += without_intervals(kept(of_runs, [row["setting"] for row in summary]))
    (arguments.folder / f"{arguments.name}.md").write_text(tables(summary))
    if any(row["setting"] == "whole" for row in summary):
        picture(summary, arguments.folder / f"{arguments.name}.png")


if __name__ == "__main__":
    main()
