"""How a data set's files are found: its folder, its lists, its images."""

import json
import os
import re
import unicodedata
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterable, Sequence
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from lsep_ml.data.errors import DataError, some
from lsep_ml.data.images.packed import packed_images

PLAIN_PATH = re.compile(r"[\w-]+(/[\w-]+)*\.\w+", re.ASCII)  # nearly all are, and need no closer look
IN_NO_PATH = re.compile(r"[\x00-\x1f\ud800-\udfff]")
UTF_16 = (b"\xff\xfe", b"\xfe\xff")
"""How a file in UTF-16 begins, in either order of its bytes."""

ABSOLUTE = re.compile(r"/|[A-Za-z]:")
GUIDE = "docs/data.md shows the expected tree"

SUFFIXES = frozenset(
    (
        *(".jpg", ".jpeg", ".jfif", ".jpe", ".mpo", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff"),
        *(".ppm", ".pgm", ".avif", ".heic", ".heif"),
    )
)
"""What counts as an image in a folder, in small or capital letters."""

JUNK = frozenset({"thumbs.db", "desktop.ini", "__macosx"})
"""What systems leave beside images; what begins with a dot is left out too (`._1.jpg`, `.DS_Store`)."""

_FIRST_BYTES = (b"\xff\xd8\xff", b"\x89PNG\r\n", b"GIF8", b"BM", b"II*\0", b"MM\0*")


def find_tree(data: str, root: str | Path, markers: Sequence[str], variants: Sequence[str]) -> Path:
    """Find the folder that holds one of `markers`: `root` itself or `root` / one of `variants`.

    Raises:
        DataError: `root` does not exist, or no folder has a marker; the message says if one above `root` has.
    """
    root = Path(root)
    if not root.is_dir():
        raise DataError(f"data.root={root}: no such folder; {GUIDE} for data={data}")
    for folder in (root, *(root / variant for variant in variants)):
        if any((folder / marker).exists() for marker in markers):
            return folder
    for above in root.resolve().parents[:4]:
        if any((above / variant / marker).exists() for variant in ("", *variants) for marker in markers):
            raise DataError(f"data.root={root}: too deep in the tree; set data.root={above}")
    inside = sorted(path.name for path in root.iterdir())
    raise DataError(
        f"data.root={root}: no {' or '.join(markers)} in it (it holds {some(inside) or 'nothing'}); {GUIDE}"
    )


def read_text(path: Path) -> str:
    """Read the text in `path`: UTF-8, with or without a byte order mark, or UTF-16 with one.

    Raises:
        DataError: it is missing or unreadable, or in another encoding; names the line.
    """
    try:
        if not path.is_file():  # a pipe would be waited for
            raise DataError(f"{path}: no such file; {GUIDE}")
        content = path.read_bytes()
        return content.decode("utf-16" if content.startswith(UTF_16) else "utf-8-sig")
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        line, byte = error.object.count(b"\n", 0, error.start) + 1, error.object[error.start]
        raise DataError(
            f"{path}, line {line}: byte 0x{byte:02x} is not {error.encoding.upper()}; save the file as UTF-8 (a "
            "spreadsheet has it as CSV UTF-8)"
        ) from error


def parse_json(path: Path) -> Any:
    """Read the JSON in `path`; raises as `read_text` does, and a DataError where it is none."""
    try:
        return json.loads(read_text(path))
    except (json.JSONDecodeError, RecursionError) as error:
        raise DataError(f"{path}: not JSON: {error}") from error


def read_xml(path: Path) -> ElementTree.Element:
    """Read the XML in `path`, or raise a DataError."""
    try:
        return ElementTree.parse(path).getroot()
    except (ElementTree.ParseError, OSError) as error:
        raise DataError(f"{path}: not XML: {error}; repair or remove it") from error


def beginning(path: Path, most: int = 1 << 14, *, and_end: bool = False) -> bytes:
    """Return the first `most` bytes of a file, without the mark and the blanks before a text, and the last ones where
    they are asked for; nothing of what is no file, or cannot be read."""
    try:
        if not path.is_file():  # a pipe would be waited for
            return b""
        with path.open("rb") as file:
            start = file.read(most).lstrip(b"\xef\xbb\xbf \r\n\t")
            if and_end:
                file.seek(max(0, path.stat().st_size - most))
            return start + file.read() if and_end else start
    except OSError:
        return b""


def read_lines(path: Path) -> list[str]:
    """Read the lines of `path` without blanks around them, empty ones left out; raises as `read_text` does."""
    return [line for line in map(str.strip, read_text(path).splitlines()) if line]


def clean_path(listed: str, where: str, root: Path | None = None) -> str:
    """Rewrite `listed`, the path of an image, as a POSIX path inside the root, which an absolute one may name.

    Raises:
        DataError: it lies elsewhere, leaves the root, is empty, or has characters that no path has; the message begins
            with `where`, the place that lists it.
    """
    if PLAIN_PATH.fullmatch(listed):
        return listed
    path = listed.strip().replace("\\", "/")
    if root is not None and ABSOLUTE.match(path):
        for above in (root.absolute(), root.resolve()):
            path = path.removeprefix(f"{above.as_posix()}/")
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if not parts or IN_NO_PATH.search(path):
        raise DataError(f"{where}: {listed!r} is not the path of an image")
    if ABSOLUTE.match(path) or ".." in parts:
        raise DataError(f"{where}: {listed!r} leads out of data.root; list images relative to it")
    return "/".join(parts)


def find_images(root: Path, listed: Iterable[str], folders: Sequence[str]) -> list[str]:
    """Find each of the `listed` images below `root`: in one of `folders`, else anywhere by base name.

    Returns paths relative to `root`; an image found nowhere, or whose base name is there more than once, is given the
    path that it would have in the first folder.
    """
    prefixes = [f"{folder}/" if folder else "" for folder in folders]
    tree = _Tree(root)
    found = []
    for path in listed:
        above, _, name = path.rpartition("/")
        for prefix in prefixes:
            if name in tree.names_in((prefix + above).rstrip("/")):
                found.append(prefix + path)
                break
        else:
            found.append(tree.by_base_name.get(name) or prefixes[0] + path)
    return found


def find_forms(root: Path, listed: Sequence[str]) -> list[str]:
    """Give the `listed` paths below `root` in the Unicode form that they have there.

    A Mac writes the e of "é" and its accent apart, most tables write one letter, and other systems take them for two
    names.
    """
    if all(map(str.isascii, listed)):
        return list(listed)
    tree = _Tree(root)
    forms = cache(lambda folder: {unicodedata.normalize("NFC", name): name for name in tree.names_in(folder)})
    found = []
    for path in listed:
        folder = ""
        for part in path.split("/") if not path.isascii() else ():
            there = part if part in tree.names_in(folder) else None
            name = there or forms(folder).get(unicodedata.normalize("NFC", part), part)
            folder = f"{folder}/{name}" if folder else name
        found.append(folder or path)
    return found


class _Tree:
    """Says what each folder below `root` holds, by name: files, folders, and images that are packed.

    Raises:
        DataError: as `packed_images`.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._packed: dict[str, set[str]] = {}
        packed = packed_images(root)
        for image in () if packed is None else packed.names:
            folder, _, name = image.rpartition("/")
            while name not in self._packed.setdefault(folder, set()):
                self._packed[folder].add(name)
                folder, _, name = folder.rpartition("/")
                if not name:
                    break
        self._listed: dict[str, frozenset[str]] = {}

    def names_in(self, folder: str) -> frozenset[str]:
        """List the names in `folder`, a POSIX path below the root or ""; none where it is no folder."""
        if folder not in self._listed:
            try:
                files = os.listdir(self._root / folder)
            except OSError:
                files = []
            self._listed[folder] = frozenset(files) | self._packed.get(folder, set())
        return self._listed[folder]

    @cached_property
    def by_base_name(self) -> dict[str, str | None]:
        """Map each base name below the root to the one file that has it, or to None where several do."""
        places: dict[str, str | None] = {}
        walked = ((os.path.relpath(folder, self._root), names) for folder, _, names in os.walk(self._root))
        for folder, names in (*walked, *self._packed.items()):
            relative = folder.replace(os.sep, "/")
            for name in names:
                place = name if relative in ("", ".") else f"{relative}/{name}"
                places[name] = None if name in places else place
        return places


def is_junk(name: str) -> bool:
    """Return whether a file or folder of this name is no part of anyone's data."""
    return name.startswith(".") or name.lower() in JUNK


def has_image_suffix(name: str) -> bool:
    """Return whether the file's name ends as an image's does."""
    dot = name.rfind(".")
    return dot > 0 and name[dot:].lower() in SUFFIXES


def looks_like_an_image(path: Path) -> bool:
    """Return whether a file whose name has no suffix begins as an image does."""
    start = beginning(path, 12)
    container = start[:4] == b"RIFF" and start[8:] == b"WEBP"
    return container or start.startswith(_FIRST_BYTES) or start[4:8] == b"ftyp"
