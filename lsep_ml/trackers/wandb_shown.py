"""What a finished run shows in Weights & Biases: tables, charts, and test images with their labels."""

from pathlib import Path
from typing import Any

import numpy as np

from lsep_ml.metrics import METRICS
from lsep_ml.metrics.functional import RECALLS, mean_precision_recall
from lsep_ml.runs.arrays import Arrays
from lsep_ml.runs.files import THUMBNAILS
from lsep_ml.runs.per_class import COLUMNS


def result_media(
    record: dict[str, Any], test: Arrays, labels: list[dict[str, Any]], folder: Path
) -> dict[str, Any]:
    """Return by key what W&B shows of a finished run.

    `metrics` and `per_class`, tables; `class_f1` and, of a run with scores, `precision_recall`, charts; `gallery`, test
    images, and `images`, the table of what each is, both by mean threshold where there are thresholds.

    Args:
        record: as in result.json.
        test: the arrays of the test split.
        labels: a row of per_class.csv for each label.
        folder: of the run, which holds the small images.
    """
    import wandb

    of_labels = [[row.get(column) for column in COLUMNS] for row in labels]
    bars = wandb.Table(columns=["label", "f1"], data=[[row["label"], row["f1"]] for row in labels])
    shown = {
        "metrics": _metrics(record),
        "per_class": wandb.Table(columns=list(COLUMNS), data=of_labels),
        "class_f1": wandb.plot.bar(bars, "label", "f1", title="F1 of each class"),
        **_images(test, record["label_names"], folder),
    }
    if "scores" in test:  # a predictor may have none
        precision = mean_precision_recall(test["scores"], test["targets"], test["mask"])
        curve = wandb.Table(
            columns=["recall", "precision"], data=np.column_stack([RECALLS, precision]).tolist()
        )
        title = "Mean precision and recall"
        shown["precision_recall"] = wandb.plot.line(curve, "recall", "precision", title=title)
    return shown


def _metrics(record: dict[str, Any]) -> Any:
    import wandb

    table = wandb.Table(columns=["metric", "validation", "test", "test low", "test high"])
    val, test = record["metrics"]["val"], record["metrics"]["test"]
    for metric in METRICS:
        if metric.key in val or metric.key in test:
            low, high = record["intervals"]["test"].get(metric.key, (None, None))
            table.add_data(metric.key, val.get(metric.key), test.get(metric.key), low, high)
    return table


def _images(test: Arrays, names: list[str], folder: Path) -> dict[str, Any]:
    """Return the pictures, which lie in the run's own folder, and their table.

    A table of pictures would keep them elsewhere: W&B stages what is in its tables away from the run.
    """
    import wandb

    with np.load(folder / THUMBNAILS, allow_pickle=False) as file:
        pictures = {int(key): file[key] for key in file.files}
    thresholds = test.get("thresholds")
    mean = {row: None if thresholds is None else float(thresholds[row].mean()) for row in pictures}
    table = wandb.Table(columns=["picture", "id", "true", "predicted", "missing", "wrong", "mean threshold"])
    gallery = []
    for row in sorted(pictures, key=lambda row: (mean[row] or 0.0, row)):
        known, true, predicted = (test[key][row] > 0 for key in ("mask", "targets", "predictions"))
        sets = [
            ", ".join(names[k] for k in np.flatnonzero(chosen))
            for chosen in (true, predicted, known & true & ~predicted, known & predicted & ~true)
        ]
        threshold = "" if mean[row] is None else f"\nmean threshold: {mean[row]:.3f}"
        caption = f"{test['image_ids'][row]}\ntrue: {sets[0]}\npredicted: {sets[1]}{threshold}"
        gallery.append(wandb.Image(pictures[row], caption=caption))
        table.add_data(len(gallery), str(test["image_ids"][row]), *sets, mean[row])
    return {"gallery": gallery, "images": table}
