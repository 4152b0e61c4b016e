"""What every format is read to: images with the labels that are known of them, before they become a data set.

Of an entry that several rows speak of, one word is left or a contradiction is refused; all is sparse but the end.
"""

import posixpath
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from lsep_ml.data.annotations import Reading
from lsep_ml.data.errors import DataError, some
from lsep_ml.data.sources.own.folder import Found
from lsep_ml.data.sources.own.paths import Images
from lsep_ml.metrics.indicator import Known, Targets, from_places, in_order, known_but

ABSENT, PRESENT, UNKNOWN, UNCERTAIN = range(4)
"""What an entry of the label matrix can be; UNCERTAIN is what -1 says, and `data.uncertain` what it means."""


@dataclass(frozen=True)
class Options:
    """Says how people's own images are to be read; what is None is found out.

    Attributes:
        file: the file that holds the labels, relative to the root; or a list of files that hold them together.
        label_names: the labels in their order, those that no image has among them; None: those that are found.
        image, labels, label_columns, split: names of columns: the images, a cell with labels, one column a label, the
            split; "none" for no split.
        separator: between the labels of a cell.
        group: a column, "folder", or a pattern on the image's path; "none" for no groups.
        none_label: names that mean that an image has no label; None: `NONE_WORDS`, in a cell alone.
        uncertain: what -1 means.
        merge_labels: whether labels that differ only in case, blanks or Unicode form are one.
        min_images: labels of fewer images are left out.
        annotators: of several who labelled an image.
    """

    file: str | Sequence[str] | None = None
    label_names: Sequence[str] | None = None
    image: str | None = None
    labels: str | None = None
    label_columns: Sequence[str] | None = None
    split: str | None = None
    separator: str | None = None
    group: str | None = None
    none_label: Sequence[str] | None = None
    uncertain: Literal["unknown", "negative", "positive"] = "unknown"
    merge_labels: bool = False
    min_images: int = 1
    annotators: Literal["union", "majority", "refuse"] = "union"

    def __post_init__(self) -> None:
        """Take one name for a list of it, and numbers, as YAML makes of columns called so, for names."""
        for option in ("label_names", "label_columns", "none_label"):
            names = getattr(self, option)
            if names is not None:
                names = [names] if isinstance(names, str | int) else names
                object.__setattr__(self, option, [str(name) for name in names])
        for option in ("image", "labels", "split", "separator", "group"):
            name = getattr(self, option)
            object.__setattr__(self, option, None if name is None else str(name))
        if not isinstance(self.min_images, int):
            raise DataError(f"data.min_images={self.min_images}: a number of images")

    @property
    def files(self) -> tuple[str, ...]:
        """Return the files that `file` names."""
        named = () if self.file is None else (self.file,) if isinstance(self.file, str) else self.file
        return tuple(posixpath.normpath(file.replace("\\", "/")) for file in named)

    def takes(self, file: str, unasked: bool) -> bool:
        """Return whether a file is looked at: one that is named or, where none is, one that is looked at `unasked`."""
        return file in self.files if self.files else unasked


@dataclass(frozen=True)
class Listed:
    """Images as a format lists them; one image may stand in several rows.

    Attributes:
        format: what it was taken for, in words.
        images: N paths below the root.
        label_names: K names.
        rows, labels, codes: E entries of the label matrix that are listed; codes are ABSENT, PRESENT, UNKNOWN or
            UNCERTAIN.
        rest: uint8 (N,), what the entries of a row are that are not listed: ABSENT or UNKNOWN.
        splits: N of "train", "val", "test" and ""; None where nothing says it.
        groups: N names; None where nothing says it.
        sorted_names: whether the labels come in alphabetical order, as nothing orders them.
        words: whether a word for "none" among the labels means that there is none.
        adds_up: whether the rows of one image add up; else they have to say the same.
        notes: what was guessed or left out, in words.
        dropped: what was left out -> how many.
        place: where a row stands, for messages.
    """

    format: str
    images: Images
    label_names: Sequence[str]
    rows: NDArray[np.int64]
    labels: NDArray[np.int64]
    codes: NDArray[np.uint8]
    rest: NDArray[np.uint8]
    splits: Sequence[str] | None = None
    groups: Sequence[str] | None = None
    sorted_names: bool = True
    words: bool = False
    adds_up: bool = True
    notes: tuple[str, ...] = ()
    dropped: dict[str, int] = field(default_factory=dict)
    place: Callable[[int], str] = lambda row: f"row {row + 1}"


@dataclass(frozen=True)
class Candidate:
    """Something in a folder that may hold the labels.

    Attributes:
        name: what it is, in words.
        files: the files it reads, the ones to name in a message.
        read: reads it.
        weak: whether it counts only where nothing else does.
    """

    name: str
    files: tuple[str, ...]
    read: Callable[[], Listed]
    weak: bool = False


def label_lists(
    format: str,
    images: Sequence[str],
    names: Sequence[Sequence[str]],
    *,
    unknown: Sequence[int] = (),
    label_names: Sequence[str] = (),
    **more: Any,
) -> Listed:
    """Return the `Listed` of images with a list of label names each; of the rows `unknown` nothing is known.

    Args:
        label_names: the names in their order, those that no image has among them; none: in the order they are met.
        more: what else `Listed` takes.
    """
    number_of = {name: number for number, name in enumerate(label_names)}
    rows, labels = [], []
    for row, listed in enumerate(names):
        for name in listed:
            rows.append(row)
            labels.append(number_of.setdefault(name, len(number_of)))
    rest = np.full(len(images), ABSENT, np.uint8)
    rest[list(unknown)] = UNKNOWN
    codes = np.full(len(rows), PRESENT, np.uint8)
    entries = np.array(rows, np.int64), np.array(labels, np.int64)
    return Listed(format, images, list(number_of), *entries, codes, rest, **more)


def image_notes(found: Found[Any], listed_in: str) -> list[str]:
    """Return what `Folder.find` guessed for the images listed in a file, in words."""
    notes: list[str] = []
    if found.guessed:
        name, image = found.guess
        said = f"{found.guessed:,} images of {listed_in} are found by the end of their path or without their suffix"
        notes.append(Reading(f"{said}, such as {name!r} as {image}"))
    if found.several:
        name, images = found.several[0]
        notes.append(
            f"{len(found.several):,} names of {listed_in} mean no image, since several have them, such as {name!r} of "
            f"{some(images, 2)}: list them with their folders"
        )
    return notes


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

    def matrices(self, images: int, labels: int) -> tuple[Targets, Known | None]:
        """Return targets uint8 (N, K) and what is known, bool (N, K), None where all is; sparse where they are
        large."""
        shape, present = (images, labels), self.codes == PRESENT
        targets = from_places(self.rows[present], self.labels[present], shape)
        rest = self.rest != UNKNOWN
        other = (self.codes != UNKNOWN) != rest[self.rows]
        return targets, known_but(self.rows[other], self.labels[other], rest, shape)


def entries_of(
    listed: Listed, first: NDArray[np.int64], row_of: NDArray[np.int64], notes: list[str]
) -> Entries:
    """Return the entries of all images; those of the rows of an image that has several add up, or have to be the
    same."""
    if len(first) < len(row_of) and not listed.adds_up:
        _check_repeated(listed, first, row_of)
        again = len(row_of) - len(first)
        notes.append(Reading(f"{again:,} rows say again what another row of the same image says"))
    rest = np.full(len(first), UNKNOWN, np.uint8)
    np.minimum.at(rest, row_of, listed.rest)
    labels = np.int64(max(1, len(listed.label_names)))
    pairs = row_of[listed.rows] * labels + listed.labels
    if (listed.codes == PRESENT).all():  # nothing contradicts it, and no word is stronger
        pairs = in_order(pairs)
        return Entries(pairs // labels, pairs % labels, np.full(len(pairs), PRESENT, np.uint8), rest)
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


def _check_repeated(listed: Listed, first: NDArray[np.int64], row_of: NDArray[np.int64]) -> None:
    """Refuse rows of an image that say something else than its first row does."""
    of_row: dict[int, dict[int, int]] = defaultdict(dict)
    repeated = np.setdiff1d(np.arange(len(row_of)), first)
    looked_at = np.isin(listed.rows, np.append(repeated, first[row_of[repeated]]))
    columns = (listed.rows[looked_at], listed.labels[looked_at], listed.codes[looked_at])
    for row, label, code in zip(*(column.tolist() for column in columns), strict=True):
        of_row[row][label] = code
    for row in repeated.tolist():
        before = int(first[row_of[row]])
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
