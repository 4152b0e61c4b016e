"""The arrays that a run leaves beside its record: written without pickle, checked as they are read."""

import logging
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lsep_ml.files import atomic_write
from lsep_ml.metrics.counts import ENTRIES, row_slices
from lsep_ml.metrics.indicator import SparseIndicator
from lsep_ml.runs import top_scores
from lsep_ml.runs.files import TEST, THUMBNAILS
from lsep_ml.runs.finished import Run
from lsep_ml.runs.record import RecordError, check_file
from lsep_ml.runs.top_scores import TopScores

Arrays = dict[str, NDArray[Any]]
log = logging.getLogger(__name__)
_MATRICES = {"scores": "f", "thresholds": "f", "targets": "u", "predictions": "u", "mask": "u"}


def write_predictions(path: Path, arrays: Mapping[str, Any], label_names: Sequence[str]) -> dict[str, Any]:
    """Write to `path` the label sets of one split, and what they were decided from and are measured by, as .npz.

    Args:
        path: the file.
        arrays: `predictions` 0/1 (N, K) and, as far as there are (None: there are none), `targets` 0/1 (N, K), `mask`
            (N, K), 1 = known, all of them where there are only targets; `scores` and `thresholds` float32 (N, K);
            `image_ids` unicode (N,).
        label_names: K names.

    Matrices of 0 and 1 may be sparse. From `top_scores.LARGE` entries on the file has them so, under the names of
    `SparseIndicator.named`, the `TopScores` of scores, and of thresholds that are the same for all images or for all
    labels one row or one column.

    Returns:
        What was written, whole.
    """
    columns = {name: array for name, array in arrays.items() if array is not None}
    if "targets" in columns:
        shape = columns["targets"].shape
        sparse = isinstance(columns["targets"], SparseIndicator)
        columns.setdefault("mask", SparseIndicator.all_known(shape) if sparse else np.ones(shape, np.uint8))
    for name in columns.keys() & {"predictions", "mask"}:
        columns[name] = columns[name].astype(np.uint8, copy=False)
    columns["label_names"] = np.asarray(label_names, dtype=np.str_)
    write_npz(path, columns if columns["predictions"].size < top_scores.LARGE else _short(columns))
    return columns


def _short(columns: Mapping[str, Any]) -> Arrays:
    """Return the arrays of a large split as they are kept."""
    kept = dict(columns)
    for name in [name for name, kind in _MATRICES.items() if kind == "u" and name in kept]:
        held = kept.pop(name)
        kept |= (held if isinstance(held, SparseIndicator) else SparseIndicator.from_dense(held)).named(name)
    if "scores" in kept and "targets" in columns:
        kept |= TopScores.of(kept.pop("scores"), columns["targets"]).named()
    if "thresholds" in kept:
        kept["thresholds"] = _one_line(kept["thresholds"])
    return kept


def _one_line(thresholds: NDArray[Any]) -> NDArray[Any]:
    """Return the one row, or the one column, of thresholds that are the same for all images, or for all labels."""
    blocks = row_slices(*thresholds.shape)
    if all((thresholds[rows] == thresholds[:1]).all() for rows in blocks):
        return thresholds[:1]
    if all((thresholds[rows] == thresholds[rows, :1]).all() for rows in blocks):
        return thresholds[:, :1]
    return thresholds


def write_thumbnails(path: Path, images: Mapping[int, NDArray[np.uint8]]) -> None:
    """Write small images to `path` under their rows in the test split, each uint8 (h, w) or (h, w, 3).

    As they are: photographs take long to compress, by a third.
    """
    with atomic_write(path, "wb") as file:
        np.savez(file, allow_pickle=False, **{str(row): image for row, image in images.items()})


def read_arrays(run: Run, file: str, *names: str) -> Arrays:
    """Read the arrays `names` of a run's `file`, predictions.npz or validation.npz; `thresholds` only where there.

    Scores of which the file has the highest alone are `TopScores.dense`, and that is logged. Matrices of 0 and 1 are
    dense; `read_held` leaves them sparse.

    Raises:
        RecordError: file or array missing, damaged, of the wrong type or shape, with values that cannot be, or with
            its labels in another order than result.json.
    """
    found = _checked(run, file, read_npz(run, file, (*names, "label_names"), optional="thresholds"))
    return {name: np.asarray(array) for name, array in found.items()}


def read_held(run: Run, file: str, *names: str) -> dict[str, Any]:
    """Read as `read_arrays` does, but hold matrices in less memory where the file does, or from `ENTRIES` entries on:
    those of 0 and 1 as a `SparseIndicator`, thresholds that are the same for all images or labels once."""
    return _checked(
        run, file, read_npz(run, file, (*names, "label_names"), optional="thresholds", hold=_held)
    )


def _held(name: str, array: Any) -> Any:
    """Return the matrix `name` in little memory; as it is where it is small, or where it has values that cannot be."""
    if name not in _MATRICES or array.size < ENTRIES or array.ndim != 2:
        return array
    if _MATRICES[name] == "u" and array.dtype in (np.uint8, np.bool_) and array.max() <= 1:
        return SparseIndicator.from_dense(array)
    line = _one_line(array) if name == "thresholds" and len(array) else array
    return line.copy() if line.size < array.size else array


def _checked(run: Run, file: str, found: dict[str, Any]) -> dict[str, Any]:
    labels = tuple(found.pop("label_names").tolist())
    if labels != run.label_names:
        raise RecordError(f"{file}: its labels are {_shown(labels)}, result.json's {_shown(run.label_names)}")
    thresholds = found.get("thresholds", np.empty((0, 0)))
    lengths = {name: len(array) for name, array in found.items()}
    if thresholds.shape == (1, len(labels)):  # of all images
        lengths.pop("thresholds")
    images = set(lengths.values())
    if len(images) != 1 or 0 in images:
        raise RecordError(
            f"{file}: arrays of {sorted(images)} images; they must be of one length, at least 1"
        )
    if thresholds.shape in ((1, len(labels)), (*images, 1)):
        found["thresholds"] = np.broadcast_to(thresholds, (*images, len(labels)))
    for name, array in found.items():
        if name in _MATRICES:
            _check_matrix(f"{file}: {name}", array, (*images, len(labels)), _MATRICES[name])
    return found


def read_test_split(run: Run) -> Arrays:
    """Read every array that `run` has of its test split; raises as `read_arrays`."""
    of_scores = ("scores",) if run.has_scores else ()  # a predictor may have none
    return read_arrays(run, TEST, "predictions", "targets", "mask", "image_ids", "thresholds", *of_scores)


def read_thumbnails(run: Run) -> dict[int, NDArray[np.uint8]]:
    """Read test row -> small image from the thumbnails.npz of `run`, uint8 (h, w) or (h, w, 3).

    Raises:
        RecordError: the file is missing or damaged, or holds something else.
    """
    thumbnails = {}
    for name, image in read_npz(run, THUMBNAILS, None).items():
        shaped = image.ndim == 2 or (image.ndim == 3 and image.shape[2] == 3)
        if not name.isdigit() or image.dtype != np.uint8 or not shaped or 0 in image.shape:
            raise RecordError(
                f"{THUMBNAILS}: {name!r} is {image.dtype} {image.shape}, no picture of a test row"
            )
        thumbnails[int(name)] = image
    return dict(sorted(thumbnails.items()))


def write_npz(path: Path, arrays: Arrays) -> None:
    """Write `arrays` to `path` under their names."""
    with atomic_write(path, "wb") as file:
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]


def read_npz(
    run: Run,
    name: str,
    names: tuple[str, ...] | None,
    optional: str = "",
    hold: Callable[[str, Any], Any] = lambda _, array: array,
) -> dict[str, Any]:
    """Read the arrays `names` of a run's file, None: all; the `optional` one only where it is there.

    hold: what is kept of each, by its name, before the next is read.

    Raises:
        RecordError: file or array missing, or damaged.
    """
    path = run.folder / name
    try:
        check_file(path, run.files)
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            wanted = (
                arrays.files if names is None else [n for n in names if n != optional or n in arrays.files]
            )
            short = "scores" in wanted and "scores_values" in arrays.files
            sparse = {name for name in wanted if f"{name}_columns" in arrays.files} - {"scores"}
            found = {
                name: hold(name, arrays[name])
                for name in wanted
                if name not in sparse and (name != "scores" or not short)
            }
            for name in sparse:
                found[name] = SparseIndicator.found_in(arrays, name, len(arrays["label_names"]))
            if short:
                log.warning("%s keeps the highest scores of each image alone: %s", path, top_scores.SAYS)
                found["scores"] = TopScores.found_in(arrays).dense(len(arrays["label_names"]))
            return found
    except FileNotFoundError:
        raise RecordError(f"{name}: missing; run the job again to have it") from None
    except KeyError as error:
        raise RecordError(f"{name}: {error.args[0]!s}; run the job again") from None
    except RecordError:
        raise
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise RecordError(f"{name}: damaged ({error}); run the job again") from None


def _check_matrix(where: str, array: Any, shape: tuple[int, ...], kind: str) -> None:
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
