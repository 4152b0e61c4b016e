"""What is kept of a data set between runs: parsed annotations, drawn splits, and what is known of the images.

Each is a file of arrays that is named by what they were made from.

They are no entries of the store. No result refers to them, so there is nothing to seal, to list or to prune: whoever
deletes the folder loses minutes, never a number. They are valid as long as the files on this machine are as they were
(place, length, time of change), where a stored result is made by content and can be carried elsewhere. And several
output folders, `check` and `prepare` share one such folder, which lies with the data.
"""

import hashlib
import json
import logging
import os
import zipfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lsep_ml.data.errors import DataError
from lsep_ml.files import atomic_write

log = logging.getLogger(__name__)


def default_folder() -> Path:
    """Return the folder that `data.cache` names unless it or `paths.data` is set: what `check` learns, a run knows."""
    return Path(os.environ.get("LSEP_ML_DATA", "data")) / ".cache"


def cache_file(folder: str | Path | None, kind: str, *made_from: object) -> Path | None:
    """Name the file in `folder` for arrays of `kind` made from the plain values `made_from`; None without a folder."""
    if folder is None:
        return None
    digest = hashlib.sha256(json.dumps(made_from, default=str).encode()).hexdigest()
    return Path(folder) / f"{kind}-{digest[:24]}.npz"


def file_state(path: Path) -> tuple[str, int, int]:
    """Return a plain value that changes when the file `path` does: its path, length and time of change.

    Raises:
        DataError: there is no such file.
    """
    try:
        found = path.stat()
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}; docs/data.md shows the expected tree") from error
    return str(path.resolve()), found.st_size, found.st_mtime_ns


def load_arrays(path: Path | None) -> dict[str, NDArray] | None:
    """Load the arrays in `path`; None where there are none, or the file is damaged, which is logged."""
    if path is None or not path.exists():
        return None
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            return dict(stored)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        log.warning("%s is damaged and will be made again: %s", path, error)
        return None


def save_arrays(path: Path | None, **arrays: NDArray) -> None:
    """Write `arrays` to `path`; where that cannot be done, which costs only time, log a warning."""
    if path is None:
        return
    try:
        with atomic_write(path, "wb") as file:
            np.savez(file, allow_pickle=False, **arrays)
    except OSError as error:
        log.warning(
            "cannot keep %s for the next run (%s); set data.cache to a folder that can be written",
            path,
            error,
        )
