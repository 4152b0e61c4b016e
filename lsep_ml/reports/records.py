"""What is read of the runs below a folder: their records, and a digest of their predictions, checked against them."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lsep_ml.metrics import LABEL_SET_KEYS, LabelCounts, count_label_sets, label_set_metrics
from lsep_ml.metrics.bootstrap import PairedBootstrap, Replicates
from lsep_ml.metrics.counts import true_entries
from lsep_ml.metrics.indicator import dense_blocks
from lsep_ml.runs.arrays import read_held
from lsep_ml.runs.files import ERROR, FOLDS, RESULT, TEST
from lsep_ml.runs.finished import Run, read_run, written_by
from lsep_ml.runs.record import RecordError, read_object

MOST_LABELS = 7
"""Images of this many labels or more share a bin."""

_TOLERANCE = 1e-5  # a record's metrics may have been computed in float32


class ReportError(ValueError):
    """Says that there is nothing to report on, why, and what to do."""


@dataclass(frozen=True)
class Failure:
    """Holds what a job left that ended with an `error`: error.json and no result.json."""

    folder: Path
    error: str
    overrides: tuple[str, ...]


@dataclass(frozen=True)
class LeftOut:
    """Names something that is left out of the report, the file or folder `path`, and says why."""

    path: Path
    message: str


@dataclass
class FoundRuns:
    """Holds what lies below a folder; `problems` grows as more of the runs' files are read."""

    runs: list[Run]
    failures: list[Failure]
    problems: list[LeftOut]


def find_runs(folder: Path) -> FoundRuns:
    """Read every result.json and error.json below `folder`; what cannot be used is listed, never guessed.

    Raises:
        ReportError: no such folder, or no usable record in it.
    """
    if not folder.is_dir():
        raise ReportError(f"{folder}: no such folder; name the one that holds the runs, such as outputs/runs")
    found = FoundRuns([], [], [])
    for path in sorted(folder.rglob(RESULT)):
        if FOLDS in path.relative_to(folder).parts[:-1]:
            continue  # what a run's folds say together is in its own record
        try:
            run, missing = read_run(path)
            if not run.test:
                raise RecordError("nothing was measured on its test split, in which no label is known")
        except RecordError as error:
            found.problems.append(LeftOut(path, str(error)))
        else:
            found.runs.append(run)
            if missing:
                found.problems.append(
                    LeftOut(path, f"written by {written_by(run.versions)}: without {', '.join(missing)}")
                )
    finished = {run.folder for run in found.runs}
    found.failures = [
        read_failure(path) for path in sorted(folder.rglob(ERROR)) if path.parent not in finished
    ]
    if not found.runs:
        raise ReportError(_nothing(folder, found))
    return found


def _nothing(folder: Path, found: FoundRuns) -> str:
    if found.problems:
        problems = "; ".join(f"{problem.path}: {problem.message}" for problem in found.problems[:5])
        return f"{folder}: none of its {len(found.problems)} {RESULT} can be used: {problems}"
    if found.failures:
        first = found.failures[0]
        return (
            f"{folder}: all {len(found.failures)} jobs failed; the first, {first.folder.name}: {first.error}"
        )
    return (
        f"{folder}: no {RESULT} below it; run `python run.py` first, or name the folder that holds the runs"
    )


def read_failure(path: Path) -> Failure:
    """Read a failed job's error and overrides from `path`; an unreadable file is a failed job all the same."""
    try:
        record = read_object(path)
    except RecordError as error:
        return Failure(path.parent, f"{ERROR} is {error}", ())
    overrides = record.get("overrides", [])
    texts = tuple(map(str, overrides)) if isinstance(overrides, list) else (str(overrides),)
    return Failure(path.parent, str(record.get("error", "no error recorded")), texts)


class RecordDisagrees(RecordError):
    """Says that a record's numbers are contradicted by its own predictions; its run is left out altogether."""


@dataclass(frozen=True)
class Digest:
    """Holds what a report keeps of a run's test split, of N `images` and K labels.

    counts: of all its label sets, (K,). replicates: label-set metrics of bootstrap samples, (R, M). sizes: images with
    i true and j predicted labels, (8, 8). content: a hash of image ids, targets and mask.
    """

    counts: LabelCounts
    replicates: Replicates
    sizes: NDArray[np.int64]
    content: str
    images: int


def digest_run(run: Run, bootstrap: PairedBootstrap) -> Digest:
    """Read the predictions.npz of `run`, which is done once.

    Raises:
        RecordDisagrees: it gives other metrics than result.json.
        RecordError: it is missing or damaged.
    """
    test = read_held(run, TEST, "predictions", "targets", "mask", "image_ids")
    content = content_of(test, run.label_names)
    predictions, targets, mask = (test[name] for name in ("predictions", "targets", "mask"))
    counts = count_label_sets(predictions, targets, mask)
    found = label_set_metrics(counts)
    for key in LABEL_SET_KEYS:
        if key in run.test and abs(run.test[key] - float(found[key])) > _TOLERANCE:
            raise RecordDisagrees(
                f"{RESULT} says test {key} = {run.test[key]:.6f}, {TEST} gives {float(found[key]):.6f}: one of them "
                "was changed; run the job again"
            )
    sets = (true_entries(name, test[name], mask != 0) for name in ("targets", "predictions"))
    true, predicted = (held.sum(1).clip(max=MOST_LABELS) for held in sets)
    bins = MOST_LABELS + 1
    sizes = np.bincount(true * bins + predicted, minlength=bins * bins).reshape(bins, bins)
    replicates = bootstrap.run_metrics(predictions, targets, mask, content)
    return Digest(counts, replicates, sizes, content, len(targets))


def content_of(test: Mapping[str, Any], label_names: tuple[str, ...]) -> str:
    """Hash what every run on one split must agree in: `label_names`, and image ids, targets and mask of `test`."""
    digest = hashlib.sha256(json.dumps([label_names, test["image_ids"].tolist()]).encode())
    for name in ("targets", "mask"):
        for (rows,) in dense_blocks(test[name]):
            digest.update(np.ascontiguousarray(rows).tobytes())
    return digest.hexdigest()


def digest_runs(folder: Path, found: FoundRuns, bootstrap: PairedBootstrap) -> dict[Run, Digest]:
    """Read the predictions of all runs in `found`; a run that they contradict is taken out of it.

    Raises:
        ReportError: no run below `folder` is left.
    """
    digests: dict[Run, Digest] = {}
    contradicted: set[Run] = set()
    for run in found.runs:
        try:
            digests[run] = digest_run(run, bootstrap)
        except RecordDisagrees as error:
            contradicted.add(run)
            found.problems.append(LeftOut(run.folder, f"{error}; left out"))
        except RecordError as error:
            found.problems.append(
                LeftOut(run.folder, f"{error}; in the tables, but without comparisons and figures")
            )
    found.runs = [run for run in found.runs if run not in contradicted]
    if not found.runs:
        problem = found.problems[-1]
        raise ReportError(f"{folder}: no run can be used; {problem.path}: {problem.message}")
    return digests
