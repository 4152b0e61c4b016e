"""Seven losses on frozen features of photographs, each at its optimum and by SGD, and what two-way ranking is made of.

    python experiments/photos/losses.py FEATURES.npz [--splits 3]

FEATURES.npz has the arrays train_features (N, D) and train_targets (N, K), and the same of val and test. Split 0 is
that of the file; in the others all images are divided anew in its sizes, label-stratified. Beside this file it leaves
losses.csv, a row for each split and method, and losses_differences.csv: the two-way loss minus another, in points of %,
with paired 95% bootstrap intervals over the test images of each split. Nothing of test chooses anything.
"""

import argparse
import csv
import tempfile
import time
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from iterstrat.ml_stratifiers import MultilabelStratifiedShuffleSplit

from lsep_ml import losses
from lsep_ml.data import Split
from lsep_ml.decisions import GlobalThreshold
from lsep_ml.files import atomic_write
from lsep_ml.metrics import count_label_sets, label_set_metrics
from lsep_ml.metrics.functional import ranking_metrics
from lsep_ml.training.kept import Kept
from lsep_ml.training.linear_scores import ProbeFeatures
from lsep_ml.training.path import DecayPath, Solving
from lsep_ml.training.recipe import Loss

FOLDER = Path(__file__).parent
SEVEN = ("lsep", "bce", "two_way", "softmax", "bpmll", "ranking", "warp")
PARTS: dict[str, Loss] = {
    "lsep": losses.lsep_loss,
    "lsep, T = 4": partial(losses.lsep_loss, temperature=4.0),
    "two_way, T = 1": partial(losses.two_way_loss, temperature=1.0),
    "two_way": losses.two_way_loss,
}
"""Rows alone and rows with columns, at T = 1 and at T = 4."""

Scores = dict[str, np.ndarray]
Found = tuple[np.ndarray, np.ndarray]
METRICS = ("map", "lrap", "f1", "exact_match")
REPLICATES = 200


def splits_of(file: Path, number: int) -> dict[str, Split]:
    """Split 0 is the file's, others divide all images anew."""
    with np.load(file, allow_pickle=False) as arrays:
        parts = {
            name: (arrays[f"{name}_features"], arrays[f"{name}_targets"].astype(np.uint8))
            for name in ("train", "val", "test")
        }
    if number:
        features, targets = (np.concatenate([part[i] for part in parts.values()]) for i in (0, 1))
        rest = np.arange(len(targets))
        rows = {}
        for name in ("test", "val"):
            size = len(parts[name][1])
            splitter = MultilabelStratifiedShuffleSplit(1, test_size=size, random_state=number)
            kept, taken = next(splitter.split(rest, targets[rest]))
            rows[name], rest = rest[np.sort(taken)], rest[np.sort(kept)]
        rows["train"] = rest
        parts = {name: (features[rows[name]], targets[rows[name]]) for name in parts}
    return {
        name: Split(torch.from_numpy(features), targets, None, np.arange(len(targets)).astype(str))
        for name, (features, targets) in parts.items()
    }


def solved(
    loss: Loss, parts: dict[str, Split], features: ProbeFeatures, folds: bool
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The scores of val and test by the solver, and what it says of itself; with its out-of-fold scores if `folds`."""
    started = time.process_time()
    solving = Solving(loss, "loss", None, 1e-6, 5, 0, torch.device("cpu"))
    with tempfile.TemporaryDirectory() as folder:
        data: Any = SimpleNamespace(**parts)
        path = DecayPath(solving, data, Kept(Path(folder)), lambda row: None, features)
        decay = path.search()
        layer, facts = path.end(decay)
        if folds:
            path.out_of_fold(decay, layer)
    raw = features.train.standardisation.raw(layer)
    scores = {name: (parts[name].images @ raw.weight.T + raw.bias).numpy() for name in ("val", "test")}
    told = {key: facts[key] for key in ("weight_decay", "gradient_norm", "converged", "convex")}
    return scores, {**told, "cpu_seconds": round(time.process_time() - started, 1)}


def trained(
    loss: Loss, parts: dict[str, Split], clip: float | None
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """As `training=probe solver=sgd` at its defaults: 10 epochs, batches of 32, cosine from 0.01, the best epoch."""
    started = time.process_time()
    torch.manual_seed(0)
    train = parts["train"]
    layer = torch.nn.Linear(train.images.shape[1], train.targets.shape[1])
    steps = 10 * -(-len(train) // 32)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-5)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    targets, best = torch.from_numpy(train.targets), (-1.0, {})
    for _ in range(10):
        for rows in torch.randperm(len(train)).split(32):
            optimizer.zero_grad()
            loss(layer(train.images[rows]), targets[rows]).backward()
            if clip is not None:
                torch.nn.utils.clip_grad_norm_(layer.parameters(), clip)
            optimizer.step()
            schedule.step()
        with torch.no_grad():
            scores = {name: layer(parts[name].images).numpy() for name in ("val", "test")}
        found = ranking_metrics(scores["val"], parts["val"].targets, None)["map"]
        best = max(best, (float(found), scores), key=lambda pair: pair[0])
    return best[1], {"cpu_seconds": round(time.process_time() - started, 1)}


def measured(scores: np.ndarray, predictions: np.ndarray, targets: np.ndarray) -> dict[str, float]:
    ranking = ranking_metrics(scores, targets, None)
    sets = label_set_metrics(count_label_sets(predictions, targets, None))
    return {key: float({**ranking, **sets}[key]) for key in METRICS}


def label_sets(scores: dict[str, np.ndarray], parts: dict[str, Split]) -> np.ndarray:
    """Of test under one threshold, that of the best F1 on val."""
    rule = GlobalThreshold().fit(torch.from_numpy(scores["val"]), torch.from_numpy(parts["val"].targets))
    return rule.predict(torch.from_numpy(scores["test"])).numpy().astype(np.uint8)


def differences(
    number: int, found: dict[str, tuple[np.ndarray, np.ndarray]], targets: np.ndarray
) -> list[dict[str, Any]]:
    """The two-way loss minus LSEP and BCE, and its parts minus LSEP, on the same bootstrap samples."""
    draws = np.random.default_rng(0).integers(0, len(targets), (REPLICATES, len(targets)))
    values = {
        name: [measured(scores[rows], sets[rows], targets[rows]) for rows in draws]
        for name, (scores, sets) in found.items()
    }
    rows = []
    pairs = [("two_way", "bce"), ("two_way", "lsep")]
    pairs += [
        ("lsep, T = 4", "lsep"),
        ("two_way, T = 1", "lsep"),
        ("two_way", "lsep, T = 4"),
        ("two_way", "two_way, T = 1"),
    ]
    for one, other in pairs:
        for key in METRICS:
            pairs_of = [100 * (a[key] - b[key]) for a, b in zip(values[one], values[other], strict=True)]
            at = [measured(*found[name], targets)[key] for name in (one, other)]
            low, high = np.percentile(pairs_of, [2.5, 97.5])
            rows.append(
                {"split": number, "first": one, "second": other, "metric": key}
                | {"difference": f"{100 * (at[0] - at[1]):.1f}", "low": f"{low:.1f}", "high": f"{high:.1f}"}
            )
    return rows


def write(name: str, rows: list[dict[str, Any]]) -> None:
    with atomic_write(FOLDER / name) as file:
        writer = csv.DictWriter(
            file, list(dict.fromkeys(key for row in rows for key in row)), lineterminator="\n"
        )
        writer.writeheader()
        writer.writerows(rows)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("features", type=Path)
    parser.add_argument("--splits", type=int, default=3)
    arguments = parser.parse_args()
    rows: list[dict[str, Any]] = []
    compared: list[dict[str, Any]] = []

    def add(number: int, method: str, how: str, scores: Scores, told: dict[str, Any]) -> Found:
        sets = label_sets(scores, parts[number])
        values = measured(scores["test"], sets, parts[number]["test"].targets)
        shown = {key: f"{100 * value:.1f}" for key, value in values.items()}
        told = {key: f"{value:.3g}" if isinstance(value, float) else value for key, value in told.items()}
        rows.append({"split": number, "method": method, "how": how, **shown, **told})
        print(rows[-1], flush=True)
        write("losses.csv", rows)
        return scores["test"], sets

    parts = {number: splits_of(arguments.features, number) for number in range(arguments.splits)}
    features = {
        number: ProbeFeatures.of(split["train"].images, split["val"].images)
        for number, split in parts.items()
    }
    for number, split in parts.items():
        found = {
            name: add(number, name, "solver", *solved(loss, split, features[number], folds=number == 0))
            for name, loss in {"bce": losses.bce_loss, **PARTS}.items()
        }
        compared += differences(number, found, split["test"].targets)
        write("losses_differences.csv", compared)
    for name in SEVEN:  # the ranking loss and WARP last, whose minimum takes longer
        loss = getattr(losses, f"{name}_loss")
        add(0, name, "sgd", *trained(loss, parts[0], clip=1.0 if name == "bpmll" else None))
        if name not in ("lsep", "bce", "two_way"):
            add(0, name, "solver", *solved(loss, parts[0], features[0], folds=True))


if __name__ == "__main__":
    main()
