"""Images named on a command line: files, folders and patterns, in the order they were given."""

import glob
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

SUFFIXES = frozenset(
    [
        ".jpg",
        ".jpeg",
        ".jfif",
        ".mpo",
        ".png",
        ".webp",
        ".gif",
        ".bmp",
        ".tif",
        ".tiff",
        ".ppm",
        ".pgm",
        ".avif",
    ]
)
"""What counts as an image in a folder; a file that is named itself is always tried."""


def image_files(inputs: Sequence[str]) -> list[str]:
    """The paths of all images, each once.

    An input is a file, a folder (taken with all below it, sorted by path, hidden files left out), or a pattern with
    *, ? or ** (sorted; its folders taken as folders).

    Raises:
        FileNotFoundError: an input that does not exist, or one without an image in it.
    """
    found: dict[str, None] = {}
    for given in inputs:
        images = list(_of_input(given))
        if not images:
            raise FileNotFoundError(
                f"{given}: no image in it; image files end with {', '.join(sorted(SUFFIXES))}"
            )
        found.update(dict.fromkeys(images))
    return list(found)


def _of_input(given: str) -> Iterator[str]:
    if os.path.isdir(given):
        yield from _below(Path(given))
    elif os.path.exists(given):  # before patterns: a name may hold brackets
        yield given
    elif glob.has_magic(given):
        for match in sorted(glob.glob(given, recursive=True)):
            if os.path.isdir(match):
                if "**" not in given:  # which finds the files in its folders by itself
                    yield from _below(Path(match))
            elif "." in os.path.basename(given) or _is_image(match):
                yield match
    else:
        raise FileNotFoundError(f"{given}: no such file or folder")


def _below(folder: Path) -> Iterator[str]:
    for where, folders, files in os.walk(folder, followlinks=True):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (os.path.join(where, name) for name in sorted(files) if _is_image(name))


def _is_image(name: str) -> bool:
    base = os.path.basename(name)
    return not base.startswith(".") and os.path.splitext(base)[1].lower() in SUFFIXES
