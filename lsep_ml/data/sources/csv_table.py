"""The rows of a labels.csv: `image,labels[,split]`, or one column a class with 1, 0, and -1 or nothing for
unknown."""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from lsep_ml.data.errors import DataError
from lsep_ml.data.tree import read_text

UNKNOWN = 2
VALUES = {"0": 0, "1": 1, "": UNKNOWN, "-1": UNKNOWN}
OTHER_COLUMNS = ("image", "labels", "split")


@dataclass(frozen=True)
class Table:
    """The file's rows column by column, for there may be many.

    Attributes:
        lines: where each row stands in the file, from 1.
        images: the cells under "image".
        splits: the cells under "split"; empty without this column.
        labels: the cells under "labels"; empty in the other form.
        values: for each row the codes `VALUES` of its class columns; empty in the first form.
    """

    path: Path
    columns: list[str]
    lines: list[int] = field(default_factory=list)
    images: list[str] = field(default_factory=list)
    splits: list[str] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)
    values: list[bytes] = field(default_factory=list)

    @property
    def class_columns(self) -> list[str]:
        """What is neither image nor split nor labels."""
        return [name for name in self.columns if name not in OTHER_COLUMNS]


def read_table(path: Path) -> Table:
    """Read the file: UTF-8, commas, quotes where needed; blanks around cells and blank lines do not matter.

    Raises:
        DataError: another header, a row with more or fewer cells, a value that is none, no row at all.
    """
    reader = csv.reader(io.StringIO(read_text(path), newline=""))
    try:
        table = Table(path, [name.strip() for name in next(reader, [])])
        _check_columns(table)
        at = {name: position for position, name in enumerate(table.columns)}
        class_positions = [at[name] for name in table.class_columns]
        for cells in reader:
            if any(map(str.strip, cells)):
                _append(table, reader.line_num, cells, at, class_positions)
    except csv.Error as error:
        raise DataError(f"{path}, line {reader.line_num}: {error}") from error
    if not table.lines:
        raise DataError(f"{path}: no image below the first line")
    return table


def _check_columns(table: Table) -> None:
    columns = table.columns
    if "image" not in columns:
        raise DataError(
            f"{table.path}: the first line is {','.join(columns)!r}; expected image,labels[,split]"
        )
    repeated = sorted({name for name in columns if columns.count(name) > 1})
    if repeated:
        raise DataError(f"{table.path}: the column {repeated[0]!r} is there twice")
    if "labels" in columns and table.class_columns:
        raise DataError(
            f"{table.path}: column {table.class_columns[0]!r} beside labels; expected image,labels[,split]"
        )


def _append(
    table: Table, line: int, cells: Sequence[str], at: dict[str, int], class_positions: Sequence[int]
) -> None:
    if len(cells) != len(table.columns):
        raise DataError(
            f"{table.path}, line {line}: {len(cells)} cells under {len(table.columns)} columns; "
            'put a name with a comma in it in quotes: "a, b.jpg"'
        )
    table.lines.append(line)
    table.images.append(cells[at["image"]])
    if "split" in at:
        table.splits.append(cells[at["split"]].strip())
    if "labels" in at:
        table.labels.append(cells[at["labels"]])
        return
    try:
        table.values.append(_codes([cells[position] for position in class_positions]))
    except KeyError as error:
        raise DataError(
            f"{table.path}, line {line}: {error} is not 1, 0, -1 (unknown) or empty (unknown)"
        ) from error


def _codes(cells: Sequence[str]) -> bytes:
    try:
        return bytes(map(VALUES.__getitem__, cells))
    except KeyError:
        return bytes([VALUES[cell.strip()] for cell in cells])
