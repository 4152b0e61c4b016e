"""The rows of a labels.csv: `image,labels[,split]`, or one column a class with 1, 0, and -1 or nothing for
unknown."""

import csv
import io
import math
import re
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from lsep_ml.data.errors import DataError
from lsep_ml.data.label_names import beside_labels, label_names_of
from lsep_ml.data.tree import read_text

UNKNOWN = 2
WRITTEN = {
    0: ("0", "0.0", "false"),
    1: ("1", "1.0", "true"),
    UNKNOWN: ("", "-1", "-1.0", "nan", "na", "n/a", "<na>", "null", "none"),
}
"""How values of a class column are written, here and by pandas; capitals do not matter."""

VALUES = {form(text): code for code, texts in WRITTEN.items() for text in texts for form in (str, str.title)}
OTHER_COLUMNS = ("image", "labels", "split")
NAMELESS = re.compile(r"(Unnamed: \d+)?")  # the second is how pandas reads the first
WHOLE = re.compile(r"[+-]?\d+(\.0+)?")
AN_INDEX = 3  # rows from which on numbers that are all different say something


@dataclass(frozen=True)
class CsvTable:
    """Holds the file's rows column by column, for there may be many.

    Attributes:
        columns: the first line's names; those that name nothing are no columns of the table.
        lines: where each row stands in the file, from 1.
        images: the cells under "image".
        splits: the cells under "split"; empty without this column.
        labels: the cells under "labels"; empty in the other form.
        values: for each row the codes `VALUES` of its class columns, bytes; where `soft`, its targets in [0, 1], NaN
            where unknown, as the bytes of float32. Empty in the first form.
        nameless: position of a column without a name -> its cells.
        notes: which columns were left out, and why.
        soft: whether class columns may hold numbers between 0 and 1.
    """

    path: Path
    columns: list[str]
    soft: bool = False
    lines: list[int] = field(default_factory=list)
    images: list[str] = field(default_factory=list)
    splits: list[str] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)
    values: list[bytes] = field(default_factory=list)
    nameless: dict[int, list[str]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def class_columns(self) -> list[str]:
        """Return the names of the columns that are neither image nor split nor labels, nor beside predicted labels."""
        names = [name for name in self.columns if name not in OTHER_COLUMNS and not NAMELESS.fullmatch(name)]
        return [name for name in names if not beside_labels(name)] if self.predicted else names

    @property
    def predicted(self) -> tuple[str, ...]:
        """Return the labels of a table that `predict` or `apply` wrote, as its score columns have them; else ()."""
        return label_names_of(self.columns)


def read_table(path: Path, *, soft: bool = False) -> CsvTable:
    """Read the file at `path`: UTF-8, commas, quotes where needed; blanks around cells and blank lines do not matter.

    A column without a name is left out if it is empty, or if it holds whole numbers that are all different (the
    index of a table); `notes` says so. soft: whether class columns may hold numbers between 0 and 1.

    Raises:
        DataError: another header, a row with more or fewer cells, a value that is none, no row at all, a column
            without a name that is no index.
    """
    reader = csv.reader(io.StringIO(read_text(path), newline=""), skipinitialspace=True)
    try:
        table = CsvTable(path, [name.strip() for name in next(reader, [])], soft)
        _check_columns(table)
        at = {name: position for position, name in enumerate(table.columns)}
        class_positions = [at[name] for name in table.class_columns]
        problem = at.get("problem") if table.predicted else None
        for cells in reader:
            if (
                problem is not None
                and len(cells) > problem
                and cells[problem]
                and cells[at["labels"]].strip() in ("", "[]")
            ):
                table.notes.append(f"{cells[at['image']]} is left out: {cells[problem]}")
            elif any(map(str.strip, cells)):
                _append(table, reader.line_num, cells, at, class_positions)
    except csv.Error as error:
        raise DataError(f"{path}, line {reader.line_num}: {error}") from error
    if table.predicted:
        table.notes.append(
            "a table of predict or apply: the labels are those under labels, scores are left out"
        )
    if not table.lines:
        raise DataError(f"{path}: no image below the first line")
    for position, column in table.nameless.items():
        table.notes.append(
            reason_to_leave_out(path, position + 1, column, lambda row: f"line {table.lines[row]}")
        )
    return table


def _check_columns(table: CsvTable) -> None:
    columns = table.columns
    if "image" not in columns:
        raise DataError(
            f"{table.path}: the first line is {','.join(columns)!r}; expected image,labels[,split]"
        )
    table.nameless.update({at: [] for at, name in enumerate(columns) if NAMELESS.fullmatch(name)})
    named = [name for at, name in enumerate(columns) if at not in table.nameless]
    repeated = sorted({name for name in named if named.count(name) > 1})
    if repeated:
        raise DataError(f"{table.path}: the column {repeated[0]!r} is there twice")
    if "labels" in columns and table.class_columns:
        raise DataError(
            f"{table.path}: column {table.class_columns[0]!r} beside labels; expected image,labels[,split]"
        )


def _append(
    table: CsvTable, line: int, cells: Sequence[str], at: dict[str, int], class_positions: Sequence[int]
) -> None:
    if len(cells) != len(table.columns):
        raise DataError(
            f"{table.path}, line {line}: {len(cells)} cells under {len(table.columns)} columns; "
            'put a name with a comma in it in quotes: "a, b.jpg"'
        )
    table.lines.append(line)
    table.images.append(cells[at["image"]])
    for position, column in table.nameless.items():
        column.append(cells[position].strip())
    if "split" in at:
        table.splits.append(cells[at["split"]].strip())
    if "labels" in at:
        table.labels.append(cells[at["labels"]])
        return
    values = [cells[position] for position in class_positions]
    try:
        table.values.append(_soft_values(values) if table.soft else _codes(values))
    except KeyError:
        wrong = next(value for value in values if not _taken(value, table.soft))
        place = values.index(wrong)
        expected = "a number from 0 to 1" if table.soft else "1, 0"
        between = "; numbers between 0 and 1: data.soft_targets=true" if _taken(wrong, soft=True) else ""
        raise DataError(
            f"{table.path}, line {line}: {wrong.strip()!r} is not {expected}, -1 (unknown) or empty (unknown), "
            f"in column {table.columns[class_positions[place]]!r}{between}"
        ) from None


def _codes(cells: Sequence[str]) -> bytes:
    try:
        return bytes(map(VALUES.__getitem__, cells))
    except KeyError:
        return bytes([VALUES[_plain(cell)] for cell in cells])


def _soft_values(cells: Sequence[str]) -> bytes:
    values = [_soft_value(cell) for cell in cells]
    if None in values:
        raise KeyError
    return struct.pack(f"={len(values)}f", *values)


def _soft_value(cell: str) -> float | None:
    """Return a target in [0, 1], NaN where it is unknown; None where the cell holds neither."""
    code = VALUES.get(_plain(cell))
    if code is not None:
        return math.nan if code == UNKNOWN else float(code)
    try:
        value = float(cell)
    except ValueError:
        return None
    return value if 0 <= value <= 1 else None


def _taken(cell: str, soft: bool) -> bool:
    return _plain(cell) in VALUES or (soft and _soft_value(cell) is not None)


def _plain(cell: str) -> str:
    return cell.strip().lower()


def reason_to_leave_out(path: Path, number: int, column: Sequence[str], line: Callable[[int], str]) -> str:
    """Return why the column without a name, `number` from 1, is none of the labels; a DataError where nothing says so.

    column: its cells without blanks around. line: where a row stands.
    """
    given = next((row for row, cell in enumerate(column) if cell), None)
    if given is None:
        return f"column {number} of {path.name} has no name and no value; left out"
    whole = len(column) >= AN_INDEX and all(map(WHOLE.fullmatch, column))
    if whole and len({int(float(cell)) for cell in column}) == len(column):
        return (
            f"column {number} of {path.name} has no name, and whole numbers that are all different, as a table's "
            "index; left out"
        )
    raise DataError(
        f"{path}: column {number} has no name, but values ({column[given]!r} in {line(given)}); name it in the first "
        "line, or remove it"
    )
