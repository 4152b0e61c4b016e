"""One table: what its rows say of images."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl

from lsep_ml.data.annotations import Reading
from lsep_ml.data.errors import DataError, some
from lsep_ml.data.label_names import SEPARATOR
from lsep_ml.data.sources.own.cells import Labels, read_cells
from lsep_ml.data.sources.own.columns import Roles, roles_of
from lsep_ml.data.sources.own.folder import Folder, Found
from lsep_ml.data.sources.own.frames import Frame
from lsep_ml.data.sources.own.label_columns import predicted_names
from lsep_ml.data.sources.own.listed import (
    ABSENT,
    PRESENT,
    UNCERTAIN,
    UNKNOWN,
    Listed,
    Options,
    image_notes,
)
from lsep_ml.data.sources.own.paths import SPLIT_WORDS, split_of_file, split_of_path
from lsep_ml.data.sources.own.roles import FOLDER_NAMES, bare_name
from lsep_ml.files import spoken


def listed_in(
    frame: Frame, folder: Folder, file: str, options: Options, splits: Sequence[str] | None = None
) -> Listed:
    """Return the images of `folder` that the rows of a table name, with their labels; `splits`: of the rows, where its
    columns do not say them."""
    beside = file.rpartition("/")[0]
    frame, problems, kept = _without_problems(frame)
    roles = roles_of(frame, folder, beside, options)
    listed = frame.column(roles.image).fill_null("")
    blank = (listed.str.strip_chars() == "").arg_true()
    if len(blank):
        raise DataError(
            f"{frame.place(int(blank[0]))}: no image under {frame.names[roles.image]!r}; remove the row"
        )
    notes = [*frame.notes, *roles.notes]
    found = _in_folders(frame, roles, folder, listed, beside, notes)
    notes += image_notes(found, frame.path.name)
    if splits is None and split_of_path(file):
        splits = [split_of_file(file)] * len(frame)
    elif splits is not None:
        splits = [splits[row] for row in kept]
    splits = _splits(frame, roles) or splits
    values: dict[str, Any] = {
        "images": found.images,
        "splits": splits,
        "place": frame.place,
        "groups": _groups(frame, roles),
    }
    what = f"table with one column a label ({file})"
    if roles.cell is None:
        return _from_columns(frame, roles, what, notes, values)
    separator = options.separator or (SEPARATOR if roles.names or roles.further else None)
    cells = frame.column(roles.cell)
    if roles.further:
        columns = [frame.column(at).fill_null("") for at in (roles.cell, *roles.further)]
        cells = pl.DataFrame(columns).select(pl.concat_str(pl.all(), separator=SEPARATOR)).to_series()
    labels = read_cells(cells, frame.names[roles.cell], separator, frame.place)
    if roles.names:
        return _of_predicted(roles.names, labels, file, problems, notes, values)
    codes, rest = np.full(len(labels.rows), PRESENT, np.uint8), np.full(len(frame), ABSENT, np.uint8)
    images = pl.Series(found.images).n_unique()
    repeated = images < len(frame)
    if roles.verdict is not None:
        verdict = roles.values[roles.verdict].codes
        assert verdict is not None
        codes, rest = verdict[labels.rows], np.full(len(frame), UNKNOWN, np.uint8)
    elif repeated:
        notes.append(
            Reading(f"{len(frame):,} rows for {images:,} images: the labels of an image's rows add up")
        )
    what = f"table with {'one row a label' if repeated else 'a cell of labels'} ({file})"
    return Listed(
        what, label_names=list(map(spoken, labels.names)), rows=labels.rows, labels=labels.numbers, codes=codes,
        rest=rest, words=True, notes=(*notes, *labels.notes), **values,
    )  # fmt: skip


def _in_folders(
    frame: Frame, roles: Roles, folder: Folder, listed: pl.Series, beside: str, notes: list[str]
) -> Found[pl.Series]:
    """Return the images that are listed, by a name and a folder where two columns say them."""
    found = folder.find_column(listed, beside)
    for at, name in enumerate(frame.names):
        if found.missing and at != roles.image and bare_name(name) in FOLDER_NAMES:
            both = folder.find_column(frame.column(at).fill_null("") + "/" + listed, beside)
            if both.exact > found.exact and both.missing < found.missing:
                notes.append(Reading(f"images lie in the folders of column {name!r}"))
                found = both
    return found


def _without_problems(frame: Frame) -> tuple[Frame, int, Sequence[int]]:
    """Return a table of predict without the images that it could not use and nobody has labelled since, their number,
    and the rows that are left."""
    if not predicted_names(frame) or "problem" not in frame.names:
        return frame, 0, range(len(frame))
    problem, labels = (frame.column(frame.names.index(name)).fill_null("") for name in ("problem", "labels"))
    usable = (problem == "") | ~labels.is_in(["", "[]"])
    rows = usable.arg_true().to_list()
    kept = dataclasses.replace(
        frame, columns=frame.columns.filter(usable), line=lambda row: frame.line(rows[row])
    )
    return kept, len(frame) - len(rows), rows


def _of_predicted(
    names: Sequence[str],
    labels: Labels,
    file: str,
    problems: int,
    notes: list[str],
    values: dict[str, Any],
) -> Listed:
    """Return the labels of a table of predict or apply, in the order of its scores, those that a person added after
    them."""
    number_of = {name: number for number, name in enumerate(names)}
    listed = [name if name in number_of else spoken(name) for name in labels.names]
    added = [name for name in dict.fromkeys(listed) if name not in number_of]
    if added:
        notes.append(f"labels that the table has no scores of, which were added by hand: {some(added)}")
    every = [*names, *added]
    number_of = {name: number for number, name in enumerate(every)}
    numbers = np.array([number_of[name] for name in listed], np.int64)
    return Listed(
        f"table of predict or apply ({file})",
        label_names=every,
        rows=labels.rows,
        labels=numbers[labels.numbers],
        codes=np.full(len(labels.rows), PRESENT, np.uint8),
        rest=np.full(len(values["images"]), ABSENT, np.uint8),
        sorted_names=False,
        notes=(*notes, *labels.notes),
        dropped={"problems of predict": problems} if problems else {},
        **values,
    )


def _from_columns(frame: Frame, roles: Roles, what: str, notes: list[str], values: dict[str, Any]) -> Listed:
    """Return the entries that are not absent, column by column."""
    rows, labels, codes = [], [], []
    for number, at in enumerate(roles.labels):
        column = roles.values[at].codes
        if column is None:  # nothing in it: nothing is known
            column = np.full(len(frame), UNKNOWN, np.uint8)
        said = np.flatnonzero(column != ABSENT)
        rows.append(said)
        labels.append(np.full(len(said), number, np.int64))
        codes.append(column[said])
    stated = np.concatenate(codes)
    if len(stated) == len(frame) * len(roles.labels) and set(np.unique(stated).tolist()) == {
        PRESENT,
        UNCERTAIN,
    }:
        stated[stated == UNCERTAIN] = ABSENT
        notes.append("no value is 0 and none is missing: -1 is taken as absent")
    return Listed(
        what, label_names=[frame.names[at] for at in roles.labels], rows=np.concatenate(rows),
        labels=np.concatenate(labels), codes=stated, rest=np.full(len(frame), ABSENT, np.uint8),
        sorted_names=False, adds_up=False,
        notes=tuple(notes), **values,
    )  # fmt: skip


def _splits(frame: Frame, roles: Roles) -> list[str] | None:
    if roles.validation is not None:
        codes = roles.values[roles.validation].codes
        assert codes is not None
        return ["val" if code == PRESENT else "train" for code in codes.tolist()]
    if roles.split is None:
        return None
    texts = frame.column(roles.split).fill_null("").str.strip_chars()
    splits = texts.str.to_lowercase().replace_strict(SPLIT_WORDS, default=None, return_dtype=pl.String)
    other = splits.is_null().arg_true()
    if len(other):
        row = int(other[0])
        raise DataError(
            f"{frame.place(row)}: split {texts[row]!r} in column {frame.names[roles.split]!r}; train, val or test (or "
            "data.split=none)"
        )
    return splits.to_list()


def _groups(frame: Frame, roles: Roles) -> list[str] | None:
    if roles.group is None:
        return None
    return [text.strip() for text in frame.column(roles.group).fill_null("").to_list()]
