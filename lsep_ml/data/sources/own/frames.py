"""Tables of any kind as columns of text: nothing is guessed of a value before all of its column is known."""

import contextlib
import csv
import io
import itertools
import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from lsep_ml.data.annotations import Reading
from lsep_ml.data.errors import DataError
from lsep_ml.data.tree import UTF_16, read_text

SUFFIXES = (".csv", ".tsv", ".parquet", ".jsonl", ".ndjson", ".json", ".xlsx")
DELIMITERS = (",", ";", "\t", "|")
LOOKED_AT = 50  # lines from which the delimiter is told


@dataclass(frozen=True)
class Frame:
    """A table as text.

    Attributes:
        path: the file.
        names: the columns' names as the file has them, without blanks around.
        columns: String columns "0", "1", ...; null where nothing stands.
        line: a row -> where it stands in the file, in words.
        notes: how the file was read, where that is to be said.
    """

    path: Path
    names: tuple[str, ...]
    columns: pl.DataFrame
    line: Callable[[int], str]
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.columns)

    def column(self, number: int) -> pl.Series:
        """Return the column of this number, from 0."""
        return self.columns[str(number)]

    def place(self, row: int) -> str:
        """Return where a row stands, for messages."""
        return f"{self.path}, {self.line(row)}"


def read_frame(path: Path, rows: int | None = None) -> Frame:
    """Read the table at `path` by its suffix, or the first `rows` of it.

    Raises:
        DataError: a file that is none, rows of different lengths (with the line), no row.
    """
    suffix = path.suffix.lower()
    if not path.is_file():
        raise DataError(f"{path}: no such file; data.file names the one with the labels")
    if suffix in (".csv", ".tsv"):
        frame = _from_delimited(path, rows)
    elif suffix == ".parquet":
        frame = _from_parquet(path, rows)
    elif suffix == ".xlsx":
        frame = _from_workbook(path, rows)
    else:
        frame = from_records(path, list(itertools.islice(_records(path), rows)))
    if not len(frame):
        raise DataError(f"{path}: no row below the first line")
    return frame


def from_records(path: Path, records: Sequence[tuple[str, dict[str, Any]]]) -> Frame:
    """Return the table of (where it stands, name -> value) a row; lists and objects are JSON in their cells."""
    names = tuple(dict.fromkeys(name for _, record in records for name in record))
    columns = {
        str(number): pl.Series([_as_text(record.get(name)) for _, record in records], dtype=pl.String)
        for number, name in enumerate(names)
    }
    return Frame(
        path, tuple(name.strip() for name in names), pl.DataFrame(columns), lambda row: records[row][0]
    )


def _as_text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False)


def _records(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Return the objects of a JSON list, or of a file with one a line."""
    text = read_text(path)
    try:
        if path.suffix.lower() == ".json" and text.lstrip()[:1] != "{":
            found = json.loads(text)
            if not isinstance(found, list):
                raise DataError(f"{path}: a JSON {type(found).__name__}, not a list of records")
            numbered = ((f"record {number}", record) for number, record in enumerate(found, start=1))
        else:
            lines = ((number, line) for number, line in enumerate(text.split("\n"), start=1) if line.strip())
            numbered = ((f"line {number}", _one(path, number, line)) for number, line in lines)
        for where, record in numbered:
            if not isinstance(record, dict):
                raise DataError(f"{path}, {where}: {str(record)[:60]!r} is not an object of names and values")
            yield where, record
    except (json.JSONDecodeError, RecursionError) as error:
        raise DataError(f"{path}: not JSON: {error}") from error


def _one(path: Path, number: int, line: str) -> Any:
    try:
        return json.loads(line)
    except (json.JSONDecodeError, RecursionError) as error:
        raise DataError(f"{path}, line {number}: not JSON: {error}; one object a line is expected") from error


def _from_parquet(path: Path, rows: int | None) -> Frame:
    try:
        found = pl.read_parquet(path, n_rows=rows)
    except pl.exceptions.PolarsError as error:
        raise DataError(f"{path}: not a Parquet file: {error}") from error
    columns = {}
    for number, column in enumerate(found.iter_columns()):
        if column.dtype.is_nested():
            texts = [None if value is None else json.dumps(value, default=str) for value in column.to_list()]
            columns[str(number)] = pl.Series(texts, dtype=pl.String)
        elif column.dtype == pl.Binary:
            columns[str(number)] = pl.Series([None] * len(column), dtype=pl.String)
        else:
            columns[str(number)] = column.cast(pl.String)
    names = tuple(name.strip() for name in found.columns)
    return Frame(path, names, pl.DataFrame(columns), lambda row: f"row {row + 1}")


def _from_workbook(path: Path, rows: int | None) -> Frame:
    """Return the first sheet."""
    import openpyxl  # here: few have a workbook

    try:
        with contextlib.closing(openpyxl.load_workbook(path, read_only=True, data_only=True)) as book:
            cells = [
                (f"line {number}", values)
                for number, values in enumerate(book.worksheets[0].iter_rows(values_only=True), start=1)
                if any(value is not None and str(value).strip() for value in values)
            ]
    except (ValueError, KeyError, OSError, IndexError) as error:
        raise DataError(f"{path}: not a workbook that can be read: {error}") from error
    except Exception as error:  # zipfile's and openpyxl's own, which have no base of theirs
        raise DataError(f"{path}: not a workbook that can be read: {error}") from error
    if not cells:
        raise DataError(f"{path}: its first sheet is empty")
    cells = cells if rows is None else cells[: rows + 1]
    by_column = list(itertools.zip_longest(*(values for _, values in cells)))  # rows may end early
    header = ["" if column[0] is None else str(column[0]).strip() for column in by_column]
    columns = {
        str(number): pl.Series(map(_cell_text, column[1:]), dtype=pl.String)
        for number, column in enumerate(by_column)
    }
    return Frame(path, tuple(header), pl.DataFrame(columns), lambda row: cells[row + 1][0])


def _cell_text(value: Any) -> str | None:
    if value is None:
        return None
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)


def _from_delimited(path: Path, rows: int | None) -> Frame:
    with path.open("rb") as file:
        start = file.read(1 << 20)
    if not start.strip():
        raise DataError(f"{path}: empty")
    source: Path | bytes = path
    notes: tuple[str, ...] = ()
    if start.startswith(UTF_16):
        start = source = read_text(path).encode()
        notes = (Reading(f"{path.name} is UTF-16, by the mark that it begins with"),)
    if b"\r" in start and b"\n" not in start:
        raise DataError(f"{path}: its lines end as those of old Macs do; save the file with usual line ends")
    above, said, text = _above_header(start.decode("utf-8-sig", "replace"))
    delimiter = said or _delimiter(text, path.suffix.lower())
    header = [name.strip() for name in next(_cells_of(io.StringIO(text, newline=""), delimiter))]
    skipped = above
    if re.search(rf'{re.escape(delimiter)} +"(?!")', text):  # a quote after a blank, for polars a letter
        source, skipped = _closed_up(path, delimiter, above), 0
    try:
        columns = pl.read_csv(
            source,
            has_header=False,
            separator=delimiter,
            schema={str(number): pl.String for number in range(len(header))},
            empty_string_is_null=False,
            skip_lines=skipped,
            n_rows=None if rows is None else rows + 1,
        )
    except pl.exceptions.PolarsError as error:
        _refuse_rows(path, delimiter, len(header), above)
        said = str(error).split("Original error:")[-1].strip(" `\n")
        raise DataError(f"{path}: not a table of UTF-8 text: {said}; a quote without its end?") from error
    columns = columns[1:]
    if rows is None and (columns[str(len(header) - 1)] == "").any():
        content = source if isinstance(source, bytes) else path.read_bytes()
        columns = _whole_rows(path, content, delimiter, len(header), columns, above)
    lines: list[int] = []

    def line(row: int) -> str:
        if not lines:
            rows = _rows(path, delimiter, above)
            lines.extend(number for number, cells in rows if any(map(str.strip, cells)))
        return f"line {lines[row + 1]}" if row + 1 < len(lines) else f"row {row + 1}"

    return Frame(path, tuple(header), columns, line, notes)


def _above_header(text: str) -> tuple[int, str | None, str]:
    """Return how many lines stand above the header, blank ones and Excel's `sep=;`, the delimiter that this says, and
    the text without them."""
    said = None
    lines = text.splitlines(keepends=True)
    for number, line in enumerate(lines):
        if line.lower().startswith("sep=") and len(line.strip()) <= len("sep=;") < len(line):
            said = line[4]
        elif line.strip():
            return number, said, "".join(lines[number:])
    return 0, None, text


def _whole_rows(
    path: Path, content: bytes, delimiter: str, width: int, columns: pl.DataFrame, above: int
) -> pl.DataFrame:
    """Return the rows without the blank lines; a DataError for one that ends early, which looks like empty cells."""
    blank = columns.select(pl.all_horizontal(pl.all().str.strip_chars() == "")).to_series()
    plain = b'"' not in content and not above
    if plain and content.count(delimiter.encode()) == (width - 1) * (1 + len(columns) - int(blank.sum())):
        return columns.filter(~blank)  # no row has more cells, so none has fewer
    _refuse_rows(path, delimiter, width, above)
    return columns.filter(~blank)


def _delimiter(text: str, suffix: str) -> str:
    """Return what divides the first line into most cells, and the lines after it into as many."""
    best, most = "\t" if suffix == ".tsv" else ",", 1
    for delimiter in DELIMITERS:
        try:
            rows = [
                row
                for row in itertools.islice(_cells_of(io.StringIO(text, newline=""), delimiter), LOOKED_AT)
                if row
            ]
        except csv.Error:
            continue
        width = len(rows[0]) if rows else 0
        same = sum(len(row) == width for row in rows[:-1]) >= 0.9 * (len(rows) - 1)
        if width > most and (same or most == 1):
            best, most = delimiter, width
    return best


def _cells_of(lines: Iterable[str], delimiter: str) -> Any:
    """Return the reader of a table's rows, whose cells begin after blanks, with a quote or without."""
    return csv.reader(lines, delimiter=delimiter, skipinitialspace=True)


def _closed_up(path: Path, delimiter: str, above: int) -> bytes:
    """Return the table from the header on without the blanks before its cells."""
    file = io.StringIO()
    rows = (cells for _, cells in _rows(path, delimiter, above))
    csv.writer(file, delimiter=delimiter, lineterminator="\n").writerows(rows)
    return file.getvalue().encode()


def _rows(path: Path, delimiter: str, above: int) -> Iterator[tuple[int, list[str]]]:
    """Return the rows from the header on with the number of the line that each ends in."""
    lines = itertools.islice(io.StringIO(read_text(path), newline=""), above, None)
    reader = _cells_of(lines, delimiter)
    try:
        for cells in reader:
            yield above + reader.line_num, cells
    except csv.Error as error:
        raise DataError(f"{path}, line {above + reader.line_num}: {error}") from error


def _refuse_rows(path: Path, delimiter: str, width: int, above: int) -> None:
    """Name the first row that has not `width` cells, if there is one."""
    for number, cells in _rows(path, delimiter, above):
        if len(cells) != width and any(map(str.strip, cells)):
            few = f"add what is missing, {delimiter!r} for an empty cell too"
            many = f"put a cell with {delimiter!r} in it in quotes"
            raise DataError(
                f"{path}, line {number}: {len(cells)} cells under {width} columns "
                f"({delimiter.join(cells)[:60]!r}); {few if len(cells) < width else many}"
            )
