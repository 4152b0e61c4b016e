"""What a run's test split says of each label: a table of its own, and the labels that are worst."""

import csv
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lsep_ml.files import atomic_write, inert, spoken
from lsep_ml.metrics import count_label_sets, per_class_metrics
from lsep_ml.metrics.catalogue import auroc, average_precision
from lsep_ml.metrics.counts import true_entries
from lsep_ml.metrics.functional import label_values
from lsep_ml.runs.files import PER_CLASS, RESULT
from lsep_ml.runs.finished import Run
from lsep_ml.runs.record import RecordError, check_file

COLUMNS = ("label", "known", "support", "predicted", "precision", "recall", "f1", "ap", "auroc")
"""known: images whose entry is known; support: those with the label; predicted: those it is predicted for."""

RECORDED = 1000
"""Of a run with more labels, result.json has no number of each but what its decision chose; per_class.csv has those of
the test split."""


def per_class_rows(
    label_names: Sequence[str], predictions: Any, targets: Any, mask: Any, scores: Any = None
) -> list[dict[str, Any]]:
    """Give a row of COLUMNS for each label; None where a number is not defined.

    Args:
        label_names: K names.
        predictions, targets: 0/1 (N, K), dense or sparse, as the mask.
        mask: (N, K), not 0 where an entry is known; None: all are.
        scores: float (N, K); None: there are none, nor AP and AUROC.
    """
    known = None if mask is None else mask != 0
    counts = count_label_sets(predictions, targets, mask)
    measured = per_class_metrics(counts.correct, counts.predicted, counts.actual)
    columns = {
        "known": counts.known,
        "support": counts.actual,
        "predicted": counts.predicted,
        "precision": [
            p if n else math.nan for p, n in zip(measured["precision"], counts.predicted, strict=True)
        ],
        "recall": [r if n else math.nan for r, n in zip(measured["recall"], counts.actual, strict=True)],
        "f1": measured["f1"],
    }
    if scores is not None:
        of_labels = label_values(
            scores, true_entries("targets", targets, known), known, average_precision, auroc
        )
        columns |= dict(zip(("ap", "auroc"), of_labels, strict=True))
    rows = []
    plain = (np.asarray(column).tolist() for column in columns.values())
    for name, *values in zip(label_names, *plain, strict=True):
        shown = (None if math.isnan(value) else value for value in values)
        rows.append({"label": name, **dict(zip(columns, shown, strict=True))})
    return rows


def per_class_record(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Give what result.json has of `rows`: the columns of each label by its name; nothing of over RECORDED labels."""
    if len(rows) > RECORDED:
        return {}
    of_labels = {row["label"]: {key: value for key, value in row.items() if key != "label"} for row in rows}
    return {"per_class": {"test": of_labels}}


def write_per_class(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Write `rows` to the CSV file `path`; empty where a number is not defined."""
    with atomic_write(path) as file:
        writer = csv.DictWriter(file, COLUMNS, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows({**row, "label": inert(row["label"])} for row in rows)


def read_per_class(run: Run) -> dict[str, NDArray[np.float64]]:
    """Read the columns of numbers of a run's per_class.csv, (K,) each; NaN where one is not defined.

    Raises:
        RecordError: it is missing or damaged, or of other labels than result.json.
    """
    path = run.folder / PER_CLASS
    try:
        check_file(path, run.files)
        with path.open(newline="", encoding="utf-8") as file:
            head, *rows = csv.reader(file)
        columns = dict(zip(head, zip(*rows, strict=True), strict=True))
        labels = columns.pop("label")
        if labels != tuple(map(inert, run.label_names)):
            raise RecordError(f"{PER_CLASS}: of other labels than {RESULT}; run the job again")
        return {name: np.array([float(value or "nan") for value in columns[name]]) for name in COLUMNS[1:]}
    except FileNotFoundError:
        raise RecordError(f"{PER_CLASS}: missing; run the job again to have it") from None
    except RecordError:
        raise
    except (OSError, ValueError, KeyError) as error:
        raise RecordError(f"{PER_CLASS}: damaged ({error}); run the job again") from None


def worst_labels(path: Path, number: int = 5) -> list[tuple[str, float, int]]:
    """Read the labels of the lowest F1 in `path`: name, F1 and support; of equals those with more support first.

    Labels that no image has are left out: nothing is known of how they are found.
    """
    with path.open(newline="", encoding="utf-8") as file:
        rows = [(spoken(row["label"]), float(row["f1"]), int(row["support"])) for row in csv.DictReader(file)]
    return sorted((row for row in rows if row[2]), key=lambda row: (row[1], -row[2]))[:number]
