"""Which columns of a table hold the labels: one cell, or one column a label."""

import fnmatch
import re
from collections.abc import Callable, Sequence

from lsep_ml.data.annotations import Reading
from lsep_ml.data.errors import DataError, some
from lsep_ml.data.label_names import label_names_of
from lsep_ml.data.sources.own.frames import Frame
from lsep_ml.data.sources.own.listed import Options
from lsep_ml.data.sources.own.roles import (
    LABEL_ID_NAMES,
    LABEL_NAMES,
    SCORE_NAMES,
    VERDICT_NAMES,
    Roles,
    bare_name,
    named,
    shown_names,
)
from lsep_ml.data.sources.own.values import SAMPLE, Values, values_of


class NoLabels(DataError):
    """Says that no column of a table holds labels."""


def take_labels(frame: Frame, roles: Roles, left: list[int], options: Options) -> None:
    """Find the columns with labels among those that are `left`."""
    predicted = predicted_names(frame)
    if predicted and options.label_columns is None and options.labels in (None, "labels"):
        roles.cell, roles.names = frame.names.index("labels"), predicted
        roles.notes.append(
            Reading(
                "a table of predict or apply: the labels are those in column 'labels', and what they were decided from "
                "is left out"
            )
        )
        return
    values = {at: values_of(frame.column(at)) for at in left}
    if options.label_columns is not None:
        roles.labels = _matching(frame, options.label_columns)
        _check_values(
            frame, roles, {at: values.get(at) or values_of(frame.column(at)) for at in roles.labels}
        )
        return
    if options.labels is not None:
        roles.cell = named(frame, options.labels, "data.labels")
    else:
        numbered = _numbered(frame, left, values)
        roles.cell, roles.further = (
            (numbered[0], numbered[1:]) if numbered else (_cell(frame, left, values), [])
        )
    if roles.cell is None:
        candidates = [at for at in left if values[at].kind in ("values", "nearly")]
        if not candidates:
            raise NoLabels(
                f"{frame.path}: no column holds labels; "
                f"{_left_out(frame, left, values) or 'there is no other column'}; set "
                "data.labels=NAME (a cell with labels) or data.label_columns=[NAMES] (0 and 1; scores are no labels: "
                "write 1 where they are high enough; soft targets of training: data=csv data.soft_targets=true)"
            )
        _check_values(frame, roles, {at: values[at] for at in candidates})
        roles.labels = candidates
        roles.notes.append(
            Reading(
                f"labels: {len(candidates):,} columns of 0 and 1, {shown_names(frame, candidates)} "
                "(data.label_columns)"
            )
        )
        if any(values[at].crosses for at in candidates):
            roles.notes.append(
                "crosses are labels that are present, cells of nothing beside them absent ones"
            )
    else:
        verdicts = [
            at
            for at in left
            if bare_name(frame.names[at]) in VERDICT_NAMES
            and values[at].kind == "values"
            and at != roles.cell
        ]
        if len(verdicts) == 1:
            roles.verdict, roles.values[verdicts[0]] = verdicts[0], values[verdicts[0]]
            roles.notes.append(
                Reading(
                    f"column {frame.names[verdicts[0]]!r}: 1, the label is present, 0, it is absent; what "
                    "is not listed is unknown"
                )
            )
        if roles.further:
            roles.notes.append(
                Reading(
                    f"labels: one in each of the columns {shown_names(frame, [roles.cell, *roles.further])}"
                )
            )
        elif options.labels is None:
            note = f"labels: column {frame.names[roles.cell]!r} (data.labels)"
            roles.notes.append(Reading(note) if bare_name(frame.names[roles.cell]) in LABEL_NAMES else note)
    used = {roles.cell, roles.verdict, *roles.labels, *roles.further}
    rest = [at for at in left if at not in used]
    if rest:
        note = f"columns left out: {_left_out(frame, rest, values)}"
        maybe = any(values[at].kind == "values" for at in rest)  # these could be labels
        sure = [
            at for at in rest if bare_name(frame.names[at]) in SCORE_NAMES and values[at].kind == "numbers"
        ]
        if sure:
            roles.notes.append(
                f"column {frame.names[sure[0]]!r} holds numbers that are not 0 and 1: a row is a label whatever it "
                "says; remove the rows that are none, or write 1 and 0 (known to be absent) in its place"
            )
        roles.notes.append(note if maybe else Reading(note))


def _numbered(frame: Frame, left: Sequence[int], values: dict[int, Values]) -> list[int]:
    """Return the columns label_1, label_2, ... (or tag 1, ...) that hold a label each: at least two, none with
    several."""
    found: dict[str, list[int]] = {}
    for at in left:
        stem = re.fullmatch(r"(.*[^0-9])[0-9]+", bare_name(frame.names[at]))
        if stem and stem[1] in LABEL_NAMES and values[at].kind in ("words", "empty"):
            found.setdefault(stem[1], []).append(at)
    columns = next(iter(found.values())) if len(found) == 1 else []
    several = any(frame.column(at).str.contains(r"[|;,\t\n\[{]").any() for at in columns)
    return columns if len(columns) > 1 and not several else []


def predicted_names(frame: Frame) -> tuple[str, ...]:
    """Return the labels of a table that predict or apply wrote; () of any other."""
    scores = (
        frame.column(frame.names.index("scores")).drop_nulls().to_list() if "scores" in frame.names else []
    )
    return label_names_of(frame.names, scores[0] if scores else None)


def _cell(frame: Frame, left: Sequence[int], values: dict[int, Values]) -> int | None:
    """Return the column that holds labels in a cell: by its name, else by lists or repeated words in it."""
    flags = [at for at in left if values[at].kind in ("values", "nearly")]
    named = [
        at
        for at in left
        if bare_name(frame.names[at]) in LABEL_NAMES and values[at].kind not in ("values", "nearly")
    ]
    if not named:  # a cell called "labels" of 0 and 1 is a label of its own only beside others
        alone = [at for at in flags if bare_name(frame.names[at]) in LABEL_NAMES]
        named = alone if len(flags) == len(alone) == 1 else []
    if not named and not flags:
        named = [at for at in left if bare_name(frame.names[at]) in LABEL_ID_NAMES]
    exact = [at for at in named if values[at].kind != "empty"] or named
    if len(exact) > 1:
        raise DataError(
            f"{frame.path}: columns {shown_names(frame, exact)} could each hold the labels; set data.labels=NAME"
        )
    if exact:
        return exact[0]
    lists = [
        at for at in left if values[at].kind == "words" and _holds(frame, at, lambda text: text[:1] in "[{")
    ]
    found = lists or (
        [] if flags else [at for at in left if values[at].kind == "words" and _repeats_words(frame, at)]
    )
    if len(found) > 1:
        raise DataError(
            f"{frame.path}: columns {shown_names(frame, found)} could each hold the labels; set data.labels=NAME"
        )
    return found[0] if found else None


def _holds(frame: Frame, at: int, test: Callable[[str], bool]) -> bool:
    texts = [text.strip() for text in frame.column(at).head(SAMPLE).fill_null("").to_list() if text.strip()]
    return bool(texts) and all(map(test, texts))


def _repeats_words(frame: Frame, at: int) -> bool:
    """Return whether the column says few different things, as labels do."""
    column = frame.column(at).head(SAMPLE).fill_null("")
    tokens = [token for text in column.to_list() for token in re.split(r"[|;,]", text) if token.strip()]
    return len(set(tokens)) <= max(2, len(tokens) / 2)


def _check_values(frame: Frame, roles: Roles, found: dict[int, Values]) -> None:
    for at, values in found.items():
        if values.codes is None and values.kind != "empty":
            row = values.stray or 0
            raise DataError(
                f"{frame.place(row)}: {frame.column(at)[row]!r} in column {frame.names[at]!r} is not "
                "1, 0, -1 (uncertain) or "
                "empty (unknown); mend it, or name the columns that are labels: data.label_columns=[NAMES]"
            )
    roles.values |= found


def _left_out(frame: Frame, columns: Sequence[int], values: dict[int, Values]) -> str:
    why = {
        "empty": "nothing in it",
        "numbers": "numbers that are not 0 and 1",
        "words": "words",
        "nearly": "0 and 1, but for a few",
        "values": "0 and 1, beside a cell with labels",
    }
    shown = [f"{frame.names[at]!r} ({why[values[at].kind]})" for at in columns]
    return some(shown, 12)


def _matching(frame: Frame, patterns: Sequence[str]) -> list[int]:
    found: dict[int, None] = {}
    for pattern in patterns:
        matching = [
            at for at, name in enumerate(frame.names) if name == pattern or fnmatch.fnmatchcase(name, pattern)
        ]
        if not matching:
            raise DataError(
                f"data.label_columns: {frame.path} has no column {pattern!r}; there are "
                f"{shown_names(frame, range(len(frame.names)))}"
            )
        found.update(dict.fromkeys(matching))
    return list(found)
