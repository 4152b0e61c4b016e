"""Claims about the choices around LSEP and its label decision, on small digit scenes.

    python experiments/claims/decisions.py [--seeds 0 1 2] [--epochs 8] [--full]

- Section 3.2: explicit rank weights w(r) give LSEP no boost, as it weighs implicitly (loss.weighted).
- Section 3.3: training f first and then g "almost always" beats training them jointly (training=joint).
- Section 3.3: the learnt decisions are fitted on training features; against validation, and both.
- Section 3.4: n = 4 counts and hidden layers of 100 and 10 units; against other n and layers of the count head.
- Section 5.3: estimated thresholds "correlate with the task difficulty" (Figure 4). Spearman's correlation over test
  images of the mean threshold with the share of labels decided wrongly, and with the share of pairs that the scores
  order wrongly, which no threshold enters. LSEP leaves the scores of an image free up to a constant; so also after
  the image's mean score is subtracted, and among images of the same number of labels only (weighted by their number).
  Figure 4 itself, for each label and the images that have it: its threshold with the labels wrongly ranked above it.

Each difference is paired by seed, against LSEP with thresholds (or counts) fitted on training features.

Cost: five minutes on one core (--full: the default scenes and network, an hour). Networks are kept in outputs/store.
Writes decisions.csv, decisions_difficulty.csv and decisions.png.
"""

import argparse
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib.pyplot as plt
import numpy as np
from numpy.typing import NDArray
from results import FOLDER, mean_interval, read_table, save, write_table
from scipy.stats import spearmanr
from trainings import NETWORK, OUTPUT, SCENES, Row, record

from lsep_ml import fit_decision
from lsep_ml.decisions import CountEstimation, LearntDecision, ThresholdEstimation
from lsep_ml.metrics import count_label_sets, label_set_metrics
from lsep_ml.training.fitting import DecisionWarning

KEYS = ("f1", "exact_match")
HIDDEN = ((10,), (100,), (100, 10), (200, 100))
COUNTS = (1, 2, 3, 4, 6, 8)
PAPER = "thresholds, fitted on train"


class Arrays(NamedTuple):
    """What stage 2 sees of a split."""

    features: NDArray[np.float32]
    scores: NDArray[np.float32]
    targets: NDArray[np.uint8]


def splits(found: Row, output: Path) -> dict[str, Arrays]:
    """The arrays of a record's network, "train", "val", "test", and "both" of the first two."""
    stored = {kind: output / "store" / kind / found["stored"][kind] for kind in ("features", "scores")}
    arrays = {
        split: Arrays(
            np.load(stored["features"] / f"{split}_features.npy", allow_pickle=False),
            np.load(stored["scores"] / f"{split}_scores.npy", allow_pickle=False),
            np.load(stored["features"] / f"{split}_targets.npy", allow_pickle=False),
        )
        for split in ("train", "val", "test")
    }
    both = zip(arrays["train"], arrays["val"], strict=True)
    return arrays | {"both": Arrays(*(np.concatenate(pair) for pair in both))}


def fitted(decision: LearntDecision, arrays: Arrays, seed: int, epochs: int) -> LearntDecision:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DecisionWarning)  # a bad choice is part of the comparison
        return fit_decision(
            decision, arrays.scores, arrays.targets, arrays.features, seed=seed, epochs=epochs
        )


def tested(decision: LearntDecision, test: Arrays) -> dict[str, float]:
    predictions = decision.predict(test.scores, test.features).numpy()
    metrics = label_set_metrics(count_label_sets(predictions, test.targets))
    return {key: float(metrics[key]) for key in KEYS}


def of_seed(
    output: Path, seed: int, options: list[str], fit_epochs: int
) -> tuple[dict[str, dict[str, float]], Row]:
    """Every variant's test metrics, and the correlations of the thresholds, of one seed."""
    common = (*options, f"seed={seed}", "decision=thresh_est", f"fitting.epochs={fit_epochs}")
    found, folder = record(output, *common)
    results = {PAPER: found["metrics"]["test"]}
    for name, overrides in {
        "weighted LSEP": ["loss.weighted=true"],
        "joint training": ["training=joint"],
    }.items():
        results[name] = record(output, *overrides, *common)[0]["metrics"]["test"]
    arrays = splits(found, output)
    num_features, num_labels = arrays["train"].features.shape[1], arrays["train"].targets.shape[1]
    for split in ("val", "both"):
        head: LearntDecision = ThresholdEstimation(num_features, num_labels)
        results[f"thresholds, fitted on {split}"] = tested(
            fitted(head, arrays[split], seed, fit_epochs), arrays["test"]
        )
    for split in ("train", "val", "both"):
        head = CountEstimation(num_features, num_labels)
        results[f"counts, fitted on {split}"] = tested(
            fitted(head, arrays[split], seed, fit_epochs), arrays["test"]
        )
    choices = [(n, (100, 10)) for n in COUNTS if n != 4] + [
        (4, hidden) for hidden in HIDDEN if hidden != (100, 10)
    ]
    for n, hidden in choices:
        head = CountEstimation(num_features, num_labels, n, hidden)
        results[_count_name(n, hidden)] = tested(
            fitted(head, arrays["train"], seed, fit_epochs), arrays["test"]
        )
    results[_count_name(4, (100, 10))] = results["counts, fitted on train"]
    return results, difficulty(dict(np.load(folder / "predictions.npz", allow_pickle=False)))


def _count_name(n: int, hidden: Sequence[int]) -> str:
    return f"counts, n = {n}, hidden {' + '.join(map(str, hidden))}"


def difficulty(arrays: dict[str, NDArray[Any]]) -> Row:
    """Spearman's correlations of the estimated thresholds with what is hard, and errors by tenth of the threshold."""
    scores, thresholds, targets = arrays["scores"], arrays["thresholds"], arrays["targets"].astype(bool)
    wrong = (arrays["predictions"].astype(bool) != targets).mean(1)
    above = (scores[:, None, :] > scores[:, :, None]) & ~targets[
        :, None, :
    ]  # label 2, a negative, above label 1
    ranked_above = above.sum(2)
    has_pair = targets.any(1) & ~targets.all(1)
    pairs = targets.sum(1) * (~targets).sum(1)
    misranked = (ranked_above * targets).sum(1)[has_pair] / pairs[has_pair]
    raw = thresholds.mean(1)
    relative = raw - scores.mean(1)
    correlations = {
        "raw, labels wrong": _spearman(raw, wrong),
        "raw, pairs wrong": _spearman(raw[has_pair], misranked),
        "relative, labels wrong": _spearman(relative, wrong),
        "relative, pairs wrong": _spearman(relative[has_pair], misranked),
        "relative, labels wrong, same count": _within(relative, wrong, targets.sum(1)),
        "relative, pairs wrong, same count": _within(relative[has_pair], misranked, targets.sum(1)[has_pair]),
    }
    labels = np.broadcast_to(np.arange(targets.shape[1]), targets.shape)[targets]
    of_label = (thresholds - scores.mean(1, keepdims=True))[targets]
    correlations["label's own threshold, labels above it"] = _within(of_label, ranked_above[targets], labels)
    tenths = np.array_split(wrong[relative.argsort(kind="stable")], 10)
    return correlations | {f"tenth {number}": float(values.mean()) for number, values in enumerate(tenths, 1)}


def _spearman(a: NDArray[Any], b: NDArray[Any]) -> float:
    return float(spearmanr(a, b).statistic)


def _within(a: NDArray[Any], b: NDArray[Any], groups: NDArray[Any]) -> float:
    """The correlation within each group of at least 30, weighted by the group's size."""
    found = [
        (inside.sum(), _spearman(a[inside], b[inside]))
        for inside in (groups == group for group in np.unique(groups))
        if inside.sum() >= 30 and np.ptp(b[inside]) > 0
    ]
    return (
        float(np.average([value for _, value in found], weights=[size for size, _ in found]))
        if found
        else 0.0
    )


def baseline(name: str) -> str:
    """What a variant differs from in one thing."""
    return "counts, fitted on train" if name.startswith("counts") else PAPER


def summarise(results: list[dict[str, dict[str, float]]]) -> list[Row]:
    rows = []
    for name in results[0]:
        row: Row = {"variant": name, "against": baseline(name), "seeds": len(results)}
        for key in KEYS:
            values = [100 * of_seed[name][key] for of_seed in results]
            differences = [
                value - 100 * of_seed[baseline(name)][key]
                for value, of_seed in zip(values, results, strict=True)
            ]
            row[key], row[f"{key}_half"] = mean_interval(values)
            row[f"{key}_difference"], row[f"{key}_difference_half"] = mean_interval(differences)
        rows.append(row)
    return rows


def plot(folder: Path) -> None:
    rows, correlations = read_table(folder, "decisions"), read_table(folder, "decisions_difficulty")
    figure, (left, right) = plt.subplots(1, 2, figsize=(12, 5), layout="constrained", width_ratios=(3, 2))
    shown = [
        row
        for row in rows
        if row["variant"] != row["against"] and "n = 4, hidden 100 + 10" not in row["variant"]
    ]
    places = np.arange(len(shown))
    for key, shift, marker in (("f1", -0.15, "o"), ("exact_match", 0.15, "s")):
        means = [float(row[f"{key}_difference"]) for row in shown]
        halves = [float(row[f"{key}_difference_half"]) for row in shown]
        label = {"f1": "F1", "exact_match": "exact match"}[key]
        left.errorbar(means, places + shift, xerr=halves, fmt=marker, capsize=2, markersize=4, label=label)
    left.axvline(0, color="black", linewidth=0.8)
    left.set_yticks(places, [row["variant"] for row in shown])
    left.invert_yaxis()
    left.set(xlabel="difference in points, 95% interval", title="Against the paper's choice")
    left.legend(frameon=False)
    tenths = [row for row in correlations if row["what"].startswith("tenth")]
    right.errorbar(
        range(1, 11),
        [100 * float(row["mean"]) for row in tenths],
        [100 * float(row["half"]) for row in tenths],
        marker="o",
        capsize=3,
    )
    right.set(xlabel="tenth of the mean threshold above the mean score", ylabel="labels decided wrongly, %")
    right.set_title("Difficulty (Figure 4)")
    for axes in (left, right):
        axes.grid(alpha=0.3)
    save(folder, "decisions", figure)
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=8, help="of stage 1; with --full the default's")
    parser.add_argument("--fit-epochs", type=int, default=50, help="of stage 2")
    parser.add_argument(
        "--full", action="store_true", help="the default scenes and network instead of small ones"
    )
    parser.add_argument("--output", type=Path, default=OUTPUT, help="where networks are kept")
    parser.add_argument("--folder", type=Path, default=FOLDER)
    arguments = parser.parse_args()
    options = [] if arguments.full else [*SCENES, *NETWORK, f"training.epochs={arguments.epochs}"]
    results, correlations = [], []
    for seed in arguments.seeds:
        print(f"seed {seed}", flush=True)
        of_this, thresholds = of_seed(arguments.output, seed, options, arguments.fit_epochs)
        results.append(of_this)
        correlations.append(thresholds)
    rows = summarise(results)
    write_table(arguments.folder, "decisions", rows)
    difficulties = []
    for what in correlations[0]:
        mean, half = mean_interval([of_seed[what] for of_seed in correlations])
        difficulties.append({"what": what, "mean": mean, "half": half, "seeds": len(correlations)})
    write_table(arguments.folder, "decisions_difficulty", difficulties)
    for row in rows + difficulties:
        print("  ".join(f"{value:.3g}" if isinstance(value, float) else str(value) for value in row.values()))
    plot(arguments.folder)


if __name__ == "__main__":
    main()
