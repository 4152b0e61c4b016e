"""What the check finds, kind by kind."""

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import numpy as np

from lsep_ml.data.annotations import Annotations, twins_in_training
from lsep_ml.data.check.statistics import LabelStatistics
from lsep_ml.data.images.opened import MISSING, ImageCheck
from lsep_ml.data.known import lacking, sentence
from lsep_ml.data.prepare import archive_problem
from lsep_ml.data.sources.source import Finding, Published
from lsep_ml.data.twins import Twins

PLACEHOLDER_SIDE = 32  # no photograph is smaller on both sides; "no longer available" pictures and icons are


def archives(root: Path, published: Published) -> Iterator[Finding]:
    """Name the published archives in `root` that are not whole."""
    for archive in published.archives:
        if (root / archive.name).exists():
            problem = archive_problem(root / archive.name, archive)
            if problem:
                yield Finding("error", problem)


def unusable(annotations: Annotations, images: ImageCheck, published: Published) -> Iterator[Finding]:
    """Name the images that are missing or cannot be decoded."""
    names = annotations.image_ids
    missing = tuple(str(names[row]) for row, problem in images.problems.items() if problem == MISSING)
    broken = tuple(
        f"{names[row]}: {problem}" for row, problem in images.problems.items() if problem != MISSING
    )
    if missing:
        severity: Literal["error", "warning"] = "warning" if published.missing_expected else "error"
        yield Finding(
            severity, f"{len(missing):,} of {len(annotations):,} listed images are missing", missing
        )
    if broken:
        yield Finding("error", f"{len(broken):,} images cannot be used", broken)


def placeholders(annotations: Annotations, images: ImageCheck) -> Iterator[Finding]:
    """Name the images that are too small to be photographs."""
    longer_side = images.sizes.max(axis=1)
    tiny = np.flatnonzero((longer_side > 0) & (longer_side < PLACEHOLDER_SIDE))
    if len(tiny):
        items = (f"{annotations.image_ids[r]}: {images.sizes[r, 0]} x {images.sizes[r, 1]}" for r in tiny)
        message = (
            f"{len(tiny):,} images are smaller than {PLACEHOLDER_SIDE} pixels: placeholders, not photographs?"
        )
        yield Finding("warning", message, tuple(items))


def duplicates(annotations: Annotations, images: ImageCheck) -> Iterator[Finding]:
    """Name the files of equal content, and those of them that lie in several of train, val and test."""
    rows = np.flatnonzero(images.digests != b"")
    _, group, sizes = np.unique(images.digests[rows], return_inverse=True, return_counts=True)
    together = rows[np.argsort(group, kind="stable")]
    copies = [same for same in np.split(together, np.cumsum(sizes)[:-1]) if len(same) > 1]
    if not copies:
        return
    listed = [", ".join(annotations.image_ids[same].tolist()) for same in copies]
    extra = sum(len(same) - 1 for same in copies)
    yield Finding("warning", f"{extra:,} files are exact copies of another listed image", tuple(listed))
    leaks = [
        names
        for names, same in zip(listed, copies, strict=True)
        if len(set(annotations.split_of[same].tolist())) > 1
    ]
    if leaks:
        yield Finding(
            "warning", f"{len(leaks):,} pictures are in more than one of train, val and test", tuple(leaks)
        )


def labels(statistics: LabelStatistics) -> Iterator[Finding]:
    """Name the labels that no training image has."""
    split = "train" if "train" in statistics.positives else "all"
    never = [
        n for n, count in zip(statistics.label_names, statistics.positives[split], strict=True) if not count
    ]
    if never:
        yield Finding("warning", f"{len(never)} labels have no positive to train on", tuple(never))


def known(annotations: Annotations) -> Iterator[Finding]:
    """Name the splits in which nothing is known, positive or negative: nothing could be learnt or measured there."""
    for split in dict.fromkeys(annotations.split_of.tolist()):
        rows = annotations.split_of == split
        lack = lacking(
            annotations.targets[rows], None if annotations.mask is None else annotations.mask[rows]
        )
        if lack:
            severity: Literal["error", "warning"] = "warning" if split == "test" else "error"
            yield Finding(severity, sentence(split or "the only", int(rows.sum()), lack))


def groups(annotations: Annotations) -> Iterator[Finding]:
    """Name the groups that are in several of train, val and test."""
    if annotations.groups is None:
        return
    pairs = np.unique(
        np.stack([annotations.groups, np.unique(annotations.split_of, return_inverse=True)[1]]), axis=1
    )
    numbers, found = np.unique(pairs[0], return_counts=True)
    leaks = numbers[found > 1]
    if len(leaks):
        first = [
            ", ".join(annotations.image_ids[annotations.groups == number][:3].tolist())
            for number in leaks[:50]
        ]
        yield Finding(
            "warning", f"{len(leaks):,} groups are in more than one of train, val and test", tuple(first)
        )


def twins(annotations: Annotations, images: ImageCheck) -> Iterator[Finding]:
    """Name the near-duplicates, exact copies aside, that a listed split divides or, where none is listed, that a drawn
    one may divide."""
    assert annotations.hashes is not None
    if (annotations.split_of == "train").any():
        train = annotations.split_of == "train"
        twin_of = twins_in_training(annotations.hashes, annotations.split_of)
        said = "have a near-duplicate in training"
    else:
        every = np.ones(len(annotations), bool)
        others = Twins(annotations.hashes)
        twin_of, train = np.where(others.has_twin, others.among(every), -1), ~every
        said = (
            "are near-duplicates of another listed image; data.twins=together draws a split that divides none"
        )
    for split in dict.fromkeys(annotations.split_of[~train].tolist()):
        rows = np.flatnonzero((twin_of >= 0) & (annotations.split_of == split))
        rows = rows[images.digests[rows] != images.digests[twin_of[rows]]]
        if len(rows):
            ids = annotations.image_ids
            items = tuple(f"{ids[row]}, {ids[twin_of[row]]}" for row in rows)
            listed = f"{split} images" if split else "images"
            yield Finding("warning", f"{len(rows):,} {listed} {said}", items)


def counts(
    annotations: Annotations, images: ImageCheck, statistics: LabelStatistics, published: Published
) -> Iterator[Finding]:
    """Compare images, labelled images and positives with the `published` counts, and say how far they are off."""
    compared = []
    for split, expected in published.images.items():
        compared.append((f"{split} images", statistics.images.get(split, 0), expected))
    for split, expected in published.labelled.items():
        labelled = statistics.images.get(split, 0) - statistics.unlabelled.get(split, 0)
        compared.append((f"{split} images with a label", labelled, expected))
    if published.kept is not None:
        usable = np.delete(annotations.targets.any(axis=1), list(images.problems))
        compared.append(("usable images with a label", int(usable.sum()), published.kept))
    training = dict(zip(statistics.label_names, statistics.positives.get("train", ()), strict=False))
    for name, expected in published.positives.items():
        compared.append((f"training images with {name}", int(training.get(name, 0)), expected))
    differing = tuple(
        f"{found:,} {what}, published {expected:,} ({found - expected:+,}, {found / expected - 1:+.1%})"
        for what, found, expected in compared
        if found != expected
    )
    if differing:
        yield Finding(
            "warning",
            f"not {published.protocol}: {len(differing)} counts differ from the published ones",
            differing,
        )
