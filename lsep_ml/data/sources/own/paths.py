"""Names of images: what a path says by itself, and many paths as a column."""

import base64
import re
import unicodedata
from collections.abc import Sequence
from urllib.parse import unquote, urlsplit

import numpy as np
import polars as pl
from numpy.typing import NDArray

from lsep_ml.data.sources.own.cells import AT_A_TIME
from lsep_ml.data.tree import has_image_suffix
from lsep_ml.files import spoken

WORDS = re.compile(r"[^\W\d_]+")

SPLIT_WORDS = {
    **dict.fromkeys(("train", "training", "tr", "trn"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev", "validate"), "val"),
    **dict.fromkeys(("test", "testing", "tst"), "test"),
}
"""What people call the splits, in small letters."""


Images = Sequence[str] | pl.Series
"""Paths of images, String where there may be many of them."""


def of_rows(images: Images, rows: Sequence[int] | NDArray[np.int64]) -> Images:
    """Return the images of these rows."""
    return images.gather(np.asarray(rows)) if isinstance(images, pl.Series) else [images[row] for row in rows]


def images_once(images: Images) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the first row of each image, and for each row the number of its image, in the order of their first
    rows."""
    every = np.arange(len(images))
    if isinstance(images, pl.Series):
        if images.n_unique() == len(images):
            return every, every
        rows = images.alias("image").to_frame().with_row_index("row")
        once = rows.unique("image", keep="first", maintain_order=True)
        numbers = once.select("image").with_row_index("number")
        number = rows.join(numbers, on="image", how="left", maintain_order="left")["number"]
        return once["row"].to_numpy().astype(np.int64), number.to_numpy().astype(np.int64)
    number_of: dict[str, int] = {}
    row_of = np.fromiter(
        (number_of.setdefault(image, len(number_of)) for image in images), np.int64, len(images)
    )
    return np.unique(row_of, return_index=True)[1].astype(np.int64), row_of


def as_array(images: Images) -> NDArray[np.str_]:
    """Return the paths as unicode (N,)."""
    if not isinstance(images, pl.Series):
        return np.array(images, np.str_)
    width = images.str.len_chars().max()
    found = np.empty(len(images), f"U{max(1, width if isinstance(width, int) else 1)}")
    for start in range(0, len(images), AT_A_TIME):
        found[start : start + AT_A_TIME] = images.slice(start, AT_A_TIME).to_list()
    return found


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
    parts = form(text).replace("\\", "/").split("/")
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


def form(text: str) -> str:
    return text if text.isascii() else unicodedata.normalize("NFC", text)
