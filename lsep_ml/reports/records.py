"""Result records found below a folder, checked before anything is made of them."""

from dataclasses import dataclass
from pathlib import Path

from lsep_ml.runs.files import ERROR, RESULT
from lsep_ml.runs.finished import Run, read_run, written_by
from lsep_ml.runs.record import RecordError, read_object


class ReportError(ValueError):
    """There is nothing to report on; the message says why and what to do."""


@dataclass(frozen=True)
class Failure:
    """A job that ended with an error: error.json and no result.json."""

    folder: Path
    error: str
    overrides: tuple[str, ...]


@dataclass(frozen=True)
class Problem:
    """Something of a run that is left out of the report, and why."""

    path: Path
    message: str


@dataclass
class Found:
    """What lies below a folder; `problems` grows as more of the runs' files are read."""

    runs: list[Run]
    failures: list[Failure]
    problems: list[Problem]


def find_runs(folder: Path) -> Found:
    """Read every result.json and error.json below `folder`; what cannot be used is listed, never guessed.

    Raises:
        ReportError: no such folder, or no usable record in it.
    """
    if not folder.is_dir():
        raise ReportError(f"{folder}: no such folder; name the one that holds the runs, such as outputs/runs")
    found = Found([], [], [])
    for path in sorted(folder.rglob(RESULT)):
        try:
            run, missing = read_run(path)
        except RecordError as error:
            found.problems.append(Problem(path, str(error)))
        else:
            found.runs.append(run)
            if missing:
                found.problems.append(
                    Problem(path, f"written by {written_by(run.versions)}: without {', '.join(missing)}")
                )
    finished = {run.folder for run in found.runs}
    found.failures = [
        read_failure(path) for path in sorted(folder.rglob(ERROR)) if path.parent not in finished
    ]
    if not found.runs:
        raise ReportError(_nothing(folder, found))
    return found


def _nothing(folder: Path, found: Found) -> str:
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
    """A failed job's error and overrides; an unreadable file is a failed job all the same."""
    try:
        record = read_object(path)
    except RecordError as error:
        return Failure(path.parent, f"{ERROR} is {error}", ())
    overrides = record.get("overrides", [])
    texts = tuple(map(str, overrides)) if isinstance(overrides, list) else (str(overrides),)
    return Failure(path.parent, str(record.get("error", "no error recorded")), texts)
