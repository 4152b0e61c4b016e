"""Finding a data set's files: its folder, its lists, its images."""

import os
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from lsep_ml.data.errors import DataError

GUIDE = "docs/data.md shows the expected tree"


def find_tree(data: str, root: str | Path, markers: Sequence[str], variants: Sequence[str]) -> Path:
    """The folder that holds one of the markers: `root` itself or `root` / one of the variants.

    Raises:
        DataError: root does not exist, or none of them has a marker; says so if a folder above has.
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
        f"data.root={root}: no {' or '.join(markers)} in it (it holds {_some(inside) or 'nothing'}); {GUIDE}"
    )


def read_text(path: Path) -> str:
    """The file's text: UTF-8, with or without a byte order mark."""
    try:
        return path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file; {GUIDE}") from error
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        line, byte = error.object.count(b"\n", 0, error.start) + 1, error.object[error.start]
        raise DataError(
            f"{path}, line {line}: byte 0x{byte:02x} is not UTF-8; save the file as UTF-8"
        ) from error


def read_lines(path: Path) -> list[str]:
    """The file's lines without blanks around them, empty ones left out."""
    return [line for line in map(str.strip, read_text(path).splitlines()) if line]


def clean_path(listed: str, where: str) -> str:
    """A listed image path as a POSIX path inside the root.

    Raises:
        DataError: absolute, leaving the root, empty, or with characters that no path has; `where` tells the
            place.
    """
    path = listed.strip().replace("\\", "/")
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if not parts or any(ord(character) < 32 or "\ud800" <= character <= "\udfff" for character in path):
        raise DataError(f"{where}: {listed!r} is not the path of an image")
    if path.startswith("/") or re.match(r"[A-Za-z]:", path) or ".." in parts:
        raise DataError(f"{where}: {listed!r} leads out of data.root; list images relative to it")
    return "/".join(parts)


def find_images(root: Path, listed: Iterable[str], folders: Sequence[str]) -> list[str]:
    """Where the listed images are, relative to root: under one of `folders`, else anywhere by base name.

    An image found nowhere, or whose base name occurs more than once, stays in the first folder, where it is
    missing.
    """
    by_name: Callable[[str], str | None] | None = None
    found = []
    for path in listed:
        candidates = [f"{folder}/{path}" if folder else path for folder in folders]
        place = next((candidate for candidate in candidates if os.path.isfile(f"{root}/{candidate}")), None)
        if place is None:
            by_name = by_name or _base_names(root)
            place = by_name(path.rpartition("/")[2]) or candidates[0]
        found.append(place)
    return found


def _base_names(root: Path) -> Callable[[str], str | None]:
    """base name -> the one file below root that has it."""
    places: dict[str, str | None] = {}
    for folder, _, names in os.walk(root):
        relative = os.path.relpath(folder, root).replace(os.sep, "/")
        for name in names:
            place = name if relative == "." else f"{relative}/{name}"
            places[name] = None if name in places else place
    return places.get


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
