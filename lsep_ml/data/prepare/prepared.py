"""From the fetched archives to the tree that is read: `python -m lsep_ml prepare NAME --from DIR --root
DIR`."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lsep_ml.data.errors import DataError
from lsep_ml.data.prepare.archives import ENDINGS, Unpacked, archive_problem, unpack
from lsep_ml.data.sources import sources
from lsep_ml.data.sources.source import Archive

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Prepared:
    """Says what was done.

    Attributes:
        unpacked: archive name -> its files.
        absent: published archives that were not found.
        split: the file of the split that was drawn, now or before; None where the data set has one of its own.
    """

    data: str
    root: str
    unpacked: Mapping[str, Unpacked]
    absent: tuple[str, ...]
    split: Path | None = None

    @property
    def exit_code(self) -> int:
        """0; 3 where a file stood in the way of another one from an archive, 1 where nothing else was unpacked."""
        if not any(done.differing for done in self.unpacked.values()):
            return 0
        return 3 if any(done.written or done.present for done in self.unpacked.values()) else 1

    def lines(self) -> list[str]:
        """Return the outcome in words, and what to do next."""
        lines = []
        for name, done in self.unpacked.items():
            lines.append(
                f"{name}: {done.written:,} files unpacked, {done.present:,} there before"
                + (f", {done.skipped:,} not needed" if done.skipped else "")
            )
            lines += [f"  left as it is, though the archive's differs: {name}" for name in done.differing]
        lines += [f"{name}: not found" for name in self.absent]
        if self.split is not None:
            lines.append(f"split: {self.split}")
        return [*lines, f"next: python -m lsep_ml check {self.data} --root {self.root}"]


def prepare(
    data: str,
    source: str | Path,
    root: str | Path,
    *,
    archives: Sequence[Archive] | None = None,
    cache: str | Path | None = None,
    **options: Any,
) -> Prepared:
    """Unpack what is in `source` into the expected layout under `root`; what is there is never overwritten.

    Archives with a published checksum are verified before anything of them is unpacked; where none is published,
    all archives in `source` are unpacked. A data set whose split is drawn (NUS-WIDE's paper split) gets its file
    once lists and images are in place. Interrupted, the same call goes on where it stopped.

    Args:
        data: the data set's name, as in data=NAME.
        source: folder with the archives; may be `root` itself.
        root: the tree's folder, made if need be.
        archives: what to look for; None: those published.
        cache: folder of what is known of the images, shared with training.
        options: of the split, where one is drawn: `seed`, `train_images`.

    Raises:
        DataError: no such data set or folder, no archive in it, one that is incomplete or damaged.
    """
    from_folder, root = Path(source), Path(root)
    known = {name: one for name, one in sources().items() if one.place is not None}
    place = known[data].place if data in known else None
    if place is None:
        raise DataError(f"data set {data!r} has no archives to prepare; there are {', '.join(known)}")
    if not from_folder.is_dir():
        raise DataError(f"--from {from_folder}: no such folder")
    published = known[data].published.archives if archives is None else tuple(archives)
    found = _find(data, from_folder, published)
    for path in found:
        expected = next((archive for archive in published if archive.name == path.name), None)
        problem = archive_problem(path, expected) if expected is not None else None
        if problem:
            raise DataError(problem)
    unpacked = {}
    for path in found:
        log.info("unpacking %s", path)
        unpacked[path.name] = unpack(path, root, place)
    absent = tuple(archive.name for archive in published if archive.name not in unpacked)
    draw = known[data].draw_split
    return Prepared(data, str(root), unpacked, absent, draw and draw(root, cache=cache, **options))


def _find(data: str, source: Path, published: Sequence[Archive]) -> list[Path]:
    """Return the archives; none is an error only where they have published names."""
    if not published:
        return sorted(path for path in source.iterdir() if path.name.lower().endswith(ENDINGS))
    found = [source / archive.name for archive in published if (source / archive.name).is_file()]
    if not found:
        wanted = ", ".join(archive.name for archive in published)
        raise DataError(
            f"--from {source}: no {wanted} in it; docs/data.md tells where data={data} is fetched"
        )
    return found
