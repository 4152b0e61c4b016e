"""How labels of many images survive interruption in a file: rows appended as they come, the table made last."""

import json
from base64 import b64decode, b64encode
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import IO, Any, NamedTuple, Self

import numpy as np
import polars as pl
from filelock import FileLock, Timeout
from numpy.typing import NDArray

from lsep_ml.bundle.predictions import Predictions
from lsep_ml.files import atomic_write, check_writable, inert

SUFFIXES = (".csv", ".jsonl", ".parquet")
CHUNK = 4096
"""Rows of a CSV that are in memory at a time."""


def check_table(path: Path, *, overwrite: bool = False) -> None:
    """Raise ValueError, or OSError, unless a table can be made at `path`."""
    if path.suffix not in SUFFIXES:
        raise ValueError(f"--out {path}: expected a name with {', '.join(SUFFIXES)}")
    check_writable(path)
    if path.exists() and not overwrite:
        raise FileExistsError(f"{path}: exists; --overwrite replaces it, --out names another")


class LabelTable:
    """Keeps the rows of a table to be in `<table>.part`, one JSON record a line, flushed as they are added.

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
        FileExistsError: the finished table is there, or another process is writing it.
    """

    def __init__(
        self, path: Path, label_names: Sequence[str], made_by: dict[str, Any], *, overwrite: bool = False
    ) -> None:
        check_table(path, overwrite=overwrite)
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path, self.label_names = path, tuple(label_names)
        self.part = path.with_name(path.name + ".part")
        self._offsets: dict[str, int] = {}
        self._lock = FileLock(self.part.with_name(f"{self.part.name}.lock"), timeout=0)
        try:
            self._lock.acquire()
        except Timeout:
            raise FileExistsError(
                f"{self.part}: another process is writing it; wait for it, or give --out another name"
            ) from None
        try:
            self._file = self.part.open("a+b")
            self._recover(made_by)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Let another process have the part."""
        if hasattr(self, "_file"):
            self._file.close()
        if self._lock.is_locked:
            Path(self._lock.lock_file).unlink(missing_ok=True)
            self._lock.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

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

    def rows(
        self, images: Sequence[str], problems: Mapping[str, str] | None = None
    ) -> Iterator[dict[str, Any]]:
        """Give the rows of `images`, those that are there, in their order; scores and thresholds float32 (K,).

        An image in `problems` has a row without them, which says why.
        """
        self._file.flush()
        for image in images:
            if image in self._offsets:
                self._file.seek(self._offsets[image])
                row = json.loads(self._file.readline())
                packed = {key: _unpack(row[key]) for key in ("scores", "thresholds") if key in row}
                yield row | packed
            elif problems and image in problems:
                yield {"image": printable(image), "labels": [], "problem": problems[image]}

    def finish(
        self,
        images: Sequence[str],
        *,
        scores: bool = True,
        problems: Mapping[str, str] | None = None,
        spreadsheet: bool = False,
    ) -> None:
        """Write the table of these images in their order.

        Those in `problems` have no label and no score, and why in the column `problem`, which is there where one is.
        Without `scores`, they are left out, and a CSV is one that `data=csv` trains on. For a `spreadsheet`, texts of a
        CSV that it would take for formulas are marked as text.
        """
        rows = self.rows(images, problems if scores else None)
        write = {".csv": self._write_csv, ".jsonl": self._write_jsonl, ".parquet": self._write_parquet}
        with atomic_write(self.path, "wb") as file:
            write[self.path.suffix](file, rows, _Columns(scores, scores and bool(problems), spreadsheet))
        self._file.close()
        self.part.unlink()
        self.close()

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

    def _write_csv(self, file: IO[bytes], rows: Iterator[dict[str, Any]], columns: "_Columns") -> None:
        chunk: list[dict[str, Any]] = []
        header = True
        while header or chunk:
            frame = self._frame(chunk, columns).with_columns(pl.col("labels").list.join("|"))
            if columns.spreadsheet:
                texts = pl.selectors.string()
                frame = frame.rename(inert).with_columns(texts.map_elements(inert, return_dtype=pl.String))
            frame.write_csv(file, include_header=header)
            chunk, header = list(islice(rows, CHUNK)), False

    def _write_jsonl(self, file: IO[bytes], rows: Iterator[dict[str, Any]], columns: "_Columns") -> None:
        for row in rows:
            for key in ("scores", "thresholds"):
                if key in row:
                    row[key] = dict(zip(self.label_names, row[key].tolist(), strict=True))
            kept = row if columns.scores else {key: row[key] for key in ("image", "labels")}
            file.write(json.dumps(kept, ensure_ascii=False).encode() + b"\n")

    def _write_parquet(self, file: IO[bytes], rows: Iterator[dict[str, Any]], columns: "_Columns") -> None:
        self._frame(list(rows), columns).write_parquet(file)

    def _frame(self, rows: Sequence[dict[str, Any]], wanted: "_Columns") -> pl.DataFrame:
        columns: dict[str, Any] = {
            "image": pl.Series([row["image"] for row in rows], dtype=pl.String),
            "labels": pl.Series([row["labels"] for row in rows], dtype=pl.List(pl.String)),
        }
        if wanted.scores:
            nothing = np.full(len(self.label_names), np.nan)
            table = np.reshape([row.get("scores", nothing) for row in rows], (len(rows), len(nothing)))
            for name, column in zip(self.label_names, table.T, strict=True):
                columns[f"score_{name}"] = pl.Series(column, dtype=pl.Float32).fill_nan(None)
        if wanted.problem:
            columns["problem"] = pl.Series([row.get("problem") for row in rows], dtype=pl.String)
        return pl.DataFrame(columns)


class _Columns(NamedTuple):
    """Says which columns a table has beside image and labels, and whether its texts are marked for a spreadsheet."""

    scores: bool
    problem: bool
    spreadsheet: bool


def printable(name: str) -> str:
    """Write `name`, a file's, as UTF-8 can: bytes that are none are escaped."""
    return name if name.isprintable() else ascii(name)


def _pack(values: NDArray[np.float32]) -> str:
    return b64encode(values.astype("<f4").tobytes()).decode()


def _unpack(text: str) -> NDArray[np.float32]:
    return np.frombuffer(b64decode(text), "<f4")
