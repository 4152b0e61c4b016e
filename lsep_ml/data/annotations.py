"""What a source's annotation files say, before any image is opened, and the steps from there to a DataSet."""

import dataclasses
import hashlib
import logging
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from lsep_ml.data.data_set import SPLITS, DataSet, Split, repeated_id
from lsep_ml.data.errors import DataError
from lsep_ml.data.images.decode import ImageFiles
from lsep_ml.data.images.opened import MISSING, SAMPLE, check_images, how_checked
from lsep_ml.data.label_names import SEPARATOR, check_label_names
from lsep_ml.data.soft_targets import soft_of_split
from lsep_ml.data.twins import Twins
from lsep_ml.metrics.indicator import Known, Targets

log = logging.getLogger(__name__)

UNREADABLE = "unreadable"
"""Why an image that is there is left out."""

OnBadImage = Literal["error", "drop"]
TwinsAre = Literal["report", "together", "ignore"]
Unlabelled = Literal["drop", "keep"]

SHOWN = 5  # examples in a message


class Reading(str):
    """Is a note on how something was read where nothing else was possible: it is said, and is no warning."""


@dataclass(frozen=True)
class Annotations:
    """Labelled images as a source lists them.

    Args:
        data: the data set's name.
        root: the folder that the image ids are relative to.
        label_names: K names, in the order of the columns.
        image_ids: unicode (N,), POSIX paths, distinct.
        targets: uint8 (N, K), 0 or 1; sparse where that is large.
        mask: bool (N, K), True = known; None when every entry is; sparse where the targets are.
        split_of: unicode (N,), "train", "val" or "test"; "" where the source does not say.
        dropped: reason -> number of images left out so far.
        digests: bytes (N,), equal for files of equal content; None before the images were opened.
        hashes: uint64 (N,), perceptual hashes (`Twins`); None before the images were opened, or where nobody asks.
        notes: what the source left out or took for something else, in words; see `Reading`.
        groups: int64 (N,), equal for images that belong together; None where the source names no groups.
        format: what the annotations were taken for, where a source reads several formats.
        soft: float32 (N, K), targets in [0, 1], of which `targets` are those of at least 1/2; 0 where nothing is known.
            None where the source has none.
    """

    data: str
    root: Path
    label_names: tuple[str, ...]
    image_ids: NDArray[np.str_]
    targets: Targets
    mask: Known | None
    split_of: NDArray[np.str_]
    dropped: Mapping[str, int] = field(default_factory=dict)
    digests: NDArray[np.bytes_] | None = None
    hashes: NDArray[np.uint64] | None = None
    notes: tuple[str, ...] = ()
    groups: NDArray[np.int64] | None = None
    format: str = ""
    soft: NDArray[np.float32] | None = None

    def __len__(self) -> int:
        return len(self.image_ids)

    def select(self, rows: NDArray, dropped: Mapping[str, int] | None = None) -> "Annotations":
        """Take these rows (an index or bool array), with what that drops added to the count."""
        return dataclasses.replace(
            self,
            image_ids=self.image_ids[rows],
            targets=self.targets[rows],
            mask=None if self.mask is None else self.mask[rows],
            split_of=self.split_of[rows],
            dropped=dict(Counter(self.dropped) + Counter(dropped or {})),
            digests=None if self.digests is None else self.digests[rows],
            hashes=None if self.hashes is None else self.hashes[rows],
            groups=None if self.groups is None else self.groups[rows],
            soft=None if self.soft is None else self.soft[rows],
        )


def checked(annotations: Annotations, separator: str | None = SEPARATOR) -> Annotations:
    """Give `annotations` back, or raise a DataError: bad label names (`check_label_names`), an image listed twice."""
    check_label_names(annotations.data, annotations.label_names, separator)
    repeated = repeated_id(annotations.image_ids)
    if repeated is not None:
        rows = annotations.image_ids == repeated
        where = " and ".join(sorted(set(annotations.split_of[rows].tolist()) - {""}))
        raise DataError(
            f"data {annotations.data}: image {repeated!r} is listed {rows.sum()} times"
            f"{f' (in {where})' if where else ''}; list every image once"
        )
    return annotations


def keep_usable(annotations: Annotations, on_bad_image: OnBadImage, cache: str | Path | None) -> Annotations:
    """Open every image (or take its verdict from the cache) and refuse or drop what training could not read.

    Where images are checked otherwise (`images_checked`), a sample or none is opened, and neither contents nor
    near-duplicates are known.

    Raises:
        DataError: on_bad_image is "error" and some image is missing or unreadable; the message names some.
    """
    if on_bad_image not in ("error", "drop"):
        raise DataError(f"data.on_bad_image={on_bad_image}: error or drop")
    if how_checked() == "full":
        found = check_images(annotations.root, annotations.image_ids, cache)
        problems: Mapping[int, str] = found.problems
        annotations = dataclasses.replace(annotations, digests=found.digests, hashes=found.hashes)
    else:
        problems = _sampled_problems(annotations, cache) if how_checked() == "sample" else {}
    if not problems:
        return annotations
    shown = [f"{annotations.image_ids[row]} ({problem})" for row, problem in list(problems.items())[:SHOWN]]
    summary = (
        f"data {annotations.data}: {len(problems):,} of {len(annotations):,} images in {annotations.root} "
        f"cannot be used: {', '.join(shown)}{', ...' if len(problems) > SHOWN else ''}"
    )
    if on_bad_image == "error":
        way_out = "repair or remove them, or set data.on_bad_image=drop"
        if len(problems) == len(annotations):
            way_out = "is data.root the folder that they lie in?"
        raise DataError(f"{summary}; {way_out}")
    log.warning("%s; dropped", summary)
    return without_unusable(annotations, problems)


def _sampled_problems(annotations: Annotations, cache: str | Path | None) -> dict[int, str]:
    """Open `SAMPLE` images, always the same ones of a listing."""
    rows = np.random.default_rng(0).permutation(len(annotations))[:SAMPLE]
    found = check_images(annotations.root, annotations.image_ids[rows], cache)
    return {int(rows[place]): problem for place, problem in found.problems.items()}


def without_unusable(annotations: Annotations, problems: Mapping[int, str]) -> Annotations:
    """Leave out the images at the rows of `problems`, counted by whether they are missing or unreadable."""
    reasons = Counter(MISSING if problem == MISSING else UNREADABLE for problem in problems.values())
    return annotations.select(np.setdiff1d(np.arange(len(annotations)), list(problems)), reasons)


def keep_labelled(annotations: Annotations, unlabelled: Unlabelled) -> Annotations:
    """Drop the images without any label, if asked to."""
    if unlabelled not in ("drop", "keep"):
        raise DataError(f"data.unlabelled={unlabelled}: drop or keep")
    labelled: NDArray[np.bool_] = np.asarray(annotations.targets.any(axis=1))
    if unlabelled == "keep" or labelled.all():
        return annotations
    return annotations.select(labelled, {"unlabelled": int((~labelled).sum())})


def treat_twins(annotations: Annotations, twins: TwinsAre) -> Annotations:
    """Prepare what is done with near-duplicates (`Twins`).

    "together" makes twins, twins of twins and the images of their groups one group; "report" leaves all as it is, and
    `to_data_set` counts those that the splits divide; "ignore" makes nobody look.
    """
    if twins not in ("report", "together", "ignore"):
        raise DataError(f"data.twins={twins}: report, together or ignore")
    if twins == "together" and how_checked() != "full":
        raise DataError(
            f"data.twins=together: near-duplicates are known once every image was opened; take data.check=full, not "
            f"{how_checked()}"
        )
    if twins == "ignore" or annotations.hashes is None:
        return dataclasses.replace(annotations, hashes=None)
    if twins == "report":
        return annotations
    return dataclasses.replace(annotations, groups=Twins(annotations.hashes).joined(annotations.groups))


def usable(
    annotations: Annotations,
    unlabelled: Unlabelled,
    on_bad_image: OnBadImage,
    twins: TwinsAre,
    cache: str | Path | None,
) -> Annotations:
    """Return what is left of people's own images to be divided: `keep_labelled`, `keep_usable`, `treat_twins`."""
    labelled = keep_labelled(annotations, unlabelled)
    return treat_twins(keep_usable(labelled, on_bad_image, cache), twins)


def hold_out(annotations: Annotations, share: float, seed: int) -> Annotations:
    """Make a share of the training images, drawn at random, the validation images where the source names none."""
    if not 0 < share < 1:
        raise DataError(f"data.holdout={share}: a share of the training images, between 0 and 1")
    if (annotations.split_of == "val").any():
        return annotations
    train = np.flatnonzero(annotations.split_of == "train")
    if len(train) < 2:
        raise DataError(
            f"data {annotations.data}: {len(train)} training images; validation needs one of at least 2"
        )
    split_of = annotations.split_of.astype("U5")
    split_of[np.random.default_rng(seed).permutation(train)[: max(1, round(share * len(train)))]] = "val"
    return dataclasses.replace(annotations, split_of=split_of)


def to_data_set(annotations: Annotations, *, cross_tested: bool = False) -> DataSet:
    """Make the three splits of annotations whose images all have their split by now, and log the source's notes.

    cross_tested: all images are test images too, see `DataSet`.
    """
    for note in annotations.notes:
        level = logging.INFO if isinstance(note, Reading) else logging.WARNING
        log.log(level, "data %s: %s", annotations.data, note)
    twins = None
    if annotations.hashes is not None:
        twin_of = twins_in_training(annotations.hashes, annotations.split_of)
        twins = {name: int((twin_of[annotations.split_of == name] >= 0).sum()) for name in ("val", "test")}
        _say_twins(annotations, twins, twin_of)
    known = annotations.mask is None or bool(annotations.mask.all())
    splits = {}
    content = hashlib.sha256()
    for name in SPLITS:
        every = cross_tested and name == "test"
        own = annotations if every else annotations.select(annotations.split_of == name)
        if own.digests is not None:
            content.update(own.digests.tobytes())
        splits[name] = Split(
            ImageFiles(own.root, own.image_ids, checked=how_checked() == "full"),
            own.targets,
            None if known else own.mask,
            own.image_ids,
            own.groups,
            soft_of_split(own, name),
        )
    _say_small_validation(annotations)
    return DataSet(
        annotations.data,
        annotations.label_names,
        splits["train"],
        splits["val"],
        splits["test"],
        annotations.dropped,
        "" if annotations.digests is None else content.hexdigest(),
        twins,
        cross_tested,
    )


def twins_in_training(hashes: NDArray[np.uint64], split_of: NDArray[np.str_]) -> NDArray[np.int64]:
    """Find for each image that is not in training its first twin there: row numbers (N,), -1 where there is none."""
    train = split_of == "train"
    return np.where(train, -1, Twins(hashes).among(train))


def _say_twins(annotations: Annotations, twins: Mapping[str, int], twin_of: NDArray[np.int64]) -> None:
    """Warn where test images have a near-duplicate in training: they are no new images."""
    rows = np.flatnonzero((twin_of >= 0) & (annotations.split_of == "test"))
    if not len(rows):
        return
    ids = annotations.image_ids
    shown = [f"{ids[row]} and {ids[twin_of[row]]}" for row in rows[:SHOWN]]
    log.warning(
        "data %s: %s of %s test images (and %s of validation) have a near-duplicate in training: %s%s; new images have "
        "none, so what is measured is too good; data.twins=together draws splits that divide none",
        annotations.data,
        f"{twins['test']:,}",
        f"{(annotations.split_of == 'test').sum():,}",
        f"{twins['val']:,}",
        "; ".join(shown),
        "; ..." if len(rows) > SHOWN else "",
    )


def _say_small_validation(annotations: Annotations) -> None:
    """Warn where fewer validation images than labels leave labels without a positive to choose by."""
    rows = annotations.split_of == "val"
    lacking = annotations.targets.any(axis=0) & ~annotations.targets[rows].any(axis=0)
    if lacking.any() and 0 < rows.sum() < len(annotations.label_names):
        log.warning(
            "data %s: %d validation images for %d labels, %d of which none of them has: what is chosen there is chosen "
            "by little; data.holdout or data.shares makes it larger",
            annotations.data,
            rows.sum(),
            len(annotations.label_names),
            lacking.sum(),
        )
