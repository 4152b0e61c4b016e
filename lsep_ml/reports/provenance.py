"""Where each number comes from: what made a run, with what, how long it took, and its own metrics."""

import shlex
from collections.abc import Iterable, Mapping
from dataclasses import astuple, dataclass, fields

from lsep_ml.metrics import LABELS_PER_IMAGE, METRICS
from lsep_ml.reports.grouping import Row, RunGroup
from lsep_ml.reports.paper import method_name
from lsep_ml.reports.remarks import rate_of
from lsep_ml.reports.tables import Table
from lsep_ml.reports.text_tables import csv_text
from lsep_ml.runs.finished import Run

_PLACES = ("paths.", "paths=", "hydra.", "data.root=", "data.cache=")
_UNKNOWN = "not recorded"
_STAGES = ("rates", "prediction", "extraction", "predictor", "decision", "evaluation")


@dataclass(frozen=True)
class Provenance:
    """Holds a run's origins as texts, the first columns of runs.csv.

    loss: of the network, or the predictor in its score layer's place. total: seconds of all stages, those of a reused
    stage from when it was made. seconds: stage by stage.
    """

    group: str
    method: str
    loss: str
    decision: str
    settings: str
    seed: str
    command: str
    chosen: str
    rate: str
    warnings: str
    total: str
    seconds: str
    reused: str
    split_hash: str
    identity: str
    versions: str
    hardware: str
    finished: str
    folder: str


def provenance(group: RunGroup, row: Row, run: Run) -> Provenance:
    """Say where the numbers of `run` come from, which is in `row` of `group`."""
    seconds = {stage: run.seconds[stage] for stage in _STAGES if stage in run.seconds}
    return Provenance(
        group=group.name,
        method=method_name(*run.method),
        loss=run.method.scorer,
        decision=run.method.decision,
        settings=row.variant,
        seed=str(run.seed),
        command=command(run),
        chosen=_pairs(run.choices),
        rate=rate_of(run),
        warnings="; ".join(run.warnings),
        total=f"{sum(seconds.values()):.1f}",
        seconds=_pairs(seconds),
        reused=", ".join(stage for stage, reused in run.reused.items() if reused) or "nothing",
        split_hash=run.split_hash,
        identity=run.identity,
        versions=_pairs(run.versions) or _UNKNOWN,
        hardware=run.hardware or _UNKNOWN,
        finished=run.finished or _UNKNOWN,
        folder=run.folder.name,
    )


def command(run: Run) -> str:
    """Write the command line that made `run`, without where files lie."""
    overrides = _overrides(run)
    return _UNKNOWN if overrides is None else shlex.join(["python", "run.py", *overrides])


def _overrides(run: Run) -> list[str] | None:
    """Return what `run` was called with, without where files lie; None where that is not known."""
    return None if run.overrides is None else without_places(run.overrides)


def without_places(overrides: Iterable[str]) -> list[str]:
    """Leave out of `overrides` those that say where files lie, which are nobody else's business."""
    return [override for override in overrides if not override.lstrip("+").startswith(_PLACES)]


def origin(table: Table) -> str:
    """Say in a paragraph where the numbers of `table` come from: commands, dates, hardware, versions, split."""
    runs = [run for row in table.rows if row.row is not None for run in row.row.runs]
    if not runs:
        return "No runs."
    days = sorted({run.finished[:10] or _UNKNOWN for run in runs})
    hardware = sorted({run.hardware or _UNKNOWN for run in runs})
    versions = sorted({_pairs(run.versions) or _UNKNOWN for run in runs})
    commands = ", ".join(f"`{command}`" for command in sweeps(runs)) or "a command that is not recorded"
    return (
        f"{len(runs)} runs, by {commands}. "
        f"Date: {days[0] if len(days) == 1 else f'{days[0]} to {days[-1]}'}. Hardware: {', '.join(hardware)}. "
        f"Split: {table.group.protocol['split_hash'][:12]}. Versions: {'; '.join(versions)}."
    )


def sweeps(runs: Iterable[Run]) -> list[str]:
    """Write the commands that made `runs`, those of one experiment and the same keys as one sweep."""
    groups: dict[tuple[str, ...], dict[str, dict[str, None]]] = {}
    for overrides in filter(None, map(_overrides, runs)):
        pairs = [override.partition("=")[::2] for override in overrides]
        fixed = [f"{key}={value}" for key, value in pairs if key == "experiment"]
        values = groups.setdefault((*fixed, *sorted(key for key, _ in pairs)), {})
        for key, value in pairs:
            values.setdefault(key, {})[value] = None
    return [
        shlex.join(["python", "run.py", "-m", *(f"{key}={','.join(found)}" for key, found in values.items())])
        for values in groups.values()
    ]


def csv_runs(origins: Mapping[Run, Provenance]) -> str:
    """Write a line for each run: its origins, then its own metrics, `test_KEY` and `val_KEY`, as in its result.json.

    Means and standard deviations of every table can be computed again from it. A cell is empty where the run lacks the
    metric.
    """
    keys = [quantity.key for quantity in (*METRICS, LABELS_PER_IMAGE)]
    head = [field.name for field in fields(Provenance)]
    head += [f"{split}_{key}" for split in ("test", "val") for key in keys]
    lines = [
        [*astuple(origin), *(_exact(metrics.get(key)) for metrics in (run.test, run.val) for key in keys)]
        for run, origin in origins.items()
    ]
    return csv_text(head, lines)


def _exact(value: float | None) -> str:
    return "" if value is None else f"{value:.8f}"


def _pairs(values: Mapping[str, object]) -> str:
    return ", ".join(
        f"{key} {value:.4g}" if isinstance(value, float) else f"{key} {value}"
        for key, value in values.items()
    )
