"""From the fetched archives to the tree that is read: `python -m lsep_ml prepare NAME --from DIR --root DIR`.

An archive is checked whole, then unpacked file by file.
"""

import hashlib
import logging
import shutil
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import IO, Any, NamedTuple

from lsep_ml.data.errors import DataError
from lsep_ml.data.sources import sources
from lsep_ml.data.sources.source import Archive
from lsep_ml.data.tree import clean_path
from lsep_ml.files import atomic_write

log = logging.getLogger(__name__)


EXPANSION = 100
"""How many times its own size an archive may hold: pictures do not shrink at all, the lists of a data set tenfold."""

LARGEST = 2**29
"""Bytes of the largest file that may be in one; of the published archives, MS-COCO's annotations hold it (332 MB)."""

ENDINGS = (".tar", ".tar.gz", ".tgz", ".zip")


class Member(NamedTuple):
    """A file in an archive."""

    name: str
    num_bytes: int
    open: Callable[[], IO[bytes]]


@dataclass
class Unpacked:
    """Says what unpacking one archive did.

    Attributes:
        written: files put in place.
        present: files that were there already, of the same length.
        skipped: files without a place in the layout.
        differing: files that were there with another length; they were left as they are.
    """

    written: int = 0
    present: int = 0
    skipped: int = 0
    differing: list[str] = field(default_factory=list)


def archive_problem(path: Path, archive: Archive) -> str | None:
    """Say why this file is not the published archive, or None if it is."""
    num_bytes = path.stat().st_size
    if num_bytes != archive.num_bytes:
        return f"{path} has {num_bytes:,} bytes instead of {archive.num_bytes:,}: not all of it was fetched"
    log.info("checksum of %s (%s bytes)", path, f"{num_bytes:,}")
    with path.open("rb") as file:
        md5 = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    if md5 != archive.md5:
        return f"{path} has the md5 {md5} instead of {archive.md5}: damaged; fetch it again"
    return None


def unpack(path: Path, root: Path, place: Callable[[str], str | None]) -> Unpacked:
    """Put each of the archive's files under root where `place` says (None: nowhere).

    Each file appears whole or not at all, and one that is there is never written again: interrupted, the same call
    goes on where it stopped.

    Raises:
        DataError: no archive, a damaged one, a member whose path leads out of root, or one that claims more than any
            published archive holds or the disk has room for, before it is written.
    """
    done = Unpacked()
    claimed = 0
    try:
        for member in _members(path):
            target = place(clean_path(member.name, str(path)))
            if target is not None:
                claimed += member.num_bytes
                _check_claim(path, member, claimed, root)
            if target is None:
                done.skipped += 1
            elif not (root / target).exists():
                with member.open() as source, atomic_write(root / target, "wb", sync=False) as file:
                    shutil.copyfileobj(source, file)
                done.written += 1
            elif (root / target).stat().st_size == member.num_bytes:
                done.present += 1
            else:
                done.differing.append(target)
    except RuntimeError as error:  # zipfile's: it asks for a password, or knows no such compression
        raise DataError(
            f"{path} cannot be unpacked ({error}); unpack it yourself, or fetch another"
        ) from error
    except (tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError) as error:
        why = str(error).partition("\n")[0]
        raise DataError(
            f"{path} is damaged ({why}) after {done.written:,} files; fetch it again and repeat the command"
        ) from error
    return done


def _check_claim(path: Path, member: Member, claimed: int, root: Path) -> None:
    what = f"{path}: {member.name} would be {member.num_bytes:,} bytes"
    if member.num_bytes > LARGEST:
        raise DataError(
            f"{what}; no file of the published archives has more than {LARGEST:,}: fetch it again"
        )
    most = max(LARGEST, EXPANSION * path.stat().st_size)
    if claimed > most:
        raise DataError(
            f"{what}, and {claimed:,} with what came before it, {EXPANSION} times the archive's own size, which no "
            "published archive holds: fetch it again"
        )
    above = next(folder for folder in (root, *root.absolute().parents) if folder.is_dir())
    free = shutil.disk_usage(above).free
    if member.num_bytes > free:
        raise DataError(f"{what}, and {above} has room for {free:,}: make room and repeat the command")


def _members(path: Path) -> Iterator[Member]:
    """Return the archive's plain files; folders, links and devices are not among them."""
    if path.suffix.lower() == ".zip":
        with zipfile.ZipFile(path) as zipped:
            for entry in zipped.infolist():
                if not entry.is_dir():
                    yield Member(entry.filename, entry.file_size, partial(zipped.open, entry))
        return
    with tarfile.open(path) as tarred:
        for item in tarred:
            if item.isfile():
                yield Member(item.name, item.size, partial(_extract, tarred, item))


def _extract(tarred: tarfile.TarFile, item: tarfile.TarInfo) -> IO[bytes]:
    content = tarred.extractfile(item)
    assert content is not None  # it is a plain file
    return content


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
        """Return 0; 3 where a file stood in the way of another one from an archive, 1 where nothing was unpacked."""
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
