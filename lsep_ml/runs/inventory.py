"""What lies under an output folder: runs, the stored results they refer to, and what nothing refers to."""

import shutil
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from stat import S_ISREG

from filelock import FileLock, Timeout
from rich.console import Console
from rich.filesize import decimal

from lsep_ml.files import is_temporary, read_json
from lsep_ml.runs.files import ERROR, RESULT, RUNS, STORE, UNFINISHED
from lsep_ml.runs.record import read_overrides, read_record
from lsep_ml.terminal import say

STALE = 3600
"""Seconds after which a temporary file that nobody has written to is one of a writer that was killed."""


@dataclass(frozen=True)
class Item:
    """Holds a run folder or a stored result: its `kind`, `folder`, `size` in bytes, and the `runs` that refer to it.

    validation, overrides: of a run, its validation metrics and what it was called with.
    """

    kind: str
    folder: Path
    size: int
    runs: tuple[str, ...]
    validation: dict[str, float] = field(default_factory=dict)
    overrides: tuple[str, ...] = ()


@dataclass(frozen=True)
class Inventory:
    """Holds all that lies under `<output>/runs` and `<output>/store`."""

    runs: list[Item]
    stored: list[Item]

    @property
    def unused(self) -> list[Item]:
        """Return what is stored, or left of building it, that no run refers to, finished or begun."""
        return [item for item in self.stored if not item.runs]


def take_inventory(output: Path) -> Inventory:
    """Read the result records under `output` and pair them with what is stored.

    Raises:
        FileNotFoundError: no such folder.
    """
    if not output.is_dir():
        raise FileNotFoundError(
            f"--output={output}: no such folder; runs are written to paths.output of run.py"
        )
    references: dict[tuple[str, str], list[str]] = {}
    for file in sorted((output / RUNS).rglob(UNFINISHED)):  # first: it goes when the result is there
        name = f"{file.parent.relative_to(output / 'runs')} (unfinished)"
        with suppress(FileNotFoundError):
            for kind, identity in read_json(file).items():
                references.setdefault((kind, identity), []).append(name)
    runs = []
    for file in sorted((output / RUNS).rglob(RESULT)):
        name = str(file.parent.relative_to(output / RUNS))
        try:
            record = read_record(file)
            stored, validation = record["stored"], record["metrics"]["val"]
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(
                f"{file}: not a readable result record ({error}); move it away and try again"
            ) from error
        overrides = read_overrides(file.parent, record) or ()
        runs.append(Item("run", file.parent, _size(file.parent), (name,), validation, overrides))
        for kind, identity in stored.items():
            references.setdefault((kind, identity), []).append(name)
    stored = [
        Item(
            folder.parent.name,
            folder,
            _size(folder),
            tuple(references.get((folder.parent.name, folder.stem), ())),  # also of ID.work and ID.kept
        )
        for folder in sorted((output / STORE).glob("*/*"))
        if folder.is_dir()
    ]
    return Inventory(runs, stored)


def _size(folder: Path) -> int:
    """Count the bytes in `folder`, each file once however many names it has here."""
    files = {}
    for path in folder.rglob("*"):
        with suppress(FileNotFoundError):  # a process that writes beside has just renamed it
            status = path.lstat()
            if S_ISREG(status.st_mode):
                files[status.st_ino] = status.st_size
    return sum(files.values())


def prune(output: Path, console: Console, *, delete: bool, failed: bool = False) -> list[Path]:
    """Remove what no run under `output` refers to, or name it without `delete`; what is being built stays.

    So go temporary files of writers that were killed. A run that has begun keeps what it works on; `failed` gives up
    those that failed: their folders go first.
    """
    gone = []
    of_failed = _failed(output)
    for folder in of_failed if failed else ():
        gone.append(folder)
        _remove(folder, _size(folder), console, delete)
    for item in take_inventory(output).unused:
        lock = FileLock(item.folder.with_suffix(".lock"), timeout=0)
        try:
            with lock:
                gone.append(item.folder)
                _remove(item.folder, item.size, console, delete)
        except Timeout:
            say(f"kept {item.folder}: a process is building it", on=console)
    for file in _left_over(output):
        if not any(folder in file.parents for folder in gone):
            gone.append(file)
            _remove(file, file.lstat().st_size, console, delete)
    if of_failed and not failed:
        say(
            f"{len(of_failed)} failed jobs keep their folders and what they work on; --failed gives them up",
            on=console,
        )
    if not gone:
        say("nothing to free", on=console)
    elif not delete:
        say("nothing was removed; --delete does it", on=console)
    return gone


def _remove(path: Path, size: int, console: Console, delete: bool) -> None:
    if delete and path.is_dir():
        shutil.rmtree(path)
    elif delete:
        path.unlink(missing_ok=True)
    say(f"{'removed' if delete else 'would remove'} {path} ({decimal(size)})", on=console)


def _failed(output: Path) -> list[Path]:
    """List the folders of jobs that ended with an error and are not running again."""
    folders = (file.parent for file in sorted((output / RUNS).rglob(ERROR)))
    return [folder for folder in folders if not (folder / RESULT).exists()]


def _left_over(output: Path) -> list[Path]:
    """List the temporary files of writers that were killed."""
    written = time.time() - STALE
    found = []
    for file in sorted(output.rglob(".*")):
        with suppress(FileNotFoundError):  # its writer has just renamed it
            if is_temporary(file) and S_ISREG(file.lstat().st_mode) and file.lstat().st_mtime < written:
                found.append(file)
    return found
