"""Result records found below a folder, checked before anything is made of them."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from lsep_ml.metrics.functional import LABEL_SET_KEYS, RANKING_KEYS
from lsep_ml.store.names import current_names

RESULT, FAILURE = "result.json", "error.json"
EXPECTED_METRICS = (*LABEL_SET_KEYS, *RANKING_KEYS, "labels_per_image")
SCORE_LAYER = "score_layer"
"""The predictor of a run whose scores are its network's own."""

NO_DECISION = "none"
"""The decision of a run whose label sets are its predictor's own."""

_ABOVE_ONE = {"map_classes", "coverage", "labels_per_image"}
_TEXTS = ("data", "split_hash", "model", "loss", "decision", "identity")


class Method(NamedTuple):
    """How label sets are made, as the tables name it.

    scorer: what gives the scores, the loss of a network or the predictor in its score layer's place. decision: what
    makes label sets of them.
    """

    scorer: str
    decision: str


class ReportError(ValueError):
    """There is nothing to report on; the message says why and what to do."""


class RecordError(ValueError):
    """A file of a run that cannot be used; the message says what is wrong with it and the way out."""


@dataclass(frozen=True, eq=False)
class Run:
    """A finished run: its checked result.json and the folder of its arrays.

    scores: what identifies the scores, which all decisions on them share. val and test map metric keys to values
    (fractions, as in `lsep_ml.metrics`). Everything from `counts` on is provenance, and empty where a record of an
    older version lacks it.
    """

    folder: Path
    data: str
    split_hash: str
    model: str
    loss: str
    decision: str
    identity: str
    seed: int
    scores: str
    label_names: tuple[str, ...]
    val: Mapping[str, float]
    test: Mapping[str, float]
    predictor: str = SCORE_LAYER
    choices: Mapping[str, Any] = field(default_factory=dict)
    counts: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    seconds: Mapping[str, float] = field(default_factory=dict)
    reused: Mapping[str, bool] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)
    hardware: str = ""
    finished: str = ""

    @property
    def method(self) -> Method:
        """The loss, or the predictor that took the score layer's place, and the decision."""
        return Method(self.loss if self.predictor == SCORE_LAYER else self.predictor, self.decision)

    @property
    def has_scores(self) -> bool:
        """Whether there is a score matrix: a predictor may emit label sets alone, and has no ranking metrics then."""
        return self.decision != NO_DECISION or _scored(self.test)


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
                    Problem(path, f"written by {_version(run.versions)}: without {', '.join(missing)}")
                )
    finished = {run.folder for run in found.runs}
    found.failures = [
        read_failure(path) for path in sorted(folder.rglob(FAILURE)) if path.parent not in finished
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


def read_run(path: Path) -> tuple[Run, list[str]]:
    """A run from its result.json, and the keys that it lacks but can do without.

    Raises:
        RecordError: not JSON, or a key that a table cannot do without is absent or of the wrong kind.
    """
    record = _read_object(path)
    values: dict[str, Any] = {key: _text(record, key) for key in _TEXTS}
    values["predictor"] = _text(record, "predictor") if "predictor" in record else SCORE_LAYER
    values["scores"] = _scores(record)
    seed = record.get("seed")
    if not isinstance(seed, int) or isinstance(seed, bool):
        _refuse(record, "seed", seed, "a whole number")
    names = record.get("label_names")
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        _refuse(record, "label_names", names, "a list of names")
    metrics = record.get("metrics")
    if not isinstance(metrics, dict):
        _refuse(record, "metrics", metrics, "an object with val and test")
    # A predictor may emit label sets alone: no scores, no ranking metrics, and nothing amiss.
    unscored = values["decision"] == NO_DECISION and not _scored(metrics.get("test"))
    expected = [key for key in EXPECTED_METRICS if not (unscored and key in RANKING_KEYS)]
    missing = []
    for split in ("val", "test"):
        values[split] = _metrics(record, metrics.get(split), split)
        absent = [f"metrics.{split}.{key}" for key in expected if key not in values[split]]
        missing += absent if len(absent) < 4 else [f"{len(absent)} of the metrics.{split}"]
    for key in ("choices", "counts", "versions", "seconds", "reused", "config"):
        values[key] = record.get(key, {})
        if not isinstance(values[key], dict):
            _refuse(record, key, values[key], "an object")
        missing += [] if values[key] else [key]
    for key in ("hardware", "finished"):
        values[key] = str(record.get(key, ""))
    values["config"] = current_names(values["config"])
    return Run(folder=path.parent, seed=seed, label_names=tuple(names), **values), missing


def read_failure(path: Path) -> Failure:
    """A failed job's error and overrides; an unreadable file is a failed job all the same."""
    try:
        record = _read_object(path)
    except RecordError as error:
        return Failure(path.parent, f"{FAILURE} is {error}", ())
    overrides = record.get("overrides", [])
    texts = tuple(map(str, overrides)) if isinstance(overrides, list) else (str(overrides),)
    return Failure(path.parent, str(record.get("error", "no error recorded")), texts)


def _scored(metrics: Any) -> bool:
    """Whether there are ranking metrics, which only scores have."""
    return isinstance(metrics, Mapping) and any(key in metrics for key in RANKING_KEYS)


def _scores(record: dict[str, Any]) -> str:
    """The stored scores' identity; where a record has none, all decisions on one network share them."""
    stored = record.get("stored")
    found = stored.get("scores") if isinstance(stored, dict) else None
    return found if isinstance(found, str) else f"{record['identity']} {record.get('predictor', SCORE_LAYER)}"


def _read_object(path: Path) -> dict[str, Any]:
    try:
        record = json.loads(path.read_text(encoding="utf-8"), parse_constant=_no_number)
    except (OSError, UnicodeDecodeError) as error:
        raise RecordError(f"unreadable ({error}); run the job again") from None
    except (ValueError, RecursionError) as error:
        raise RecordError(f"not JSON ({error}): half-written or edited by hand; run the job again") from None
    if not isinstance(record, dict):
        raise RecordError(f"a JSON {type(record).__name__}, not an object; run the job again")
    return record


def _no_number(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no number")


def _text(record: dict[str, Any], key: str) -> str:
    value = record.get(key)
    if not isinstance(value, str) or not value:
        _refuse(record, key, value, "a text")
    return value


def _metrics(record: dict[str, Any], found: Any, split: str) -> dict[str, float]:
    if not isinstance(found, dict) or (split == "test" and not found):
        _refuse(record, f"metrics.{split}", found, "an object of numbers")
    known = {key: found[key] for key in EXPECTED_METRICS if key in found}
    for key, value in known.items():
        number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        if not number or value < 0 or (value > 1 + 1e-9 and key not in _ABOVE_ONE):
            kind = "a number from 0" if key in _ABOVE_ONE else "a fraction in [0, 1]"
            _refuse(record, f"metrics.{split}.{key}", value, kind)
    return {key: float(value) for key, value in known.items()}


def _refuse(record: dict[str, Any], key: str, value: Any, wanted: str) -> NoReturn:
    shown = "absent" if value is None else repr(value)[:60]
    versions = record.get("versions")
    raise RecordError(
        f"{key} is {shown}, not {wanted} (written by {_version(versions)}): damaged, or of another version; "
        "run the job again"
    )


def _version(versions: Any) -> str:
    version = versions.get("lsep-ml") if isinstance(versions, Mapping) else None
    return f"lsep-ml {version}" if version else "an unknown version"
