"""What a solver has found so far, kept until all is found, by one process or several."""

import logging
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from lsep_ml.processes.group import ALONE, Processes
from lsep_ml.training.checkpoints import UNREADABLE, read_checkpoint, write_checkpoint

log = logging.getLogger(__name__)

Make = Callable[[], dict[str, Any]]
"""Solves a problem; returns tensors and plain data."""


class Kept:
    """Says what a solver has found so far, a file for each problem; a killed one finds it again.

    Several `processes` make the same calls; the first reads and writes.
    """

    def __init__(self, folder: Path, processes: Processes = ALONE) -> None:
        self.folder, self.processes = folder, processes
        if processes.first:
            folder.mkdir(parents=True, exist_ok=True)

    def get(self, name: str, make: Make, *, together: bool = False) -> dict[str, Any]:
        """Read what `make` made before under this name, or make it now: the first process for all, or all `together`,
        each of which then has the same."""
        made = self.processes.share(self._read(name))
        if made is None:
            made = make() if together or self.processes.first else None
            self._write(name, made)
            made = made if together else self.processes.share(made)
        assert made is not None
        return made

    def each(self, makes: Mapping[str, Make]) -> Iterator[dict[str, Any]]:
        """Yield what each of `makes` made before under its name, or makes now, every process another; on the first
        process alone."""
        rank, count = self.processes.rank, self.processes.count
        for start in range(0, len(makes), count):
            names = list(makes)[start : start + count]
            found = self.processes.share([self._read(name) for name in names])
            mine = makes[names[rank]]() if rank < len(names) and found[rank] is None else None
            made = self.processes.collect(mine)
            # Made is nothing but on the first process; at the end there are fewer names than processes.
            for name, new, old in zip(names, made, found, strict=False):
                self._write(name, new)
                done = new or old
                assert done is not None
                yield done

    def _read(self, name: str) -> dict[str, Any] | None:
        file = self.folder / f"{name}.ckpt"
        if not self.processes.first:
            return None
        try:
            return read_checkpoint(file)
        except FileNotFoundError:
            pass
        except UNREADABLE as error:
            log.warning("%s cannot be read (%s): it is made again.", file, error)
        return None

    def _write(self, name: str, made: dict[str, Any] | None) -> None:
        if made is not None and self.processes.first:
            write_checkpoint(self.folder / f"{name}.ckpt", made)


def found_again(kept: Kept | None, makes: Mapping[str, Make]) -> list[Make]:
    """Return `makes`, each of which finds what it made before under its name in `kept`, where there is one.

    What is kept is of the process that makes it alone, so that several can make different ones.
    """
    return list(makes.values()) if kept is None else [partial(kept.get, *named) for named in makes.items()]
