"""Every loss on the same frozen features, each at its own optimum: a score layer solved for, its weight decay chosen.

    python experiments/losses_probe/losses_probe.py NAME FEATURES.npz...

A FEATURES.npz holds train_features (N, D), train_targets 0/1 (N, K), and the same for val and test; test_images, ids,
where the test images of several files overlap. Several files are a seed each; with one file a seed draws what is hidden
and left out, so that the data as they are have one seed. For each loss the layer is solved for as `training=probe` does
it: loss + w |W|^2 on standardised features at its minimum, w chosen on validation mAP. Rules and linear thresholds are
fitted on validation, threshold estimation on training, as in the paper; test only reports. Four settings: the data as
they are; half of the training positives hidden, so that they stand among the negatives; a long tail, training images
left out until the rarest label has a handful; both.

Writes beside this file NAME.csv (every run's own metrics, after every run), NAME_compared.csv (means over the seeds,
their 95% intervals and those of the paired differences from bce, by resampled test images), NAME.md (the tables) and
NAME.png, after every setting. With --runs a finished run is never made again, and all that are there are compared. What
the CSVs have of settings that were not run stays. Without features, tables and picture are made anew from them.
"""

import argparse
import csv
import json
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lsep_ml import fit_decision, losses
from lsep_ml.data import DataSet, Split
from lsep_ml.data.withheld import Withheld
from lsep_ml.decisions import GlobalThreshold, LinearThresholds, PerClassThreshold, ThresholdEstimation
from lsep_ml.files import atomic_write
from lsep_ml.metrics import count_label_sets, label_set_metrics, ranking_metrics
from lsep_ml.metrics.bootstrap import percentiles, replicate_weights
from lsep_ml.training.kept import Kept
from lsep_ml.training.path import DecayPath, Solving

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
RAREST = 1 / 400
SETTINGS = {
    "whole": Withheld(),
    "half hidden": Withheld(drop_labels=0.5, dropped_as="negative"),
    "long tail": Withheld(long_tail=RAREST),
    "long tail, half hidden": Withheld(drop_labels=0.5, dropped_as="negative", long_tail=RAREST),
}
"""What is withheld from training; validation and test stay whole."""
SEEDS = (0, 1, 2)
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


class Data(NamedTuple):
    """The splits of one seed, and the weights (R, test images) by which its test images are resampled."""

    splits: DataSet
    weights: NDArray[np.float64]


class Solved(NamedTuple):
    """A score layer's scores (N, K) on the splits, and how it was reached."""

    train: Tensor
    val: Tensor
    test: Tensor
    facts: dict[str, Any]


def read(paths: list[Path]) -> list[Data]:
    """The data of each file. A test image that is in several has the same weights in all."""
    read = []
    for at, path in enumerate(paths):
        with np.load(path, allow_pickle=False) as arrays:
            splits = {}
            for name in ("train", "val", "test"):
                features, targets = torch.from_numpy(arrays[f"{name}_features"]), arrays[f"{name}_targets"]
                numbers = [f"{at}/{name}/{row}" for row in range(len(targets))]
                ids = arrays[f"{name}_images"] if f"{name}_images" in arrays else np.array(numbers)
                splits[name] = Split(features, targets.astype(np.uint8), None, ids)
        labels = tuple(f"label {k}" for k in range(splits["train"].targets.shape[1]))
        read.append(DataSet("losses_probe", labels, **splits))
    images = np.unique(np.concatenate([data.test.image_ids for data in read]))
    weights = np.concatenate(list(replicate_weights(len(images), REPLICATES, 0))).astype(np.float64)
    return [Data(data, weights[:, np.searchsorted(images, data.test.image_ids)]) for data in read]


def loss_of(name: str, targets: NDArray[np.uint8]) -> Callable[..., Tensor]:
    function = partial(getattr(losses, f"{name.split()[0]}_loss"), **OPTIONS.get(name, {}))
    return losses.with_class_counts(function, lambda: losses.ClassCounts.of(torch.from_numpy(targets)))


def solved(name: str, data: DataSet) -> Solved:
    """The score layer at the weight decay of the highest validation mAP."""
    loss = loss_of(name, np.asarray(data.train.targets))
    solving = Solving(loss, name, None, 1e-6, 5, 0, torch.device("cpu"))
    with tempfile.TemporaryDirectory() as folder:
        path = DecayPath(solving, data, Kept(Path(folder)), lambda row: None)
        layer, facts = path.end(path.search())
    raw = path.features.train.standardisation.raw(layer)
    scores = [
        torch.addmm(raw.bias, split.images, raw.weight.T) for split in (data.train, data.val, data.test)
    ]
    told = {key: facts[key] for key in ("convex", "converged", "gradient_norm")}
    iterations = facts["iterations"] + sum(row["iterations"] for row in path.rows)
    told |= {"weight_decay": facts["weight_decay"], "iterations": iterations}
    return Solved(*scores, told | {"val_map": facts["validation"]["map"]})


def label_sets(name: str, solution: Solved, data: DataSet) -> Tensor:
    """The test label sets of a decision by its name, bool (N, K)."""
    train, val, test = data.train, data.val, data.test
    sizes = test.images.shape[1], test.targets.shape[1]
    if name == "thresh_est":
        fitted = fit_decision(ThresholdEstimation(*sizes), solution.train, train.targets, train.images)
    elif name == "thresh_linear":
        fitted = fit_decision(LinearThresholds(*sizes), solution.val, val.targets, val.images)
    else:
        rule = GlobalThreshold() if name == "threshold" else PerClassThreshold()
        return rule.fit(solution.val, val.targets).predict(solution.test)
    return fitted.predict(solution.test, test.images)


def measured(solution: Solved, test: Split, sets_of: dict[str, Tensor]) -> Row:
    """Test metrics of the scores, and of the label sets of each decision."""
    row = {f"test_{key}": float(value) for key, value in ranking_metrics(solution.test, test.targets).items()}
    for name, sets in sets_of.items():
        values = label_set_metrics(count_label_sets(sets, test.targets))
        row |= {f"test_{name}_{key}": float(value) for key, value in values.items()}
    return row


def resampled(data: Data, solution: Solved, sets_of: dict[str, Tensor]) -> NDArray[np.float64]:
    """MEASURES on resampled test images, (measures, R)."""
    scores, targets, weights = solution.test.numpy(), np.asarray(data.splits.test.targets) != 0, data.weights
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


def file_of(folder: Path, setting: str, seed: int, name: str) -> Path:
    return folder / f"{setting} {seed} {name}.npz"


def measure(data: list[Data], setting: str, names: list[str], folder: Path) -> Iterator[None]:
    """Make every run that `folder` lacks, and keep it there: its row and its MEASURES on resampled test images."""
    withheld = SETTINGS[setting]
    for seed in SEEDS if withheld != Withheld() or len(data) > 1 else SEEDS[:1]:
        whole = data[seed if len(data) > 1 else 0]
        splits = replace(whole.splits, train=withheld.of(whole.splits, seed).train)
        for name in names:
            made = file_of(folder, setting, seed, name)
            if made.exists():
                continue
            start = time.process_time()
            solution = solved(name, splits)
            solving = time.process_time() - start
            sets_of = {of: label_sets(of, solution, splits) for of in DECISIONS}
            targets = np.asarray(splits.train.targets)
            row = {"setting": setting, "seed": seed, "loss": name, "train_images": len(targets)}
            row |= {"rarest": int(targets.sum(0).min()), **solution.facts}
            row |= measured(solution, splits.test, sets_of)
            drawn = resampled(whole, solution, sets_of)
            row |= {"solve_seconds": solving, "all_seconds": time.process_time() - start}
            print(
                f"{setting:24s}{seed}  {name:22s}w {row['weight_decay']:8.3g}  {row['iterations']:4d} "
                f"{' ' if row['converged'] else '!'}  mAP {100 * row['test_map']:.1f}  "
                f"{solving:.1f} s, {row['all_seconds']:.1f} s",
                flush=True,
            )
            with atomic_write(made, "wb") as file:
                np.savez(file, row=np.array(json.dumps(row)), draws=drawn)
            yield


def finished(folder: Path) -> list[tuple[Row, NDArray[np.float64]]]:
    """Every run that `folder` has, and its MEASURES on resampled test images."""
    found = []
    for setting in SETTINGS:
        for seed in SEEDS:
            for made in (file_of(folder, setting, seed, name) for name in NAMES):
                if made.exists():
                    with np.load(made, allow_pickle=False) as arrays:
                        found.append((json.loads(str(arrays["row"])), arrays["draws"]))
    return found


def compared(runs: list[tuple[Row, NDArray[np.float64]]]) -> list[Row]:
    """Means over the seeds with their intervals, and the interval of the difference from the rival.

    Of losses that have all seeds that the rival has.
    """
    of: dict[tuple[str, str], list[tuple[Row, NDArray[np.float64]]]] = {}
    for row, drawn in runs:
        of.setdefault((row["setting"], row["loss"]), []).append((row, drawn))
    means = {key: np.mean([drawn for _, drawn in made], axis=0) for key, made in of.items()}
    summary = []
    for (setting, name), made in of.items():
        if len(made) != len(of.get((setting, RIVAL), [])):
            continue
        drawn, rival = means[setting, name], means[setting, RIVAL]
        for at, measure in enumerate(MEASURES):
            values = [row[f"test_{measure}"] for row, _ in made]
            row = {"setting": setting, "loss": name, "measure": measure, "mean": np.mean(values)}
            row["deviation"] = np.std(values, ddof=1) if len(values) > 1 else 0.0
            row |= {"seeds": len(values), "converged": all(row["converged"] for row, _ in made)}
            row["low"], row["high"] = percentiles(drawn[at])
            row["against_low"], row["against_high"] = percentiles(drawn[at] - rival[at])
            summary.append(row)
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


def rows_in(path: Path) -> list[Row]:
    """The rows of a CSV that `write` wrote; none where there is no file."""
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return [
            {key: _value(key, text) for key, text in row.items() if text != ""}
            for row in csv.DictReader(file)
        ]


def _value(key: str, text: str) -> Any:
    if key in ("setting", "loss", "measure"):
        return text
    return text == "True" if key in ("converged", "convex") else float(text)


def write(path: Path, made: list[Row]) -> None:
    """Write the rows, and those that the file has of other settings."""
    settings = {row["setting"] for row in made}
    rows = made + [row for row in rows_in(path) if row["setting"] not in settings]
    rows.sort(key=lambda row: list(SETTINGS).index(row["setting"]))
    with atomic_write(path) as file:
        columns = dict.fromkeys(key for row in rows for key in row)
        writer = csv.DictWriter(file, list(columns), restval="", lineterminator="\n")
        writer.writeheader()
        for row in rows:
            writer.writerow({k: f"{v:.5g}" if isinstance(v, float) else v for k, v in row.items()})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("name", help="of the files it writes")
    parser.add_argument("features", type=Path, nargs="*")
    parser.add_argument("--settings", nargs="*", default=list(SETTINGS), choices=list(SETTINGS))
    parser.add_argument("--losses", nargs="*", default=list(NAMES), choices=list(NAMES))
    parser.add_argument(
        "--runs", type=Path, help="a folder that keeps finished runs, so that a killed call goes on"
    )
    parser.add_argument("--folder", type=Path, default=Path(__file__).parent)
    arguments = parser.parse_args()
    of_runs, of_losses = (arguments.folder / f"{arguments.name}{end}.csv" for end in ("", "_compared"))
    folder = arguments.runs or Path(tempfile.mkdtemp())
    folder.mkdir(parents=True, exist_ok=True)

    def shown() -> None:
        summary = rows_in(of_losses)
        (arguments.folder / f"{arguments.name}.md").write_text(tables(summary))
        if any(row["setting"] == "whole" for row in summary):
            picture(summary, arguments.folder / f"{arguments.name}.png")

    if not arguments.features:
        shown()
        return
    data = read(arguments.features)
    for setting in arguments.settings:
        for _ in measure(data, setting, arguments.losses, folder):
            write(of_runs, [row for row, _ in finished(folder)])
        write(of_runs, [row for row, _ in finished(folder)])
        write(of_losses, compared(finished(folder)))
        shown()


if __name__ == "__main__":
    main()
