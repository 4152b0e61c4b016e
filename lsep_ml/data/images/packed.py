"""Images in a few large tar files, read from their places there.

A packed folder holds what a folder of images holds, at the same paths: its label files as they are, its images in
`images-00000.tar`, `images-00001.tar`, ..., plain tar files, and beside each of these a table of its images (Arrow).
`packs.index` is written last and names them all, and the images that were links. `lsep_ml.data.pack` writes it.
"""

import hashlib
import json
import os
from collections.abc import Iterable
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from lsep_ml.data.errors import DataError, ImageError

if TYPE_CHECKING:
    import polars as pl

MANIFEST = "packs.index"
"""JSON; not called so, since JSON files beside images are annotations."""
FORMAT = 1
COLUMNS = {
    "image": "String",
    "offset": "Int64",
    "length": "Int64",
    "digest": "Binary",
    "height": "Int32",
    "width": "Int32",
    "hash": "UInt64",
    "problem": "String",
}
"""Of a pack's table, with polars' types: the path below the folder, where the content begins in the tar file, how long
it is, its blake2b (16 bytes), and what opening the image gave: size, perceptual hash, problem."""


def content_digest(content: bytes) -> bytes:
    """Hash an image file's content: blake2b, 16 bytes."""
    return hashlib.blake2b(content, digest_size=16).digest()


class PackedImages:
    """Holds the images of the packed `folder`, as those below `prefix` (POSIX, "" or ending with a slash).

    Raises:
        DataError: the folder's manifest or a table cannot be read, or a tar file is missing or of another length.
    """

    def __init__(self, folder: Path, prefix: str = "") -> None:
        import polars as pl

        self.folder, self._prefix = folder, prefix
        packs, self._links = _manifest_of(folder)
        self._packs: list[str] = []
        tables = [pl.DataFrame(schema={**pack_schema(), "pack": pl.Int32})]
        for number, (name, num_bytes) in enumerate(packs):
            path = folder / name
            found = path.stat().st_size if path.is_file() else None
            if found != num_bytes:
                state = "missing" if found is None else f"{found:,} bytes"
                raise DataError(f"{path}: {state}, and {MANIFEST} says {num_bytes:,} bytes; copy it again")
            self._packs.append(name)
            tables.append(_read_table(table_of(path)).with_columns(pl.lit(number, pl.Int32).alias("pack")))
        table = pl.concat(tables)
        if prefix:
            table = table.filter(pl.col("image").str.starts_with(prefix))
            table = table.with_columns(pl.col("image").str.slice(len(prefix)))
        self._table = table

    def __len__(self) -> int:
        return len(self._table)

    @cached_property
    def names(self) -> list[str]:
        """Return the images' paths, in the order of their rows here."""
        return self._table["image"].to_list()

    def file_of(self, name: str) -> str:
        """Return what is equal for names that were links to one file."""
        return self._links.get(self._prefix + name, self._prefix + name)

    def rows(self, names: Iterable[str]) -> NDArray[np.int64]:
        """Return the row here of each of the `names`; -1 of one that is not packed."""
        import polars as pl

        asked = pl.DataFrame({"image": list(names)}, schema={"image": pl.String})
        places = self._table.select("image").with_row_index("row")
        found = asked.join(places, on="image", how="left", maintain_order="left")["row"]
        return found.cast(pl.Int64).fill_null(-1).to_numpy()

    def column(self, name: str) -> "pl.Series":
        """Return one of `COLUMNS`, over the rows here."""
        return self._table[name]

    def read(self, row: int) -> bytes:
        """Read the content of the image file of `row`.

        Raises:
            ImageError: what stands in the tar file is not what was packed.
            OSError: the tar file cannot be read.
        """
        pack = self._packs[self._places[row, 0]]
        _, offset, length = self._places[row].tolist()
        content = _content_of(str(self.folder / pack), offset, length)
        if content_digest(content) != self._digests[row].tobytes():
            raise ImageError(f"damaged in {pack}, which does not hold what was packed; copy it again")
        return content

    @cached_property
    def _places(self) -> NDArray[np.int64]:
        return np.stack([self._table[name].to_numpy() for name in ("pack", "offset", "length")], axis=1)

    @cached_property
    def _digests(self) -> NDArray[np.uint8]:
        return np.frombuffer(b"".join(self._table["digest"].to_list()), np.uint8).reshape(-1, 16)


def packed_images(root: Path) -> PackedImages | None:
    """Return the packed images below `root`, which may be a folder within a packed one; None where there are none.

    Raises:
        DataError: as `PackedImages`.
    """
    absolute = root.absolute()
    for folder in (absolute, *absolute.parents):
        try:
            found = (folder / MANIFEST).stat()
        except OSError:
            continue
        below = absolute.relative_to(folder).as_posix()
        return _opened(folder, "" if below == "." else f"{below}/", found.st_mtime_ns)
    return None


@lru_cache(maxsize=4)
def _opened(folder: Path, prefix: str, changed: int) -> PackedImages:
    return PackedImages(folder, prefix)


def table_of(pack: Path) -> Path:
    """Return the table of the images in the tar file `pack`."""
    return pack.with_suffix(".arrow")


def _manifest_of(folder: Path) -> tuple[list[tuple[str, int]], dict[str, str]]:
    """Return the tar files with their lengths, and of images that were links the first one to the same file."""
    path = folder / MANIFEST
    try:
        content = json.loads(path.read_bytes())
        packs = [(str(name), int(num_bytes)) for name, num_bytes in content["packs"].items()]
        links = dict(content.get("links", {}))
        if content["format"] != FORMAT or any(os.path.basename(name) != name for name, _ in packs):
            raise ValueError
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"{path}: not a list of packs of format {FORMAT}; `lsep-ml pack` writes it"
        ) from error
    return packs, links


def pack_schema() -> "dict[str, pl.DataType]":
    """Return COLUMNS as polars takes them."""
    import polars as pl

    return {name: getattr(pl, kind)() for name, kind in COLUMNS.items()}


def _read_table(path: Path) -> "pl.DataFrame":
    import polars as pl

    try:
        table = pl.read_ipc(path)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise DataError(f"{path}: cannot be read as a pack's table ({error}); copy it again") from error
    if dict(table.schema) != pack_schema():
        raise DataError(f"{path}: not a pack's table; copy it again")
    return table


def _content_of(path: str, offset: int, length: int) -> bytes:
    with open(path, "rb", buffering=0) as file:
        file.seek(offset)
        return file.read(length)
