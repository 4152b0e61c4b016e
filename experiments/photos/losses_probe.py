"""Every loss on the same frozen features, each at its own optimum: a score layer solved for, its weight decay chosen.

    python experiments/photos/losses_probe.py FEATURES.npz

FEATURES.npz holds train_features (N, D), train_targets 0/1 (N, K), and the same for val and test. For each loss the
layer minimises loss + w |W|^2 by L-BFGS; w is climbed to by factors of the root of 10 while validation mAP rises.
Decisions are fitted on validation, but for threshold estimation, which the paper fits on training; test only reports.
Three settings: the data as they are, with all four decisions; half of the training positives hidden, so that they stand
among the negatives; and a long tail, training images left out until the rarest label has a handful. What is drawn is
drawn by three seeds.

Writes beside this file losses_probe.csv (every run's own metrics), losses_probe.md (the table) and losses_probe.png;
what the CSV has of settings that are not asked for is kept.
"""

import argparse
import csv
import math
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
}
"""Share of the positives that is hidden, and whether training images are left out until there is a long tail."""
SEEDS = (0, 1, 2)
STEP = math.sqrt(10)
START = {"bpmll": 1.0, "soft_f1": 1e-4}
"""Where the climb begins, of losses on another scale than the rest."""
RAREST = 1 / 400
REPLICATES = 1000
RIVAL = "bce"


class Split(NamedTuple):
    """features float32 (N, D), targets 0/1 (N, K)."""

    features: Tensor
    targets: Tensor


DECISIONS = ("threshold", "per_class", "thresh_est", "thresh_linear")


class Solved(NamedTuple):
    """A score layer's scores on the splits, and how it was reached."""

    train: Tensor
    val: Tensor
    test: Tensor
    facts: dict[str, Any]


def read(path: Path) -> dict[str, Split]:
    """The splits, their features centred and divided by one number, as training has them."""
    with np.load(path, allow_pickle=False) as arrays:
        raw = {
            name: (torch.from_numpy(arrays[f"{name}_features"]).float(), arrays[f"{name}_targets"])
            for name in ("train", "val", "test")
        }
    centre = raw["train"][0].mean(0)
    scale = (raw["train"][0] - centre).square().mean().sqrt()
    return {name: Split((x - centre) / scale, torch.from_numpy(y)) for name, (x, y) in raw.items()}


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


def solved(name: str, train: Split, val: Split, test: Split) -> Solved:
    """The score layer at the weight decay of the highest validation mAP."""
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


def measured(solution: Solved, test: Split, sets_of: dict[str, Tensor]) -> dict[str, Any]:
    """Test metrics of the scores, and of the label sets of each decision."""
    row = {f"test_{key}": value for key, value in ranking_metrics(solution.test, test.targets).items()}
    for name, sets in sets_of.items():
        values = label_set_metrics(count_label_sets(sets, test.targets))
        row |= {f"test_{name}_{key}": float(value) for key, value in values.items()}
    return row


def resampled(
    solution: Solved, test: Split, sets_of: dict[str, Tensor], weights: NDArray[Any]
) -> NDArray[np.float64]:
    """mAP, and exact match under each decision, on resampled test images, (1 + decisions, R)."""
    scores, targets = solution.test.numpy(), test.targets.numpy()
    total = np.zeros(len(weights))
    for f, y in zip(scores.T, targets.T, strict=True):
        order = np.argsort(-f, kind="stable")
        drawn = weights[:, order]
        found = drawn * y[order]
        precision = found.cumsum(1) / np.maximum(drawn.cumsum(1), 1)
        total += (found * precision).sum(1) / np.maximum(found.sum(1), 1)
    exact = [(sets.numpy() == (targets != 0)).all(1) for sets in sets_of.values()]
    return np.stack([total / targets.shape[1], *(weights @ right / weights.sum(1) for right in exact)])


def runs(
    data: dict[str, Split], settings: list[str], names: list[str]
) -> Iterator[tuple[dict[str, Any], Solved, dict[str, Tensor]]]:
    """Every run's row, its scores, and its label sets by decision."""
    for setting in settings:
        hidden, tail = SETTINGS[setting]
        for seed in SEEDS if hidden or tail else SEEDS[:1]:
            train = changed(data["train"], hidden, tail, seed)
            for name in names:
                start = time.process_time()
                solution = solved(name, train, data["val"], data["test"])
                seconds = time.process_time() - start
                row = {"setting": setting, "seed": seed, "loss": name, "train_images": len(train.targets)}
                row |= {"rarest": int(train.targets.sum(0).min()), **solution.facts}
                decisions = DECISIONS if setting == "whole" else DECISIONS[:2]
                splits = train, data["val"], data["test"]
                sets_of = {of: label_sets(of, solution, *splits) for of in decisions}
                row |= measured(solution, data["test"], sets_of)
                row["cpu_seconds"] = round(seconds, 2)
                print(
                    f"{setting:24s}{seed}  {name:22s}w {row['weight_decay']:>8s}  {row['iterations']:4d} "
                    f"{'' if row['converged'] else '!'}  mAP {100 * row['test_map']:.1f}  {seconds:.1f} s",
                    flush=True,
                )
                yield row, solution, sets_of


def spread(values: list[float]) -> str:
    mean = 100 * float(np.mean(values))
    return f"{mean:.1f}" if len(values) == 1 else f"{mean:.1f} ± {100 * float(np.std(values, ddof=1)):.1f}"


def verdict(low: float, high: float) -> str:
    return "above" if low > 0 else "below" if high < 0 else "="


def table(rows: list[dict[str, Any]], draws: dict[str, NDArray[np.float64]]) -> str:
    """The table, in Markdown, the best mAP on whole data first."""
    of = {(row["setting"], row["loss"], row["seed"]): row for row in rows}
    settings = [setting for setting in SETTINGS if any(row["setting"] == setting for row in rows)]

    def cell(setting: str, name: str, key: str) -> str:
        return spread([row[key] for (s, n, _), row in of.items() if (s, n) == (setting, name)])

    others = [setting for setting in settings if setting != "whole"]
    head = ["loss", "w", "mAP", f"against {RIVAL}", "exact match", f"against {RIVAL}", "F1 (per_class)"]
    head += [f"F1, exact match ({decision})" for decision in DECISIONS[2:]]
    head += [f"{key}: {setting}" for setting in others for key in ("mAP", "F1")]
    lines = [f"| {' | '.join(head)} |", "| --- |" + " ---: |" * (len(head) - 1)]
    names = [name for setting, name, _ in of if setting == "whole"]
    for name in sorted(names, key=lambda name: -of["whole", name, 0]["test_map"]):
        row = of["whole", name, 0]
        against = [percentiles(d) for d in (draws[name] - draws[RIVAL])[:2]]
        told = [
            "" if name == RIVAL else f"{verdict(*a)} ({100 * a[0]:+.1f} to {100 * a[1]:+.1f})"
            for a in against
        ]
        mark = "" if row["converged"] else "*"
        cells = [f"`{name}`{mark}", row["weight_decay"], spread([row["test_map"]]), told[0]]
        cells += [spread([row["test_threshold_exact_match"]]), told[1], spread([row["test_per_class_f1"]])]
        for decision in DECISIONS[2:]:
            pair = (spread([row[f"test_{decision}_{key}"]]) for key in ("f1", "exact_match"))
            cells.append(", ".join(pair))
        for setting in others:
            cells += [cell(setting, name, "test_map"), cell(setting, name, "test_per_class_f1")]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def picture(rows: list[dict[str, Any]], draws: dict[str, NDArray[np.float64]], path: Path) -> None:
    """mAP against exact match on whole data, each loss a point with its 95% intervals, under two decisions."""
    figure, both = plt.subplots(1, 2, figsize=(12, 5.6), layout="constrained", sharex=True, sharey=True)
    titles = {"threshold": "one threshold", "thresh_linear": "thresholds linear in the features"}
    for axes, (of, title) in zip(both, titles.items(), strict=True):
        for row in rows:
            if row["setting"] != "whole":
                continue
            name, x, y = row["loss"], 100 * row["test_map"], 100 * row[f"test_{of}_exact_match"]
            drawn = draws[name]
            (left, right), (low, high) = (100 * percentiles(drawn[at]) for at in (0, 1 + DECISIONS.index(of)))
            color = "#b3261e" if name == "lsep" else "#1f4e79" if name == RIVAL else "#666666"
            errors = [[y - low], [high - y]], [[x - left], [right - x]]
            axes.errorbar(x, y, *errors, color=color, alpha=0.2, lw=1)
            axes.plot(x, y, "o", color=color, ms=4)
            axes.annotate(name, (x, y), (4, 3), textcoords="offset points", fontsize=8, color=color)
        axes.set(xlabel="test mAP, %", title=title)
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    both[0].set_ylabel("test exact match, %")
    figure.savefig(path, dpi=150)
    plt.close(figure)


def kept(path: Path, asked: list[str]) -> list[dict[str, Any]]:
    """The rows that a CSV has of settings that are not asked for."""
    if not path.exists():
        return []
    with path.open(newline="") as file:
        rows = [
            row for row in csv.DictReader(file) if row["setting"] in SETTINGS and row["setting"] not in asked
        ]
    texts = {"setting", "loss", "weight_decay", "converged", "gradient_norm"}
    return [
        {key: value if key in texts else float(value) for key, value in row.items() if value != ""}
        | {"seed": int(row["seed"]), "converged": row["converged"] == "True"}
        for row in rows
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("features", type=Path)
    parser.add_argument("--settings", nargs="*", default=list(SETTINGS), choices=list(SETTINGS))
    parser.add_argument("--losses", nargs="*", default=list(NAMES), choices=list(NAMES))
    parser.add_argument("--folder", type=Path, default=Path(__file__).parent)
    arguments = parser.parse_args()
    data = read(arguments.features)
    weights = np.concatenate(
        [block.astype(np.float64) for block in replicate_weights(len(data["test"].targets), REPLICATES, 0)]
    )
    rows: list[dict[str, Any]] = []
    draws: dict[str, NDArray[np.float64]] = {}
    rows += kept(arguments.folder / "losses_probe.csv", arguments.settings)
    for row, solution, sets_of in runs(data, arguments.settings, arguments.losses):
        rows.append(row)
        if row["setting"] == "whole":
            draws[row["loss"]] = resampled(solution, data["test"], sets_of, weights)
    rows.sort(key=lambda row: list(SETTINGS).index(row["setting"]))
    with (arguments.folder / "losses_probe.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, max(rows, key=len), restval="")
        writer.writeheader()
        writer.writerows(rows)
    if not draws:  # the table and the picture compare on whole data
        return
    (arguments.folder / "losses_probe.md").write_text(table(rows, draws))
    picture(rows, draws, arguments.folder / "losses_probe.png")


if __name__ == "__main__":
    main()
