"""A finished run as tables and figures take it: its record, every value of it checked."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from lsep_ml.metrics import LABELS_PER_IMAGE, MAP_CALIBRATED, MAP_CLASSES, METRICS
from lsep_ml.metrics.functional import RANKING_KEYS
from lsep_ml.runs.record import RecordError, read_overrides, read_record
from lsep_ml.store.names import current_names

QUANTITIES = {
    quantity.key: quantity for quantity in (*METRICS, MAP_CALIBRATED, MAP_CLASSES, LABELS_PER_IMAGE)
}
FIRST_METRICS = (
    *("pc_p", "pc_r", "ov_p", "ov_r", "f1", "exact_match", "cf1", "of1", "labels_per_image"),
    *("map", "map_classes", "ranking_loss", "coverage", "one_error", "lrap"),
)
"""What every version records. A metric of a later version may be absent, and is a dash then."""

SCORE_LAYER = "score_layer"
"""The predictor of a run whose scores are its network's own."""

NO_DECISION = "none"
"""The decision of a run whose label sets are its predictor's own."""

_TEXTS = ("data", "split_hash", "model", "loss", "decision", "identity")


class Method(NamedTuple):
    """Says how label sets are made, as the tables name it.

    scorer: what gives the scores, the loss of a network or the predictor in its score layer's place. decision: what
    makes label sets of them.
    """

    scorer: str
    decision: str


@dataclass(frozen=True, eq=False)
class Run:
    """Holds a finished run: its checked result.json and the `folder` of its arrays.

    scores: what identifies the scores, which all decisions on them share. val and test map metric keys to values
    (fractions, as in `lsep_ml.metrics`). Everything from `counts` on is provenance, and empty where a record of an
    older version lacks it; rate: the learning rate and how it was chosen; abstention: which images are left to a
    person, empty where none are; files: the checksum that each of its files was written with; overrides: what the run
    that made the results was called with, None where that is not known.
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
    files: Mapping[str, str] = field(default_factory=dict)
    overrides: tuple[str, ...] | None = None
    warnings: tuple[str, ...] = ()
    rate: Mapping[str, Any] = field(default_factory=dict)
    abstention: Mapping[str, Any] = field(default_factory=dict)
    hardware: str = ""
    finished: str = ""

    @property
    def method(self) -> Method:
        """Return the loss, or the predictor that took the score layer's place, and the decision."""
        return Method(self.loss if self.predictor == SCORE_LAYER else self.predictor, self.decision)

    @property
    def has_scores(self) -> bool:
        """Say whether there is a score matrix: a predictor may emit label sets alone, without ranking metrics."""
        return self.decision != NO_DECISION or _scored(self.test)


def read_run(path: Path) -> tuple[Run, list[str]]:
    """Read the run whose result.json is `path`; returns it and the keys that it lacks but can do without.

    Raises:
        RecordError: not JSON, not what was written, or without a key that a table cannot do without, or with one of
            the wrong kind.
    """
    record = read_record(path)
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
    expected = [key for key in FIRST_METRICS if not (unscored and key in RANKING_KEYS)]
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
    for key in ("files", "rate", "abstention"):
        values[key] = record.get(key, {})
        if not isinstance(values[key], dict):
            _refuse(record, key, values[key], "an object")
    values["warnings"] = _warnings(record)
    values["overrides"] = read_overrides(path.parent, record)
    for key in ("hardware", "finished"):
        values[key] = str(record.get(key, ""))
    values["config"] = current_names(values["config"])
    return Run(folder=path.parent, seed=seed, label_names=tuple(names), **values), missing


def _scored(metrics: Any) -> bool:
    """Say whether `metrics` has ranking metrics, which only scores have."""
    return isinstance(metrics, Mapping) and any(key in metrics for key in RANKING_KEYS)


def _scores(record: dict[str, Any]) -> str:
    """Return the stored scores' identity; where `record` has none, all decisions on one network share them."""
    stored = record.get("stored")
    found = stored.get("scores") if isinstance(stored, dict) else None
    return found if isinstance(found, str) else f"{record['identity']} {record.get('predictor', SCORE_LAYER)}"


def _warnings(record: dict[str, Any]) -> tuple[str, ...]:
    found = record.get("warnings", [])
    if not isinstance(found, list) or not all(isinstance(warning, str) for warning in found):
        _refuse(record, "warnings", found, "a list of texts")
    return tuple(found)


def _text(record: dict[str, Any], key: str) -> str:
    value = record.get(key)
    if not isinstance(value, str) or not value:
        _refuse(record, key, value, "a text")
    return value


def _metrics(record: dict[str, Any], found: Any, split: str) -> dict[str, float]:
    # Of a test split in which no label is known nothing was measured.
    if not isinstance(found, dict) or (
        split == "test" and not found and record.get("intervals") != {"test": {}}
    ):
        _refuse(record, f"metrics.{split}", found, "an object of numbers")
    known = {key: found[key] for key in QUANTITIES if key in found}
    for key, value in known.items():
        number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        fraction = QUANTITIES[key].unit == "%"
        if not number or value < 0 or (value > 1 + 1e-9 and fraction):
            kind = "a fraction in [0, 1]" if fraction else "a number from 0"
            _refuse(record, f"metrics.{split}.{key}", value, kind)
    return {key: float(value) for key, value in known.items()}


def _refuse(record: dict[str, Any], key: str, value: Any, wanted: str) -> NoReturn:
    shown = "absent" if value is None else repr(value)[:60]
    versions = record.get("versions")
    raise RecordError(
        f"{key} is {shown}, not {wanted} (written by {written_by(versions)}): damaged, or of another version; "
        "run the job again"
    )


def written_by(versions: Any) -> str:
    """Say in words which version of the package wrote a record with these `versions`."""
    version = versions.get("lsep-ml") if isinstance(versions, Mapping) else None
    return f"lsep-ml {version}" if version else "an unknown version"
