"""Files of features: arrays of NumPy, tables with a column a feature, and sparse text."""

import re
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from lsep_ml.data.errors import DataError
from lsep_ml.data.sources.own.frames import Frame, read_frame
from lsep_ml.data.sources.own.paths import SPLIT_WORDS
from lsep_ml.metrics.indicator import SparseIndicator, indicator

NAMES = {
    "features": ("features", "x", "embeddings", "data"),
    "targets": ("targets", "y", "labels"),
    "mask": ("mask", "known"),
    "label_names": ("label_names", "classes", "names"),
    "ids": ("ids", "image_ids", "id"),
    "split": ("split", "splits"),
}
"""What an array may be called in an .npz, in small letters; `train_features` and so on where each split has its own."""

FEATURE_COLUMN = re.compile(r"(feature|feat|f|x|emb|embedding|dim|v)[_.]?\d+", re.IGNORECASE)
LIST_COLUMN = re.compile(r"features?|embeddings?|vectors?", re.IGNORECASE)
MOST_BYTES = 8 * 2**30  # of sparse features written out


@dataclass
class Given:
    """Features as a file has them, with the labels that stand in it too.

    Attributes:
        features: float32 (N, D).
        ids: N names; None where rows have none.
        targets, mask, label_names, splits: as in `DataSet`, N or K of them, as far as the file has them.
        frame: the rest of a table's columns.
        line: of each row in the file, for messages; empty: rows are counted.
    """

    features: NDArray[np.float32]
    ids: list[str] | None = None
    targets: NDArray | SparseIndicator | None = None
    mask: NDArray | None = None
    label_names: list[str] | None = None
    splits: list[str] | None = None
    frame: Frame | None = None
    line: Sequence[int] = ()


def read_given(path: Path) -> Given:
    """Read the features in the file at `path`, by its suffix.

    Raises:
        DataError: no such file, other content, or a feature that is not finite (with its row).
    """
    suffix = path.suffix.lower()
    try:
        if suffix == ".npy":
            given = Given(_matrix(np.load(path, allow_pickle=False), path, "the array"))
        elif suffix == ".npz":
            given = _from_npz(path)
        elif suffix in (".parquet", ".csv", ".tsv"):
            given = _from_table(path)
        else:
            given = _from_text(path)
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file; data.file names the one with the features") from error
    except (ValueError, zipfile.BadZipFile, EOFError) as error:
        if isinstance(error, DataError):
            raise
        why = str(error)
        if "Object arrays" in why:
            why = "it holds Python objects, which could run code; save arrays of numbers and texts"
        elif "pickle" in why:  # what NumPy takes all else for
            why = "it is damaged, or of another kind"
        raise DataError(f"{path}: not a file of arrays: {why}") from error
    bad = np.flatnonzero(~np.isfinite(given.features).all(axis=1))
    if len(bad):
        row = int(bad[0])
        column = int(np.flatnonzero(~np.isfinite(given.features[row]))[0])
        where = f"line {given.line[row]}" if len(given.line) else f"row {row + 1}"
        raise DataError(
            f"{path}, {where}: feature {column} is {given.features[row, column]}, and {len(bad):,} "
            "rows have such values; "
            "repair or remove them"
        )
    return given


def _matrix(array: NDArray, path: Path, what: str) -> NDArray[np.float32]:
    if array.ndim != 2 or array.dtype.kind not in "fiu" or not array.size:
        raise DataError(f"{path}: {what} is {array.dtype} {array.shape}; features are numbers (N, D)")
    return np.ascontiguousarray(array, np.float32)


def _from_npz(path: Path) -> Given:
    with np.load(path, allow_pickle=False) as file:
        arrays = {name.lower(): file[name] for name in file.files}

    def take(kind: str, before: str = "") -> NDArray | None:
        return next((arrays[before + name] for name in NAMES[kind] if before + name in arrays), None)

    names = take("label_names")
    label_names = None if names is None else [str(name) for name in names]
    whole = take("features")
    if whole is not None:
        ids, splits, given_splits = take("ids"), take("split"), None
        if splits is not None:
            given_splits = [_split(str(word), path) for word in splits]
        return Given(
            _matrix(whole, path, "features"), None if ids is None else [str(name) for name in ids], take("targets"),
            take("mask"), label_names, given_splits,
        )  # fmt: skip
    named = [(word, split) for word, split in SPLIT_WORDS.items() if take("features", f"{word}_") is not None]
    if not named:
        raise DataError(f"{path}: no array named features; found {', '.join(arrays) or 'nothing'}")

    def joined(kind: str) -> NDArray | None:
        found = [take(kind, f"{word}_") for word, _ in named]
        return (
            None
            if any(one is None for one in found)
            else np.concatenate([one for one in found if one is not None])
        )

    features = joined("features")
    assert features is not None
    split_of_each = [split for word, split in named for _ in take("features", f"{word}_")]  # type: ignore[union-attr]
    ids = joined("ids")
    return Given(
        _matrix(features, path, "features"), None if ids is None else [str(name) for name in ids], joined("targets"),
        joined("mask"), label_names, split_of_each,
    )  # fmt: skip


def _split(word: str, path: Path) -> str:
    split = SPLIT_WORDS.get(word.strip().lower())
    if split is None:
        raise DataError(f"{path}: split {word!r}; train, val or test")
    return split


def _from_table(path: Path) -> Given:
    """Columns feature_0, feature_1, ..., or one column of lists; the rest is a table of labels."""
    frame = read_frame(path)
    numbered = [at for at, name in enumerate(frame.names) if FEATURE_COLUMN.fullmatch(name)]
    lists = [at for at, name in enumerate(frame.names) if LIST_COLUMN.fullmatch(name)]
    if numbered:
        columns = []
        for at in numbered:
            values = frame.column(at).str.strip_chars().cast(pl.Float32, strict=False)
            if values.null_count():
                row = int(values.is_null().arg_true()[0])
                raise DataError(
                    f"{frame.place(row)}: {frame.column(at)[row]!r} in column {frame.names[at]!r} is no number"
                )
            columns.append(values.to_numpy())
        features, taken = np.stack(columns, axis=1), numbered
    elif len(lists) == 1:
        rows = frame.column(lists[0]).str.strip_chars(" []()").str.split(",").to_list()
        widths = {len(row) for row in rows if row is not None}
        for number, row in enumerate(rows):
            if row is None or len(row) != len(rows[0] or []):
                raise DataError(
                    f"{frame.place(number)}: {0 if row is None else len(row)} features, and "
                    f"{len(rows[0] or [])} in the first "
                    f"row (widths {sorted(widths)})"
                )
        features, taken = np.array(rows, np.float32), lists
    else:
        raise DataError(
            f"{path}: no columns feature_0, feature_1, ..., and no column features with lists; found "
            f"{', '.join(frame.names[:8])}"
        )
    rest = [at for at in range(len(frame.names)) if at not in taken]
    left = frame.columns.select(pl.col(str(at)).alias(str(number)) for number, at in enumerate(rest))
    table = Frame(path, tuple(frame.names[at] for at in rest), left, frame.line) if rest else None
    return Given(np.ascontiguousarray(features, np.float32), frame=table)


def _from_text(path: Path) -> Given:
    """Lines `labels index:value ...`, below a first line `N D K` where there is one: indices from 0 with it (the
    extreme-classification repository), from 1 without (libsvm)."""
    rows: list[int] = []
    columns: list[int] = []
    values: list[float] = []
    labels: list[list[int]] = []
    lines: list[int] = []
    sizes: list[int] | None = None
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, start=1):
            fields = line.split("#")[0].split()
            if number == 1 and len(fields) == 3 and all(field.isdigit() for field in fields):
                sizes = [int(field) for field in fields]
                continue
            if not fields and sizes is None:
                continue
            own = [] if line[:1].isspace() or not fields or ":" in fields[0] else fields[0].split(",")
            try:
                labels.append([int(float(label)) for label in own if label])
                for field in fields[bool(own) :]:
                    index, _, value = field.partition(":")
                    rows.append(len(labels) - 1)
                    columns.append(int(index) - (sizes is None))
                    values.append(float(value))
            except ValueError as error:
                raise DataError(
                    f"{path}, line {number}: {line.strip()[:60]!r} is not `labels index:value ...`"
                ) from error
            lines.append(number)
            most = sizes[1] if sizes else None
            for column in columns[len(columns) - sum(":" in field for field in fields) :]:
                if column < 0 or (most is not None and column >= most):
                    raise DataError(
                        f"{path}, line {number}: index {column + (sizes is None)} is outside the features"
                    )
    if not labels:
        raise DataError(f"{path}: no row")
    if sizes and sizes[0] != len(labels):
        raise DataError(
            f"{path}: the first line says {sizes[0]:,} rows, and there are {len(labels):,}; it is cut off?"
        )
    width = sizes[1] if sizes else max(columns, default=-1) + 1
    if 4 * len(labels) * width > MOST_BYTES:
        raise DataError(
            f"{path}: {len(labels):,} x {width:,} features are {4 * len(labels) * width / 2**30:.0f} "
            "GiB written out; reduce "
            "them first (a truncated SVD, a hash of the indices)"
        )
    features = np.zeros((len(labels), width), np.float32)
    features[rows, columns] = values
    found = sorted({label for own in labels for label in own})
    number_of = (
        {label: label for label in range(sizes[2])} if sizes else {label: n for n, label in enumerate(found)}
    )
    for row, own_labels in enumerate(labels):
        for label in own_labels:
            if label not in number_of:
                raise DataError(
                    f"{path}, line {lines[row]}: label {label} is outside 0 to {len(number_of) - 1}"
                )
    targets = indicator([[number_of[label] for label in own] for own in labels], len(number_of))
    return Given(features, targets=targets, label_names=[str(label) for label in number_of], line=lines)
