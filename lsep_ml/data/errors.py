"""What this package raises, and how its messages list names."""

from collections.abc import Sequence


class DataError(ValueError):
    """The data set, or what was asked of it, is unusable; the message names what, where and the way out."""


class ImageError(DataError):
    """One image file cannot be used; the message is the reason."""


def some(names: Sequence[str], number: int = 5) -> str:
    """Return the first names, and how many more."""
    more = f" and {len(names) - number:,} more" if len(names) > number else ""
    return ", ".join(names[:number]) + more
