"""What the search of thresholds costs, and what the guard of per-class thresholds brings.

    python experiments/benchmarks/decisions.py
    python experiments/benchmarks/decisions.py --val 200 --run outputs/runs/digits/RUN

First, exact searches on 50,000 x 81 scores on one core: every distinct cut-off for macro F1, against a Python loop over
the cut-offs (200 of them timed, the rest extrapolated), and every cut-off of every class, against scikit-learn's
precision_recall_curve class by class. Then PerClassThreshold with and without its guard on small validation splits:
F1 on validation, on test, and the gap between them. With --run the second part takes small samples of that run's
validation split and its test split; else, as in the first, scores are simulated: label k is on in a share of the images
that falls from 20% to 0.2%, and its score is normal with a mean that is higher where it is on and differs from label to
label.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from sklearn.metrics import precision_recall_curve

from lsep_ml import fit_decision
from lsep_ml.decisions import GlobalThreshold, PerClassThreshold
from lsep_ml.metrics.functional import count_label_sets, label_set_metrics

LABELS, TIMED = 81, 200
Scores = NDArray[np.float32]
Targets = NDArray[np.uint8]
Split = tuple[Scores, Targets]


def draw(num_rows: int, seed: int) -> Split:
    """Scores (N, 81) and targets with frequent and rare labels."""
    rng = np.random.default_rng(seed)
    shares = np.geomspace(0.2, 0.002, LABELS)
    targets = (rng.random((num_rows, LABELS)) < shares).astype(np.uint8)
    # The level of a label's scores differs from label to label, so that one threshold for all is not the best.
    levels = np.random.default_rng(0).normal(scale=0.5, size=LABELS)
    scores = rng.normal(size=targets.shape) + 2 * targets + levels
    return scores.astype(np.float32), targets


def f1(scores: Scores, targets: Targets, thresholds: Any) -> float:
    return float(label_set_metrics(count_label_sets(scores > thresholds, targets))["f1"])


def seconds(work: Callable[[], Any], repeats: int = 1) -> float:
    """The median of the times that `work` takes, as this process's own time: other programs disturb little."""
    times = []
    for _ in range(repeats):
        started = time.process_time()
        work()
        times.append(time.process_time() - started)
    return statistics.median(times)


def loop(scores: Scores, targets: Targets) -> float:
    """Seconds of a loop over all distinct cut-offs, from TIMED of them."""
    cutoffs = np.unique(scores)
    some = cutoffs[np.linspace(0, len(cutoffs) - 1, TIMED).astype(int)]
    return seconds(lambda: max(f1(scores, targets, cutoff) for cutoff in some)) * len(cutoffs) / TIMED


def sklearn_class_by_class(scores: Scores, targets: Targets) -> list[float]:
    """Each label's threshold of highest F1."""
    found = []
    for label in range(LABELS):
        precision, recall, cutoffs = precision_recall_curve(targets[:, label], scores[:, label])
        total = precision + recall
        values = np.divide(2 * precision * recall, total, out=np.zeros_like(total), where=total > 0)
        found.append(float(cutoffs[values[:-1].argmax()]))
    return found


def searches(num_rows: int) -> Table:
    """Seconds of each search."""
    scores, targets = draw(num_rows, seed=0)
    own = {
        "one threshold, every cut-off (macro F1)": lambda: fit_decision(
            GlobalThreshold(search="exact"), scores, targets
        ),
        "one threshold, the paper's 50 cut-offs": lambda: fit_decision(GlobalThreshold(), scores, targets),
        "81 thresholds, every cut-off": lambda: fit_decision(PerClassThreshold(guard=False), scores, targets),
        "81 thresholds, guarded (5 folds more)": lambda: fit_decision(PerClassThreshold(), scores, targets),
    }
    table = Table("search", "seconds", title=f"{num_rows:,} x {LABELS} scores, one core")
    for name, work in own.items():
        table.add_row(name, f"{seconds(work, 5):.2f}")
    cutoffs = len(np.unique(scores))
    table.add_row(f"Python loop over {cutoffs:,} cut-offs ({TIMED} timed)", f"{loop(scores, targets):,.0f}")
    sklearn = seconds(lambda: sklearn_class_by_class(scores, targets), 5)
    table.add_row("scikit-learn's precision_recall_curve, class by class", f"{sklearn:.2f}")
    return table


def small_splits(num_rows: int, seed: int, run: Path | None) -> tuple[Split, Split]:
    """A small validation split, and a test split: drawn anew, or from a run's."""
    if run is None:
        return draw(num_rows, seed=2 * seed + 1), draw(20_000, seed=2 * seed + 2)
    val, test = (np.load(run / f"{name}.npz", allow_pickle=False) for name in ("validation", "predictions"))
    rows = np.random.default_rng(seed).permutation(len(val["scores"]))[:num_rows]
    return (val["scores"][rows], val["targets"][rows]), (test["scores"], test["targets"])


def guard(num_rows: int, seeds: int, run: Path | None) -> Table:
    """F1 on a small validation split and on test, mean over seeds."""
    rules = {
        "one threshold": GlobalThreshold(search="exact"),
        "per class, no guard": PerClassThreshold(guard=False),
        "per class, guarded": PerClassThreshold(),
    }
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in rules}
    for seed in range(seeds):
        val, test = small_splits(num_rows, seed, run)
        for name, rule in rules.items():
            theta = fit_decision(rule, *val).theta.numpy()
            found[name].append((f1(*val, theta), f1(*test, theta)))
    title = f"{run.name if run else 'simulated'}: {num_rows} validation images, {seeds} seeds, F1 in %"
    table = Table("decision", "validation", "test", "gap", title=title)
    for name, pairs in found.items():
        columns = [
            [100 * v for v, _ in pairs],
            [100 * t for _, t in pairs],
            [100 * (v - t) for v, t in pairs],
        ]
        table.add_row(
            name, *(f"{statistics.mean(column):.1f} ± {statistics.stdev(column):.1f}" for column in columns)
        )
    return table


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=50_000, help="of the searches; 0 leaves them out")
    parser.add_argument("--val", type=int, default=500, help="images of the small validation split")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--run", type=Path, help="a run's folder, whose scores the second part takes")
    options = parser.parse_args()
    torch.set_num_threads(1)
    console = Console(width=110)
    if options.rows:
        console.print(searches(options.rows))
    console.print(guard(options.val, options.seeds, options.run))


if __name__ == "__main__":
    main()
