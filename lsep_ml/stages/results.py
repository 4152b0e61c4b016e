"""What a run leaves and shows: predictions, thumbnails, plots, and the table on the terminal."""

import os
import shutil
import uuid
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.table import Table
from torch.nn.functional import interpolate

from lsep_ml.data import DataSet, Split
from lsep_ml.data.cores import available_cores
from lsep_ml.files import atomic_write
from lsep_ml.reports.figures.of_run import draw_run, rows_to_show
from lsep_ml.stages.evaluation import Outcome, SplitOutcome
from lsep_ml.training.progress import console

_THUMBNAIL = 160

_ROWS = (
    ("f1", "F1 (mean of per-class F1)"),
    ("exact_match", "exact match (0-1)"),
    ("pc_p", "PC-P"),
    ("pc_r", "PC-R"),
    ("ov_p", "OV-P"),
    ("ov_r", "OV-R"),
    ("cf1", "CF1 (of PC-P and PC-R)"),
    ("of1", "OF1 (of OV-P and OV-R)"),
    ("map", "mAP"),
    ("lrap", "label ranking avg. precision"),
    ("ranking_loss", "ranking loss"),
    ("one_error", "one-error"),
)
_LABELS = (("coverage", "coverage (labels)"), ("labels_per_image", "labels predicted an image"))


def write_files(folder: Path, outcome: Outcome, data_set: DataSet, title: str) -> None:
    """predictions.npz, validation.npz, thumbnails.npz and the plots of a run, as far as it has scores."""
    names = data_set.label_names
    test = write_predictions(folder / "predictions.npz", outcome.test, names)
    write_predictions(folder / "validation.npz", outcome.val, names)
    rows = rows_to_show(test.get("scores"), test["targets"], test["mask"], test.get("thresholds"))
    draw_run(folder, test, write_thumbnails(folder / "thumbnails.npz", data_set.test, rows), title)


def known_entries(outcome: SplitOutcome) -> np.ndarray:
    """The mask of a split as uint8 (N, K), ones where every entry is known."""
    arrays = outcome.arrays
    return np.ones_like(arrays.targets) if arrays.mask is None else arrays.mask.astype(np.uint8)


def write_predictions(
    path: Path, outcome: SplitOutcome, label_names: tuple[str, ...]
) -> dict[str, np.ndarray]:
    """One split's scores (where it has any), targets, label sets and ids as .npz; plain arrays, without pickle."""
    columns: dict[str, Any] = {
        "targets": outcome.arrays.targets,
        "predictions": outcome.predictions,
        "mask": known_entries(outcome),
        "image_ids": outcome.arrays.image_ids,
        "label_names": np.asarray(label_names, dtype=np.str_),
    }
    for name, values in (("scores", outcome.arrays.scores), ("thresholds", outcome.thresholds)):
        if values is not None:
            columns[name] = values
    with atomic_write(path, "wb") as file:
        np.savez_compressed(file, **columns)
    return columns


def write_thumbnails(path: Path, split: Split, rows: np.ndarray) -> dict[int, np.ndarray]:
    """Small copies of the images in `rows`, uint8 (h, w) or (h, w, 3), stored under their row's number."""
    images = {int(row): _thumbnail(split.images[int(row)]) for row in rows}
    with atomic_write(path, "wb") as file:
        np.savez_compressed(file, **{str(row): image for row, image in images.items()})  # type: ignore[arg-type]
    return images


def _thumbnail(image: torch.Tensor) -> np.ndarray:
    scale = _THUMBNAIL / max(image.shape[-2:])
    if scale < 1:
        size = [max(1, round(scale * side)) for side in image.shape[-2:]]
        small = interpolate(image[None].float(), size, mode="bilinear", antialias=True)[0]
        image = small.round().clamp(0, 255).to(torch.uint8)
    array: np.ndarray = image.permute(1, 2, 0).numpy()
    return array[:, :, 0] if array.shape[2] == 1 else array


def hardware(device: torch.device) -> str:
    """What computes: the GPU's name, or the number of CPU cores that this process may use."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else f"{available_cores()} CPU cores"


def link_or_copy(source: Path, target: Path) -> None:
    """Make `target` the same file as `source` without its cost on disk where the file system can, else a copy."""
    beside = target.with_name(f".{target.name}.{uuid.uuid4().hex}")
    try:
        os.link(source, beside)
        os.replace(beside, target)
    except OSError:
        with source.open("rb") as content, atomic_write(target, "wb") as file:
            shutil.copyfileobj(content, file)
    finally:
        beside.unlink(missing_ok=True)  # renaming one name of a file to another of its names leaves both


def print_result(record: dict[str, Any], folder: Path) -> None:
    """The results in %, what was chosen, what was reused, and where the files are."""
    predictor = record.get("predictor", "score_layer")  # records of earlier versions have none
    method = [record["loss"], *([predictor] if predictor != "score_layer" else []), record["decision"]]
    table = Table(title=f"{record['data']}: {' + '.join(method)} ({record['model']})")
    for heading in ("in %", "validation", "test", "95% interval"):
        table.add_column(heading, justify="left" if heading == "in %" else "right")
    val, test = record["metrics"]["val"], record["metrics"]["test"]
    for key, label in (row for row in _ROWS if row[0] in test):
        low, high = record["intervals"]["test"][key]
        table.add_row(
            label, f"{100 * val[key]:.1f}", f"{100 * test[key]:.1f}", f"{100 * low:.1f} to {100 * high:.1f}"
        )
    for key, label in (row for row in _LABELS if row[0] in test):
        low, high = record["intervals"]["test"][key]
        table.add_row(label, f"{val[key]:.2f}", f"{test[key]:.2f}", f"{low:.2f} to {high:.2f}")
    console.print(table)
    console.print(
        "chosen on validation: " + ", ".join(f"{key} = {value}" for key, value in record["choices"].items())
    )
    again = [
        f"{name} found in the store" if reused else f"{name} made"
        for name, reused in record["reused"].items()
    ]
    seconds = sum(record["seconds"][name] for name, reused in record["reused"].items() if not reused)
    seconds += record["seconds"]["decision"] + record["seconds"]["evaluation"]
    console.print(f"{', '.join(again)}; {seconds:.1f} s in all")
    console.print(f"files: {folder}", soft_wrap=True, highlight=False)
