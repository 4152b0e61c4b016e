"""Several labels in one cell: lists of JSON and Python, or names with one separator in all of a column."""

import ast
import json
import re
from array import array
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from lsep_ml.data.annotations import Reading
from lsep_ml.data.errors import DataError

SEPARATORS = ("|", ";", ",", "\t", "\n")
"""What may stand between labels; the first that is in any cell does. A blank does only where the column shows it."""

NOTHING = frozenset(("nan", "na", "n/a", "<na>", "null", "[]", "{}", "()", "set()", '""', "''"))
"""How an empty cell is written, in small letters."""

LIST = r"(?s)^(?:\[.*\]|\{.*\}|\((?:.*,.*)?\))$"
"""A list, an object or a tuple; "(unknown)" is a name."""
_TEXT = r"""(?:'[^'"\\\x00-\x1f]*'|"[^'"\\\x00-\x1f]*")"""
PLAIN_LIST = rf"^\[[ \n]*{_TEXT}(?:[ \n]*,[ \n]*{_TEXT})*[ \n]*\]$"
"""A list of texts as JSON and Python write it, without what needs a closer look."""

AT_A_TIME = 2**17
"""Cells that are taken apart at a time."""

BETWEEN_QUOTES = re.compile(r"(?<=['\"])\s+(?=['\"])")
NAME_KEYS = (
    *("name", "label", "class", "category", "choice"),
    *("choices", "labels", "classes", "categories", "tags"),
)


@dataclass(frozen=True)
class Labels:
    """Holds the labels of N cells: `names`, the row and the number of the name of each one that is listed, and how they
    were taken apart."""

    names: list[str]
    rows: NDArray[np.int64]
    numbers: NDArray[np.int64]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Apart:
    """Holds what cells are taken apart to: `names` in the order they are met, the `numbers` of the names of one cell
    after the other, each once a cell, and how many each cell has."""

    names: list[str]
    numbers: NDArray[np.int64]
    lengths: NDArray[np.int64]

    @property
    def cells(self) -> NDArray[np.int64]:
        """Return the cell of each of `numbers`."""
        return np.repeat(np.arange(len(self.lengths)), self.lengths)


def read_cells(cells: pl.Series, what: str, separator: str | None, place: Callable[[int], str]) -> Labels:
    """Take the cells apart.

    Args:
        cells: String.
        what: the column, for messages.
        separator: between labels; None: found out.
        place: where a row stands.

    Raises:
        DataError: cells that say different things about the separator, or a list that is none.
    """
    cells = cells.fill_null("").str.strip_chars()
    once = cells.unique(maintain_order=True)
    is_list = once.str.contains(LIST)
    nothing = (once == "") | once.str.to_lowercase().is_in(sorted(NOTHING))
    taken, lists = once.filter(~nothing), once.filter(is_list & ~nothing)

    def where(text: str) -> str:
        return place(int(cells.index_of(text) or 0))

    notes: list[str] = []
    apart: Apart | None = None
    if separator == "":
        raise DataError(
            "data.separator='': what stands between the labels of a cell; quoted for the shell: \"data.separator=';'\""
        )
    if separator is None and lists.is_empty():
        separator, apart = _separator(taken, what, where, notes)
    if len(lists):
        notes.append(Reading(f"cells of column {what!r} are lists, such as {lists[0][:60]!r}"))
    empty = once.filter(nothing & ~once.str.contains(r"^[\[{(]") & (once != "")).to_list()
    if empty:
        notes.append(f"cells {', '.join(map(repr, empty[:3]))} of column {what!r} are images without a label")
    if apart is None and lists.str.contains(PLAIN_LIST).all():
        apart = by_columns(taken, separator)
    elif apart is None:
        apart = one_by_one(taken, separator, lambda text: f"{where(text)}, column {what!r}")
    beside: Iterable[str] = (
        taken.filter(~taken.str.contains(LIST)) if separator is None and len(lists) else []
    )
    mixed = _made_of(beside, set(apart.names))
    if mixed is not None:
        raise DataError(
            f"{where(mixed[0])}: {mixed[0]!r} in column {what!r} has labels separated by {mixed[1]!r}, and others are "
            f"lists, such as {lists[0][:60]!r}; write them alike, or set data.separator"
        )
    lengths = np.zeros(len(once), np.int64)
    lengths[(~nothing).to_numpy()] = apart.lengths
    if len(once) == len(cells):
        rows = np.repeat(np.arange(len(cells)), lengths)
        return Labels(apart.names, rows, apart.numbers, tuple(notes))
    found = pl.DataFrame({"cell": once}).with_row_index("at")
    at = pl.DataFrame({"cell": cells}).join(found, on="cell", how="left", maintain_order="left")["at"]
    starts, lengths = (np.cumsum(lengths) - lengths)[at.to_numpy()], lengths[at.to_numpy()]
    rows = np.repeat(np.arange(len(cells)), lengths)
    within = np.arange(len(rows)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    return Labels(apart.names, rows, apart.numbers[np.repeat(starts, lengths) + within], tuple(notes))


def by_columns(cells: pl.Series, separator: str | None) -> Apart:
    """Take cells that are not empty apart, some at a time; the lists among them are all of `PLAIN_LIST`.

    separator: between the labels of the others; None: each is one.
    """
    cell = pl.col("cell")
    listed = cell.str.extract_all(_TEXT).list.eval(pl.element().str.head(-1).str.tail(-1))
    plain = pl.concat_list(cell) if separator is None else cell.str.split(separator)
    number_of: dict[str, int] = {}
    numbers, lengths = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    for start in range(0, len(cells), AT_A_TIME):
        some = cells.slice(start, AT_A_TIME).alias("cell").to_frame().with_row_index("at")
        lists = cell.str.contains(LIST)
        taken = pl.when(lists).then(listed).otherwise(plain) if some.select(lists.any()).item() else plain
        found = some.select("at", taken.alias("name")).explode("name")
        found = found.with_columns(pl.col("name").str.strip_chars()).filter(pl.col("name") != "")
        distinct = found["name"].unique(maintain_order=True)
        number = [number_of.setdefault(name, len(number_of)) for name in distinct.to_list()]
        codes = found["name"].cast(pl.Enum(distinct)).to_physical().to_numpy()
        at, codes = found["at"].to_numpy(), np.array(number, np.int64)[codes]
        pairs = at * np.int64(len(number_of) or 1) + codes
        in_order = np.sort(pairs)
        if (in_order[1:] == in_order[:-1]).any():  # a name twice in a cell
            kept = np.sort(np.unique(pairs, return_index=True)[1])
            at, codes = at[kept], codes[kept]
        numbers.append(codes)
        lengths.append(np.bincount(at, minlength=len(some)))
    return Apart(list(number_of), np.concatenate(numbers), np.concatenate(lengths))


def one_by_one(cells: pl.Series, separator: str | None, where: Callable[[str], str]) -> Apart:
    """Take cells that are not empty apart, lists of any kind among them; `where` says where a cell stands."""
    number_of: dict[str, int] = {}
    numbers, lengths = array("q"), []
    for text in cells.to_list():
        if _is_list(text):
            names = _of_list(text, partial(where, text))
        else:
            names = text.split(separator) if separator else [text]
        kept = dict.fromkeys(name for name in map(str.strip, names) if name)
        numbers.extend(number_of.setdefault(name, len(number_of)) for name in kept)
        lengths.append(len(kept))
    return Apart(list(number_of), np.array(numbers, np.int64), np.array(lengths, np.int64))


def _is_list(text: str) -> bool:
    return re.match(LIST, text) is not None


def _separator(
    cells: pl.Series, what: str, where: Callable[[str], str], notes: list[str]
) -> tuple[str | None, Apart | None]:
    """Return what stands between labels in these cells, all different, with the cells taken apart by it; None where
    each cell is one label."""
    for separator in SEPARATORS:
        holding = _first_with(cells, separator)
        if holding is None:
            continue
        apart = by_columns(cells, separator)
        names = set(apart.names)
        mixed = _made_of(apart.names, names)
        if mixed is not None:
            cell = str(_first_with(cells, mixed[0]))
            raise DataError(
                f"{where(cell)}: {cell!r} in column {what!r} has labels separated by {mixed[1]!r}, and others by "
                f"{separator!r} ({holding!r} in {where(holding)}); write them alike, or set data.separator"
            )
        note = f"labels in column {what!r} are separated by {separator!r} (data.separator)"
        notes.append(Reading(note) if separator == "|" or _recur(apart) else note)
        return separator, apart
    several = cells.str.contains(" ", literal=True)
    if not several.any():
        return None, None
    apart = by_columns(cells, " ")
    first = cells.filter(several)[0]
    if len(apart.names) < len(cells):
        notes.append(
            f"labels in column {what!r} are separated by blanks, such as {first!r} "
            "(\"data.separator='|'\" takes a cell as one label)"
        )
        return " ", apart
    of_other_cells = np.bincount(apart.numbers) > 1
    own_word = np.zeros(len(cells), bool)
    own_word[apart.cells[~of_other_cells[apart.numbers]]] = True
    unclear = several if len(apart.names) == len(cells) else several & ~pl.Series(own_word)
    if unclear.any():
        cell = cells.filter(unclear)[0]
        raise DataError(
            f"{where(cell)}: {cell!r} in column {what!r} can be one label or several; set "
            "\"data.separator=' '\" for several, \"data.separator='|'\" for one"
        )
    notes.append(
        f"cells of column {what!r} hold blanks, such as {first!r}, and are one label each "
        "(\"data.separator=' '\" takes them apart)"
    )
    return None, None


def _made_of(names: Iterable[str], others: set[str]) -> tuple[str, str] | None:
    """Return the first of `names` that is several of the `others` with a separator between, and the separator."""
    for separator in SEPARATORS:
        for name in names:
            if separator in name and set(map(str.strip, name.split(separator))) <= others:
                return name, separator
    return None


def _first_with(cells: pl.Series, text: str) -> str | None:
    holding = cells.str.contains(text, literal=True).arg_true()
    return None if holding.is_empty() else str(cells[int(holding[0])])


def _recur(apart: Apart) -> bool:
    """Return whether half of the names that stand beside others stand in another cell too: what divides them is no part
    of them."""
    counts = np.bincount(apart.numbers, minlength=len(apart.names))
    beside = np.zeros(len(apart.names), bool)
    beside[apart.numbers[np.repeat(apart.lengths > 1, apart.lengths)]] = True
    return bool(2 * (counts[beside] > 1).sum() >= beside.sum())


def _of_list(text: str, where: Callable[[], str]) -> list[str]:
    """Return the names in a list or an object as JSON or Python write them."""
    try:
        value = json.loads(text)
    except (json.JSONDecodeError, RecursionError):
        try:
            plain = re.fullmatch(PLAIN_LIST, text) is not None
            value = ast.literal_eval(text if plain else BETWEEN_QUOTES.sub(", ", text))
        except (ValueError, SyntaxError, RecursionError, MemoryError, TypeError):
            if text[0] == "{" or any(mark in text[1:-1] for mark in "'\"[]"):
                raise DataError(f"{where()}: {text[:60]!r} is not a list of labels") from None
            value = text[1:-1].split(",")
    return names_in(value, where)


def names_in(value: Any, where: Callable[[], str]) -> list[str]:
    """Return the label names in plain data: a name, a list of them, {"choices": [...]}, {name: 0 or 1}, a list of
    objects with a name each."""
    if value is None or value == "":
        return []
    if isinstance(value, bool):
        raise DataError(f"{where()}: {value} is not a label")
    if isinstance(value, str | int):
        return [str(value)]
    if isinstance(value, float) and value.is_integer():
        return [str(int(value))]
    if isinstance(value, list | tuple | set):
        ordered = sorted(value, key=str) if isinstance(value, set) else value
        return [name for item in ordered for name in names_in(item, where)]
    if isinstance(value, dict):
        for key in NAME_KEYS:
            if isinstance(value.get(key), list):
                return names_in(value[key], where)
        lists = [
            item
            for item in value.values()
            if isinstance(item, list) and all(isinstance(one, str) for one in item)
        ]
        if len(lists) == 1:
            return list(lists[0])
        if value and all(isinstance(item, bool) or item in (0, 1) for item in value.values()):
            return [str(name) for name, item in value.items() if item]
        for key in NAME_KEYS:
            if isinstance(value.get(key), str):
                return [value[key]]
    raise DataError(f"{where()}: {str(value)[:60]!r} is not a label, nor a list of labels")
