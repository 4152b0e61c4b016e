"""Synthetic run folders in the exact format that a job leaves, for the tests of what reads them.

Scores are simulated: a label's score is higher where it is present, by an amount that depends on the loss, so that the
tables have an order to show. Everything is a function of the arguments.
"""

import csv
import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.datasets import load_digits

from lsep_ml.metrics import bootstrap_label_sets, bootstrap_ranking
from lsep_ml.metrics.functional import (
    count_label_sets,
    label_set_metrics,
    ranking_metrics,
)
from lsep_ml.runs.per_class import per_class_rows, write_per_class

LOSSES = ("softmax", "ranking", "bpmll", "warp", "lsep")
DECISIONS = ("topk", "threshold", "count_est", "thresh_est")
SEPARATION = {"softmax": 2.0, "ranking": 2.1, "bpmll": 1.7, "warp": 2.2, "lsep": 2.5, "bce": 2.45}
Arrays = dict[str, np.ndarray]


def write_run(
    root: Path,
    *,
    data: str = "digits",
    model: str = "small_cnn",
    loss: str = "lsep",
    decision: str = "thresh_est",
    seed: int = 0,
    images: int = 120,
    labels: int = 10,
    data_seed: int = 0,
    difficult: str | None = None,
    unknown: float = 0.0,
    colour: bool = False,
    intervals: bool = True,
    settings: Mapping[str, Any] | None = None,
) -> Path:
    """One finished run below `root`; returns its folder.

    images: of the test split; validation has half as many. data_seed, difficult: another protocol. unknown: share of
    entries masked. settings: dotted keys that replace values of the recorded configuration.
    """
    test, val = (
        simulate(
            name, loss, decision, seed, labels, images // parts, data_seed + (difficult == "ignore"), unknown
        )
        for name, parts in (("test", 1), ("val", 2))
    )
    choices = choose(decision, val[0])
    for arrays, noise in (test, val):
        arrays.update(decide(decision, choices, arrays, noise))
    digest = hashlib.sha256(json.dumps([data, data_seed, difficult, labels, images, unknown]).encode())
    config = configuration(data, model, loss, decision, seed, data_seed, difficult)
    for key, value in (settings or {}).items():
        *parts, last = key.split(".")
        place = config
        for part in parts:
            place = place.setdefault(part, {})
        place[last] = value
    identity = hashlib.sha256(
        json.dumps([{**config, "decision": 0, "names": 0}, digest.hexdigest()]).encode()
    ).hexdigest()
    run_hash = hashlib.sha256(json.dumps([config, digest.hexdigest()]).encode()).hexdigest()[:8]
    folder = root / data / f"{model}-{loss}-{decision}-seed{seed}-{run_hash}"
    (folder / ".hydra").mkdir(parents=True)
    names = np.array(label_names(labels), dtype=np.str_)
    for name, arrays in (("predictions", test[0]), ("validation", val[0])):
        np.savez_compressed(folder / f"{name}.npz", **arrays, label_names=names)  # type: ignore[arg-type]
    write_thumbnails(folder / "thumbnails.npz", test[0]["targets"], colour)
    of_test = (test[0][name] for name in ("predictions", "targets", "mask", "scores"))
    write_per_class(folder / "per_class.csv", per_class_rows(names.tolist(), *of_test))
    epochs = write_history(folder / "history.csv", loss, decision, seed)
    record = {
        "data": data,
        "split_hash": digest.hexdigest(),
        "model": model,
        "loss": loss,
        "decision": decision,
        "seed": seed,
        "identity": identity[:16],
        "choices": {"epoch": epochs, **choices},
        "metrics": {"val": measure(val[0]), "test": measure(test[0])},
        "intervals": {"test": intervals_of(test[0])} if intervals else {"test": {}},
        "label_names": names.tolist(),
        "counts": counts(test[0], val[0], names.tolist(), data),
        "versions": {"python": "3.11.7", "lsep-ml": "0.1.0", "torch": "2.15.0", "numpy": np.__version__},
        "seconds": {"prediction": 81.2, "extraction": 4.1, "decision": 9.7, "evaluation": 1.2},
        "reused": {"prediction": decision != "topk", "extraction": decision != "topk"},
        "hardware": "2 CPU cores",
        "finished": f"2026-11-{23 + seed:02d}T10:00:00+00:00",
        "config": config,
    }
    (folder / "result.json").write_text(json.dumps(record, indent=2))
    overrides = [f"data={data}", f"model={model}", f"loss={loss}", f"decision={decision}", f"seed={seed}"]
    overrides += [f"{key}={value}" for key, value in (settings or {}).items()]
    (folder / ".hydra" / "overrides.yaml").write_text("".join(f"- {item}\n" for item in overrides))
    return folder


def write_sweep(
    root: Path,
    losses: Iterable[str] = LOSSES,
    decisions: Iterable[str] = DECISIONS,
    seeds: Iterable[int] = (0, 1, 2),
    **options: Any,
) -> list[Path]:
    """A run for every loss, decision and seed."""
    decisions, seeds = list(decisions), list(seeds)
    return [
        write_run(root, loss=loss, decision=decision, seed=seed, **options)
        for loss in losses
        for decision in decisions
        for seed in seeds
    ]


def write_failure(root: Path, error: str, overrides: Iterable[str]) -> Path:
    """The folder of a job that failed."""
    folder = root / "digits" / f"failed-{hashlib.sha256(error.encode()).hexdigest()[:8]}"
    folder.mkdir(parents=True)
    (folder / "error.json").write_text(json.dumps({"error": error, "overrides": list(overrides)}))
    return folder


def edit_record(folder: Path, **changes: Any) -> None:
    """Replace top-level values of a run's result.json; None takes the key away."""
    record = {**json.loads((folder / "result.json").read_text()), **changes}
    kept = {key: value for key, value in record.items() if value is not None}
    (folder / "result.json").write_text(json.dumps(kept))


def simulate(
    split: str, loss: str, decision: str, seed: int, labels: int, images: int, data_seed: int, unknown: float
) -> tuple[Arrays, np.random.Generator]:
    """Scores, targets, mask and ids of a split, and the generator for what the decision draws."""
    scenes = np.random.default_rng([data_seed, labels, images, len(split)])
    prior = np.clip(0.75 / np.arange(1, labels + 1) ** 0.8, min(0.01, 1 / labels), 1)
    targets = (scenes.random((images, labels)) < prior).astype(np.uint8)
    empty = targets.sum(1) == 0
    targets[empty, scenes.integers(0, labels, empty.sum())] = 1
    difficulty = scenes.normal(size=(images, labels))
    mask = (scenes.random((images, labels)) >= unknown).astype(np.uint8)
    targets *= mask
    noise = np.random.default_rng([seed, LOSSES.index(loss) if loss in LOSSES else 99, len(split)])
    separation = SEPARATION.get(loss, 2.0) * (1 + 0.02 * noise.normal())
    scores = separation * targets + 0.7 * difficulty + 0.6 * noise.normal(size=targets.shape)
    ids = np.array([f"{split}/{row:06d}" for row in range(images)])
    arrays = {"scores": scores.astype(np.float32), "targets": targets, "mask": mask, "image_ids": ids}
    return arrays, np.random.default_rng([seed, len(decision), len(split)])


def choose(decision: str, val: Arrays) -> dict[str, Any]:
    """k or theta of a rule, by the best validation F1; theta among 50 steps."""
    candidates: dict[Any, np.ndarray]
    if decision == "topk":
        candidates = {k: top(val["scores"], np.full(len(val["scores"]), k)) for k in range(1, 6)}
    elif decision == "threshold":
        grid = np.linspace(val["scores"].min(), val["scores"].max(), 50, dtype=np.float32)
        candidates = {float(theta): val["scores"] > theta for theta in grid}
    else:
        return {}
    f1 = {value: metrics(sets, val)["f1"] for value, sets in candidates.items()}
    return {"k" if decision == "topk" else "theta": max(f1, key=lambda value: f1[value])}


def decide(decision: str, choices: Mapping[str, Any], arrays: Arrays, noise: np.random.Generator) -> Arrays:
    """Label sets, and thresholds where the decision has them."""
    scores, targets = arrays["scores"], arrays["targets"]
    if decision in {"topk", "count_est"}:
        sizes = np.full(len(scores), choices.get("k", 0))
        if decision == "count_est":
            sizes = np.clip(targets.sum(1) + noise.integers(-1, 2, len(scores)), 1, 4)
        return {"predictions": top(scores, sizes).astype(np.uint8)}
    if decision == "threshold":
        thresholds = np.full(scores.shape, choices["theta"], np.float32)
    else:
        thresholds = 1.4 - 0.5 * targets + 0.5 * noise.normal(size=scores.shape)
    thresholds = thresholds.astype(np.float32)
    return {"predictions": (scores > thresholds).astype(np.uint8), "thresholds": thresholds}


def top(scores: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """The `sizes` highest scores of every image, the lower label first on a tie."""
    places = np.argsort(np.argsort(-scores, axis=1, kind="stable"), axis=1)
    chosen: np.ndarray = places < sizes[:, None]
    return chosen


def metrics(predictions: np.ndarray, arrays: Arrays) -> dict[str, float]:
    counted = label_set_metrics(count_label_sets(predictions, arrays["targets"], arrays["mask"]))
    return {key: float(value) for key, value in counted.items()}


def measure(arrays: Arrays) -> dict[str, float]:
    known = (arrays["predictions"] * arrays["mask"]).sum() / len(arrays["mask"])
    ranking = ranking_metrics(arrays["scores"], arrays["targets"], arrays["mask"])
    return {**metrics(arrays["predictions"], arrays), **ranking, "labels_per_image": float(known)}


def intervals_of(arrays: Arrays) -> dict[str, list[float]]:
    targets, mask = arrays["targets"], arrays["mask"]
    found = {
        **bootstrap_label_sets(arrays["predictions"], targets, mask, replicates=50),
        **bootstrap_ranking(arrays["scores"], targets, mask, replicates=20),
    }
    return {key: list(interval) for key, interval in found.items()}


def counts(test: Arrays, val: Arrays, names: list[str], data: str) -> dict[str, Any]:
    positives = {
        split: dict(zip(names, arrays["targets"].sum(0, dtype=int).tolist(), strict=True))
        for split, arrays in (("train", test), ("val", val), ("test", test))
    }
    images = {"train": 2 * len(test["scores"]), "val": len(val["scores"]), "test": len(test["scores"])}
    return {
        "images": images,
        "dropped": {} if data == "digits" else {"without a label": 3},
        "positives": positives,
    }


def configuration(
    data: str, model: str, loss: str, decision: str, seed: int, data_seed: int, difficult: str | None
) -> dict[str, Any]:
    return {
        "paths": {"data": "data", "output": "outputs"},
        "data": {
            "_target_": "lsep_ml.data.ImageDataModule",
            "seed": data_seed,
            "root": f"data/{data}",
            "num_workers": 0,
            **({"difficult": difficult} if difficult else {}),
        },
        "transform": {"resize": None, "mean": [0.1]},
        "training": {"epochs": 6, "batch_size": 32},
        "model": {"_target_": f"lsep_ml.models.{model}"},
        "optimizer": {"lr": 0.001},
        "loss": {"_target_": f"lsep_ml.losses.{loss}_loss"},
        "decision": {"_target_": f"lsep_ml.decisions.{decision}"},
        "trainer": {"accelerator": "auto", "devices": 1, "precision": "32-true"},
        "seed": seed,
        "names": {"data": data, "model": model, "loss": loss, "decision": decision},
    }


def write_history(path: Path, loss: str, decision: str, seed: int) -> int:
    """Epochs of both stages; returns the epoch of the best validation map."""
    noise = np.random.default_rng([seed, len(loss)])
    gain = SEPARATION.get(loss, 2.0) / 3
    rows: list[dict[str, Any]] = [
        {
            "stage": "prediction",
            "epoch": epoch,
            "train_loss": 3 / epoch + 0.05 * noise.random(),
            "val_loss": 3 / epoch + 0.1,
            "val_map": gain * (1 - 0.6 / epoch) + 0.01 * noise.random(),
        }
        for epoch in range(1, 7)
    ]
    best = max(rows, key=lambda row: row["val_map"])["epoch"]
    if decision in {"count_est", "thresh_est"}:
        rows += [
            {"stage": "decision", "epoch": epoch, "train_loss": 2 / epoch + 0.3} for epoch in range(1, 11)
        ]
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return int(best)


def write_thumbnails(path: Path, targets: np.ndarray, colour: bool) -> None:
    """Pictures of 24 evenly spaced test images: grey scenes of real digits, or coloured discs."""
    rows = np.unique(np.linspace(0, len(targets) - 1, 24).round().astype(int))
    digits, classes = load_digits(return_X_y=True)
    rng = np.random.default_rng(0)
    pictures = {}
    for row in rows:
        image = np.zeros((64, 48), np.float32)
        for label in np.flatnonzero(targets[row]):
            digit = digits[rng.choice(np.flatnonzero(classes == label % 10))].reshape(8, 8) / 16
            top_, left = rng.integers(0, 48), rng.integers(0, 32)
            place = image[top_ : top_ + 16, left : left + 16]
            np.maximum(place, digit.repeat(2, 0).repeat(2, 1)[: place.shape[0]], out=place)
        grey = np.clip(255 * (image + 0.08 * rng.random(image.shape)), 0, 255).astype(np.uint8)
        tint = np.array([1.0, 0.8, 0.6]) if row % 2 else np.array([0.6, 0.9, 1.0])
        pictures[str(row)] = (grey[..., None] * tint).astype(np.uint8) if colour else grey
    np.savez_compressed(path, **pictures)  # type: ignore[arg-type]


def label_names(labels: int) -> list[str]:
    return [str(k) for k in range(labels)] if labels <= 10 else [f"label {k:02d}" for k in range(labels)]
