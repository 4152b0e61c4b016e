"""From the fetched archives to the tree that is read: `python -m lsep_ml prepare NAME --from DIR --root
DIR`."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lsep_ml.data.annotations import keep_labelled, keep_usable
from lsep_ml.data.errors import DataError
from lsep_ml.data.sources.archives import ENDINGS, Unpacked, archive_problem, unpack
from lsep_ml.data.sources.nuswide_files import nuswide_annotations
from lsep_ml.data.sources.nuswide_split import PAPER_TRAIN_IMAGES, draw_paper_split, split_content, split_file
from lsep_ml.data.sources.published import PUBLISHED, Archive
from lsep_ml.files import atomic_write

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Prepared:
    """What was done.

    Attributes:
        unpacked: archive name -> its files.
        absent: published archives that were not found.
        split: NUS-WIDE's split file, written now or there before; None for other data sets.
    """

    data: str
    root: str
    unpacked: Mapping[str, Unpacked]
    absent: tuple[str, ...]
    split: Path | None = None

    @property
    def exit_code(self) -> int:
        """1 where a file stood in the way of another one from an archive, else 0."""
        return int(any(done.differing for done in self.unpacked.values()))

    def lines(self) -> list[str]:
        """The outcome in words, and what to do next."""
        lines = []
        for name, done in self.unpacked.items():
            lines.append(
                f"{name}: {done.written:,} files unpacked, {done.present:,} there before"
                + (f", {done.skipped:,} not needed" if done.skipped else "")
            )
            lines += [f"  left as it is, though the archive's differs: {name}" for name in done.differing]
        lines += [f"{name}: not found" for name in self.absent]
        if self.split is not None:
            lines.append(f"paper split: {self.split}")
        return [*lines, f"next: python -m lsep_ml check {self.data} --root {self.root}"]


def prepare(
    data: str,
    source: str | Path,
    root: str | Path,
    *,
    archives: Sequence[Archive] | None = None,
    seed: int = 0,
    train_images: int = PAPER_TRAIN_IMAGES,
    cache: str | Path | None = None,
) -> Prepared:
    """Unpack what is in `source` into the expected layout under `root`; what is there is never overwritten.

    Archives with a published checksum are verified before anything of them is unpacked. NUS-WIDE has none:
    all its archives in `source` are unpacked, and where the lists and images are in place its paper split is
    drawn and written to splits/paper-seed<seed>.json. Interrupted, the same call goes on where it stopped.

    Args:
        data: voc2007, coco or nuswide.
        source: folder with the archives; may be `root` itself.
        root: the tree's folder, made if need be.
        archives: what to look for; None: PUBLISHED of this name.
        seed, train_images: of the paper split.
        cache: folder of the verdicts on images, shared with training.

    Raises:
        DataError: no such data set or folder, no archive in it, one that is incomplete or damaged.
    """
    source, root = Path(source), Path(root)
    if data not in PLACES:
        raise DataError(f"data set {data!r} has no archives to prepare; there are {', '.join(PLACES)}")
    if not source.is_dir():
        raise DataError(f"--from {source}: no such folder")
    published = PUBLISHED[data].archives if archives is None else tuple(archives)
    found = _find(data, source, published)
    for path in found:
        expected = next((archive for archive in published if archive.name == path.name), None)
        problem = archive_problem(path, expected) if expected is not None else None
        if problem:
            raise DataError(problem)
    unpacked = {}
    for path in found:
        log.info("unpacking %s", path)
        unpacked[path.name] = unpack(path, root, PLACES[data])
    absent = tuple(archive.name for archive in published if archive.name not in unpacked)
    split = write_paper_split(root, seed, train_images, cache) if data == "nuswide" else None
    return Prepared(data, str(root), unpacked, absent, split)


def _find(data: str, source: Path, published: Sequence[Archive]) -> list[Path]:
    """The archives; none is an error only where they have published names."""
    if not published:
        return sorted(path for path in source.iterdir() if path.name.lower().endswith(ENDINGS))
    found = [source / archive.name for archive in published if (source / archive.name).is_file()]
    if not found:
        wanted = ", ".join(archive.name for archive in published)
        raise DataError(
            f"--from {source}: no {wanted} in it; docs/data.md tells where data={data} is fetched"
        )
    return found


def write_paper_split(root: Path, seed: int, train_images: int, cache: str | Path | None) -> Path:
    """Draw NUS-WIDE's paper split over the usable, labelled images and write it, unless it is there.

    Raises:
        DataError: the lists are not in place.
    """
    annotations = keep_usable(keep_labelled(nuswide_annotations(root, cache=cache), "drop"), "drop", cache)
    path = split_file(annotations.root, seed)
    if not path.exists():
        content = split_content(draw_paper_split(annotations, train_images, seed))
        with atomic_write(path) as file:
            file.write(content)
    return path


def _voc2007_place(name: str) -> str | None:
    return _from(name, ("VOC2007",), under="VOCdevkit/")


def _coco_place(name: str) -> str | None:
    return _from(name, ("train2014", "val2014", "annotations"))


def _nuswide_place(name: str) -> str | None:
    """The archives differ in how much of the tree they hold; the folder names tell where a file belongs."""
    last = name.rpartition("/")[2]
    if last == "Concepts81.txt":
        return last
    if last.lower().endswith("imagelist.txt"):
        return f"ImageList/{last}"
    return _from(name, ("Flickr",)) or _from(name, ("TrainTestLabels", "AllLabels"), under="Groundtruth/")


def _from(name: str, folders: Sequence[str], under: str = "") -> str | None:
    """The path from the first of these folders on, or None where none is in it."""
    parts = name.split("/")
    start = next((place for place, part in enumerate(parts[:-1]) if part in folders), None)
    return None if start is None else under + "/".join(parts[start:])


PLACES: Mapping[str, Callable[[str], str | None]] = {
    "voc2007": _voc2007_place,
    "coco": _coco_place,
    "nuswide": _nuswide_place,
}
