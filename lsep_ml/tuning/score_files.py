"""How score matrices of any model are read from files: npz, CSV or parquet."""

import csv
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from lsep_ml.files import reading
from lsep_ml.metrics.counts import binary
from lsep_ml.runs.record import check_beside

SUFFIXES = (".npz", ".csv", ".parquet")
WORDS = {
    "": None,
    "nan": None,
    "na": None,
    "n/a": None,
    "<na>": None,
    "null": None,
    "none": None,
    "true": "1",
    "false": "0",
}
"""What stands for a number, as pandas and spreadsheets write it; None: unknown. Capitals do not matter."""


@dataclass(frozen=True)
class ScoreTable:
    """Holds `scores` of N images and K labels, and what else their file has.

    scores float32 (N, K); targets 0/1 (N, K); mask bool (N, K), True = known, None: all known; features
    float32 (N, D); label_names (K); image_ids (N).
    """

    scores: np.ndarray
    targets: np.ndarray | None = None
    mask: np.ndarray | None = None
    features: np.ndarray | None = None
    label_names: list[str] | None = None
    image_ids: list[str] | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """Return the labels' names, or else their numbers from 0."""
        return tuple(self.label_names or map(str, range(self.scores.shape[1])))

    @property
    def images(self) -> list[str]:
        """Return the images' ids, or else their rows from 0."""
        return self.image_ids or [str(row) for row in range(len(self.scores))]


def read_scores(path: Path) -> ScoreTable:
    """Read the scores in `path`.

    npz: arrays scores (N, K) and, as far as there are, targets, mask, features, label_names, image_ids (the
    keys of a run's predictions.npz). CSV and parquet: a column score_NAME for each label, and target_NAME (0,
    1 or empty for unknown), feature_NAME and image_id (or image) columns, as far as there are; parquet also takes list
    columns named scores, targets and features. A column's kind comes from its name: an image_id is text as it
    stands, all others are numbers. A target that is NaN is unknown, as one that is empty. A row with text in a column
    `problem` is an image that `predict` could not use: it is left out.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is a run's and not as the run left it, has another suffix, lacks scores, or has targets other
            than 0 and 1, scores or features that are no finite numbers, or arrays that do not belong together; names
            the column and the line or row.
    """
    if path.suffix not in SUFFIXES:
        raise ValueError(f"{path}: expected a file of {', '.join(SUFFIXES)}")
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    read = {".npz": _from_npz, ".csv": _from_csv, ".parquet": _from_parquet}[path.suffix]
    check_beside(path)
    with reading(path, "a usable file of scores"):
        return _checked(**read(path))


def _checked(
    scores: np.ndarray,
    targets: np.ndarray | None = None,
    mask: np.ndarray | None = None,
    features: np.ndarray | None = None,
    label_names: Sequence[str] | None = None,
    image_ids: Sequence[str] | None = None,
) -> ScoreTable:
    """Make the table of these arrays; raises ValueError for what they may not be."""
    scores = _numbers("scores", scores)
    if 0 in scores.shape:
        raise ValueError(f"scores of {scores.shape[0]} images and {scores.shape[1]} labels")
    if features is not None:
        features = _numbers("features", features)
    rows, labels = scores.shape
    for name, values, shape in (
        ("targets", targets, (rows, labels)),
        ("mask", mask, (rows, labels)),
        ("features", features, (rows, features.shape[1] if features is not None else 0)),
        ("label_names", label_names, (labels,)),
        ("image_ids", image_ids, (rows,)),
    ):
        if values is not None and np.shape(values) != shape:
            raise ValueError(f"{name} have shape {np.shape(values)}, scores {scores.shape}")
    names = None if label_names is None else [str(name) for name in label_names]
    if names is not None and len(set(names)) < len(names):
        raise ValueError(
            f"the label {next(name for name in names if names.count(name) > 1)!r} is there twice"
        )
    known = None if mask is None else binary("mask", mask, None)
    if targets is not None:
        if targets.dtype.kind == "f" and np.isnan(targets).any():
            known = ~np.isnan(targets) if known is None else known & ~np.isnan(targets)
        targets = binary("targets", targets, known).astype(np.uint8)
    ids = None if image_ids is None else [str(name) for name in image_ids]
    return ScoreTable(scores, targets, known, features, names, ids)


def _numbers(name: str, values: np.ndarray) -> np.ndarray:
    """Return the matrix `values` as float32; raises ValueError unless they are numbers, none NaN or infinite."""
    if values.ndim != 2 or values.dtype.kind not in "fiub":
        raise ValueError(f"{name}: {values.dtype} of shape {values.shape}; expected a matrix of numbers")
    with np.errstate(over="ignore"):  # too large for float32 is infinite, and refused
        values = values.astype(np.float32)
    if not np.isfinite(values).all():
        row, column = np.argwhere(~np.isfinite(values))[0]
        raise ValueError(
            f"{name}: {values[row, column]} in row {row}, column {column}; expected finite numbers"
        )
    return values


def _from_npz(path: Path) -> dict[str, Any]:
    with path.open("rb") as content, np.load(content, allow_pickle=False) as file:
        arrays = {name: file[name] for name in file.files}
    if "scores_values" in arrays:
        raise ValueError(
            "it keeps the highest scores of each image alone, which no decision can be fitted or compared on; run the "
            "job with another decision, which finds the scores stored"
        )
    if "scores" not in arrays:
        raise ValueError(f"no array named scores; found {', '.join(arrays) or 'nothing'}")
    names = ("scores", "targets", "mask", "features", "label_names", "image_ids")
    return {name: arrays[name] for name in names if name in arrays}


def _from_csv(path: Path) -> dict[str, Any]:
    with path.open(newline="", encoding="utf-8-sig") as file:
        rows = csv.reader(file)
        header = next(rows, [])
        odd = next(
            ((rows.line_num, len(cells)) for cells in rows if len(cells) not in (0, len(header))), None
        )
    if len(header) == 1 and (other := [mark for mark in ";\t" if mark in header[0]]):
        raise ValueError(
            f"its columns are separated by {other[0]!r}; save it with commas, and points in numbers"
        )
    if not any(name.startswith("score_") for name in header):
        raise ValueError(f"no columns named score_LABEL; found {', '.join(header)[:80] or 'nothing'}")
    twice = sorted({name for name in header if header.count(name) > 1})
    if twice:
        raise ValueError(f"the column {twice[0]!r} is there twice")
    if odd is not None:
        raise ValueError(f"line {odd[0]}: {odd[1]} cells under {len(header)} columns")
    # As text: what a column holds is what its name says, not what its first rows look like.
    frame = pl.read_csv(path, infer_schema=False)
    return _from_frame(frame, lambda row: f"line {row + 2}")


def _from_parquet(path: Path) -> dict[str, Any]:
    frame = pl.read_parquet(path)
    if "scores" in frame.columns:
        arrays = {name: _matrix_of_lists(frame, name) for name in ("scores", "targets", "features")}
        arrays = {name: values for name, values in arrays.items() if values is not None}
        return arrays | _image_ids(frame)
    return _from_frame(frame, lambda row: f"row {row}")


Place = Callable[[int], str]
"""From a row of a frame to where it stands in the file."""


def _from_frame(frame: pl.DataFrame, place: Place) -> dict[str, Any]:
    """Read the arrays of `frame`, which has a column a label."""
    if "problem" in frame.columns:
        usable = frame["problem"].cast(pl.String).fill_null("") == ""
        rows, everywhere = usable.arg_true().to_list(), place
        frame, place = frame.filter(usable), lambda row: everywhere(rows[row])
    scores, names = _matrix(frame, "score", place)
    targets, target_names = _matrix(frame, "target", place)
    features, _ = _matrix(frame, "feature", place)
    if scores is None:
        raise ValueError(f"no columns named score_LABEL; found {', '.join(frame.columns)[:80] or 'nothing'}")
    if targets is not None and names != target_names:
        odd = sorted(set(names) ^ set(target_names)) or "their order"
        raise ValueError(f"score_ and target_ columns differ in {odd}")
    arrays = {"scores": scores, "targets": targets, "features": features, "label_names": names}
    return arrays | _image_ids(frame)


def _image_ids(frame: pl.DataFrame) -> dict[str, Any]:
    column = next((name for name in ("image_id", "image") if name in frame.columns), None)
    return {} if column is None else {"image_ids": [str(name) for name in frame[column]]}


def _matrix(frame: pl.DataFrame, kind: str, place: Place) -> tuple[np.ndarray | None, list[str]]:
    """Read the columns KIND_NAME as a float64 matrix with their names; a target that is empty is NaN."""
    columns = [name for name in frame.columns if name.startswith(f"{kind}_")]
    if not columns:
        return None, []
    of_column = [_column(frame[name], kind, place) for name in columns]
    return np.stack(of_column, axis=1), [name.removeprefix(f"{kind}_") for name in columns]


def _column(column: pl.Series, kind: str, place: Place) -> np.ndarray:
    numbers = column.cast(pl.Float64, strict=False)
    if column.dtype == pl.String and numbers.null_count():
        text = column.str.strip_chars()
        plain = text.str.to_lowercase().replace(WORDS)  # null where unknown
        numbers = plain.cast(pl.Float64, strict=False)
        wrong = plain.is_not_null() & numbers.is_null()
    else:
        wrong = column.is_not_null() & numbers.is_null()
    if wrong.any():
        row = int(wrong.arg_max() or 0)
        raise ValueError(f"{place(row)}, column {column.name!r}: {column[row]!r:.40} is no number")
    if kind == "target":
        wrong = numbers.is_not_null() & numbers.is_not_nan() & ~numbers.is_in([0.0, 1.0])
        expected = "0, 1, or nothing for unknown"
    else:
        wrong = numbers.is_null() | numbers.is_nan() | numbers.is_infinite()
        expected = "a finite number"
    wrong = wrong.fill_null(kind != "target")
    if wrong.any():
        row = int(wrong.arg_max() or 0)
        raise ValueError(f"{place(row)}, column {column.name!r}: {column[row]!r:.40}; expected {expected}")
    return numbers.fill_null(np.nan).to_numpy()


def _matrix_of_lists(frame: pl.DataFrame, name: str) -> np.ndarray | None:
    if name not in frame.columns:
        return None
    rows = frame[name].to_list()
    widths = {None if row is None else len(row) for row in rows}
    if len(widths) != 1 or None in widths:
        raise ValueError(f"column {name}: lists of different lengths {sorted(map(str, widths))}")
    return np.array(rows, dtype=np.float64)
