"""Columns of 0 and 1 as people and pandas write them."""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from lsep_ml.data.sources.own.listed import ABSENT, PRESENT, UNCERTAIN, UNKNOWN

WRITTEN = {
    ABSENT: ("0", "false", "no", "n", "f", "absent", "falsch", "nein", "faux", "non", "falso"),
    PRESENT: (
        "1",
        "true",
        "yes",
        "y",
        "t",
        "present",
        "wahr",
        "ja",
        "vrai",
        "oui",
        "verdadero",
        "vero",
        "si",
        "sí",
        "sì",
    ),
    UNKNOWN: ("", "nan", "na", "n/a", "<na>", "null", "none", "unknown", "?"),
    UNCERTAIN: ("-1",),
}
"""How values of a label's column are written, in small letters."""

CROSSES = frozenset(("x", "✓", "✔", "☑", "✗", "☒"))
"""What spreadsheets have in a label's column where the label is present, and nothing where it is not."""

CODES = {text: code for code, texts in WRITTEN.items() for text in texts}
NO_CODE = 255
SAMPLE = 1000
NEARLY = 0.95
"""The share of 0 and 1 from which a column is a label with mistakes in it, not something else."""

Kind = Literal["empty", "values", "numbers", "nearly", "words"]


@dataclass(frozen=True)
class Values:
    """Says what a column holds.

    kind: nothing | 0 and 1 (and -1, and nothing) | other numbers | 0 and 1 but for a few | other text. codes:
    uint8 (N,)
    of "values". stray: the first row that is not 0, 1 or nothing. crosses: whether they are `CROSSES`.
    """

    kind: Kind
    codes: NDArray[np.uint8] | None = None
    stray: int | None = None
    crosses: bool = False


def code_of(text: str) -> int | None:
    """Return ABSENT, PRESENT, UNKNOWN or UNCERTAIN; None where the text is none of them."""
    plain = text.strip().lower()
    if plain in CODES:
        return CODES[plain]
    value = number(plain)
    if value is None:
        return None
    return UNKNOWN if math.isnan(value) else {0.0: ABSENT, 1.0: PRESENT, -1.0: UNCERTAIN}.get(value)


def number(text: str) -> float | None:
    """Return the number that the text is, or None."""
    try:
        return float(text)
    except ValueError:
        return None


def values_of(column: pl.Series) -> Values:
    """Return what the String column holds, decided over all of it."""
    seen = column.head(SAMPLE).fill_null("").unique().to_list()
    if {text.strip().lower() for text in seen} <= CROSSES | {""}:
        plain = column.fill_null("").str.strip_chars().str.to_lowercase()
        if {""} < set(plain.unique()) <= CROSSES | {""}:
            return Values("values", (plain != "").cast(pl.UInt8).to_numpy(), crosses=True)
    if not all(code_of(text) is not None for text in seen) and all(
        code_of(text) is None for text in seen if text.strip()
    ):
        # Nothing in it is 0 or 1: no need to see all.
        return Values(_other(seen), stray=_first(column.head(SAMPLE), seen))
    counts = column.fill_null("").value_counts(name="rows")
    texts, rows = counts[column.name].to_list(), counts["rows"].to_numpy()
    found = [code_of(text) for text in texts]
    codes = np.array([NO_CODE if code is None else code for code in found], np.uint8)
    if NO_CODE not in codes:
        if not np.isin(codes, (ABSENT, PRESENT, UNCERTAIN)).any():
            return Values("empty")
        if not np.isin(codes, (ABSENT, PRESENT)).any():
            return Values("numbers")
        every = column.fill_null("").replace_strict(texts, codes, return_dtype=pl.UInt8)
        return Values("values", every.to_numpy())
    strays = [text for text, code in zip(texts, found, strict=True) if code is None]
    coded, stray = rows[np.isin(codes, (ABSENT, PRESENT))].sum(), rows[codes == NO_CODE].sum()
    nearly = coded >= NEARLY * (coded + stray)
    return Values("nearly" if nearly else _other(strays), stray=_first(column, strays))


def _other(texts: list[str]) -> Kind:
    return "numbers" if all(number(text.strip()) is not None for text in texts if text.strip()) else "words"


def _first(column: pl.Series, texts: list[str]) -> int | None:
    wanted = [text for text in texts if code_of(text) is None]
    rows = column.is_in(pl.Series(wanted, dtype=pl.String).implode()).arg_true()
    return int(rows[0]) if len(rows) else None
