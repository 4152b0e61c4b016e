"""What a folder holds, and which of its images a listed name means."""

import base64
import os
import re
import time
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from urllib.parse import unquote, urlsplit

import numpy as np
from numpy.typing import NDArray

from lsep_ml.data.cache import cache_file, load_arrays, save_arrays
from lsep_ml.data.errors import DataError
from lsep_ml.data.images.packed import packed_images
from lsep_ml.data.tree import GUIDE, has_image_suffix, is_junk, looks_like_an_image
from lsep_ml.files import spoken

UPLOADED = re.compile(r"[0-9a-f]{8}-(.+)")
"""How an annotation tool renames what is uploaded to it."""

LISTING_FORMAT = 1
RECENT = 2 * 10**9
"""Nanoseconds that a folder has to be unchanged for its listing to be kept: clocks of file systems are coarse."""

WORDS = re.compile(r"[^\W\d_]+")

SPLIT_WORDS = {
    **dict.fromkeys(("train", "training", "tr", "trn"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev", "validate"), "val"),
    **dict.fromkeys(("test", "testing", "tst"), "test"),
}
"""What people call the splits, in small letters."""


@dataclass
class Found:
    """Holds the images that listed names mean.

    Attributes:
        images: for each name an image's path below the root; of a name that means none, the name as a path.
        exact: names that are a path below the root, or below the folder of the file that lists them.
        missing: names that mean no image.
        guessed: (name, image) of the others: found by the end of the path, or without regard to the suffix.
    """

    images: list[str] = field(default_factory=list)
    exact: int = 0
    missing: list[str] = field(default_factory=list)
    guessed: list[tuple[str, str]] = field(default_factory=list)


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
            raise DataError(f"data.root={root}: no such folder; {GUIDE} for data=own")
        packed = packed_images(self.root)
        inside = set() if packed is None else set(packed.names)
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

    @cached_property
    def _by_path(self) -> dict[str, str]:
        return {_form(image): image for image in self.images}

    @cached_property
    def _by_name(self) -> dict[str, list[str]]:
        """Image's name -> images, and name without the suffix -> images."""
        found: dict[str, list[str]] = {}
        for image in self.images:
            name = _form(image.rpartition("/")[2])
            found.setdefault(name, []).append(image)
            if stem_of(name) != name:
                found.setdefault(stem_of(name), []).append(image)
        return found

    @cached_property
    def _folder_names(self) -> set[str]:
        return {part for file in self.files for part in file.split("/")[:-1]}

    def find(self, listed: Sequence[str], beside: str = "") -> Found:
        """Return the images that these names mean, looked for from the folder `beside` of the file that lists them,
        from the root, and by as much of the end of the path as an image below the root has: names may be absolute,
        addresses, without folders, with backslashes, without a suffix. A name that several images have equally means
        none.
        """
        found = Found()
        base = f"{beside}/" if beside else ""
        known: dict[str, str | None] = {}
        by_path = self._by_path
        for name in listed:
            image = by_path.get(base + name) or by_path.get(name)
            if image is None:
                parts = path_parts(name)
                plain = "/".join(parts)
                image = by_path.get(base + plain) or by_path.get(plain)
                if image is None:
                    if name not in known:
                        known[name] = self._by_end(parts) if parts else None
                    image = known[name]
                    if image is None:
                        found.images.append(plain)
                        found.missing.append(name)
                    else:
                        found.images.append(image)
                        found.guessed.append((name, image))
                    continue
            found.exact += 1
            found.images.append(image)
        return found

    def _by_end(self, parts: Sequence[str]) -> str | None:
        """Return the one image whose path has most in common with the end of this one."""
        name = parts[-1]
        uploaded = UPLOADED.fullmatch(name)
        for wanted in (name, stem_of(name), *([uploaded[1]] if uploaded else [])):
            images = self._by_name.get(wanted, [])
            if not images:
                continue
            common = [_common_end(parts[:-1], image.split("/")[:-1]) for image in images]
            best = max(common)
            if best == 0 and len(parts) > 1 and parts[-2] in self._folder_names:
                return None  # its folder is here, and it is not in it
            candidates = [image for image, length in zip(images, common, strict=True) if length == best]
            return candidates[0] if len(candidates) == 1 else None
        return None


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


def path_parts(listed: str) -> list[str]:
    """Return the parts of the path that a listed name carries: of an address what it points to, with "/" between
    folders."""
    text = spoken(listed.strip())
    if "://" in text or "?d=" in text or "?fileuri=" in text:
        address = urlsplit(text)
        query = {
            key: unquote(value) for key, _, value in (one.partition("=") for one in address.query.split("&"))
        }
        if "fileuri" in query:
            return path_parts(_of_base64(query["fileuri"]))
        text = query.get("d") or unquote(address.path)
    parts = _form(text).replace("\\", "/").split("/")
    return [part for part in parts if part not in ("", ".", "..") and not re.fullmatch("[A-Za-z]:", part)]


def _of_base64(text: str) -> str:
    """Return the address that an annotation tool hides in its own."""
    try:
        return base64.b64decode(text + "==", altchars=b"-_").decode()
    except ValueError:
        return text.replace("?", "")


def stem_of(name: str) -> str:
    """Return the name without an image's suffix."""
    return name[: name.rindex(".")] if has_image_suffix(name) else name


def split_word(text: str) -> str:
    """Return the split that a word means, with a number after it too (val2017); "" where it means none."""
    return SPLIT_WORDS.get(text.lower().rstrip("0123456789"), "")


def split_of_path(path: str) -> str:
    """Return the split that a folder of this path is called by, the first one; "" where none is."""
    return next(filter(None, map(split_word, path.split("/")[:-1])), "")


def split_of_file(file: str) -> str:
    """Return the split that a file's folder or a word of its name says: train/_classes.csv, labels_val.csv."""
    words = WORDS.findall(file.rpartition("/")[2].rpartition(".")[0])
    return split_of_path(file) or next(filter(None, map(split_word, words)), "")


def _form(text: str) -> str:
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def _common_end(first: Sequence[str], second: Sequence[str]) -> int:
    length = 0
    while length < min(len(first), len(second)) and first[-1 - length] == _form(second[-1 - length]):
        length += 1
    return length
