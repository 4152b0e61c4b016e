"""How the label sets that were decided from scores are written: npz, the table of `predict`, or a tool's file."""

import logging
from pathlib import Path

import numpy as np

from lsep_ml.bundle.other_tools import check_export, export_cleanlab, export_rows
from lsep_ml.bundle.predictions import Predictions
from lsep_ml.bundle.tables import SUFFIXES as TABLES
from lsep_ml.bundle.tables import Columns, rows_of, write_table
from lsep_ml.files import check_writable
from lsep_ml.runs.arrays import write_predictions
from lsep_ml.tuning.score_files import ScoreTable

log = logging.getLogger(__name__)

SUFFIXES = (".npz", *TABLES)


def check_label_sets(path: Path, tool: str | None = None) -> None:
    """Raise ValueError or OSError unless `write_label_sets`, or `export_label_sets`, can write to `path`."""
    if tool is not None:
        check_export(path, tool)
        return
    if path.suffix not in SUFFIXES:
        raise ValueError(f"--out {path}: expected a name with {', '.join(SUFFIXES)}")
    check_writable(path)


def write_label_sets(
    path: Path,
    table: ScoreTable,
    predictions: np.ndarray,
    thresholds: np.ndarray | None,
    *,
    counts: np.ndarray | None = None,
    probabilities: np.ndarray | None = None,
    ask: np.ndarray | None = None,
    spreadsheet: bool = False,
) -> None:
    """Write the label sets `predictions`, bool (N, K), to `path`: npz as a run's predictions.npz, or `predict`'s table.

    Images without image_ids are called by their row, from 0. For a `spreadsheet`, texts of a CSV that it would take for
    formulas are marked as text.

    Raises:
        ValueError: the name has another suffix.
    """
    check_label_sets(path)
    names = table.names
    if path.suffix == ".npz":
        arrays = {
            "predictions": predictions,
            "targets": table.targets,
            "mask": table.mask,
            "scores": table.scores,
            "thresholds": thresholds,
            "image_ids": None if table.image_ids is None else np.array(table.image_ids),
        }
        write_predictions(path, arrays, names)
        return
    found = Predictions(names, table.scores, predictions, thresholds, counts, probabilities, ask)
    columns = Columns(
        names,
        thresholds=thresholds is not None,
        probabilities=probabilities is not None,
        count=counts is not None,
        ask=ask is not None,
        predicted=True,
        spreadsheet=spreadsheet,
    )
    write_table(path, rows_of(table.images, found), columns)


def export_label_sets(
    path: Path, table: ScoreTable, predictions: Predictions, tool: str, root: Path | None = None
) -> None:
    """Write what was predicted of a table's images for another tool; see `lsep_ml.bundle.other_tools`.

    Raises:
        ValueError: the images have no names, or cleanlab is to look at labels that there are none of.
    """
    if table.image_ids is None and tool != "cleanlab":
        raise ValueError(f"--to {tool}: the scores have no image_ids, by which it finds the images")
    rows = rows_of(table.images, predictions)
    if tool != "cleanlab":
        export_rows(path, tool, rows, table.names, root)
    elif table.targets is None:
        raise ValueError(
            "--to cleanlab: it compares given labels with predictions, and the file of scores has no targets"
        )
    else:
        count = export_cleanlab(path, rows, table.names, table.targets, table.mask)
        if count < len(table.targets):
            log.warning(
                "%d of %d images have labels that are not known, which cleanlab has no word for: they are left out",
                len(table.targets) - count,
                len(table.targets),
            )
