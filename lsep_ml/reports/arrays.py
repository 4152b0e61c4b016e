"""The arrays and the history that a run leaves beside its record, checked as they are read."""

import csv
import hashlib
import json
import math
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lsep_ml.reports.records import RecordError, Run

TEST, VALIDATION, THUMBNAILS, HISTORY = "predictions.npz", "validation.npz", "thumbnails.npz", "history.csv"
Arrays = dict[str, NDArray[Any]]
_MATRICES = {"scores": "f", "thresholds": "f", "targets": "u", "predictions": "u", "mask": "u"}


def read_arrays(run: Run, file: str, *names: str) -> Arrays:
    """The named arrays of a run's predictions.npz or validation.npz; `thresholds` only where the file has them.

    Raises:
        RecordError: file or array missing, damaged, of the wrong type or shape, with values that cannot be, or with
            its labels in another order than result.json.
    """
    found = _read_npz(run.folder / file, (*names, "label_names"), optional="thresholds")
    labels = tuple(found.pop("label_names").tolist())
    if labels != run.label_names:
        raise RecordError(f"{file}: its labels are {_shown(labels)}, result.json's {_shown(run.label_names)}")
    images = {len(array) for array in found.values()}
    if len(images) != 1 or 0 in images:
        raise RecordError(
            f"{file}: arrays of {sorted(images)} images; they must be of one length, at least 1"
        )
    for name, array in found.items():
        if name in _MATRICES:
            _check_matrix(f"{file}: {name}", array, (*images, len(labels)), _MATRICES[name])
    return found


def read_thumbnails(run: Run) -> dict[int, NDArray[np.uint8]]:
    """Test row -> small image, uint8 (h, w) or (h, w, 3)."""
    thumbnails = {}
    for name, image in _read_npz(run.folder / THUMBNAILS, None).items():
        shaped = image.ndim == 2 or (image.ndim == 3 and image.shape[2] == 3)
        if not name.isdigit() or image.dtype != np.uint8 or not shaped or 0 in image.shape:
            raise RecordError(
                f"{THUMBNAILS}: {name!r} is {image.dtype} {image.shape}, no picture of a test row"
            )
        thumbnails[int(name)] = image
    return dict(sorted(thumbnails.items()))


def read_history(run: Run) -> dict[str, dict[str, NDArray[np.float64]]]:
    """Stage -> column -> values by epoch; NaN where a column is empty."""
    path = run.folder / HISTORY
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        stages: dict[str, dict[str, NDArray[np.float64]]] = {}
        for stage in dict.fromkeys(row["stage"] for row in rows):
            own = [row for row in rows if row["stage"] == stage]
            columns = [key for key in own[0] if key is not None and key != "stage"]
            stages[stage] = {key: np.array([float(row[key] or math.nan) for row in own]) for key in columns}
    except FileNotFoundError:
        raise RecordError(f"{HISTORY}: missing") from None
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise RecordError(f"{HISTORY}: unreadable ({type(error).__name__}: {error})") from None
    return stages


def content_of(test: Arrays, label_names: tuple[str, ...]) -> str:
    """A hash of what every run on one split must agree in: labels, image ids, targets and mask."""
    digest = hashlib.sha256(json.dumps([label_names, test["image_ids"].tolist()]).encode())
    for name in ("targets", "mask"):
        digest.update(np.ascontiguousarray(test[name]).tobytes())
    return digest.hexdigest()


def _read_npz(path: Path, names: tuple[str, ...] | None, optional: str = "") -> Arrays:
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            wanted = (
                arrays.files if names is None else [n for n in names if n != optional or n in arrays.files]
            )
            return {name: arrays[name] for name in wanted}
    except FileNotFoundError:
        raise RecordError(f"{path.name}: missing; run the job again to have it") from None
    except KeyError as error:
        raise RecordError(f"{path.name}: {error.args[0]!s}; run the job again") from None
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise RecordError(f"{path.name}: damaged ({error}); run the job again") from None


def _check_matrix(where: str, array: NDArray[Any], shape: tuple[int, ...], kind: str) -> None:
    if array.shape != shape or array.dtype.kind not in (kind, "b" if kind == "u" else kind):
        wanted = "floats" if kind == "f" else "0/1 integers"
        raise RecordError(f"{where} is {array.dtype} {array.shape}, not {wanted} {shape}")
    if kind == "u" and array.max() > 1:
        raise RecordError(f"{where} holds {array.max()}; its entries are 0 or 1")
    if kind == "f" and not np.isfinite(array).all():
        row = int((~np.isfinite(array)).any(1).argmax())
        raise RecordError(f"{where} holds {array[row][~np.isfinite(array[row])][0]} in row {row}")


def _shown(labels: tuple[str, ...]) -> str:
    return f"{len(labels)} ({', '.join(labels[:3])}, ...)"
