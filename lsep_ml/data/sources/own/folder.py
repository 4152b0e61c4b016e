"""What a folder holds, and which of its images a listed name means."""

import os
import re
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Generic, TypeVar
from urllib.parse import unquote

import numpy as np
import polars as pl
from numpy.typing import NDArray

from lsep_ml.data.cache import cache_file, load_arrays, save_arrays
from lsep_ml.data.errors import DataError
from lsep_ml.data.images.packed import packed_images
from lsep_ml.data.sources.own.paths import form, path_parts, stem_of
from lsep_ml.data.tree import GUIDE, SUFFIXES, has_image_suffix, is_junk, looks_like_an_image

UPLOADED = re.compile(r"[0-9a-f]{8}-(.+)")
"""How an annotation tool renames what is uploaded to it."""

LISTING_FORMAT = 1
RECENT = 2 * 10**9
"""Nanoseconds that a folder has to be unchanged for its listing to be kept: clocks of file systems are coarse."""

LAST = "([^/]*)$"
PLAIN = r"^[A-Za-z0-9_-]+(/[A-Za-z0-9_-]+)*\.[A-Za-z0-9_]+$"
IMAGE_SUFFIX = rf"(?i)^(.+)(?:{'|'.join(sorted(map(re.escape, SUFFIXES)))})$"
"""Of names, for a column of them: the last part, one that is itself as a path, and what ends as an image's does."""

EXACT, GUESSED, MISSING = range(3)
"""How a listed name means an image, or that it means none."""

Paths = TypeVar("Paths", list[str], pl.Series)


@dataclass
class Found(Generic[Paths]):
    """Holds the images that listed names mean.

    Attributes:
        images: for each name an image's path below the root; of a name that means none, the name as a path.
        exact: number of names that are a path below the root, or below the folder of the file that lists them.
        guessed: number of those that are found by the end of the path, or without regard to the suffix.
        missing: number of those that mean no image.
        guess: a name that is guessed, and its image.
        several: names that mean none since several images have them equally, with these.
    """

    images: Paths
    exact: int
    guessed: int
    missing: int
    guess: tuple[str, str]
    several: list[tuple[str, list[str]]]


class Folder:
    """All files below `root`, packed images among them, POSIX paths relative to it, sorted; junk (`is_junk`) is left
    out.

    Args:
        root: the folder.
        cache: keeps the listing, which is taken again while no folder below the root has changed; None: none is kept.

    Raises:
        DataError: no such folder; as `packed_images`.
    """

    def __init__(self, root: str | Path, cache: str | Path | None = None) -> None:
        self.root = Path(root)
        if not self.root.is_dir():
            raise DataError(f"data.root={root}: no such folder; {GUIDE}")
        self._guessed: dict[str, list[str]] = {}
        self._packed = packed_images(self.root)
        inside = set() if self._packed is None else set(self._packed.names)
        files, images = self._listed(cache)
        self.files = sorted(inside.union(files)) if inside else files
        self.images = sorted(inside.union(images)) if inside else images

    def _listed(self, cache: str | Path | None) -> tuple[list[str], list[str]]:
        """Return the files below the root and the images among them, as they were listed before where no folder has
        changed since."""
        stored_at = cache_file(cache, "listing", LISTING_FORMAT, str(self.root.resolve()))
        kept = load_arrays(stored_at)
        if kept is not None:
            folders = _names(kept["folders"])
            if [_changed(self.root / folder) for folder in folders] == kept["changed"].tolist():
                files = _names(kept["files"])
                return files, [files[row] for row in kept["images"].tolist()]
        now, seen = time.time_ns(), dict[str, int]()
        files = sorted(self._walk(seen))
        rows = [row for row, file in enumerate(files) if self._is_image(file)]
        if max(seen.values()) < now - RECENT:  # else more may come within the same tick of its clock
            save_arrays(
                stored_at,
                folders=_joined(list(seen)),
                changed=np.array(list(seen.values()), np.int64),
                files=_joined(files),
                images=np.array(rows, np.int64),
            )
        return files, [files[row] for row in rows]

    def _walk(self, folders_seen: dict[str, int]) -> Iterator[str]:
        """Give all files, and note each folder below the root and when it changed."""
        seen: set[str] = set()
        for where, folders, names in os.walk(self.root, followlinks=True):
            real = os.path.realpath(where)
            if real in seen:  # a link to a folder above
                folders.clear()
                continue
            seen.add(real)
            folders[:] = [name for name in folders if not is_junk(name)]
            below = os.path.relpath(where, self.root).replace(os.sep, "/")
            prefix = "" if below == "." else f"{below}/"
            folders_seen[below] = _changed(Path(where))
            yield from (prefix + name for name in names if not is_junk(name))

    def _is_image(self, file: str) -> bool:
        name = file.rpartition("/")[2]
        return has_image_suffix(name) or ("." not in name and looks_like_an_image(self.root / file))

    def of_suffix(self, *suffixes: str) -> list[str]:
        """Return the files whose names end with one of `suffixes`, in small or capital letters."""
        return [file for file in self.files if file.lower().endswith(suffixes)]

    def file_of(self, image: str) -> object:
        """Return what is equal for images that are links to one file."""
        try:
            found = os.stat(self.root / image)
        except OSError:  # packed, or a link to nothing
            return image if self._packed is None else self._packed.file_of(image)
        return found.st_dev, found.st_ino

    @cached_property
    def _by_path(self) -> dict[str, str]:
        return {form(image): image for image in self.images}

    @cached_property
    def _columns(self) -> tuple[pl.DataFrame, pl.Series]:
        """Return "name" and "image" of `_by_path`, and the names of `_by_name`, but for what no table can say."""
        images = [image for image in self.images if image.isascii() or _is_text(image)]
        columns = {"name": [form(image) for image in images], "image": images}
        paths = pl.DataFrame(columns, schema={"name": pl.String, "image": pl.String})
        last = paths["name"].str.extract(LAST)
        every = pl.concat([last, last.str.replace(IMAGE_SUFFIX, "$1")]).unique()
        return paths.unique("name", keep="last", maintain_order=True), every

    @cached_property
    def _by_name(self) -> dict[str, list[str]]:
        """Image's name -> images, and name without the suffix -> images."""
        found: dict[str, list[str]] = {}
        for image in self.images:
            name = form(image.rpartition("/")[2])
            found.setdefault(name, []).append(image)
            if stem_of(name) != name:
                found.setdefault(stem_of(name), []).append(image)
        return found

    @cached_property
    def _folder_names(self) -> set[str]:
        return {part for file in self.files for part in file.split("/")[:-1]}

    def find(self, listed: Sequence[str], beside: str = "") -> Found[list[str]]:
        """Return the images that these names mean, looked for from the folder `beside` of the file that lists them,
        from the root, and by as much of the end of the path as an image below the root has: names may be absolute,
        addresses, without folders, with backslashes, without a suffix. A name that several images have equally means
        none.
        """
        each = [self._meant(name, beside) for name in listed]
        kinds = Counter(kind for _, kind in each)
        guess = next(
            ((name, image) for name, (image, kind) in zip(listed, each, strict=True) if kind == GUESSED),
            ("", ""),
        )
        counts = kinds[EXACT], kinds[GUESSED], kinds[MISSING]
        return Found([image for image, _ in each], *counts, guess, self._several(listed))

    def find_column(self, names: pl.Series, beside: str = "") -> Found[pl.Series]:
        """Return what `find` does of a String column without nulls, and the images as one: plain paths that are here,
        or are of no image's name, by columns, the others one by one."""
        paths, last_names = self._columns
        rows = pl.DataFrame({"name": names}).join(paths, on="name", how="left", maintain_order="left")
        if beside:
            below = paths.select(pl.col("name").alias("below"), pl.col("image").alias("beside"))
            rows = rows.with_columns(below=f"{beside}/" + pl.col("name")).join(
                below, on="below", how="left", maintain_order="left"
            )
            rows = rows.select("name", pl.coalesce("beside", "image").alias("image"))
        rows = rows.with_columns(here=pl.col("image").is_not_null())
        last = pl.col("name").str.extract(LAST)
        of_no_image = ~last.is_in(last_names.implode()) & ~last.str.replace(IMAGE_SUFFIX, "$1").is_in(
            last_names.implode()
        )
        away = (
            ~pl.col("here") & pl.col("name").str.contains(PLAIN) & ~last.str.contains(f"^{UPLOADED.pattern}")
        )
        rows = rows.with_columns(away=away & of_no_image)
        left = rows.filter(~pl.col("here") & ~pl.col("away"))["name"].unique(maintain_order=True)
        each = [self._meant(name, beside) for name in left.to_list()]
        meant = pl.DataFrame(
            {"name": left, "meant": [image for image, _ in each], "kind": [kind for _, kind in each]},
            schema={"name": pl.String, "meant": pl.String, "kind": pl.UInt8},
        )
        kind = pl.when("here").then(EXACT).when("away").then(MISSING).otherwise("kind").alias("kind")
        found = pl.coalesce("image", "meant", "name").alias("image")
        rows = rows.join(meant, on="name", how="left", maintain_order="left").select("name", found, kind)
        guesses = rows.filter(pl.col("kind") == GUESSED).select("name", "image").head(1).rows()
        exact, guessed, missing = (int((rows["kind"] == kind).sum()) for kind in (EXACT, GUESSED, MISSING))
        guess = guesses[0] if guesses else ("", "")
        return Found(rows["image"], exact, guessed, missing, guess, self._several(left.to_list()))

    def _meant(self, name: str, beside: str) -> tuple[str, int]:
        """Return the image that a name means, and whether that is exact, guessed or missing."""
        base = f"{beside}/" if beside else ""
        by_path = self._by_path
        image = by_path.get(base + name) or by_path.get(name)
        if image is not None:
            return image, EXACT
        parts = path_parts(name)
        plain = "/".join(parts)
        image = by_path.get(base + plain) or by_path.get(plain)
        if image is not None:
            return image, EXACT
        if name not in self._guessed:
            self._guessed[name] = self._by_end(parts) if parts else []
        candidates = self._guessed[name]
        if not candidates and (said := unquote(name)) != name:  # %20 and the like, where nothing is called so
            return self._meant(said, beside)
        return (candidates[0], GUESSED) if len(candidates) == 1 else (plain, MISSING)

    def _several(self, listed: Sequence[str]) -> list[tuple[str, list[str]]]:
        """Return those of the names, which were looked for, that several images have equally, with these."""
        found = ((name, self._guessed.get(name, [])) for name in listed)
        return [(name, candidates) for name, candidates in found if len(candidates) > 1]

    def _by_end(self, parts: Sequence[str]) -> list[str]:
        """Return the images whose paths have most in common with the end of this one."""
        name = parts[-1]
        uploaded = UPLOADED.fullmatch(name)
        for wanted in (name, stem_of(name), *([uploaded[1]] if uploaded else [])):
            images = self._by_name.get(wanted, [])
            if not images:
                continue
            common = [_common_end(parts[:-1], image.split("/")[:-1]) for image in images]
            best = max(common)
            if best == 0 and len(parts) > 1 and parts[-2] in self._folder_names:
                return []  # its folder is here, and it is not in it
            return [image for image, length in zip(images, common, strict=True) if length == best]
        return []


def _changed(folder: Path) -> int:
    """Return when something was last added to a folder or removed from it, in nanoseconds; -1 where it is gone."""
    try:
        return folder.stat().st_mtime_ns
    except OSError:
        return -1


def _joined(names: Sequence[str]) -> NDArray[np.uint8]:
    return np.frombuffer("\0".join(names).encode("utf-8", "surrogateescape"), np.uint8)


def _names(joined: NDArray[np.uint8]) -> list[str]:
    return joined.tobytes().decode("utf-8", "surrogateescape").split("\0") if len(joined) else []


def _is_text(name: str) -> bool:
    """Return whether a name can be written, which some that file systems hold cannot."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _common_end(first: Sequence[str], second: Sequence[str]) -> int:
    length = 0
    while length < min(len(first), len(second)) and first[-1 - length] == form(second[-1 - length]):
        length += 1
    return length
