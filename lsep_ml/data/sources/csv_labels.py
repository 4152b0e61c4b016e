"""One's own images with a CSV file: `image,labels[,split]`, or one 0/1 column a class."""

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lsep_ml.data.annotations import (
    Annotations,
    OnBadImage,
    TwinsAre,
    Unlabelled,
    checked,
    to_data_set,
    usable,
)
from lsep_ml.data.cache import cache_file, file_state, load_arrays, save_arrays
from lsep_ml.data.data_set import SPLITS, DataSet
from lsep_ml.data.errors import DataError
from lsep_ml.data.label_names import SEPARATOR, check_label_names, listed_in_cell
from lsep_ml.data.soft_targets import soft_matrix, soft_of_split
from lsep_ml.data.sources.csv_table import UNKNOWN, CsvTable, read_table
from lsep_ml.data.sources.source import Source
from lsep_ml.data.stratified import divided, stratified_split
from lsep_ml.data.tree import clean_path, find_forms, find_tree
from lsep_ml.files import spoken
from lsep_ml.metrics.indicator import from_places, known_but, places

FORMAT = 5  # of the cached index

OTHER_SEPARATORS = ";, "  # a tab is no part of a label's name


def read_csv(
    root: str | Path,
    seed: int = 0,
    *,
    labels: str = "labels.csv",
    classes: Sequence[str] | None = None,
    separator: str = SEPARATOR,
    unlabelled: Unlabelled = "keep",
    holdout: float = 0.05,
    shares: Sequence[float] = (0.8, 0.1, 0.1),
    folds: int | None = None,
    fold: int | None = None,
    resplit: bool = False,
    on_bad_image: OnBadImage = "error",
    twins: TwinsAre = "report",
    soft_targets: bool = False,
    cache: str | Path | None = None,
) -> DataSet:
    """Read the table; without a split column the images are divided by label-stratified shares.

    Args:
        root: the folder that the table and the images are relative to.
        seed: of the split and of the hold-out.
        labels: the table's name.
        classes: the label names in the order wanted; None: sorted, or as the columns stand.
        separator: between the labels of a cell.
        unlabelled, on_bad_image, twins: see `usable`.
        shares, holdout, folds, fold: see `divided`.
        resplit: leave the split column aside and divide all images anew by `seed`, in about its sizes.
        soft_targets: whether the columns of training images may hold numbers between 0 and 1, see
            `lsep_ml.data.soft_targets`.
        cache: folder that keeps the parsed table and the split, and remembers which images were opened.

    Raises:
        DataError: a table that cannot be understood (with the line), bad images.
    """
    annotations = csv_annotations(
        root, labels=labels, classes=classes, separator=separator, soft_targets=soft_targets, cache=cache
    )
    annotations = usable(annotations, unlabelled, on_bad_image, twins, cache)
    listed = annotations.split_of.any()
    annotations = divided(
        annotations, seed, shares=shares, holdout=holdout, folds=folds, fold=fold, cache=cache
    )
    if resplit and listed and folds is None:
        of_column = [float((annotations.split_of == name).mean()) for name in SPLITS]
        annotations = stratified_split(annotations, of_column, seed, cache)
    return to_data_set(annotations, cross_tested=folds is not None and fold is None)


def csv_annotations(
    root: str | Path,
    *,
    labels: str = "labels.csv",
    classes: Sequence[str] | None = None,
    separator: str = SEPARATOR,
    soft_targets: bool = False,
    cache: str | Path | None = None,
) -> Annotations:
    """Return the table's images; without a split column they belong to no split yet.

    In the form with one column a class, an empty cell or -1 is an unknown label; with `soft_targets` a number between 0
    and 1 is one target.
    """
    if not separator:
        raise DataError(
            "data.separator='': what stands between the labels of a cell; quoted for the shell: \"data.separator=';'\""
        )
    tree = find_tree("csv", root, [labels], [])
    path = tree / labels
    classes = None if classes is None else list(classes)
    made_from = (*file_state(path), str(tree), classes, separator, *(["soft"] if soft_targets else []))
    stored_at = cache_file(cache, "csv", FORMAT, *made_from)
    index = load_arrays(stored_at)
    if index is None:
        index = _index(tree, read_table(path, soft=soft_targets), classes, separator)
        save_arrays(stored_at, **index)
    names = tuple(index["label_names"].tolist())
    lists = bool(index["lists"])
    check_label_names("csv", names, None if lists else separator)
    shape = (len(index["image_ids"]), len(names))
    targets = from_places(index["rows"], index["columns"], shape)
    mask = known_but(index["unknown_rows"], index["unknown_columns"], np.ones(shape[0], bool), shape)
    ids = np.array(find_forms(tree, index["image_ids"].tolist()), np.str_)
    notes = tuple(index["notes"].tolist())
    annotations = Annotations(
        "csv", tree, names, ids, targets, mask, index["parts"], notes=notes, soft=index.get("soft")
    )
    # as listed, which `check` asks about
    for name in ("val", "test") if annotations.soft is not None else ():
        soft_of_split(annotations.select(annotations.split_of == name), name)
    return checked(annotations, None if lists else SEPARATOR)


def _index(tree: Path, table: CsvTable, classes: Sequence[str] | None, separator: str) -> dict[str, NDArray]:
    ids, split_of, notes = _image_ids(tree, table), _splits(table), list(table.notes)
    soft = {}
    if "labels" in table.columns:
        if table.soft:
            raise DataError(
                f"{table.path}: data.soft_targets=true, but the labels are listed in cells; give a column a label"
            )
        names, present = _from_lists(table, classes, separator)
        unknown = np.zeros((2, 0), np.int64)
        notes += _other_separator(table.labels, separator)
    else:
        names, values = _from_columns(table, classes)
        if table.soft:
            not_known = np.isnan(values)
            soft = {"soft": soft_matrix(values, ~not_known)}
            present, unknown = np.array(np.nonzero(values >= 0.5)), np.array(np.nonzero(not_known))
        else:
            present, unknown = np.array(np.nonzero(values == 1)), np.array(np.nonzero(values == UNKNOWN))
    return {
        **soft,
        "label_names": np.array(names, np.str_),
        "image_ids": np.array(ids, np.str_),
        "rows": present[0],
        "columns": present[1],
        "unknown_rows": unknown[0],
        "unknown_columns": unknown[1],
        "parts": np.array(split_of, "U5"),
        "notes": np.array(notes, np.str_),
        "lists": np.array(any(cell.lstrip()[:1] == "[" for cell in table.labels)),
    }


def _image_ids(tree: Path, table: CsvTable) -> list[str]:
    """Return the images' paths below `tree`; one that begins with the tree's path, as predict writes it, without it."""
    first_line: dict[str, int] = {}
    above = f"{tree}/"
    for line, listed in zip(table.lines, map(spoken, table.images), strict=True):
        if listed.startswith(above) and not (tree / listed).exists():
            listed = listed.removeprefix(above)
        image = clean_path(listed, f"{table.path}, line {line}", tree)
        if image in first_line:
            raise DataError(
                f"{table.path}, line {line}: {image} is listed in line {first_line[image]} already"
            )
        first_line[image] = line
    return list(first_line)


def _splits(table: CsvTable) -> list[str]:
    if "split" not in table.columns:
        return [""] * len(table.images)
    for line, split in zip(table.lines, table.splits, strict=True):
        if split not in SPLITS:
            raise DataError(f"{table.path}, line {line}: split {split!r}; train, val or test")
    for needed in ("train", "test"):
        if needed not in table.splits:
            raise DataError(
                f"{table.path}: no {needed} image; add some, or remove the split column for a random split"
            )
    return table.splits


def _from_lists(
    table: CsvTable, classes: Sequence[str] | None, separator: str
) -> tuple[tuple[str, ...], NDArray[np.int64]]:
    """Return the class names, and the rows and columns of the labels that are listed, (2, E)."""
    known = {*table.predicted, *(classes or ())}
    listed = [
        [name if name in known else spoken(name) for name in listed_in_cell(cell.strip(), separator)]
        for cell in table.labels
    ]
    for line, cell, labels in zip(table.lines, table.labels, listed, strict=True):
        if any(name[:2] in ("['", '["') for name in labels):
            raise DataError(
                f"{table.path}, line {line}: {cell[:60]!r} is not a JSON list of labels; write it as one, or take "
                "data=own"
            )
    if classes is None:
        others = {name for labels in listed for name in labels} - set(table.predicted)
        classes = [*table.predicted, *sorted(others)]
    names = tuple(classes)
    number_of = {name: number for number, name in enumerate(names)}
    for line, labels in zip(table.lines, listed, strict=True):
        unknown = next((name for name in labels if name not in number_of), None)
        if unknown is not None:
            raise DataError(f"{table.path}, line {line}: {_unknown_class(unknown, names)}")
    return names, np.array(places([[number_of[name] for name in labels] for labels in listed]))


def _other_separator(cells: Sequence[str], separator: str) -> list[str]:
    """Return a note where no cell holds the separator, so that every image has one label, and some hold another one."""
    if any(separator in cell or cell.lstrip()[:1] == "[" for cell in cells):
        return []
    for other in OTHER_SEPARATORS:
        holding = [cell.strip() for cell in cells if other in cell.strip()]
        if holding:
            return [
                f"no cell under labels holds data.separator={separator!r}, so every image has one label; "
                f"{len(holding):,} cells hold {other!r}, such as {holding[0]!r}: if that stands between labels, set "
                f'"data.separator={other!r}"'
            ]
    return []


def _from_columns(table: CsvTable, classes: Sequence[str] | None) -> tuple[tuple[str, ...], NDArray[Any]]:
    """Return the class names and the `values` of the table, (N, K)."""
    found = table.class_columns
    kind = np.float32 if table.soft else np.uint8
    values = np.frombuffer(b"".join(table.values), kind).reshape(len(table.images), len(found))
    if classes is None:
        return tuple(found), values
    for names, known, where in ((classes, found, "data.classes"), (found, classes, str(table.path))):
        unknown = next((name for name in names if name not in known), None)
        if unknown is not None:
            raise DataError(f"{where}: {_unknown_class(unknown, known)}")
    return tuple(classes), values[:, [found.index(name) for name in classes]]


def _unknown_class(name: str, names: Sequence[str]) -> str:
    close = difflib.get_close_matches(name, names, n=1)
    return f"unknown class {name!r}" + (f"; did you mean {close[0]!r}?" if close else "")


SOURCE = Source("csv", csv_annotations, keeps_index=True)
