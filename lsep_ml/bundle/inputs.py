"""Images named on a command line: files, folders and patterns, in the order they were given."""

import glob
import os
from collections.abc import Iterator, Sequence
from functools import cache

from lsep_ml.data.tree import SUFFIXES, has_image_suffix, is_junk


def image_files(inputs: Sequence[str], unreadable: dict[str, str] | None = None) -> list[str]:
    """List the paths of all images that `inputs` name, each once.

    An input is a file, a folder (taken with all below it, sorted by path, hidden files left out), or a pattern with
    *, ? or ** (sorted; its folders taken as folders). A folder that links lead to a second time, or in a circle, is
    taken once, where it really lies if that is below the input too. Folders that cannot be read are noted in
    `unreadable`, with why.

    Raises:
        FileNotFoundError: an input that does not exist, or one without an image in it.
        OSError: a folder cannot be read, and there is no `unreadable` to note it in.
    """
    found: dict[str, str] = {}
    for given in inputs:
        skipped: dict[str, str] = {}
        images = list(_of_input(given, skipped))
        if skipped and unreadable is None:
            raise OSError("; ".join(f"{folder}: {why}" for folder, why in skipped.items()))
        if not images and not skipped:
            raise FileNotFoundError(
                f"{given}: no image in it; image files end with {', '.join(sorted(SUFFIXES))}"
            )
        for image in images:
            folder, name = os.path.split(image)
            found.setdefault(os.path.join(_real(folder), name), image)
        if unreadable is not None:
            unreadable |= skipped
    return list(found.values())


_real = cache(os.path.realpath)


def _of_input(given: str, skipped: dict[str, str]) -> Iterator[str]:
    if os.path.isdir(given):
        yield from _below(given, skipped)
    elif os.path.exists(given):  # before patterns: a name may hold brackets
        yield given
    elif glob.has_magic(given):
        for match in sorted(set(_matches(given, skipped))):
            if os.path.isdir(match):
                if "**" not in given:  # which finds the files in its folders by itself
                    yield from _below(match, skipped)
            elif "." in os.path.basename(given) or _is_image(match):
                yield match
    else:
        raise FileNotFoundError(f"{given}: no such file or folder")


def _matches(pattern: str, skipped: dict[str, str]) -> Iterator[str]:
    """List what `pattern` finds; glob's own ** follows links in a circle."""
    parts = pattern.split(os.sep)
    if "**" not in parts:
        yield from glob.glob(pattern)
        return
    place = parts.index("**")
    above, below = os.sep.join(parts[:place]), parts[place + 1 :] or ["*"]
    for top in glob.glob(above) if above else [os.sep if place else ""]:
        for folder, _ in _folders(top or os.curdir, skipped):
            inside = os.path.relpath(folder) if not top else folder
            yield from _matches(os.path.join(glob.escape(inside), *below), skipped)


def _below(top: str, skipped: dict[str, str]) -> Iterator[str]:
    for folder, files in _folders(top, skipped):
        yield from (os.path.join(folder, name) for name in sorted(files) if _is_image(name))


def _folders(top: str, skipped: dict[str, str]) -> Iterator[tuple[str, list[str]]]:
    """List each folder from `top` on with its files, once: those that links lead to after those that lie there."""
    real = {_real(where) for where, _, _ in os.walk(top)}
    linked: set[str] = set()

    def note(error: OSError) -> None:
        skipped[str(error.filename)] = error.strerror or str(error)

    for where, folders, files in os.walk(top, followlinks=True, onerror=note):
        kept = []
        for name in sorted(name for name in folders if not is_junk(name)):
            path = os.path.join(where, name)
            if os.path.islink(path) or _real(where) in linked:
                if _real(path) in real | linked:
                    continue
                linked.add(_real(path))
            kept.append(name)
        folders[:] = kept
        yield where, files


def _is_image(name: str) -> bool:
    base = os.path.basename(name)
    return not is_junk(base) and has_image_suffix(base)
