"""Tables: one file, one a split, or one in the folder of each split (`metadata.jsonl`, `_classes.csv`)."""

import dataclasses
import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl

from lsep_ml.data.errors import DataError, some
from lsep_ml.data.sources.own.columns import image_column
from lsep_ml.data.sources.own.folder import Folder
from lsep_ml.data.sources.own.frames import SUFFIXES, Frame, read_frame
from lsep_ml.data.sources.own.label_columns import NoLabels
from lsep_ml.data.sources.own.listed import Candidate, Listed, Options, image_notes
from lsep_ml.data.sources.own.paths import SPLIT_WORDS, WORDS, split_of_file, split_of_path, split_word
from lsep_ml.data.sources.own.rows import listed_in
from lsep_ml.data.sources.own.tasks import is_export
from lsep_ml.data.tree import beginning

DEPTH = 3  # parts of the path of a table that is found by itself
ONE_A_LINE = re.compile(rb"\{[^\n]*\}\s*\n\s*\{")  # an object a line, which pandas writes as .json
PROBLEMS = ".problems.csv"  # what predict lists beside its table


def find_tables(folder: Folder, options: Options) -> list[Candidate]:
    """Return the tables below the folder whose columns name images; those of the splits are one."""
    together: dict[str, list[str]] = defaultdict(list)
    for file in folder.of_suffix(*SUFFIXES):
        looked_at = options.takes(file, file.count("/") < DEPTH and not file.endswith(PROBLEMS))
        if looked_at and _names_images(folder, file, options):
            together["data.file" if options.files else _key(file)].append(file)
    return [_candidate(folder, group, options) for group in together.values()]


def _key(file: str) -> str:
    """Return what the tables of the splits have alike: the name in the splits' folders, or the path but for the word
    that says the split."""
    if split_of_path(file):
        return Path(file).name
    above, slash, name = file.rpartition("/")
    return above + slash + WORDS.sub(lambda word: "*" if split_word(word[0]) else word[0], name)


def _names_images(folder: Folder, file: str, options: Options) -> bool:
    path = folder.root / file
    if path.suffix.lower() == ".json":
        start = beginning(path, 1 << 16)
        if start[:1] != b"[" and not ONE_A_LINE.match(start):
            return False
        if is_export(path):
            return False
    if options.files:
        return True
    try:
        frame = read_frame(path, rows=1000)
    except DataError:
        return path.stem.lower() in ("labels", "metadata", "annotations", "_classes", *SPLIT_WORDS)
    try:
        return image_column(frame, folder, _beside(file), options) is not None
    except DataError:
        return True  # it names images, and what is wrong with them is said when it is read


def table_reasons(folder: Folder, files: Sequence[str]) -> list[str]:
    """Return why none of the tables among `files` is read, in words."""
    found = []
    for file in files:
        if file.lower().endswith(tuple(set(SUFFIXES) - {".json"})):
            try:
                names = [repr(name) for name in read_frame(folder.root / file, rows=1000).names]
                found.append(
                    f"{file}: none of its columns ({some(names)}) names images here; set data.image=NAME"
                )
            except DataError as error:
                found.append(str(error))
    return found


def _beside(file: str) -> str:
    return file.rpartition("/")[0]


def _candidate(folder: Folder, files: Sequence[str], options: Options) -> Candidate:
    return Candidate("table", tuple(files), lambda: _read(folder, files, options))


def _read(folder: Folder, files: Sequence[str], options: Options) -> Listed:
    """Return the images of one table, or of one a split."""
    frames = {file: read_frame(folder.root / file) for file in files}
    if len(files) == 1:
        return listed_in(frames[files[0]], folder, files[0], options)
    of_split = {file: split_of_file(file) for file in files}
    splits = {
        file: [of_split[file]] * len(frame) if all(of_split.values()) else None
        for file, frame in frames.items()
    }
    if len({frozenset(frame.names) for frame in frames.values()}) == 1:
        return _read_as_one(folder, frames, options, splits)
    tables: dict[str, Listed] = {}
    without: dict[str, DataError] = {}
    for file, frame in frames.items():
        try:
            tables[file] = listed_in(frame, folder, file, options, splits[file])
        except NoLabels as error:
            without[file] = error
    if not tables:
        raise next(iter(without.values()))
    joined = _joined(list(tables.values()), list(tables))
    if not without:
        return joined
    rows = sum(len(frames[file]) for file in without)
    said = f"no column of {some(list(without))} holds labels: its {rows:,} rows are left out"
    return dataclasses.replace(
        joined, notes=(*joined.notes, said), dropped={**joined.dropped, "in a table without labels": rows}
    )


def _read_as_one(
    folder: Folder, frames: dict[str, Frame], options: Options, splits: dict[str, list[str] | None]
) -> Listed:
    """Return the images of tables with the same columns: what these are is told from the rows of all of them."""
    names = next(iter(frames.values())).names
    parts: list[pl.DataFrame] = []
    notes: list[str] = []
    for file, frame in frames.items():
        order = [str(frame.names.index(name)) for name in names]
        parts.append(
            frame.columns.select(order).rename(dict(zip(order, map(str, range(len(names))), strict=True)))
        )
        image = image_column(frame, folder, _beside(file), options)
        if image is not None:
            found = folder.find_column(frame.column(image).fill_null(""), _beside(file))
            at = str(names.index(frame.names[image]))
            parts[-1] = parts[-1].with_columns(pl.Series(at, found.images, dtype=pl.String))
            notes += image_notes(found, file)
    starts = np.cumsum([0, *map(len, frames.values())])

    def line(row: int) -> str:
        number = int(np.searchsorted(starts, row, side="right")) - 1
        return f"{list(frames)[number]}, {list(frames.values())[number].line(row - int(starts[number]))}"

    said = tuple(dict.fromkeys(note for frame in frames.values() for note in frame.notes))
    one = Frame(folder.root, names, pl.concat(parts), line, said)
    every = [split for file in frames for split in splits[file] or ()]
    listed = listed_in(one, folder, "", options, every or None)
    what = f"{listed.format.rpartition(' (')[0]} ({some(list(frames))})"
    return dataclasses.replace(listed, format=what, notes=(*listed.notes, *notes))


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
