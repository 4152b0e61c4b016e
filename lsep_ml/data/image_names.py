"""Which files of a folder are images, by their names; by their first bytes where the name says nothing."""

from pathlib import Path

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


def is_junk(name: str) -> bool:
    """Return whether a file or folder of this name is no part of anyone's data."""
    return name.startswith(".") or name.lower() in JUNK


def has_image_suffix(name: str) -> bool:
    """Return whether the file's name ends as an image's does."""
    dot = name.rfind(".")
    return dot > 0 and name[dot:].lower() in SUFFIXES


def looks_like_an_image(path: Path) -> bool:
    """Return whether a file whose name has no suffix begins as an image does."""
    try:
        with path.open("rb") as file:
            start = file.read(12)
    except OSError:
        return False
    container = start[:4] == b"RIFF" and start[8:] == b"WEBP"
    return container or start.startswith(_FIRST_BYTES) or start[4:8] == b"ftyp"
