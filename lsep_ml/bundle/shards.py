"""One table of many images by several processes: each labels its share, and whoever is last puts the table together."""

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from filelock import FileLock

from lsep_ml.bundle.label_files import Labelled, write_problems
from lsep_ml.bundle.label_table import LabelTable
from lsep_ml.files import read_json, write_json


@dataclass(frozen=True)
class Shard:
    """Names the share of one of `count` processes: number `number`, from 1."""

    number: int
    count: int

    @classmethod
    def parse(cls, text: str) -> "Shard":
        """Read "3/8".

        Raises:
            ValueError: written otherwise, or no number of these.
        """
        found = re.fullmatch(r"(\d+)/(\d+)", text)
        if found is None or not 1 <= int(found[1]) <= int(found[2]):
            raise ValueError(f"--shard {text}: expected I/N, from 1/N to N/N, such as 3/8")
        return cls(int(found[1]), int(found[2]))

    def of(self, images: Sequence[str], batch_size: int) -> list[str]:
        """Return this share of `images`: whole batches, every `count`th. What is computed of an image can depend on its
        batch in the last bits, and so on no number of shards."""
        starts = range((self.number - 1) * batch_size, len(images), self.count * batch_size)
        return list(chain.from_iterable(images[start : start + batch_size] for start in starts))


class ShardedTable:
    """Keeps the table at `out` that several shards write: each one's unfinished table, and a note of each that is done.

    Args:
        out: the table to be.
        images: all of them, in the order of the table; every shard has to find the same.
        batch_size: of all shards.
        open_table: (a path, what its rows are made by) -> a `LabelTable`, unfinished at that path with ".part".
        made_by: plain data that all rows depend on.
    """

    def __init__(
        self,
        out: Path,
        images: Sequence[str],
        batch_size: int,
        open_table: Callable[[Path, dict[str, Any]], LabelTable],
        made_by: dict[str, Any],
    ) -> None:
        self.out, self.images, self.batch_size = out, images, batch_size
        self._open_table = open_table
        listed = hashlib.sha256("\0".join(images).encode("utf-8", "surrogateescape")).hexdigest()
        made_by = {**made_by, "images": listed, "batch_size": batch_size}
        self._made_by = json.loads(json.dumps(made_by))  # as it is read again

    def open(self, shard: Shard) -> LabelTable:
        """Open the part of a shard, with the rows that an earlier call left in it."""
        return self._open_table(self._path(shard), self._made_by)

    def finish(self, shard: Shard, labelled: Labelled) -> list[Shard]:
        """Note that a shard is done; where it was the last one, write the table. Returns those that are not done.

        Raises:
            ValueError: another shard was made by something else, or of other images.
        """
        with FileLock(self.out.with_name(f"{self.out.name}.shards.lock")) as lock:
            write_json(self._note(shard), {"made_by": self._made_by, "problems": labelled.problems})
            left = [one for one in self._shards(shard) if not self._note(one).exists()]
            if not left:
                self._write(shard)
                Path(lock.lock_file).unlink(missing_ok=True)
        return left

    def _problems(self, shard: Shard) -> dict[str, str]:
        """Return why images of the shards, all of which are done, could not be used; a ValueError where one was made by
        something else, or of other images."""
        found: dict[str, str] = {}
        for one in self._shards(shard):
            note = read_json(self._note(one))
            if note["made_by"] != self._made_by:
                raise ValueError(
                    f"{self._note(one)}: a shard of another bundle or decision, or of other images; delete it and its "
                    "part, and label it again"
                )
            found |= note["problems"]
        return found

    def _write(self, shard: Shard) -> None:
        problems = self._problems(shard)
        parts = [self.open(one) for one in self._shards(shard)]
        try:
            with self._open_table(self.out, self._made_by) as table:
                table.take(self._lines(parts, shard.count))
                table.finish(self.images, problems=problems)
        finally:
            for part in parts:
                part.close()
        if problems:
            write_problems(self.out, problems)
        for one, part in zip(self._shards(shard), parts, strict=True):
            part.part.unlink()
            self._note(one).unlink()

    def _lines(self, parts: Sequence[LabelTable], count: int) -> Iterator[tuple[str, bytes]]:
        for number, start in enumerate(range(0, len(self.images), self.batch_size)):
            part = parts[number % count]
            for image in self.images[start : start + self.batch_size]:
                if image in part:
                    yield image, part.line(image)

    def _shards(self, shard: Shard) -> list[Shard]:
        return [Shard(number, shard.count) for number in range(1, shard.count + 1)]

    def _path(self, shard: Shard) -> Path:
        return self.out.with_name(f"{self.out.stem}.{shard.number}-of-{shard.count}{self.out.suffix}")

    def _note(self, shard: Shard) -> Path:
        path = self._path(shard)
        return path.with_name(f"{path.name}.done.json")
