"""Features of one's own in the place of images: what another network, or any program, computed of anything."""

import dataclasses
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from lsep_ml.data.annotations import Annotations, Unlabelled, checked, keep_labelled
from lsep_ml.data.data_set import SPLITS, DataSet, Split
from lsep_ml.data.errors import DataError, some
from lsep_ml.data.soft_targets import soft_matrix, soft_of_split
from lsep_ml.data.sources.features.files import Given, read_given
from lsep_ml.data.sources.own.builder import build
from lsep_ml.data.sources.own.columns import image_column
from lsep_ml.data.sources.own.folder import Folder
from lsep_ml.data.sources.own.frames import SUFFIXES as TABLES
from lsep_ml.data.sources.own.frames import Frame, read_frame
from lsep_ml.data.sources.own.listed import Options
from lsep_ml.data.sources.own.paths import SPLIT_WORDS
from lsep_ml.data.sources.own.rows import listed_in
from lsep_ml.data.stratified import divided
from lsep_ml.metrics.indicator import SparseIndicator, stacked

SPARSE = (".svm", ".libsvm", ".txt")
ARRAYS = (".npz", ".npy")
ROW = "row of the features"


def read_features(
    root: str | Path,
    seed: int = 0,
    *,
    file: str | None = None,
    table: str | None = None,
    id: str | None = None,
    labels: str | None = None,
    label_columns: Sequence[str] | None = None,
    split: str | None = None,
    separator: str | None = None,
    group: str | None = None,
    none_label: Sequence[str] | None = None,
    uncertain: Literal["unknown", "negative", "positive"] = "unknown",
    merge_labels: bool = False,
    min_images: int = 1,
    unlabelled: Unlabelled = "keep",
    shares: Sequence[float] = (0.8, 0.1, 0.1),
    folds: int | None = None,
    fold: int | None = None,
    holdout: float = 0.05,
    soft_targets: bool = False,
) -> DataSet:
    """Read features with their labels; they stand in the place of images.

    Args:
        root: the folder.
        seed: of the split and of the hold-out.
        file: with the features; None: the one that is there.
        table: with the labels, where they are not in the file; None: the one that is there.
        id: the table's column with the rows' names; None: found out, or row by row where the features have no names.
        labels, label_columns, split, separator, group, none_label, uncertain, merge_labels, min_images: of the
        table, as
            data=own has them.
        unlabelled: rows without a label: keep | drop.
        shares, holdout, folds, fold: see `divided`.
        soft_targets: whether the targets of training rows, in an array, may be numbers between 0 and 1, see
            `lsep_ml.data.soft_targets`.

    Raises:
        DataError: files that are not understood; rows that are not finite, of other widths, or without labels.
    """
    options = Options(
        image=id, labels=labels, label_columns=label_columns, split=split, separator=separator, group=group,
        none_label=none_label, uncertain=uncertain, merge_labels=merge_labels, min_images=min_images,
    )  # fmt: skip
    annotations, features = _annotations(Folder(root), file, table, options, soft=soft_targets)
    annotations = checked(dataclasses.replace(annotations, data="features"), separator=None)
    row_of = {name: row for row, name in enumerate(annotations.image_ids.tolist())}
    annotations = keep_labelled(annotations, unlabelled)
    annotations = divided(
        annotations, seed, shares=shares, holdout=holdout, folds=folds, fold=fold, cache=None
    )
    import torch  # here, so that a data set on disk can be checked without it

    content, splits = hashlib.sha256(), {}
    for name in SPLITS:
        every = name == "test" and folds is not None and fold is None
        own = annotations if every else annotations.select(annotations.split_of == name)
        rows = features[[row_of[row] for row in own.image_ids.tolist()]]
        content.update(rows.tobytes())
        soft = soft_of_split(own, name)
        splits[name] = Split(torch.from_numpy(rows), own.targets, own.mask, own.image_ids, own.groups, soft)
    return DataSet(
        "features",
        annotations.label_names,
        splits["train"],
        splits["val"],
        splits["test"],
        dropped=annotations.dropped,
        images_hash=content.hexdigest(),
        cross_tested=folds is not None and fold is None,
    )


def _annotations(
    folder: Folder, file: str | None, table: str | None, options: Options, *, soft: bool
) -> tuple[Annotations, NDArray[np.float32]]:
    """Return the labelled rows, and their features in the same order."""
    given, files = _given(folder, file)
    names = given.ids or [f"{number}" for number in range(1, len(given.features) + 1)]
    if len(names) != len(given.features):
        raise DataError(f"{files[0]}: {len(names):,} ids for {len(given.features):,} rows of features")
    if given.targets is not None and table is None:
        return _with_arrays(folder.root, files[0], given, names, options, soft=soft), given.features
    if soft:
        raise DataError(
            f"data.root={folder.root}: data.soft_targets=true, but the labels are in a table; give an array targets "
            "(N, K) beside the features"
        )
    frame, where = given.frame, files[0]
    if frame is None:
        where = _table(folder, files, table)
        frame = read_frame(folder.root / where)
    folder.images = names
    if given.ids is None and options.image is None:
        if len(frame) != len(names):
            raise DataError(
                f"{frame.path}: {len(frame):,} rows of labels for {len(names):,} rows of features; set data.id"
            )
        columns = frame.columns.with_columns(pl.Series(str(len(frame.names)), names, dtype=pl.String))
        frame = Frame(frame.path, (*frame.names, ROW), columns, frame.line)
        options = dataclasses.replace(options, image=ROW)
    elif image_column(frame, folder, "", options) is None:
        raise DataError(
            f"{frame.path}: no column holds the ids of the features, such as {names[0]}; set data.id=NAME"
        )
    annotations = build(listed_in(frame, folder, where, options), folder, options)
    number_of = {name: row for row, name in enumerate(names)}
    lost = [name for name in annotations.image_ids.tolist() if name not in number_of]
    if lost:
        raise DataError(
            f"{frame.path}: {len(lost):,} rows have no features, such as {some(lost, 3)}; remove them"
        )
    return annotations, given.features[[number_of[name] for name in annotations.image_ids.tolist()]]


def _given(folder: Folder, file: str | None) -> tuple[Given, list[str]]:
    """Return the features, and the files they are in."""
    files = [file] if file is not None else _files(folder)
    read = [read_given(folder.root / one) for one in files]
    first = read[0]
    if first.targets is None and files[0].endswith(".npy"):
        beside = [
            one for one in folder.of_suffix(".npy") if Path(one).stem.lower() in ("targets", "labels", "y")
        ]
        if beside:
            first.targets = np.load(folder.root / beside[0], allow_pickle=False)
    if len(read) == 1:
        return first, files
    for one, name in zip(read, files, strict=True):
        if one.features.shape[1] != first.features.shape[1]:
            raise DataError(
                f"{name}: {one.features.shape[1]} features, and {files[0]} has "
                f"{first.features.shape[1]}; write the sizes in "
                "a first line `N D K`"
            )
    targets = [one.targets for one in read if one.targets is not None]
    if len({one.shape[1] for one in targets}) > 1:
        raise DataError(f"{', '.join(files)}: different labels; write the sizes in a first line `N D K`")
    splits = [
        SPLIT_WORDS[Path(name).stem.lower()]
        for one, name in zip(read, files, strict=True)
        for _ in one.features
    ]
    return Given(
        np.concatenate([one.features for one in read]), targets=stacked(targets), label_names=first.label_names,
        splits=splits,
    ), files  # fmt: skip


def _files(folder: Folder) -> list[str]:
    """Return the file of the features, or the files of the splits."""
    for suffixes in (ARRAYS, (".parquet",), SPARSE, (".csv", ".tsv")):
        found = [
            one
            for one in folder.of_suffix(*suffixes)
            if "/" not in one and not one.lower().startswith("readme")
        ]
        if suffixes == ARRAYS:
            found = [one for one in found if Path(one).stem.lower() not in ("targets", "labels", "y")]
        if (
            suffixes == SPARSE
            and len(found) > 1
            and all(Path(one).stem.lower() in SPLIT_WORDS for one in found)
        ):
            return sorted(found)
        if len(found) > 1:
            raise DataError(
                f"data.root={folder.root}: several files could hold features: {some(found)}; set data.file=FILE"
            )
        if found:
            return found
    raise DataError(
        f"data.root={folder.root}: no .npy, .npz, Parquet, libsvm or CSV file with features; it holds "
        f"{some(folder.files) or 'nothing'}"
    )


def _table(folder: Folder, files: Sequence[str], table: str | None) -> str:
    if table is not None:
        return table
    found = [one for one in folder.of_suffix(*TABLES) if "/" not in one and one not in files]
    if len(found) != 1:
        where = (
            f"several tables could hold the labels: {some(found)}"
            if found
            else "no targets, and no table of labels"
        )
        raise DataError(f"data.root={folder.root}: {where}; set data.table=FILE")
    return found[0]


def _with_arrays(
    root: Path, file: str, given: Given, names: list[str], options: Options, *, soft: bool
) -> Annotations:
    """Return the rows whose labels are an array (N, K) of 0 and 1, or `soft`, NaN or -1 where nothing is known."""
    targets = given.targets if isinstance(given.targets, SparseIndicator) else np.asarray(given.targets)
    if targets.ndim != 2 or len(targets) != len(names) or targets.dtype.kind not in "buif":
        raise DataError(
            f"{file}: targets are {targets.dtype} {targets.shape}, not ({len(names)}, K) of 0 and 1"
        )
    known, between = None, None
    if not isinstance(targets, SparseIndicator):
        targets, known, between = _known(file, targets, given.mask, soft=soft)
    label_names = given.label_names or [f"label {number}" for number in range(targets.shape[1])]
    if len(label_names) != targets.shape[1]:
        raise DataError(f"{file}: {len(label_names)} label_names for {targets.shape[1]} columns of targets")
    splits = None if options.split == "none" else given.splits
    return Annotations(
        "features",
        root,
        tuple(label_names),
        np.array(names, np.str_),
        targets,
        known,
        np.array(splits or [""] * len(names), "U5"),
        soft=between,
    )


def _known(
    file: str, targets: NDArray, mask: NDArray | None, *, soft: bool
) -> tuple[NDArray[np.uint8], NDArray[np.bool_] | None, NDArray[np.float32] | None]:
    """Return the targets of an array of 0, 1 and unknown entries, its known ones, None where all are, and where it is
    `soft` its numbers."""
    values = targets.astype(np.float64)
    known = ~(np.isnan(values) | (values == -1))
    within = (values >= 0) & (values <= 1)
    wrong = np.argwhere(known & ~(within if soft else (values == 0) | (values == 1)))
    if len(wrong):
        row, column = wrong[0]
        expected = "a number from 0 to 1" if soft else "0, 1"
        way_out = (
            "; numbers between 0 and 1: data.soft_targets=true" if within[row, column] and not soft else ""
        )
        raise DataError(
            f"{file}, row {row + 1}: target of label {column} is {values[row, column]:g}; {expected}, or NaN for "
            f"unknown{way_out}"
        )
    if mask is not None:
        if mask.shape != targets.shape:
            raise DataError(f"{file}: mask is {mask.shape}, and targets are {targets.shape}")
        known &= mask.astype(bool)
    of_all = None if known.all() else known
    between = soft_matrix(values, known) if soft else None
    positive = known & (values == 1) if between is None else between >= 0.5
    return positive.astype(np.uint8), of_all, between
