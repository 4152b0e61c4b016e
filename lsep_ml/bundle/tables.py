"""The one table of label sets that `predict` and `apply` write: as CSV, one JSON object a line, or Parquet."""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import IO, Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from lsep_ml.bundle.predictions import Predictions
from lsep_ml.data.label_names import label_cell, needs_lists
from lsep_ml.files import atomic_write, check_writable, inert

SUFFIXES = (".csv", ".jsonl", ".parquet")
CHUNK = 4096
"""Rows of a CSV that are in memory at a time."""

OF_LABELS = ("score", "threshold", "probability")
"""What has a column a label: score_NAME, threshold_NAME, probability_NAME."""


@dataclass(frozen=True)
class ImageRow:
    """Holds what is said of one image.

    labels: the highest score first. scores, thresholds, probabilities: float32 (K,), the last two where the decision
    has them. count: of labels, where the decision estimates it. margin: see `Predictions.margins`; None where there is
    none. ask: whether a person is to be asked about it; None where all are answered. problem: why the image has no
    scores.
    """

    image: str
    labels: Sequence[str] = ()
    scores: NDArray[np.float32] | None = None
    thresholds: NDArray[np.float32] | None = None
    probabilities: NDArray[np.float32] | None = None
    count: int | None = None
    margin: float | None = None
    ask: bool | None = None
    problem: str | None = None


@dataclass(frozen=True)
class Columns:
    """Says which columns a table has beside `image` and `labels`.

    scores: and `margin`. ask: whether a person is to be asked. problem: why rows have no scores. predicted:
    predicted_NAME, 0 or 1, and the image once more as image_id, in CSV and Parquet, for programs that want a matrix.
    spreadsheet: whether the texts of a CSV that a spreadsheet would take for formulas are marked as text.
    """

    label_names: Sequence[str]
    scores: bool = True
    thresholds: bool = False
    probabilities: bool = False
    count: bool = False
    ask: bool = False
    problem: bool = False
    predicted: bool = False
    spreadsheet: bool = False

    @property
    def of_labels(self) -> list[tuple[str, str]]:
        """Return the beginnings of the names of columns that each label has, and fields of `ImageRow`."""
        fields = {"score": "scores", "threshold": "thresholds", "probability": "probabilities"}
        return [(kind, fields[kind]) for kind in OF_LABELS if self.scores and getattr(self, fields[kind])]


def check_table(path: Path, *, overwrite: bool = False) -> None:
    """Raise ValueError, or OSError, unless a table can be made at `path`."""
    if path.suffix not in SUFFIXES:
        raise ValueError(f"--out {path}: expected a name with {', '.join(SUFFIXES)}")
    check_writable(path)
    if path.exists() and not overwrite:
        raise FileExistsError(f"{path}: exists; --overwrite replaces it, --out names another")


def rows_of(images: Sequence[str], predictions: Predictions) -> Iterator[ImageRow]:
    """Give the rows of images and what was predicted of them, in their order."""
    margins = predictions.margins

    def at(values: NDArray[np.float32] | None, row: int) -> NDArray[np.float32] | None:
        return None if values is None else values[row]

    for row, (image, labels) in enumerate(zip(images, predictions.labels, strict=True)):
        yield ImageRow(
            image,
            labels,
            predictions.scores[row],
            at(predictions.thresholds, row),
            at(predictions.probabilities, row),
            None if predictions.counts is None else int(predictions.counts[row]),
            None if np.isnan(margins[row]) else float(margins[row]),
            None if predictions.ask is None else bool(predictions.ask[row]),
        )


def write_table(path: Path, rows: Iterable[ImageRow], columns: Columns) -> None:
    """Write `rows` to `path` by its suffix, whole or not at all.

    A CSV has labels separated by |, or JSON lists where a name would not come back from that (`needs_lists`);
    `data=own` and `data=csv` train on it, once a person has corrected the labels.
    """
    write = {".csv": _write_csv, ".jsonl": _write_jsonl, ".parquet": _write_parquet}[path.suffix]
    with atomic_write(path, "wb") as file:
        write(file, iter(rows), columns)


def _write_csv(file: IO[bytes], rows: Iterator[ImageRow], columns: Columns) -> None:
    chunk: list[ImageRow] = []
    header, lists = True, needs_lists(columns.label_names)
    while header or chunk:
        cells = [label_cell(row.labels, lists) for row in chunk]
        frame = _frame(chunk, columns).with_columns(labels=pl.Series(cells, dtype=pl.String))
        if columns.spreadsheet:
            texts = pl.selectors.string()
            frame = frame.rename(inert).with_columns(texts.map_elements(inert, return_dtype=pl.String))
        frame.write_csv(file, include_header=header)
        chunk, header = list(islice(rows, CHUNK)), False


def _write_jsonl(file: IO[bytes], rows: Iterator[ImageRow], columns: Columns) -> None:
    for row in rows:
        record: dict[str, Any] = {"image": row.image, "labels": list(row.labels)}
        if row.problem is not None:
            record["problem"] = row.problem
        elif columns.scores:
            for _, field in columns.of_labels:
                record[field] = dict(zip(columns.label_names, getattr(row, field).tolist(), strict=True))
            record |= {"count": row.count} if columns.count else {}
            record["margin"] = row.margin
            record |= {"ask": row.ask} if columns.ask else {}
        file.write(json.dumps(record, ensure_ascii=False).encode() + b"\n")


def _write_parquet(file: IO[bytes], rows: Iterator[ImageRow], columns: Columns) -> None:
    _frame(list(rows), columns).write_parquet(file)


def _frame(rows: Sequence[ImageRow], columns: Columns) -> pl.DataFrame:
    found: dict[str, Any] = {
        "image": pl.Series([row.image for row in rows], dtype=pl.String),
        "labels": pl.Series([list(row.labels) for row in rows], dtype=pl.List(pl.String)),
    }
    if columns.scores:
        found["margin"] = pl.Series([row.margin for row in rows], dtype=pl.Float32)
    if columns.scores and columns.ask:
        found["ask"] = pl.Series([row.ask for row in rows], dtype=pl.Boolean)
    if columns.scores and columns.count:
        found["count"] = pl.Series([row.count for row in rows], dtype=pl.Int64)
    nothing = np.full(len(columns.label_names), np.nan, np.float32)
    for kind, field in columns.of_labels:
        values = [nothing if getattr(row, field) is None else getattr(row, field) for row in rows]
        table = np.reshape(values, (len(rows), len(nothing)))
        for name, column in zip(columns.label_names, table.T, strict=True):
            found[f"{kind}_{name}"] = pl.Series(column, dtype=pl.Float32).fill_nan(None)
    if columns.predicted:
        found["image_id"] = found["image"]
        for name in columns.label_names:
            found[f"predicted_{name}"] = pl.Series([name in row.labels for row in rows], dtype=pl.UInt8)
    if columns.problem:
        found["problem"] = pl.Series([row.problem for row in rows], dtype=pl.String)
    return pl.DataFrame(found)
