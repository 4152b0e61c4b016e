"""From the images that a format lists to the annotations of a data set."""

import dataclasses
import re
from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from lsep_ml.data.annotations import SHOWN, Annotations
from lsep_ml.data.errors import DataError, some
from lsep_ml.data.label_names import folded
from lsep_ml.data.sources.own.folder import Folder
from lsep_ml.data.sources.own.listed import (
    ABSENT,
    PRESENT,
    UNCERTAIN,
    UNKNOWN,
    Entries,
    Listed,
    Options,
    entries_of,
)
from lsep_ml.data.sources.own.paths import as_array, images_once, of_rows

NONE_WORDS = frozenset(
    ("no finding", "no findings", "none", "background", "no label", "no labels", "nothing", "no class")
)
"""What a cell says of an image without a label, in small letters, "_" and "-" read as blanks."""

MEANINGS = {"unknown": UNKNOWN, "negative": ABSENT, "positive": PRESENT}


def build(listed: Listed, folder: Folder, options: Options) -> Annotations:
    """Return the annotations of `listed`: every image once, names merged or refused, words for none and rare labels
    left out.

    Raises:
        DataError: rows of one image that contradict each other, names that differ only in case, blanks or Unicode
            form, an option that means nothing here.
    """
    if options.uncertain not in MEANINGS:
        raise DataError(f"data.uncertain={options.uncertain}: {', '.join(MEANINGS)}")
    notes = list(listed.notes)
    uncertain = int((listed.codes == UNCERTAIN).sum())
    if uncertain:
        notes.append(
            f"{uncertain:,} entries are -1, uncertain: taken as {options.uncertain} "
            f"(data.uncertain={'|'.join(MEANINGS)})"
        )
    codes = np.where(listed.codes == UNCERTAIN, np.uint8(MEANINGS[options.uncertain]), listed.codes)
    if options.split == "none":
        listed = dataclasses.replace(listed, splits=None)
    listed = _with_one_name_a_label(dataclasses.replace(listed, codes=codes), options, notes)
    listed = _without_none(listed, options, notes)
    if options.label_names is not None:
        listed = _with_labels(listed, _named(listed, options.label_names, options))
    elif listed.sorted_names:
        listed = _with_labels(listed, sorted(listed.label_names))
    listed = _of_splits(listed, notes)

    first, row_of = images_once(listed.images)
    entries = entries_of(listed, first, row_of, notes)
    dropped = dict(listed.dropped)
    listed, entries = _without_rare(listed, entries, options, dropped, notes)
    images = as_array(of_rows(listed.images, first))
    targets, known = entries.matrices(len(first), len(listed.label_names))
    return Annotations(
        "own",
        folder.root,
        tuple(listed.label_names),
        images,
        targets,
        known,
        _splits(listed, first, row_of),
        dropped,
        notes=tuple(notes),
        groups=_groups(listed, options, images, first, row_of, notes),
        format=listed.format,
    )


def _with_one_name_a_label(listed: Listed, options: Options, notes: list[str]) -> Listed:
    """Merge the labels of `listed` that differ only in case, blanks or Unicode form, or raise a DataError."""
    names = [name.strip() for name in listed.label_names]
    alike: dict[str, dict[str, int]] = defaultdict(dict)
    counts = np.bincount(listed.labels, minlength=len(names))
    for name, count in zip(names, counts.tolist(), strict=True):
        forms = alike[folded(name)]
        forms[name] = forms.get(name, 0) + count
    several = [forms for forms in alike.values() if len(forms) > 1]
    if several and not options.merge_labels:
        shown = "; ".join(
            " and ".join(
                f"{name!r} ({count:,})" if name.isascii() else f"{name!r} ({name!a}, {count:,})"
                for name, count in forms.items()
            )
            for forms in several[:SHOWN]
        )
        raise DataError(
            f"data own: labels that differ only in case, blanks or Unicode form: {shown}"
            f"{'; ...' if len(several) > SHOWN else ''}; write them alike, or set data.merge_labels=true"
        )
    chosen = {key: max(forms, key=lambda name: forms[name]) for key, forms in alike.items()}
    if several:
        merged = ", ".join(
            f"{'/'.join(forms)} as {chosen[folded(next(iter(forms)))]}" for forms in several[:SHOWN]
        )
        notes.append(
            f"data.merge_labels=true: {len(several):,} labels are written in several forms: {merged}"
        )
    once = list(dict.fromkeys(chosen[folded(name)] for name in names))
    number_of = {name: number for number, name in enumerate(once)}
    to = np.array([number_of[chosen[folded(name)]] for name in names], np.int64)
    return dataclasses.replace(
        listed, label_names=once, labels=to[listed.labels] if len(to) else listed.labels
    )


def _without_none(listed: Listed, options: Options, notes: list[str]) -> Listed:
    """Take from `listed` the labels whose names say that an image has none."""
    if options.none_label is None:
        none = [
            name
            for name in listed.label_names
            if listed.words
            and name not in (options.label_names or ())
            and re.sub(r"[\s_-]+", " ", name.lower()) in NONE_WORDS
        ]
    else:
        none = [name for name in options.none_label if name]
        missing = next((name for name in none if name not in listed.label_names), None)
        if missing is not None:
            raise DataError(
                f"data.none_label: no label {missing!r}; there are {some(sorted(listed.label_names))}"
            )
    if not none:
        return listed
    numbers = [number for number, name in enumerate(listed.label_names) if name in none]
    is_none = np.isin(listed.labels, numbers)
    rows = np.unique(listed.rows[is_none & (listed.codes == PRESENT)])
    also = np.intersect1d(rows, listed.rows[~is_none & (listed.codes == PRESENT)])
    notes.append(
        f"{len(rows):,} images have {', '.join(map(repr, none))}, taken as no label "
        "(data.none_label=[] keeps it as one)"
    )
    if len(also):
        notes.append(
            f"{len(also):,} of them have other labels too, which count; the first in {listed.place(int(also[0]))}"
        )
    listed = dataclasses.replace(
        listed, rows=listed.rows[~is_none], labels=listed.labels[~is_none], codes=listed.codes[~is_none]
    )
    return _with_labels(listed, [name for name in listed.label_names if name not in none])


def _named(listed: Listed, names: Sequence[str], options: Options) -> list[str]:
    """Return `data.label_names` without those that mean none; a DataError where one that is listed is not among
    them."""
    wanted = [name for name in map(str.strip, names) if name not in (options.none_label or ())]
    others = sorted(set(listed.label_names) - set(wanted))
    if others:
        raise DataError(
            f"data.label_names: {len(others):,} labels of images are not among them: {some(others)}; add them, or "
            "name those that mean no label in data.none_label"
        )
    return list(dict.fromkeys(wanted))


def _of_splits(listed: Listed, notes: list[str]) -> Listed:
    """Leave out the images that are in no split where others are in one."""
    if listed.splits is None or all(listed.splits) or not any(listed.splits):
        return listed
    lost = [image for image, split in zip(listed.images, listed.splits, strict=True) if not split]
    notes.append(
        f"{len(lost):,} images are in no split and are left out: {some(lost)} (data.split=none for all)"
    )
    kept = [row for row, split in enumerate(listed.splits) if split]
    place = np.full(len(listed.images), -1)
    place[kept] = np.arange(len(kept))
    entries = place[listed.rows] >= 0
    return dataclasses.replace(
        listed,
        images=of_rows(listed.images, kept),
        rows=place[listed.rows[entries]],
        labels=listed.labels[entries],
        codes=listed.codes[entries],
        rest=listed.rest[kept],
        splits=[listed.splits[row] for row in kept],
        groups=None if listed.groups is None else [listed.groups[row] for row in kept],
        dropped={**listed.dropped, "in no split": len(lost)},
        place=lambda row: listed.place(kept[row]),
    )


def _with_labels(listed: Listed, names: Sequence[str]) -> Listed:
    """Return the labels `names`, in this order; entries of others there must be none."""
    number_of = {name: number for number, name in enumerate(names)}
    to = np.array([number_of.get(name, -1) for name in listed.label_names], np.int64)
    return dataclasses.replace(
        listed, label_names=list(names), labels=to[listed.labels] if len(to) else listed.labels
    )


def _without_rare(
    listed: Listed, entries: Entries, options: Options, dropped: dict[str, int], notes: list[str]
) -> tuple[Listed, Entries]:
    """Take from `listed` the labels of fewer than `data.min_images` images."""
    counts = np.bincount(entries.labels[entries.codes == PRESENT], minlength=len(listed.label_names))
    rare = counts < options.min_images
    if options.min_images <= 1 or not rare.any():
        return listed, entries
    names = [listed.label_names[number] for number in np.flatnonzero(rare).tolist()]
    dropped[f"labels of fewer than {options.min_images} images"] = len(names)
    notes.append(
        f"{len(names):,} labels of fewer than data.min_images={options.min_images} images are left out: {some(names)}"
    )
    kept = ~rare[entries.labels]
    number_of = np.cumsum(~rare) - 1
    entries = Entries(entries.rows[kept], number_of[entries.labels[kept]], entries.codes[kept], entries.rest)
    left = [name for name, few in zip(listed.label_names, rare.tolist(), strict=True) if not few]
    return dataclasses.replace(listed, label_names=left), entries


def _of_image(
    listed: Listed, values: Sequence[str], first: NDArray[np.int64], row_of: NDArray[np.int64], what: str
) -> list[str]:
    """Return what the rows of each image say alike."""
    found = [values[row] for row in first.tolist()]
    if len(first) < len(row_of):
        for row, image in enumerate(row_of.tolist()):
            if values[row] != found[image]:
                raise DataError(
                    f"{listed.place(row)}: {what} {values[row]!r} of {listed.images[row]}, which has {what} "
                    f"{found[image]!r} in {listed.place(first[image])}; give an image one {what}"
                )
    return found


def _splits(listed: Listed, first: NDArray[np.int64], row_of: NDArray[np.int64]) -> NDArray[np.str_]:
    """Return the split of each image; "" where nothing is said."""
    if listed.splits is None:
        return np.zeros(len(first), "U5")
    return np.array(_of_image(listed, listed.splits, first, row_of, "split"), "U5")


def _groups(
    listed: Listed,
    options: Options,
    ids: NDArray[np.str_],
    first: NDArray[np.int64],
    row_of: NDArray[np.int64],
    notes: list[str],
) -> NDArray[np.int64] | None:
    """Return the number of each image's group; an image without one is a group of its own."""
    wanted = options.group
    if wanted == "none" or (wanted is None and listed.groups is None):
        return None
    images = ids.tolist()
    if wanted == "folder":
        names = [image.rpartition("/")[0] or image for image in images]
    elif listed.groups is not None:
        names = _of_image(listed, listed.groups, first, row_of, "group")
    else:
        names = _matched(str(wanted), images)
    alone = sum(not name for name in names)
    if alone:
        notes.append(f"{alone:,} images have no group (data.group) and are each a group of their own")
    keys = [f"group {name}" if name else f"image {image}" for name, image in zip(names, images, strict=True)]
    numbers: NDArray[np.int64] = np.unique(np.array(keys), return_inverse=True)[1].astype(np.int64)
    return numbers


def _matched(pattern: str, images: Sequence[str]) -> list[str]:
    try:
        matches = [re.search(pattern, image) for image in images]
    except re.error as error:
        raise DataError(f"data.group={pattern}: no column, and no pattern either: {error}") from error
    if not any(matches):
        raise DataError(
            f"data.group={pattern}: no column has this name, and as a pattern it is in no path, such as "
            f"{images[0]!r}; give a column, folder, or a pattern"
        )
    return ["" if match is None else match[1] if match.re.groups else match[0] for match in matches]
