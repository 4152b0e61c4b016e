"""A run's history: rows of metrics, one for each epoch and stage, as CSV."""

import csv
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lsep_ml.files import atomic_write
from lsep_ml.runs.files import HISTORY
from lsep_ml.runs.finished import Run
from lsep_ml.runs.record import RecordError, check_file

Row = Mapping[str, float | int | str]


def write_history(path: Path, rows: Sequence[Row]) -> None:
    """Write `rows` of metrics to `path` as CSV, one column for every key that occurs."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    with atomic_write(path) as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def read_history(path: Path) -> list[dict[str, float | int | str]]:
    """Read the rows that `write_history` wrote to `path`, as text, without what is empty.

    Raises:
        OSError: it cannot be read.
        ValueError, TypeError: it is not such a file.
    """
    with path.open(newline="", encoding="utf-8") as file:
        return [{key: value for key, value in row.items() if value} for row in csv.DictReader(file)]


def read_curves(run: Run) -> dict[str, dict[str, NDArray[np.float64]]]:
    """Read the history of `run`: stage -> column -> values by epoch, float64 (epochs,); NaN where one is empty.

    Raises:
        RecordError: history.csv is missing, damaged or unreadable.
    """
    path = run.folder / HISTORY
    stages: dict[str, list[dict[str, Any]]] = {}
    try:
        check_file(path, run.files)
        for row in read_history(path):
            stages.setdefault(str(row.pop("stage")), []).append(row)
        return {
            stage: {
                key: np.array([float(row.get(key, math.nan)) for row in rows])
                for key in dict.fromkeys(key for row in rows for key in row)
            }
            for stage, rows in stages.items()
        }
    except FileNotFoundError:
        raise RecordError(f"{HISTORY}: missing") from None
    except RecordError:
        raise
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise RecordError(f"{HISTORY}: unreadable ({type(error).__name__}: {error})") from None
