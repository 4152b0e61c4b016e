"""What is listed of images and labels, entry by entry: said once, contradictions refused, and dense only at the end."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lsep_ml.data.annotations import Reading
from lsep_ml.data.errors import DataError
from lsep_ml.data.sources.own.listed import PRESENT, UNKNOWN, Listed

_STRENGTH = np.array([1, 2, 0, 0], np.uint8)
"""Of ABSENT, PRESENT, UNKNOWN (and UNCERTAIN, which there is none of by then): the highest counts of what is said of
one entry."""


@dataclass(frozen=True)
class Entries:
    """Says what is said of images and labels, each pair once, sorted; the rest of an image is ABSENT or UNKNOWN.

    rows, labels: the pairs. codes: uint8, ABSENT, PRESENT or UNKNOWN. rest: uint8, for each image.
    """

    rows: NDArray[np.int64]
    labels: NDArray[np.int64]
    codes: NDArray[np.uint8]
    rest: NDArray[np.uint8]

    def matrices(self, images: int, labels: int) -> tuple[NDArray[np.uint8], NDArray[np.bool_] | None]:
        """Return targets uint8 (N, K) and what is known, bool (N, K), None where all is: the only dense arrays."""
        targets = np.zeros((images, labels), np.uint8)
        present = self.codes == PRESENT
        targets[self.rows[present], self.labels[present]] = 1
        if not (self.rest == UNKNOWN).any() and not (self.codes == UNKNOWN).any():
            return targets, None
        known = np.repeat((self.rest != UNKNOWN)[:, None], labels, axis=1)
        known[self.rows, self.labels] = self.codes != UNKNOWN
        return targets, None if known.all() else known


def entries_of(listed: Listed, first: Sequence[int], row_of: NDArray[np.int64], notes: list[str]) -> Entries:
    """Return the entries of all images; those of the rows of an image that has several add up, or have to be the
    same."""
    if len(first) < len(row_of) and not listed.adds_up:
        _check_repeated(listed, first, row_of)
        again = len(row_of) - len(first)
        notes.append(Reading(f"{again:,} rows say again what another row of the same image says"))
    rest = np.full(len(first), UNKNOWN, np.uint8)
    np.minimum.at(rest, row_of, listed.rest)
    pairs = row_of[listed.rows] * np.int64(len(listed.label_names)) + listed.labels
    order = np.lexsort((_STRENGTH[listed.codes], pairs))  # of a pair, the strongest word comes last
    last = np.append(pairs[order][1:] != pairs[order][:-1], True) if len(order) else np.zeros(0, bool)
    _refuse_contradictions(listed, pairs, order)
    kept = order[last]
    return Entries(row_of[listed.rows[kept]], listed.labels[kept], listed.codes[kept], rest)


def _refuse_contradictions(listed: Listed, pairs: NDArray[np.int64], order: NDArray[np.int64]) -> None:
    """Name the first entry that is said to be present and absent."""
    said = order[listed.codes[order] != UNKNOWN]
    differ = (pairs[said][1:] == pairs[said][:-1]) & (listed.codes[said][1:] != listed.codes[said][:-1])
    if not differ.any():
        return
    at = int(np.flatnonzero(differ)[0])
    denied, claimed = int(said[at]), int(said[at + 1])
    row = int(listed.rows[claimed])
    raise DataError(
        f"{listed.place(row)} and {listed.place(int(listed.rows[denied]))}: {listed.images[row]} has and has not "
        f"{listed.label_names[int(listed.labels[claimed])]!r}; remove one of the rows"
    )


def _check_repeated(listed: Listed, first: Sequence[int], row_of: NDArray[np.int64]) -> None:
    """Refuse rows of an image that say something else than its first row does."""
    of_row: dict[int, dict[int, int]] = defaultdict(dict)
    repeated = np.setdiff1d(np.arange(len(row_of)), first)
    looked_at = np.isin(listed.rows, np.append(repeated, np.array(first)[row_of[repeated]]))
    columns = (listed.rows[looked_at], listed.labels[looked_at], listed.codes[looked_at])
    for row, label, code in zip(*(column.tolist() for column in columns), strict=True):
        of_row[row][label] = code
    for row in repeated.tolist():
        before = first[int(row_of[row])]
        ours, theirs = of_row[row], of_row[before]
        differing = sorted(
            label
            for label in ours.keys() | theirs.keys()
            if ours.get(label, int(listed.rest[row])) != theirs.get(label, int(listed.rest[before]))
        )
        if differing:
            raise DataError(
                f"{listed.place(row)}: {listed.images[row]} is listed before, in {listed.place(before)}, and otherwise "
                f"in column {listed.label_names[differing[0]]!r}; list every image once"
            )
