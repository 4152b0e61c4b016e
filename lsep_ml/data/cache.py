"""Arrays kept on disk between runs, each file named by what it was made from: parsed annotations, drawn splits, and
what is known of the images.

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
    """The folder that `data.cache` names unless paths.data or it is set: what `check` learns, a run knows."""
    return Path(os.environ.get("LSEP_ML_DATA", "data")) / ".cache"


def cache_file(folder: str | Path | None, kind: str, *made_from: object) -> Path | None:
    """The file in `folder` for arrays of this kind made from these values (plain ones); None without a
    folder."""
    if folder is None:
        return None
    digest = hashlib.sha256(json.dumps(made_from, default=str).encode()).hexdigest()
    return Path(folder) / f"{kind}-{digest[:24]}.npz"


def file_state(path: Path) -> tuple[str, int, int]:
    """A plain value that changes when the file does: its path, length and time of change.

    Raises:
        DataError: no such file.
    """
    try:
        found = path.stat()
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}; docs/data.md shows the expected tree") from error
    return str(path.resolve()), found.st_size, found.st_mtime_ns


def load_arrays(path: Path | None) -> dict[str, NDArray] | None:
    """The arrays, or None where there are none or the file is damaged (said in the log)."""
    if path is None or not path.exists():
        return None
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            return dict(stored)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        log.warning("%s is damaged and will be made again: %s", path, error)
        return None


def save_arrays(path: Path | None, **arrays: NDArray) -> None:
    """Write the arrays. A folder that cannot be written costs only time, so it is a warning."""
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
