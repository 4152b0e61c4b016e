"""What a label may be called, whatever source it comes from, and how tables name labels."""

import json
import unicodedata
from collections import defaultdict
from collections.abc import Sequence

from lsep_ml.data.errors import DataError

SEPARATOR = "|"
"""Stands between the labels of an image in the tables that predict writes and data=csv reads."""

_TAKEN_APART = frozenset("|;,\t\n")
_NO_NAMES = frozenset(("nan", "na", "n/a", "<na>", "null"))

_JOINERS = "\u200c\u200d"  # invisible, but part of how some scripts are written


def needs_lists(label_names: Sequence[str]) -> bool:
    """Return whether a cell of several of these labels has to be a JSON list: a name would be taken apart, or for
    none."""
    return any(
        _TAKEN_APART & set(name) or name != name.strip() or name[:1] in "[{(" or name.lower() in _NO_NAMES
        for name in label_names
    )


def label_cell(labels: Sequence[str], lists: bool) -> str:
    """Write the labels of an image as one cell: a JSON list, or names with `SEPARATOR` between them."""
    return json.dumps(list(labels), ensure_ascii=False) if lists else SEPARATOR.join(labels)


def listed_in_cell(cell: str, separator: str) -> list[str]:
    """Return the labels in a cell that `label_cell` wrote, or that has names with `separator` between them."""
    if cell[:1] == "[" and cell[-1:] == "]":
        try:
            found = json.loads(cell)
        except ValueError:
            found = None
        if isinstance(found, list) and all(isinstance(name, str) for name in found):
            return list(found)
    return [name for name in map(str.strip, cell.split(separator)) if name]


def check_label_names(data: str, label_names: Sequence[str], separator: str | None = SEPARATOR) -> None:
    """Refuse label names that could not be told apart, shown on a terminal, or written to a table and read again.

    Args:
        data: the data set's name, for the message.
        label_names: K names in the order of the columns.
        separator: what no name may hold; None: any name can be written.

    Raises:
        DataError: fewer than two names; one that is empty, blank, or holds a control character or the separator;
            one that is there twice, or differs from another only in case, blanks or Unicode form.
    """
    where = f"data {data}"
    if len(label_names) < 2:
        raise DataError(
            f"{where}: {len(label_names)} label {tuple(label_names)}; multi-label data needs at least 2"
        )
    for number, name in enumerate(label_names, start=1):
        if not name.strip():
            raise DataError(
                f"{where}: label {number} of {len(label_names)} has no name; name it or remove it"
            )
        if not name.isprintable() and any(map(_unshowable, name)):
            tab = " (set data.separator if the tab stands between labels)" if "\t" in name else ""
            raise DataError(f"{where}: label {name!a} holds a control character; rename it{tab}")
        if separator is not None and separator in name:
            raise DataError(
                f"{where}: label {name!r} holds {separator!r}, which separates the labels of an image in tables "
                "(data.separator); rename it"
            )
    if len(set(label_names)) < len(label_names):
        twice = sorted({name for name in label_names if label_names.count(name) > 1})
        raise DataError(f"{where}: labels named twice: {', '.join(twice)}")
    _refuse_alike(where, label_names)


def folded(name: str) -> str:
    """Return the name without regard to case, blanks and Unicode form."""
    plain = unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())
    return " ".join(plain.split())


def _refuse_alike(where: str, label_names: Sequence[str]) -> None:
    alike = defaultdict(list)
    for name in label_names:
        alike[folded(name)].append(name)
    for names in alike.values():
        if len(names) > 1:
            shown = ", ".join(repr(name) if name.isascii() else f"{name!r} ({name!a})" for name in names)
            raise DataError(
                f"{where}: labels that differ only in case, blanks or Unicode form: {shown}; write them alike"
            )


def _unshowable(character: str) -> bool:
    """Return whether a character is a control character, a line's end, half of one, or turns or hides what is around
    it."""
    if character in _JOINERS:
        return False
    return unicodedata.category(character) in ("Cc", "Cf", "Cs", "Zl", "Zp")


PER_LABEL = ("score_", "threshold_", "probability_", "predicted_")
"""How the names of columns begin that each label has."""

OTHERS = frozenset(("margin", "ask", "count", "problem", "image_id", "scores", "thresholds", "probabilities"))
"""Further columns, which say nothing of the labels."""


def label_names_of(columns: Sequence[str], scores: str | None = None) -> tuple[str, ...]:
    """Return the labels of a table that `predict` or `apply` wrote, in the order of its columns; () of any other table.

    columns: its header. scores: what a row of the column `scores` holds, an object of names and numbers, as in JSONL.
    """
    if not {"image", "labels"} <= set(columns):
        return ()
    found = tuple(name.removeprefix("score_") for name in columns if name.startswith("score_"))
    if found or scores is None:
        return found
    try:
        value = json.loads(scores)
    except ValueError:
        return ()
    return tuple(value) if isinstance(value, dict) else ()


def beside_labels(column: str) -> bool:
    """Return whether a column of such a table holds what the labels were decided from."""
    return column in OTHERS or column.startswith(PER_LABEL)
