"""Decisions on photographs, fitted on other scores and taken apart: the tables of docs/claims.md.

Features of a frozen network in one file: npz with train_features (N, D), train_targets (N, K), train_images (N,), and
those of val and test. Split 0 is the file's, others those of split-NUMBER.json, which the product divided anew
(data.resplit=true data.seed=NUMBER). F1 and exact match on test, in %. What the CSV file has is not done again.

    python experiments/photos/decisions.py fit_on FEATURES.npz --losses lsep,bce,two_way,softmax,bpmll --splits 0,1,2
    python experiments/photos/decisions.py cure FEATURES.npz --losses lsep,bce --splits 0,1,2
    python experiments/photos/decisions.py why FEATURES.npz --losses lsep --splits 0
    python experiments/photos/decisions.py few FEATURES.npz --losses lsep,bce --splits 0,1,2
"""

import argparse
import csv
import json
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import linear

from lsep_ml import fit_decision, losses
from lsep_ml.decisions import (
    CountEstimation,
    Decision,
    LabelSetSupport,
    LinearThresholds,
    PerClassThreshold,
    ThresholdEstimation,
)
from lsep_ml.decisions.log_odds import LogOddsDecision
from lsep_ml.decisions.offset import Offset
from lsep_ml.files import atomic_write
from lsep_ml.metrics import ranking_metrics
from lsep_ml.metrics.bootstrap import PairedBootstrap
from lsep_ml.metrics.functional import LABEL_SET_KEYS, count_label_sets, label_set_metrics
from lsep_ml.training.cross_fitting import fit_log_odds_decision
from lsep_ml.training.folds import checked_rows, draw_folds
from lsep_ml.training.linear_fits import LinearFits
from lsep_ml.training.solver import minimise

FOLDER = Path(__file__).parent
DECAYS = (1.0, 0.3, 0.1, 0.03)  # of the score layer, chosen on validation mAP
FOLDS = 5
SHOWN = ("f1", "exact_match")


@dataclass(frozen=True)
class Scores:
    """One loss's scores on one split: of the training images in and out of fold, of validation and of test images."""

    in_fold: NDArray[np.float32]
    out_of_fold: NDArray[np.float32]
    val: NDArray[np.float32]
    test: NDArray[np.float32]


@dataclass(frozen=True)
class Photos:
    """Features (N, D) and targets bool (N, K) of the three splits, and label count estimation, which reads no scores,
    by what it was fitted on."""

    features: dict[str, NDArray[np.float32]]
    targets: dict[str, NDArray[np.bool_]]
    counted: dict[str, Decision] = field(default_factory=dict)

    def narrow(self, features: int) -> "Photos":
        """With so many of the features alone, drawn at random."""
        kept = np.random.default_rng(0).permutation(self.sizes[0])[:features]
        return Photos({name: values[:, kept] for name, values in self.features.items()}, self.targets)

    def without_the_most_frequent(self) -> "Photos":
        """Without the label that most training images have."""
        label = int(self.targets["train"].sum(0).argmax())
        return Photos(
            self.features, {name: np.delete(values, label, axis=1) for name, values in self.targets.items()}
        )

    @property
    def sizes(self) -> tuple[int, int]:
        """D and K."""
        return self.features["train"].shape[1], self.targets["train"].shape[1]

    def first(self, images: int) -> "Photos":
        """With so many training images alone."""
        return Photos(
            self.features | {"train": self.features["train"][:images]},
            self.targets | {"train": self.targets["train"][:images]},
        )


def read_photos(file: Path, split: int) -> Photos:
    """The features of a split: 0, the file's own; or one of those that were drawn anew."""
    with np.load(file, allow_pickle=False) as arrays:
        found = [
            {name: arrays[f"{name}_{what}"] for name in ("train", "val", "test")}
            for what in ("features", "targets")
        ]
        if split:
            images = np.concatenate([arrays[f"{name}_images"] for name in found[0]]).tolist()
            row_of = {image: row for row, image in enumerate(images)}
            drawn = json.loads((FOLDER / f"split-{split}.json").read_text())
            for part in found:
                everything = np.concatenate(list(part.values()))
                part.update({name: everything[[row_of[image] for image in drawn[name]]] for name in part})
    return Photos(found[0], {name: values > 0 for name, values in found[1].items()})


def probe(photos: Photos, name: str) -> Scores:
    """The scores of a linear layer at the minimum of a loss, its weight decay chosen on validation mAP."""
    loss = getattr(losses, f"{name}_loss")
    mean, deviation = photos.features["train"].mean(0), photos.features["train"].std(0)
    x = {
        k: torch.from_numpy((v - mean) / np.where(deviation > 0, deviation, 1))
        for k, v in photos.features.items()
    }
    y = torch.from_numpy(photos.targets["train"]).float()

    def solved(rows: Any, decay: float, start: list[torch.Tensor]) -> list[torch.Tensor]:
        layer = [tensor.clone().requires_grad_() for tensor in start]
        inputs, targets = x["train"][rows], y[rows]

        def value() -> torch.Tensor:
            total: torch.Tensor = loss(linear(inputs, *layer), targets) + decay * layer[0].square().sum()
            return total

        minimise(layer, value, tolerance=1e-3, max_iterations=80)
        return [tensor.detach() for tensor in layer]

    everything = torch.arange(len(y))
    layer = [torch.zeros(y.shape[1], x["train"].shape[1]), torch.zeros(y.shape[1])]
    path = {}
    for decay in DECAYS:
        layer = path[decay] = solved(everything, decay, layer)

    def val_map(decay: float) -> float:
        return float(ranking_metrics(linear(x["val"], *path[decay]).numpy(), photos.targets["val"])["map"])

    best = max(DECAYS, key=val_map)
    folds = torch.from_numpy(draw_folds(len(y), 0))
    out_of_fold = torch.empty_like(y)
    for fold in range(FOLDS):
        without = solved(torch.nonzero(folds != fold)[:, 0], best, path[best])
        out_of_fold[folds == fold] = linear(x["train"][folds == fold], *without)
    scores = {name: linear(inputs, *path[best]).numpy() for name, inputs in x.items()}
    return Scores(scores["train"], out_of_fold.numpy(), scores["val"], scores["test"])


@dataclass(frozen=True)
class Given:
    """What a decision is fitted on; which rows are validation images; targets of further images."""

    scores: NDArray[np.float32]
    features: NDArray[np.float32]
    targets: NDArray[np.bool_]
    validation: NDArray[np.bool_] | None = None
    further: tuple[NDArray[np.bool_], None] | None = None


def given(photos: Photos, scores: Scores, fit_on: str, learnt: bool = False) -> Given:
    """The rows that `decision.fit_on` stands for."""
    of_train = scores.out_of_fold if fit_on == "crossfit" else scores.in_fold
    if fit_on == "val":
        return Given(
            scores.val, photos.features["val"], photos.targets["val"], None, (photos.targets["train"], None)
        )
    if fit_on == "train" or (fit_on == "crossfit" and learnt):
        return Given(of_train, photos.features["train"], photos.targets["train"])
    joined = (np.concatenate([part["train"], part["val"]]) for part in (photos.features, photos.targets))
    features, targets = joined
    return Given(
        np.concatenate([of_train, scores.val]), features, targets, np.arange(len(targets)) >= len(of_train)
    )


def fitted(decision: Decision, rows: Given) -> Decision:
    """The decision, fitted on the rows."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return fit_decision(
            decision,
            rows.scores,
            rows.targets,
            rows.features,
            validation=rows.validation,
            further=rows.further,
        )


def fit_on(photos: Photos, scores: Scores) -> Iterator[tuple[str, Decision]]:
    """Every decision on every kind of scores."""
    for kind in ("train", "val", "both", "crossfit"):
        alone = given(photos, scores, kind, learnt=True)
        yield f"thresh_est, {kind}", fitted(ThresholdEstimation(*photos.sizes), alone)
        counted = "train" if kind == "crossfit" else kind
        if counted not in photos.counted:
            photos.counted[counted] = fitted(CountEstimation(*photos.sizes), alone)
        yield f"count_est, {kind}", photos.counted[counted]
        rows = given(photos, scores, kind)
        yield f"per_class, {kind}", fitted(PerClassThreshold(), rows)
        fits = SharedFits(photos, rows)
        yield f"thresh_linear, {kind}", fits.fitted(LinearThresholds(*photos.sizes))
        yield f"support, {kind}", fits.fitted(LabelSetSupport(*photos.sizes))


class SharedFits:
    """Decisions by the same linear thresholds, fitted once."""

    def __init__(self, photos: Photos, rows: Given) -> None:
        decision, kept = LinearThresholds(*photos.sizes), dict[str, dict[str, Any]]()
        folds = draw_folds(len(rows.scores), 0)
        arrays = (rows.scores, rows.targets, rows.features)
        self.rows = checked_rows(
            decision, *arrays, mask=None, folds=folds, validation=rows.validation, further=rows.further
        )
        self.fits = LinearFits(
            decision,
            self.rows,
            lambda name, make: kept[name] if name in kept else kept.setdefault(name, make()),
        )

    def fitted(self, decision: LogOddsDecision) -> Decision:
        """The decision, fitted on the rows."""
        fit_log_odds_decision(decision, self.rows, self.fits)
        return decision.eval()


class FixedScale(LinearThresholds):
    """Linear thresholds whose scores are log odds as they are: s = 1."""

    def reset(self, *args: Any, **kwargs: Any) -> None:
        super().reset(*args, **kwargs)
        with torch.no_grad():
            self.log_scale.zero_()
        self.log_scale.requires_grad_(False)


def cure(photos: Photos, scores: Scores) -> Iterator[tuple[str, Decision]]:
    """From the paper's decision to the label set as a whole, one change at a time."""
    sizes = photos.sizes
    train, out_of_fold = given(photos, scores, "train"), given(photos, scores, "crossfit", learnt=True)
    both = given(photos, scores, "crossfit")
    yield "the paper's network, training scores", fitted(ThresholdEstimation(*sizes), train)
    yield "the network, out-of-fold scores", fitted(ThresholdEstimation(*sizes), out_of_fold)
    yield "the network, and validation", fitted(ThresholdEstimation(*sizes), both)
    yield "linear, no weight decay", fitted(LinearThresholds(*sizes, weight_decay=1e-4, offset="none"), both)
    yield "linear, weight decay, scale 1", fitted(FixedScale(*sizes, offset="none"), both)
    yield "linear, weight decay, scale", fitted(LinearThresholds(*sizes, offset="none"), both)
    yield "and one offset", fitted(LinearThresholds(*sizes, offset="one"), both)
    yield "and an offset a class", fitted(LinearThresholds(*sizes), both)
    yield "the same, training scores", fitted(LinearThresholds(*sizes), train)
    yield "the same, for exact match", fitted(LinearThresholds(*sizes, criterion="exact_match"), both)
    yield "constant thresholds a class, for F1", fitted(PerClassThreshold(guard=False), both)
    exact = PerClassThreshold(guard=False, criterion="exact_match")
    yield "constant thresholds a class, for exact match", fitted(exact, both)
    yield "support, for exact match", fitted(LabelSetSupport(*sizes), both)
    yield "support, for F1", fitted(LabelSetSupport(*sizes, criterion="f1"), both)
    platt = LabelSetSupport(*sizes, log_odds="platt")
    yield "support on calibrated scores, for exact match", fitted(platt, both)


def why(photos: Photos, scores: Scores) -> Iterator[tuple[str, Decision]]:
    """The paper's decision, and what is put in its place."""
    both = given(photos, scores, "crossfit")
    yield "thresh_est", fitted(ThresholdEstimation(*photos.sizes), given(photos, scores, "train"))
    yield "per_class", fitted(PerClassThreshold(), both)
    fits = SharedFits(photos, both)
    yield "thresh_linear", fits.fitted(LinearThresholds(*photos.sizes))
    yield "support", fits.fitted(LabelSetSupport(*photos.sizes))


def few(photos: Photos, scores: Scores) -> Iterator[tuple[str, Decision]]:
    """Decisions by log odds fitted on few validation images."""
    rows = given(photos, scores, "val")
    for images in (100, 200, 400):
        some = replace(
            rows, scores=rows.scores[:images], features=rows.features[:images], targets=rows.targets[:images]
        )
        fits = SharedFits(photos, some)
        offsets: tuple[Offset, ...] = ("none", "one", "class")
        for offset in offsets:
            yield f"offset={offset}, {images}", fits.fitted(LinearThresholds(*photos.sizes, offset=offset))
        yield f"support, {images}", fits.fitted(LabelSetSupport(*photos.sizes))


def settings(photos: Photos) -> dict[str, Photos]:
    """Fewer images, fewer features, and without the label that makes the others rare."""
    return {
        "everything": photos,
        **{f"{images} images": photos.first(images) for images in (400, 800, 1600)},
        **{f"{features} features": photos.narrow(features) for features in (80, 320)},
        "without the most frequent class": photos.without_the_most_frequent(),
    }


def measured(decision: Decision, photos: Photos, scores: Scores) -> tuple[dict[str, float], Any]:
    """F1 and exact match on test, labels an image, and the bootstrap replicates of all metrics."""
    label_sets = decision.predict(scores.test, photos.features["test"]).numpy()
    targets = photos.targets["test"]
    values = label_set_metrics(count_label_sets(label_sets, targets))
    replicates = PairedBootstrap().run_metrics(
        label_sets.astype(np.uint8), targets.astype(np.uint8), np.ones(targets.shape, np.uint8), "test"
    )
    return {key: float(values[key]) for key in SHOWN} | {
        "labels": float(label_sets.sum(1).mean())
    }, replicates


def run(what: str, photos: Photos, name: str, split: int, images: int) -> Iterator[dict[str, Any]]:
    """A row for each decision: its test metrics, and its paired differences from the first with their intervals."""
    scores = probe(photos, name)
    first: Any = None
    for label, decision in {"fit_on": fit_on, "cure": cure, "why": why, "few": few}[what](photos, scores):
        values, replicates = measured(decision, photos, scores)
        first = replicates if first is None else first
        row = {"split": split, "images": images, "loss": name, "decision": label, "labels": values["labels"]}
        for key in SHOWN:
            column = LABEL_SET_KEYS.index(key)
            low, high = np.percentile((replicates - first)[:, column], [2.5, 97.5])
            row |= {key: 100 * values[key], f"{key}_low": 100 * low, f"{key}_high": 100 * high}
        yield row


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("fit_on", "cure", "why", "few"))
    parser.add_argument("features", type=Path)
    parser.add_argument("--losses", default="lsep,bce,two_way")
    parser.add_argument("--splits", default="0,1,2")
    parser.add_argument("--images", type=int, help="so many training images alone")
    parser.add_argument("--out", type=Path, help="a CSV file; FOLDER/WHAT.csv")
    options = parser.parse_args()
    torch.set_num_threads(1)
    out = options.out or FOLDER / f"{options.what}.csv"
    for split in map(int, options.splits.split(",")):
        photos = read_photos(options.features, split)
        if options.images is not None:
            photos = photos.first(options.images)
        images = len(photos.targets["train"])
        for name in options.losses.split(","):
            rows = read_rows(out)
            if (str(split), str(images), name) in {(r["split"], r["images"], r["loss"]) for r in rows}:
                continue
            everything = settings(photos) if options.what == "why" else {"": photos}
            for setting, some in everything.items():
                for row in run(options.what, some, name, split, images):
                    row["decision"] = ", ".join(filter(None, [row["decision"], setting]))
                    rows.append({k: f"{v:.5g}" if isinstance(v, float) else str(v) for k, v in row.items()})
                    print(
                        f"{split} {images} {name:8} {row['decision']:46} {row['f1']:.1f} / {row['exact_match']:.1f}"
                        f"   {row['f1_low']:+.1f} to {row['f1_high']:+.1f} / {row['exact_match_low']:+.1f} to "
                        f"{row['exact_match_high']:+.1f}   {row['labels']:.2f} labels",
                        flush=True,
                    )
            with atomic_write(out) as file:
                writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
                writer.writeheader()
                writer.writerows(rows)


def read_rows(file: Path) -> list[dict[str, str]]:
    """The rows of a CSV file, none where there is no file."""
    if not file.exists():
        return []
    with file.open(newline="") as content:
        return list(csv.DictReader(content))


if __name__ == "__main__":
    main()
