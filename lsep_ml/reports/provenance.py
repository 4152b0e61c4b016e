"""Where each number comes from: what made a run, with what, and how long it took."""

import shlex
from collections.abc import Iterable, Mapping
from dataclasses import astuple, dataclass, fields

import yaml  # type: ignore[import-untyped]
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from lsep_ml.reports.grouping import Bench, Row
from lsep_ml.reports.names import method_name
from lsep_ml.reports.records import Run
from lsep_ml.reports.text_tables import csv_text

_OVERRIDES = ".hydra/overrides.yaml"
_PLACES = ("paths.", "paths=", "hydra.", "data.root=", "data.cache=")
_UNKNOWN = "not recorded"
_STAGES = ("prediction", "extraction", "predictor", "decision", "evaluation")


@dataclass(frozen=True)
class Provenance:
    """A run's origins as texts, one for each column of runs.csv.

    total: seconds of all stages, those of a reused stage from when it was made. seconds: stage by stage.
    """

    bench: str
    method: str
    settings: str
    seed: str
    command: str
    chosen: str
    total: str
    seconds: str
    reused: str
    split_hash: str
    identity: str
    versions: str
    folder: str


def provenance(bench: Bench, row: Row, run: Run) -> Provenance:
    """Where a run's numbers come from."""
    seconds = {stage: run.seconds[stage] for stage in _STAGES if stage in run.seconds}
    return Provenance(
        bench=bench.name,
        method=method_name(run.loss, run.decision),
        settings=row.variant,
        seed=str(run.seed),
        command=command(run),
        chosen=_pairs(run.choices),
        total=f"{sum(seconds.values()):.1f}",
        seconds=_pairs(seconds),
        reused=", ".join(stage for stage, reused in run.reused.items() if reused) or "nothing",
        split_hash=run.split_hash,
        identity=run.identity,
        versions=_pairs(run.versions) or _UNKNOWN,
        folder=run.folder.name,
    )


def command(run: Run) -> str:
    """The command line that made a run, as Hydra kept it beside the result, without where files lie."""
    try:
        overrides = OmegaConf.to_container(OmegaConf.load(run.folder / _OVERRIDES))
    except (OSError, ValueError, yaml.YAMLError, OmegaConfBaseException):
        return _UNKNOWN
    if not isinstance(overrides, list):
        return _UNKNOWN
    kept = [str(override) for override in overrides if not str(override).lstrip("+").startswith(_PLACES)]
    return shlex.join(["python", "run.py", *kept])


def csv_runs(rows: Iterable[Provenance]) -> str:
    """One line for each run."""
    return csv_text([field.name for field in fields(Provenance)], [astuple(row) for row in rows])


def _pairs(values: Mapping[str, object]) -> str:
    return ", ".join(
        f"{key} {value:.4g}" if isinstance(value, float) else f"{key} {value}"
        for key, value in values.items()
    )
