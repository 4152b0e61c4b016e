"""The final numbers of a run, under the names that every tracker shows them by."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lsep_ml.runs.arrays import Arrays
from lsep_ml.runs.files import TEST
from lsep_ml.runs.per_class import per_class_rows

LABELS_ALONE = 100
"""Of a run with more labels, a tracker has no number of each; its table of them, and per_class.csv, have all."""


def read_test_split(folder: Path) -> Arrays:
    """Read the arrays of the test split that the run in `folder` left."""
    with np.load(folder / TEST, allow_pickle=False) as file:
        return dict(file)


def label_rows(record: dict[str, Any], test: Arrays) -> list[dict[str, Any]]:
    """Return a row of `lsep_ml.runs.per_class.COLUMNS` for each label, of the arrays of the `test` split."""
    return per_class_rows(
        record["label_names"], test["predictions"], test["targets"], test["mask"], test.get("scores")
    )


def summary_numbers(record: dict[str, Any], labels: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the final numbers of a run by name.

    `test/f1`, `val/f1` and so on, as in result.json; `test/f1_low`, `test/f1_high`, the ends of the 95% interval;
    `choices/epoch` and what else was chosen; `label/NAME/f1` and the other columns of per_class.csv for each of the
    `labels`, as far as they are defined, where there are at most LABELS_ALONE.
    """
    numbers = {
        f"{split}/{key}": value
        for split, metrics in record["metrics"].items()
        for key, value in metrics.items()
    }
    for split, intervals in record["intervals"].items():
        for key, (low, high) in intervals.items():
            numbers |= {f"{split}/{key}_low": low, f"{split}/{key}_high": high}
    numbers |= {f"choices/{key}": value for key, value in record["choices"].items()}
    if len(labels) <= LABELS_ALONE:
        for row in labels:
            measured = {key: value for key, value in row.items() if key != "label" and value is not None}
            numbers |= {f"label/{row['label']}/{key}": value for key, value in measured.items()}
    return numbers
