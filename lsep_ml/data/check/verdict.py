"""The check of a data set on disk: `python -m lsep_ml check NAME --root DIR`."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from lsep_ml.data.annotations import Annotations
from lsep_ml.data.check.statistics import LabelStatistics, label_statistics
from lsep_ml.data.errors import DataError
from lsep_ml.data.images.opened import MISSING, ImageCheck, check_images
from lsep_ml.data.sources.archives import archive_problem
from lsep_ml.data.sources.coco import coco_annotations
from lsep_ml.data.sources.coco_json import coco_json_annotations
from lsep_ml.data.sources.csv_labels import csv_annotations
from lsep_ml.data.sources.nuswide_files import nuswide_annotations
from lsep_ml.data.sources.published import PUBLISHED, Published
from lsep_ml.data.sources.voc2007 import voc2007_annotations, voc2007_disagreements

ANNOTATIONS: Mapping[str, Callable[..., Annotations]] = {
    "voc2007": voc2007_annotations,
    "coco": coco_annotations,
    "nuswide": nuswide_annotations,
    "csv": csv_annotations,
    "coco_json": coco_json_annotations,
}

KEEP_AN_INDEX = ("coco", "nuswide", "csv", "coco_json")  # their annotation files take long to parse
PLACEHOLDER_SIDE = 32  # no photograph is smaller on both sides; "no longer available" pictures and icons are
NOT_THE_PAPER = "not the paper's protocol"


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong (error) or should be known (warning), with the images or files it is about."""

    severity: Literal["error", "warning"]
    message: str
    items: tuple[str, ...] = ()


@dataclass(frozen=True)
class Report:
    """What the check found; `statistics` is None where the annotations could not be read."""

    data: str
    root: str
    findings: tuple[Finding, ...]
    statistics: LabelStatistics | None

    @property
    def exit_code(self) -> int:
        """1 if anything is an error, else 0."""
        return int(any(finding.severity == "error" for finding in self.findings))

    @property
    def verdict(self) -> str:
        """The outcome and what to do."""
        run = f"python run.py data={self.data} data.root={self.root}"
        if self.statistics is None:
            return "broken: the annotations cannot be read; put right what is said above and check again"
        if self.exit_code:
            return (
                f"broken: repair what is an error and check again, or leave bad images out: "
                f"{run} data.on_bad_image=drop"
            )
        if any(NOT_THE_PAPER in finding.message for finding in self.findings):
            return f"usable, but {NOT_THE_PAPER}: numbers do not compare with the paper's; {run}"
        return f"usable, with warnings; {run}" if self.findings else f"good; {run}"


def check(
    data: str,
    root: str | Path,
    *,
    published: Published | None = None,
    cache: str | Path | None = None,
    **options: Any,
) -> Report:
    """Read the annotations, open every image, and compare with what is published.

    Args:
        data: one of ANNOTATIONS.
        root: the data set's folder, as data.root.
        published: what to compare with; None: PUBLISHED of this name.
        cache: folder of the parsed annotations and the verdicts on images, shared with training.
        options: of the source's annotations, such as `difficult` or `labels`.

    Raises:
        DataError: no such data set. All that is wrong with the data is in the report.
    """
    if data not in ANNOTATIONS:
        raise DataError(f"no data set {data!r} to check; there are {', '.join(ANNOTATIONS)}")
    published = published or PUBLISHED.get(data, Published())
    archives = list(_archives(Path(root), published))
    if data in KEEP_AN_INDEX:
        options["cache"] = cache
    try:
        annotations = ANNOTATIONS[data](root, **options)
    except DataError as error:
        return Report(data, str(root), (*archives, Finding("error", str(error))), None)
    images = check_images(annotations.root, annotations.image_ids, cache)
    statistics = label_statistics(annotations)
    findings = [
        *archives,
        *_unusable(annotations, images, published),
        *_placeholders(annotations, images),
        *_duplicates(annotations, images),
        *_labels(statistics),
        *_counts(annotations, images, statistics, published),
    ]
    if data == "voc2007":
        findings += _disagreements(root)
    return Report(data, str(root), tuple(findings), statistics)


def _archives(root: Path, published: Published) -> Iterator[Finding]:
    for archive in published.archives:
        if (root / archive.name).exists():
            problem = archive_problem(root / archive.name, archive)
            if problem:
                yield Finding("error", problem)


def _unusable(annotations: Annotations, images: ImageCheck, published: Published) -> Iterator[Finding]:
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


def _placeholders(annotations: Annotations, images: ImageCheck) -> Iterator[Finding]:
    longer_side = images.sizes.max(axis=1)
    tiny = np.flatnonzero((longer_side > 0) & (longer_side < PLACEHOLDER_SIDE))
    if len(tiny):
        items = (f"{annotations.image_ids[r]}: {images.sizes[r, 0]} x {images.sizes[r, 1]}" for r in tiny)
        message = (
            f"{len(tiny):,} images are smaller than {PLACEHOLDER_SIDE} pixels: placeholders, not photographs?"
        )
        yield Finding("warning", message, tuple(items))


def _duplicates(annotations: Annotations, images: ImageCheck) -> Iterator[Finding]:
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
        if len(set(annotations.parts[same].tolist())) > 1
    ]
    if leaks:
        yield Finding(
            "warning", f"{len(leaks):,} pictures are in more than one of train, val and test", tuple(leaks)
        )


def _labels(statistics: LabelStatistics) -> Iterator[Finding]:
    part = "train" if "train" in statistics.positives else "all"
    never = [
        n for n, count in zip(statistics.label_names, statistics.positives[part], strict=True) if not count
    ]
    if never:
        yield Finding("warning", f"{len(never)} labels have no positive to train on", tuple(never))


def _counts(
    annotations: Annotations, images: ImageCheck, statistics: LabelStatistics, published: Published
) -> Iterator[Finding]:
    compared = []
    for part, expected in published.images.items():
        compared.append((f"{part} images", statistics.images.get(part, 0), expected))
    for part, expected in published.labelled.items():
        labelled = statistics.images.get(part, 0) - statistics.unlabelled.get(part, 0)
        compared.append((f"{part} images with a label", labelled, expected))
    if published.kept is not None:
        usable = np.delete(annotations.targets, list(images.problems), axis=0).any(axis=1)
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
            "warning", f"{NOT_THE_PAPER}: {len(differing)} counts differ from the published ones", differing
        )


def _disagreements(root: str | Path) -> list[Finding]:
    found = tuple(voc2007_disagreements(root))
    message = f"{len(found):,} files in Annotations/ are missing or say otherwise than ImageSets/Main"
    return [Finding("warning", message, found)] if found else []
