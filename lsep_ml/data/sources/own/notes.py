"""What is said of images that were found otherwise than by their path, or not at all."""

from collections.abc import Sequence

from lsep_ml.data.annotations import Reading
from lsep_ml.data.sources.own.folder import Found


def image_notes(found: Found, listed_in: str) -> list[str]:
    """Return what `Folder.find` guessed for the images listed in a file, in words."""
    if not found.guessed:
        return []
    name, image = found.guessed[0]
    return [
        Reading(
            f"{len(found.guessed):,} images of {listed_in} are found by the end of their path or without their suffix, "
            f"such as {name!r} as {image}"
        )
    ]


def some(names: Sequence[str], number: int = 5) -> str:
    """Return the first names, and how many more."""
    more = f" and {len(names) - number:,} more" if len(names) > number else ""
    return ", ".join(names[:number]) + more
