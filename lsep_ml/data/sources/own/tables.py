"""Tables: one file, one a split, or one in the folder of each split (`metadata.jsonl`, `_classes.csv`)."""

import dataclasses
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from lsep_ml.data.annotations import Reading
from lsep_ml.data.errors import DataError
from lsep_ml.data.label_names import SEPARATOR
from lsep_ml.data.sources.own.cells import Labels, read_cells
from lsep_ml.data.sources.own.columns import Roles, image_column, roles_of
from lsep_ml.data.sources.own.folder import SPLIT_WORDS, Folder, split_of_path
from lsep_ml.data.sources.own.frames import SUFFIXES, Frame, read_frame
from lsep_ml.data.sources.own.label_columns import predicted_names
from lsep_ml.data.sources.own.listed import (
    ABSENT,
    PRESENT,
    UNKNOWN,
    Candidate,
    Listed,
    Options,
    image_notes,
    some,
)
from lsep_ml.data.sources.own.tasks import is_export
from lsep_ml.files import spoken

DEPTH = 3  # parts of the path of a table that is found by itself
PROBLEMS = ".problems.csv"  # what predict lists beside its table


def find_tables(folder: Folder, options: Options) -> list[Candidate]:
    """Return the tables below the folder whose columns name images; those of the splits are one."""
    files = [
        file
        for file in folder.of_suffix(*SUFFIXES)
        if file.count("/") < DEPTH and not file.endswith(PROBLEMS)
    ]
    if options.file is not None:
        files = [file for file in folder.of_suffix(*SUFFIXES) if file == options.file]
    together: dict[tuple[str, str], list[str]] = defaultdict(list)
    for file in files:
        if _names_images(folder, file, options):
            together[_key(file)].append(file)
    return [_candidate(folder, group, options) for group in together.values()]


def _key(file: str) -> tuple[str, str]:
    """Return what the tables of the splits have alike: the name in the splits' folders, or the folder of the splits'
    names."""
    path = Path(file)
    if split_of_path(file):
        return "in the folder of each split", path.name
    if path.stem.lower() in SPLIT_WORDS:
        return str(path.parent), f"a split each{path.suffix}"
    return file, ""


def _names_images(folder: Folder, file: str, options: Options) -> bool:
    path = folder.root / file
    if path.suffix.lower() == ".json":
        with path.open("rb") as opened:
            if opened.read(64).lstrip(b"\xef\xbb\xbf \r\n\t")[:1] != b"[":
                return False
        if is_export(path):
            return False
    if options.file is not None:
        return True
    try:
        frame = read_frame(path, rows=1000)
    except DataError:
        return path.stem.lower() in ("labels", "metadata", "annotations", "_classes", *SPLIT_WORDS)
    try:
        return image_column(frame, folder, _beside(file), options) is not None
    except DataError:
        return True  # it names images, and what is wrong with them is said when it is read


def _beside(file: str) -> str:
    return file.rpartition("/")[0]


def _candidate(folder: Folder, files: Sequence[str], options: Options) -> Candidate:
    return Candidate("table", tuple(files), lambda: _read(folder, files, options))


def _read(folder: Folder, files: Sequence[str], options: Options) -> Listed:
    """Return the images of one table, or of one a split."""
    tables = [_read_one(folder, file, options, len(files) > 1) for file in files]
    return tables[0] if len(tables) == 1 else _joined(tables, files)


def _read_one(folder: Folder, file: str, options: Options, of_split: bool) -> Listed:
    return listed_in(read_frame(folder.root / file), folder, file, options, of_split)


def listed_in(frame: Frame, folder: Folder, file: str, options: Options, of_split: bool = False) -> Listed:
    """Return the images of `folder` that the rows of a table name, with their labels; `of_split`: the file is one
    split's."""
    beside = _beside(file)
    frame, problems = _without_problems(frame)
    roles = roles_of(frame, folder, beside, options)
    listed = [value or "" for value in frame.column(roles.image).to_list()]
    blank = next((row for row, value in enumerate(listed) if not value.strip()), None)
    if blank is not None:
        raise DataError(f"{frame.place(blank)}: no image under {frame.names[roles.image]!r}; remove the row")
    found = folder.find(listed, beside)
    notes = [*roles.notes, *image_notes(found, frame.path.name)]
    splits = _splits(frame, roles)
    if splits is None and (of_split or split_of_path(file)):
        splits = [split_of_path(file) or SPLIT_WORDS[Path(file).stem.lower()]] * len(frame)
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
        return _of_predicted(roles.names, labels, len(frame), file, problems, notes, values)
    codes, rest = np.full(len(labels.rows), PRESENT, np.uint8), np.full(len(frame), ABSENT, np.uint8)
    repeated = len(set(found.images)) < len(frame)
    if roles.verdict is not None:
        verdict = roles.values[roles.verdict].codes
        assert verdict is not None
        codes, rest = verdict[labels.rows], np.full(len(frame), UNKNOWN, np.uint8)
    elif repeated:
        notes.append(
            Reading(
                f"{len(frame):,} rows for {len(set(found.images)):,} images: the labels of an image's rows add up"
            )
        )
    what = f"table with {'one row a label' if repeated else 'a cell of labels'} ({file})"
    return Listed(
        what, label_names=labels.names, rows=labels.rows, labels=labels.numbers, codes=codes, rest=rest, words=True,
        notes=(*notes, *labels.notes), **values,
    )  # fmt: skip


def _without_problems(frame: Frame) -> tuple[Frame, int]:
    """Return a table of predict without the images that it could not use and nobody has labelled since, and their
    number."""
    if not predicted_names(frame) or "problem" not in frame.names:
        return frame, 0
    problem, labels = (frame.column(frame.names.index(name)).fill_null("") for name in ("problem", "labels"))
    usable = (problem == "") | ~labels.is_in(["", "[]"])
    rows = usable.arg_true().to_list()
    kept = dataclasses.replace(
        frame, columns=frame.columns.filter(usable), line=lambda row: frame.line(rows[row])
    )
    return kept, len(frame) - len(rows)


def _of_predicted(
    names: Sequence[str],
    labels: Labels,
    images: int,
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
        rest=np.full(images, ABSENT, np.uint8),
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
        stated = np.flatnonzero(column != ABSENT)
        rows.append(stated)
        labels.append(np.full(len(stated), number, np.int64))
        codes.append(column[stated])
    return Listed(
        what, label_names=[frame.names[at] for at in roles.labels], rows=np.concatenate(rows),
        labels=np.concatenate(labels),
        codes=np.concatenate(codes), rest=np.full(len(frame), ABSENT, np.uint8), sorted_names=False, adds_up=False,
        notes=tuple(notes), **values,
    )  # fmt: skip


def _splits(frame: Frame, roles: Roles) -> list[str] | None:
    if roles.validation is not None:
        codes = roles.values[roles.validation].codes
        assert codes is not None
        return ["val" if code == PRESENT else "train" for code in codes.tolist()]
    if roles.split is None:
        return None
    texts = [(text or "").strip() for text in frame.column(roles.split).to_list()]
    splits = []
    for row, text in enumerate(texts):
        split = SPLIT_WORDS.get(text.lower())
        if split is None:
            raise DataError(
                f"{frame.place(row)}: split {text!r} in column {frame.names[roles.split]!r}; train, val or test (or "
                "data.split=none)"
            )
        splits.append(split)
    return splits


def _groups(frame: Frame, roles: Roles) -> list[str] | None:
    if roles.group is None:
        return None
    return [text.strip() for text in frame.column(roles.group).fill_null("").to_list()]


def _joined(tables: Sequence[Listed], files: Sequence[str]) -> Listed:
    """Return the rows of all tables, one after the other, over the labels of all."""
    first = tables[0]
    names = list(dict.fromkeys(name for table in tables for name in table.label_names))
    for table, file in zip(tables, files, strict=True):
        if not table.sorted_names and set(table.label_names) != set(names):
            odd = sorted(set(names) ^ set(table.label_names))
            raise DataError(
                f"{file}: other label columns than {files[0]}: {', '.join(odd[:5])}; make them alike, or set data.file"
            )
    number_of = {name: number for number, name in enumerate(names)}
    starts = np.cumsum([0, *(len(table.images) for table in tables)])

    def place(row: int) -> str:
        table = int(np.searchsorted(starts, row, side="right")) - 1
        return tables[table].place(row - int(starts[table]))

    def all_or_none(values: Sequence[Sequence[str] | None]) -> list[str] | None:
        if all(value is None for value in values):
            return None
        return [
            one
            for value, table in zip(values, tables, strict=True)
            for one in (value or [""] * len(table.images))
        ]

    return dataclasses.replace(
        first,
        format=f"{first.format.rpartition(' (')[0]} ({some(files)})",
        images=[image for table in tables for image in table.images],
        label_names=names,
        rows=np.concatenate([table.rows + start for table, start in zip(tables, starts, strict=False)]),
        labels=np.concatenate(
            [
                np.array([number_of[name] for name in table.label_names], np.int64)[table.labels]
                for table in tables
            ]
        ),
        codes=np.concatenate([table.codes for table in tables]),
        rest=np.concatenate([table.rest for table in tables]),
        splits=all_or_none([table.splits for table in tables]),
        groups=all_or_none([table.groups for table in tables]),
        notes=tuple(dict.fromkeys(note for table in tables for note in table.notes)),
        place=place,
    )
