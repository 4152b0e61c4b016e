"""Archives as they are fetched: whether they are whole, and unpacking them file by file."""

import hashlib
import logging
import shutil
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import IO, NamedTuple

from lsep_ml.data.errors import DataError
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
    """Why this file is not the published archive, or None if it is."""
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

    Each file appears whole or not at all, and one that is there is never written again: interrupted, the same
        call
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
