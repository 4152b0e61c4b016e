"""Labels of many images as a file that survives interruption: rows appended as they come, the table made last."""

import csv
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any, Self

import polars as pl

from lsep_ml.bundle.predictions import ImageLabels
from lsep_ml.files import atomic_write

SUFFIXES = (".csv", ".jsonl", ".parquet")


class LabelTable:
    """The rows of a table to be, kept in `<table>.part`, one JSON record a line, flushed as they are added.

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

    def add(self, image: str, labels: ImageLabels) -> None:
        """Append one image's row."""
        row: dict[str, Any] = {"image": image, "labels": labels.labels, "scores": labels.scores}
        if labels.thresholds is not None:
            row["thresholds"] = labels.thresholds
        if labels.count is not None:
            row["count"] = labels.count
        self._offsets[image] = self._append(row)

    def flush(self) -> None:
        """Hand what was added to the operating system."""
        self._file.flush()

    def rows(self, images: Sequence[str]) -> Iterator[dict[str, Any]]:
        """The rows of these images, those that are there, in their order."""
        self._file.flush()
        for image in images:
            if image in self._offsets:
                self._file.seek(self._offsets[image])
                yield json.loads(self._file.readline())

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
        with atomic_write(self.path) as file:
            writer = csv.writer(file, lineterminator="\n")
            columns = [f"score_{name}" for name in self.label_names] if scores else []
            writer.writerow(["image", "labels", *columns])
            for row in self.rows(images):
                values = row["scores"].values() if scores else ()
                writer.writerow([row["image"], "|".join(row["labels"]), *values])

    def _write_jsonl(self, images: Sequence[str], scores: bool) -> None:
        with atomic_write(self.path) as file:
            for row in self.rows(images):
                kept = row if scores else {key: row[key] for key in ("image", "labels")}
                _write_line(file, kept)

    def _write_parquet(self, images: Sequence[str], scores: bool) -> None:
        rows = list(self.rows(images))
        columns: dict[str, Any] = {"image": [row["image"] for row in rows]}
        columns["labels"] = pl.Series([row["labels"] for row in rows], dtype=pl.List(pl.String))
        for name in self.label_names if scores else ():
            columns[f"score_{name}"] = pl.Series([row["scores"][name] for row in rows], dtype=pl.Float32)
        with atomic_write(self.path, "wb") as file:
            pl.DataFrame(columns).write_parquet(file)


def _write_line(file: IO[str], value: Any) -> None:
    file.write(json.dumps(value, ensure_ascii=False) + "\n")
