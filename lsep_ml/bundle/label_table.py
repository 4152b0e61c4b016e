"""How labels of many images survive interruption in a file: rows appended as they come, the table made last."""

import dataclasses
import json
import os
from base64 import b64decode, b64encode
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import NDArray

from lsep_ml.bundle.other_tools import check_export, export_rows
from lsep_ml.bundle.predictions import Predictions
from lsep_ml.bundle.tables import Columns, ImageRow, check_table, rows_of, write_table

PACKED = ("scores", "thresholds", "probabilities")
"""Fields of a row that are arrays."""


def check_out(path: Path, tool: str | None = None, *, overwrite: bool = False) -> None:
    """Raise ValueError, or OSError, unless a table, or a file for `tool`, can be made at `path`."""
    if tool is None:
        check_table(path, overwrite=overwrite)
    elif tool == "cleanlab":
        raise ValueError(
            "--to cleanlab: it compares given labels with predictions, and these images have none; use apply on a file "
            "of scores with targets, such as a run's predictions.npz"
        )
    else:
        check_export(path, tool, overwrite=overwrite)


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
        tool: what to write in place of a table, "fiftyone" or "label_studio" (see `export`).
        root: for a tool, the folder from which it names images.
        scores: whether the table has scores, thresholds and probabilities of every label, which are kept only then; for
            a tool they always are.
        spreadsheet: for a CSV, whether texts that a spreadsheet would take for formulas are marked as text.

    Raises:
        ValueError: another suffix, or a part that was made by something else.
        FileExistsError: the finished table is there, or another process is writing it.
    """

    def __init__(
        self,
        path: Path,
        label_names: Sequence[str],
        made_by: dict[str, Any],
        *,
        overwrite: bool = False,
        tool: str | None = None,
        root: Path | None = None,
        scores: bool = True,
        spreadsheet: bool = False,
    ) -> None:
        check_out(path, tool, overwrite=overwrite)
        self.tool, self.root = tool, root
        self.scores, self.spreadsheet = scores, spreadsheet
        if not scores and tool is None:
            made_by = {**made_by, "scores": False}
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
        """Let another process have the unfinished table."""
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
        for row in rows_of(images, predictions):
            record = {key: value for key, value in vars(row).items() if value is not None}
            packed = {key: _pack(record.pop(key)) for key in PACKED if key in record}
            self._offsets[row.image] = self._append(record | (packed if self.scores or self.tool else {}))
        self._file.flush()

    def line(self, image: str) -> bytes:
        """Return the record of an image that is there, as it stands in the unfinished table."""
        self._file.seek(self._offsets[image])
        return self._file.readline()

    def take(self, lines: Iterable[tuple[str, bytes]]) -> None:
        """Append images' records, as `line` gives them, but no second one of an image."""
        for image, line in lines:
            if image not in self._offsets:
                self._offsets[image] = self._file.seek(0, 2)
                self._file.write(line)

    def rows(self, images: Sequence[str], problems: Mapping[str, str] | None = None) -> Iterator[ImageRow]:
        """Give the rows of `images`, those that are there, in their order.

        An image in `problems` has a row without scores, which says why.
        """
        self._file.flush()
        for image in images:
            if image in self._offsets:
                yield self._row(image)
            elif problems and image in problems:
                yield ImageRow(printable(image), problem=problems[image])

    def finish(
        self,
        images: Sequence[str],
        problems: Mapping[str, str] | None = None,
    ) -> None:
        """Write the table of these images in their order.

        Those in `problems` have no label and no score, and why in the column `problem`, which is there where one is.
        A table without scores leaves them out.
        """
        rows = self.rows(images, problems if self.scores else None)
        if self.tool is None:
            write_table(self.path, rows, self._columns(self.scores and bool(problems)))
        else:
            absolute = (dataclasses.replace(row, image=os.path.abspath(row.image)) for row in rows)
            export_rows(
                self.path, self.tool, rows if self.root is None else absolute, self.label_names, self.root
            )
        self._file.close()
        self.part.unlink()
        self.close()

    def _columns(self, problem: bool) -> Columns:
        first = self._row(next(iter(self._offsets))) if self._offsets else ImageRow("")
        return Columns(
            self.label_names,
            self.scores,
            first.thresholds is not None,
            first.probabilities is not None,
            first.count is not None,
            first.ask is not None,
            problem,
            spreadsheet=self.spreadsheet,
        )

    def _row(self, image: str) -> ImageRow:
        record = json.loads(self.line(image))
        known = {field.name for field in dataclasses.fields(ImageRow)}
        packed = {key: _unpack(record[key]) for key in PACKED if key in record}
        return ImageRow(**{key: value for key, value in (record | packed).items() if key in known})

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


def printable(name: str) -> str:
    """Write `name`, a file's, as UTF-8 can: bytes that are none are escaped."""
    return name if name.isprintable() else ascii(name)


def _pack(values: NDArray[np.float32]) -> str:
    return b64encode(values.astype("<f4").tobytes()).decode()


def _unpack(text: str) -> NDArray[np.float32]:
    return np.frombuffer(b64decode(text), "<f4")
