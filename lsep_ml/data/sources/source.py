"""What one data set on disk is: how its labels are read, what is published of it, what its archives hold."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from lsep_ml.data.annotations import Annotations


@dataclass(frozen=True)
class Archive:
    """A file as the authors publish it."""

    name: str
    num_bytes: int
    md5: str


@dataclass(frozen=True)
class Published:
    """Published facts, by split ("train", "test"); what is not known is left out.

    Args:
        images: images listed.
        labelled: images with at least one label.
        positives: label -> training images that have it.
        kept: usable images with a label that the paper trains and tests on, both splits together.
        archives: as they are fetched.
        missing_expected: whether images are known to be no longer available.
        protocol: what a tree of other counts departs from.
    """

    images: Mapping[str, int] = field(default_factory=dict)
    labelled: Mapping[str, int] = field(default_factory=dict)
    positives: Mapping[str, int] = field(default_factory=dict)
    kept: int | None = None
    archives: tuple[Archive, ...] = ()
    missing_expected: bool = False
    protocol: str = "the paper's protocol"


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong (error), should be looked at (warning) or is said (note), with what it is about."""

    severity: Literal["error", "warning", "note"]
    message: str
    items: tuple[str, ...] = ()


@dataclass(frozen=True)
class Source:
    """A data set that `check` reads and `prepare` unpacks. Its module in `data/sources/` calls it SOURCE.

    Args:
        name: as in data=NAME.
        annotations: reads the labels: (root, **options) -> Annotations.
        keeps_index: whether `annotations` takes `cache`, a folder that keeps what took long to parse.
        published: what `check` compares with, and the archives that `prepare` looks for.
        compare: gives, for a root, what `check` should say beside counts and images.
        place: gives the path under the root of an archive's file, or None where the file is not needed; None in
            its place: the data set has no archives to prepare.
        options: names of what `annotations` takes besides the root; empty where its signature says them.
        draw_split: (root, cache=..., **options) -> the file of the split that `prepare` draws once all is in place.
    """

    name: str
    annotations: Callable[..., Annotations]
    keeps_index: bool = False
    published: Published = field(default_factory=Published)
    compare: Callable[[str | Path], list[Finding]] | None = None
    place: Callable[[str], str | None] | None = None
    draw_split: Callable[..., Path] | None = None
    options: frozenset[str] = frozenset()

    @property
    def takes(self) -> frozenset[str]:
        """Return the names of the options that say how it is read."""
        of_signature = inspect.signature(self.annotations).parameters.values()
        named = {one.name for one in of_signature if one.kind is inspect.Parameter.KEYWORD_ONLY}
        return self.options or frozenset(named - {"cache"})


def place_from(folders: Sequence[str], under: str = "") -> Callable[[str], str | None]:
    """Return a `Source.place` that puts files from the first of `folders` in their path on below `under`, and no
    others."""

    def place(name: str) -> str | None:
        parts = name.split("/")
        start = next((place for place, part in enumerate(parts[:-1]) if part in folders), None)
        return None if start is None else under + "/".join(parts[start:])

    return place
