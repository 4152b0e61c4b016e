"""Several labels in one cell: lists of JSON and Python, or names with one separator in all of a column."""

import ast
import json
import re
from array import array
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
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

BETWEEN_QUOTES = re.compile(r"(?<=['\"])\s+(?=['\"])")
NAME_KEYS = (
    "name",
    "label",
    "class",
    "category",
    "choice",
    "choices",
    "labels",
    "classes",
    "categories",
    "tags",
)


@dataclass(frozen=True)
class Labels:
    """Holds the labels of N cells: `names`, the row and the number of the name of each one that is listed, and how they
    were taken apart."""

    names: list[str]
    rows: NDArray[np.int64]
    numbers: NDArray[np.int64]
    notes: tuple[str, ...]


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
    texts: list[str] = once.to_list()

    def where(text: str) -> str:
        return place(int(cells.index_of(text) or 0))

    plain = [text for text in texts if text and text.lower() not in NOTHING and not _is_list(text)]
    lists = [text for text in texts if _is_list(text) and text.lower() not in NOTHING]
    notes: list[str] = []
    if separator is None:
        separator = _separator(plain, what, where, notes) if not lists else None
    elif separator == "":
        raise DataError("data.separator='': what stands between the labels of a cell, such as '|'")
    if lists:
        notes.append(Reading(f"cells of column {what!r} are lists, such as {lists[0][:60]!r}"))
    empty = [text for text in texts if text.lower() in NOTHING and text[:1] not in "[{("]
    if empty:
        notes.append(f"cells {', '.join(map(repr, empty[:3]))} of column {what!r} are images without a label")

    number_of: dict[str, int] = {}
    numbers, ends = array("i"), [0]
    for text in texts:
        if not text or text.lower() in NOTHING:
            names = []
        elif _is_list(text):
            names = _of_list(text, lambda text=text: f"{where(text)}, column {what!r}")  # type: ignore[misc]
        else:
            names = text.split(separator) if separator else [text]
        kept = [name for name in (name.strip() for name in names) if name]
        numbers.extend(number_of.setdefault(name, len(number_of)) for name in dict.fromkeys(kept))
        ends.append(len(numbers))
    found = pl.DataFrame({"cell": once}).with_row_index("at")
    at = (
        pl.DataFrame({"cell": cells})
        .join(found, on="cell", how="left", maintain_order="left")["at"]
        .to_numpy()
    )
    starts, lengths = np.array(ends)[at], np.diff(ends)[at]
    rows = np.repeat(np.arange(len(cells)), lengths)
    within = np.arange(len(rows)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    labels = np.frombuffer(numbers, np.intc)[np.repeat(starts, lengths) + within] if len(rows) else rows
    return Labels(list(number_of), rows, labels.astype(np.int64), tuple(notes))


def _is_list(text: str) -> bool:
    return len(text) > 1 and text[0] + text[-1] in ("[]", "{}", "()")


def _separator(cells: Sequence[str], what: str, where: Callable[[str], str], notes: list[str]) -> str | None:
    """Return what stands between labels in these cells, all different; None where each cell is one label."""
    for separator in SEPARATORS:
        holding = next((cell for cell in cells if separator in cell), None)
        if holding is None:
            continue
        names = {name.strip() for cell in cells for name in cell.split(separator)} - {""}
        for other in SEPARATORS:
            mixed = next(
                (name for name in names if other in name and set(map(str.strip, name.split(other))) <= names),
                None,
            )
            if mixed is not None:
                cell = next(cell for cell in cells if mixed in cell)
                raise DataError(
                    f"{where(cell)}: {cell!r} in column {what!r} has labels separated by {other!r}, and others by "
                    f"{separator!r} ({holding!r} in {where(holding)}); write them alike, or set data.separator"
                )
        note = f"labels in column {what!r} are separated by {separator!r} (data.separator)"
        notes.append(Reading(note) if separator == "|" or _recur(cells, separator) else note)
        return separator
    several = [cell for cell in cells if len(cell.split()) > 1]
    if not several:
        return None
    words = {word for cell in cells for word in cell.split()}
    if len(words) < len(cells):
        notes.append(
            f"labels in column {what!r} are separated by blanks, such as {several[0]!r} "
            "(data.separator='|' takes a cell as "
            "one label)"
        )
        return " "
    for cell in several:
        others = {word for other in cells if other != cell for word in other.split()}
        if len(words) == len(cells) or set(cell.split()) <= others:
            raise DataError(
                f"{where(cell)}: {cell!r} in column {what!r} can be one label or several; set data.separator=' ' for "
                "several, data.separator='|' for one"
            )
    notes.append(
        f"cells of column {what!r} hold blanks, such as {several[0]!r}, and are one label each "
        "(data.separator=' ' takes "
        "them apart)"
    )
    return None


def _recur(cells: Sequence[str], separator: str) -> bool:
    """Return whether half of the names that stand beside others stand in another cell too: what divides them is no part
    of them."""
    apart = [{name.strip() for name in cell.split(separator)} - {""} for cell in cells]
    counts = Counter(name for names in apart for name in names)
    beside = {name for names in apart if len(names) > 1 for name in names}
    return 2 * sum(counts[name] > 1 for name in beside) >= len(beside)


def _of_list(text: str, where: Callable[[], str]) -> list[str]:
    """Return the names in a list or an object as JSON or Python write them."""
    try:
        value = json.loads(text)
    except (json.JSONDecodeError, RecursionError):
        try:
            value = ast.literal_eval(BETWEEN_QUOTES.sub(", ", text))
        except (ValueError, SyntaxError, RecursionError, MemoryError, TypeError):
            if text[0] == "{" or any(quote in text for quote in "'\""):
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
