"""Labels of many images as a file that survives interruption: rows appended as they come, the table made last."""

import json
from base64 import b64decode, b64encode
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Self

import numpy as np
import polars as pl
from numpy.typing import NDArray

from lsep_ml.bundle.predictions import Predictions
from lsep_ml.files import atomic_write

SUFFIXES = (".csv", ".jsonl", ".parquet")
CHUNK = 4096
"""Rows of a CSV that are in memory at a time."""


class LabelTable:
    """The rows of a table to be, kept in `<table>.part`, one JSON record a line, flushed as they are added.

    Scores and thresholds stand in it as base64 of little-endian float32, which costs a tenth of the time of digits.

    A process that is killed loses at most the line it was writing; opened again by the same `made_by`, the rows are
    there. `finish` writes the table, whole or not at all, and removes the part.

    Args:
        path: the table, .csv, .jsonl or .parquet.
        label_names: K names.
        made_by: plain data that all rows depend on.
        overwrite: whether a finished table may be replaced.

    Raises:
        ValueError: another suffix, or a part that was made by something else.
        FileExistsError: the finished table is there.
    """

    def __init__(
        self, path: Path, label_names: Sequence[str], made_by: dict[str, Any], *, overwrite: bool = False
    ) -> None:
        if path.suffix not in SUFFIXES:
            raise ValueError(f"--out {path}: expected a name with {', '.join(SUFFIXES)}")
        if path.exists() and not overwrite:
            raise FileExistsError(f"{path}: exists; --overwrite replaces it, --out names another")
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path, self.label_names = path, tuple(label_names)
        self.part = path.with_name(path.name + ".part")
        self._offsets: dict[str, int] = {}
        self._file = self.part.open("a+b")
        try:
            self._recover(made_by)
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()

    def __contains__(self, image: str) -> bool:
        return image in self._offsets

    def __len__(self) -> int:
        return len(self._offsets)

    def add(self, images: Sequence[str], predictions: Predictions) -> None:
        """Append the rows of a batch and hand them to the operating system."""
        for row, (image, labels) in enumerate(zip(images, predictions.labels, strict=True)):
            record: dict[str, Any] = {
                "image": image,
                "labels": labels,
                "scores": _pack(predictions.scores[row]),
            }
            if predictions.thresholds is not None:
                record["thresholds"] = _pack(predictions.thresholds[row])
            if predictions.counts is not None:
                record["count"] = int(predictions.counts[row])
            self._offsets[image] = self._append(record)
        self._file.flush()

    def rows(self, images: Sequence[str]) -> Iterator[dict[str, Any]]:
        """The rows of these images, those that are there, in their order; scores and thresholds float32 (K,)."""
        self._file.flush()
        for image in images:
            if image in self._offsets:
                self._file.seek(self._offsets[image])
                row = json.loads(self._file.readline())
                packed = {key: _unpack(row[key]) for key in ("scores", "thresholds") if key in row}
                yield row | packed

    def finish(self, images: Sequence[str], *, scores: bool = True) -> None:
        """Write the table of these images in their order; without `scores`, a CSV that `data=csv` trains on."""
        if self.path.suffix == ".csv":
            self._write_csv(images, scores)
        elif self.path.suffix == ".jsonl":
            self._write_jsonl(images, scores)
        else:
            self._write_parquet(images, scores)
        self._file.close()
        self.part.unlink()

    def _recover(self, made_by: dict[str, Any]) -> None:
        """Index the rows of an earlier process; a last line that was cut off is removed."""
        self._file.seek(0)
        header = self._file.readline()
        if not header.endswith(b"\n"):  # new, or killed at once
            self._file.truncate(0)
            self._append(made_by)
            self._file.flush()
            return
        end = len(header)
        try:
            same = json.loads(header) == json.loads(json.dumps(made_by))
            for line in self._file if same else ():
                if not line.endswith(b"\n"):
                    break
                self._offsets[json.loads(line)["image"]] = end
                end += len(line)
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{self.part}: damaged at byte {end} ({error!r}); move or delete it") from error
        if not same:
            raise ValueError(
                f"{self.part}: a part made by another bundle or decision; finish it with the command that began it, "
                "delete it, or give --out another name"
            )
        self._file.truncate(end)

    def _append(self, value: dict[str, Any]) -> int:
        start = self._file.seek(0, 2)
        self._file.write(json.dumps(value).encode() + b"\n")
        return start

    def _write_csv(self, images: Sequence[str], scores: bool) -> None:
        rows = self.rows(images)
        with atomic_write(self.path, "wb") as file:
            chunk: list[dict[str, Any]] = []
            header = True
            while header or chunk:
                frame = self._frame(chunk, scores).with_columns(pl.col("labels").list.join("|"))
                frame.write_csv(file, include_header=header)
                chunk, header = list(islice(rows, CHUNK)), False

    def _write_jsonl(self, images: Sequence[str], scores: bool) -> None:
        with atomic_write(self.path) as file:
            for row in self.rows(images):
                for key in ("scores", "thresholds"):
                    if key in row:
                        row[key] = dict(zip(self.label_names, row[key].tolist(), strict=True))
                kept = row if scores else {key: row[key] for key in ("image", "labels")}
                file.write(json.dumps(kept, ensure_ascii=False) + "\n")

    def _write_parquet(self, images: Sequence[str], scores: bool) -> None:
        with atomic_write(self.path, "wb") as file:
            self._frame(list(self.rows(images)), scores).write_parquet(file)

    def _frame(self, rows: Sequence[dict[str, Any]], scores: bool) -> pl.DataFrame:
        columns: dict[str, Any] = {
            "image": pl.Series([row["image"] for row in rows], dtype=pl.String),
            "labels": pl.Series([row["labels"] for row in rows], dtype=pl.List(pl.String)),
        }
        if scores:
            table = (
                np.stack([row["scores"] for row in rows]) if rows else np.zeros((0, len(self.label_names)))
            )
            for name, column in zip(self.label_names, table.T, strict=True):
                columns[f"score_{name}"] = pl.Series(column, dtype=pl.Float32)
        return pl.DataFrame(columns)


def _pack(values: NDArray[np.float32]) -> str:
    return b64encode(values.astype("<f4").tobytes()).decode()


def _unpack(text: str) -> NDArray[np.float32]:
    return np.frombuffer(b64decode(text), "<f4")
