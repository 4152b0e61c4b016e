"""A folder of images, whatever its labels look like, copied into a few large files."""

import io
import logging
import shutil
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl
from rich.console import Console
from rich.progress import track

from lsep_ml.data.errors import DataError, ImageError
from lsep_ml.data.images.content import MAX_BYTES, read_content
from lsep_ml.data.images.opened import verdict_on
from lsep_ml.data.images.packed import (
    FORMAT,
    MANIFEST,
    pack_schema,
    packed_images,
    table_of,
)
from lsep_ml.data.sources.own.folder import Folder
from lsep_ml.files import atomic_write, write_json

log = logging.getLogger(__name__)

PACK_BYTES = 2**30
_BLOCK = 512  # bytes that a tar file counts in


@dataclass(frozen=True)
class Packed:
    """Says what `pack` wrote: the number of images, of tar files and of files copied beside them, and the images that
    are packed and cannot be decoded (path -> why), or could not be read and are not there (path -> why)."""

    images: int
    packs: int
    others: int
    problems: dict[str, str]
    left_out: dict[str, str]


def pack(root: Path, out: Path, pack_bytes: int = PACK_BYTES) -> Packed:
    """Copy `root` to the packed folder `out`: images into tar files, sorted by path, other files as they are.

    Each image is opened once, here. A tar file is whole or absent; started again after an interruption, those that are
    whole stay. The same folder gives the same bytes.

    Args:
        root: a folder of images with labels in any form.
        out: the folder to make.
        pack_bytes: about how large a tar file becomes.

    Raises:
        DataError: no image in `root`, `out` lies in `root`, is a packed folder already, or holds other files.
    """
    folder = Folder(root)
    if not folder.images:
        raise DataError(f"{root}: no image in it")
    if packed_images(root) is not None:
        raise DataError(f"{root}: packed already")
    if out.resolve().is_relative_to(root.resolve()):
        raise DataError(f"--out {out}: lies in {root}; name a folder elsewhere")
    if (out / MANIFEST).exists():
        raise DataError(f"--out {out}: a packed folder already; name another one, or remove it")
    out.mkdir(parents=True, exist_ok=True)
    images = set(folder.images)
    others = [file for file in folder.files if file not in images]
    for file in others:
        _copy(root / file, out / file)
    left_out: dict[str, str] = {}
    problems: dict[str, str] = {}
    sizes: dict[str, int] = {}
    num_images = 0
    console = Console(stderr=True)
    planned = _planned(root, folder.images, pack_bytes)
    hidden = not console.is_terminal
    for number, names in enumerate(track(planned, "packing", console=console, disable=hidden)):
        path = out / f"images-{number:05}.tar"
        table = _kept(path, root, names)
        if table is None:
            table = _write_pack(path, root, names, left_out)
        num_images += len(table)
        log.info("%s: %s images, pack %d of %d", path, f"{len(table):,}", number + 1, len(planned))
        bad = table.filter(pl.col("problem") != "")
        problems |= dict(zip(bad["image"], bad["problem"], strict=True))
        sizes[path.name] = path.stat().st_size
    write_json(out / MANIFEST, {"format": FORMAT, "packs": sizes, **_links(folder)})
    return Packed(num_images, len(sizes), len(others), problems, left_out)


def _links(folder: Folder) -> dict[str, dict[str, str]]:
    """Return which images are links to the file of one before them, and of which; nothing where none is."""
    first: dict[object, str] = {}
    links = {image: first.setdefault(folder.file_of(image), image) for image in folder.images}
    links = {image: before for image, before in links.items() if image != before}
    return {"links": links} if links else {}


def _planned(root: Path, images: Sequence[str], pack_bytes: int) -> list[list[str]]:
    """Return the images of each pack: in their order, as many as `pack_bytes` hold, and at least one."""
    packs: list[list[str]] = [[]]
    filled = 0
    for image in images:
        length = _length(root / image)
        if packs[-1] and filled + length > pack_bytes:
            packs.append([])
            filled = 0
        packs[-1].append(image)
        filled += length
    return packs


def _kept(path: Path, root: Path, names: Sequence[str]) -> pl.DataFrame | None:
    """Return the table of a pack that an earlier call has finished; None where there is none of these very files."""
    try:
        table = pl.read_ipc(table_of(path))
    except (OSError, pl.exceptions.PolarsError):
        return None
    same = path.is_file() and dict(table.schema) == pack_schema() and table["image"].to_list() == list(names)
    lengths = [_length(root / name) for name in names] if same else []
    return table if same and table["length"].to_list() == lengths else None


def _write_pack(path: Path, root: Path, names: Sequence[str], left_out: dict[str, str]) -> pl.DataFrame:
    table_of(path).unlink(missing_ok=True)
    rows: list[tuple[str, int, int, bytes, int, int, int, str]] = []
    with (
        atomic_write(path, "wb") as file,
        tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as tar,
    ):
        for name, content in _contents(root, names, left_out):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
            offset = tar.offset - -(-len(content) // _BLOCK) * _BLOCK
            found = verdict_on(content)
            told = found.digest, found.height, found.width, found.perceptual_hash, found.problem
            rows.append((name, offset, len(content), *told))
    table = pl.DataFrame(rows, schema=pack_schema(), orient="row")
    with atomic_write(table_of(path), "wb") as file:
        table.write_ipc(file)
    return table


def _contents(root: Path, names: Sequence[str], left_out: dict[str, str]) -> Iterator[tuple[str, bytes]]:
    for name in names:
        try:
            yield name, read_content(root / name, MAX_BYTES)
        except (OSError, ImageError) as error:
            left_out[name] = getattr(error, "strerror", None) or str(error)


def _length(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _copy(source: Path, target: Path) -> None:
    with source.open("rb") as content, atomic_write(target, "wb") as file:
        shutil.copyfileobj(content, file)
