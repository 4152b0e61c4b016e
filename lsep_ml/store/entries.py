"""What earlier runs left: results found again by what made them, never half-written, never silently damaged."""

import logging
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock

from lsep_ml.files import content_hash, file_digest, read_json, write_json
from lsep_ml.processes.group import ALONE, Processes
from lsep_ml.store.keys import identity_of

log = logging.getLogger(__name__)

_SEAL = "entry.json"
_ABSENT = (FileNotFoundError, IsADirectoryError, NotADirectoryError)
"""What reading raises where a file is not there; its other errors say nothing of the file."""


@dataclass(frozen=True)
class Entry:
    """Holds one stored result: its `folder` and `identity`, what made it, its `facts`, and whether it was `reused`."""

    folder: Path
    identity: str
    made_by: dict[str, Any]
    facts: dict[str, Any]
    reused: bool


class Store:
    """Keeps results in folders `<root>/<kind>/<identity>/`, each sealed by `entry.json` with a checksum of every file.

    An entry is built in a working folder and renamed into place once sealed, so an unfinished one is never found. The
    working folder is emptied at the start; what a builder wants to find again after a kill it keeps in `kept`, which
    goes when the entry is there. Building holds a lock of the operating system, which a killed process cannot leave
    behind: a second process asking for the same entry waits, then finds it finished.

    Where several processes work on one job, all ask for the same entries in the same order. The first alone looks,
    holds the lock and writes; the others wait for its answer, however long another job holds the lock, and take part
    in the building.
    """

    def __init__(self, root: Path, processes: Processes = ALONE) -> None:
        self.root = root
        self.processes = processes

    def get_or_build(
        self, kind: str, made_by: dict[str, Any], build: Callable[[Path], dict[str, Any]]
    ) -> Entry:
        """Find the entry of `kind` made by exactly `made_by`; `build(folder)` fills a new one and returns its facts.

        `build` is called in every process of a job; the facts are those of the first.

        Raises:
            OSError: the store cannot be written.
        """
        folder = self.folder(kind, made_by)
        work = folder.with_suffix(".work")
        if not self.processes.first:
            found: Entry | None = self.processes.share(None)
            if found is None:
                build(work)
                found = self.processes.share(None)
            assert found is not None
            return found
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.with_suffix(".lock")):
            entry = self.processes.share(self.find(kind, made_by))
            if entry is None:
                _remove(work)
                work.mkdir()
                facts = build(work)
                _seal(work, made_by, facts)
                _remove(folder)
                os.replace(work, folder)
                entry = self.processes.share(Entry(folder, folder.name, made_by, facts, reused=False))
            _remove(self.kept(kind, made_by))
        return entry

    def folder(self, kind: str, made_by: dict[str, Any]) -> Path:
        """Return the folder where an entry of `kind` made by `made_by` lies, or would."""
        return self.root / kind / identity_of(made_by)

    def kept(self, kind: str, made_by: dict[str, Any]) -> Path:
        """Return the folder for what outlives a build of this entry that is killed; its builder makes it."""
        return self.folder(kind, made_by).with_suffix(".kept")

    def find(self, kind: str, made_by: dict[str, Any]) -> Entry | None:
        """Find the finished, undamaged entry of `kind` made by exactly `made_by`, or None; damage is logged.

        Raises:
            OSError: it cannot be read just now.
        """
        folder = self.folder(kind, made_by)
        if not folder.is_dir():
            return None
        try:
            seal = read_json(folder / _SEAL)
            if content_hash(seal["made_by"]) != content_hash(made_by):
                raise ValueError("it was made by something else")
            for name, digest in seal["files"].items():
                if file_digest(folder / name) != digest:
                    raise ValueError(f"{name} does not have the checksum it was written with")
        except (*_ABSENT, ValueError, KeyError, TypeError) as error:
            log.warning("Stored result %s is damaged (%s): it is made again.", folder, error)
            return None
        return Entry(folder, folder.name, made_by, seal["facts"], reused=True)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _seal(folder: Path, made_by: dict[str, Any], facts: dict[str, Any]) -> None:
    files = {
        str(path.relative_to(folder)): file_digest(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
    write_json(folder / _SEAL, {"made_by": made_by, "facts": facts, "files": files})
