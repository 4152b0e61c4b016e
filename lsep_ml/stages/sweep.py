"""A sweep on the terminal: one line a job, then a table of all, the best of them, and what failed."""

import logging
import os
import uuid
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Quote, QuotedString
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict, read_write
from rich.table import Table

from lsep_ml.files import read_json, write_json
from lsep_ml.metrics import BY_KEY
from lsep_ml.metrics.bootstrap import PairedBootstrap, percentiles
from lsep_ml.metrics.catalogue import gain
from lsep_ml.metrics.functional import LABEL_SET_KEYS
from lsep_ml.runs.arrays import read_held
from lsep_ml.runs.files import CALLED, MULTIRUN, RESULT, SWEEPS, VALIDATION
from lsep_ml.runs.finished import Run, read_run
from lsep_ml.runs.record import RecordError
from lsep_ml.stages import load_job
from lsep_ml.stages.composing import compose_once
from lsep_ml.terminal.printing import TerminalHandler, console, errors, plain, say
from lsep_ml.trackers.wandb_run import sync_command

FOLDER = "LSEP_ML_SWEEP"
"""The environment variable that names the folder in which the jobs of this sweep say how they ended."""

NAME = "LSEP_ML_SWEEP_NAME"
"""The environment variable that names the sweep: its experiment's name, or the time at which it began."""

FAILED, PROBLEMS = 1, 3
SHOWN_JOBS = 3
"""So many jobs are named behind a warning that several have."""

SHOWN = tuple(BY_KEY[key] for key in ("f1", "exact_match", "map"))


class Sweep(Callback):
    """Shows how the jobs of `python run.py -m` ended, whatever launcher starts them.

    The program ends with exit code 3 when some jobs failed, with 1 when all did.
    """

    _before: bytes | None = None

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Name the sweep and the folder for what its jobs say, in every job's environment, wherever it runs."""
        began = f"{datetime.now():%Y-%m-%d_%H-%M-%S}"
        os.environ[NAME] = config.hydra.runtime.choices.get("experiment") or began
        folder = Path(config.paths.output).absolute() / SWEEPS / uuid.uuid4().hex
        os.environ[FOLDER] = str(folder)
        if config.plan:
            written = _written_by_hydra(config)
            self._before = written.read_bytes() if written.exists() else None
        else:
            with suppress(OSError):  # which Hydra meets too, and says
                write_json(folder / CALLED, _handed_on(config.hydra.overrides.task))
        with read_write(config), open_dict(config):
            for variable in (NAME, FOLDER):
                value = QuotedString(os.environ[variable], Quote.single).with_quotes()
                config.hydra.overrides.hydra.append(f"++hydra.job.env_set.{variable}={value}")
        launcher = OmegaConf.select(config, "hydra.launcher._target_", default="")
        if launcher.endswith(".BasicLauncher") and GlobalHydra.instance().is_initialized():
            compose_once(GlobalHydra.instance().config_loader())
            load_job()  # which runs in this process

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Print the table, the best run by the validation metric `config.objective`, and what to do next."""
        folder = Path(os.environ.pop(FOLDER))
        del os.environ[NAME]
        if config.plan:
            self._leave_nothing(_written_by_hydra(config), Path(config.paths.output).absolute())
            return
        files = sorted(folder.glob("[0-9]*.json"), key=lambda file: int(file.stem))
        ended = [read_json(file) for file in files]
        given = _given(folder)
        for file in (*files, folder / CALLED):
            file.unlink(missing_ok=True)
        with suppress(OSError):  # which is raised where there is none, or another sweep has one too
            folder.rmdir()
            folder.parent.rmdir()
        done = [job for job in ended if "error" not in job]
        failed = [job for job in ended if "error" in job]
        if done:
            if common := " ".join(word for word in given if _in_all(word, ended)):
                say(f"all called with {common}")
            console.print(_table(done))
            for line in _warnings(done):
                say(line, style="yellow")
            say(_best(done, config.objective))
            for line in outdone([Path(job["folder"]) for job in done], config.objective):
                say(line)
            say(f"tables and figures of all runs: python -m lsep_ml report {config.paths.output}")
        sync = sync_command(Path(job["folder"]) for job in ended)
        if sync:
            say(f"W&B runs written offline; send them with: {sync}")
        if failed:
            say(f"{len(failed)} of {len(ended)} jobs failed:", on=errors, style="red")
            for job in failed:
                say(f"  {job['called']}: {job['error']} ({job['folder']})", on=errors)
            raise SystemExit(PROBLEMS if done else FAILED)

    def _leave_nothing(self, written: Path, output: Path) -> None:
        """Put back what was written of an earlier sweep, and remove folders up to `output` that hold nothing."""
        if self._before is not None:
            written.write_bytes(self._before)
            return
        written.unlink(missing_ok=True)
        with suppress(OSError):  # which is raised where something is in one
            for empty in written.parents:
                if empty == output or output in empty.parents:
                    empty.rmdir()


def _written_by_hydra(config: DictConfig) -> Path:
    """Return what Hydra keeps of a sweep, also of one that only plans."""
    return Path(config.hydra.sweep.dir).absolute() / MULTIRUN


def sweeping() -> bool:
    """Return whether this job is one of a sweep."""
    return bool(HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN)


def only_problems() -> None:
    """From now on the terminal has a line a job and what goes wrong; the rest is in each run's log."""
    for handler in logging.getLogger().handlers:
        if isinstance(handler, TerminalHandler):
            handler.setLevel(logging.WARNING)


def tell(number: int, overrides: Sequence[str], ended: dict[str, Any]) -> None:
    """Print the line of a job that ended, and leave it for the end of the sweep.

    overrides: of the job. ended: its `folder`; and of a job that failed `error`, of one that is done its `metrics`
    (val and test) and `warnings`, as in result.json, and whether it was `found`.
    """
    folder = os.environ.get(FOLDER)
    given = [] if folder is None else _given(Path(folder))
    own = [word for word in overrides if word not in given]
    ended = {**ended, "overrides": list(overrides), "called": " ".join(own or overrides) or "the defaults"}
    if "error" in ended:
        say(f"#{number}  {ended['called']}: failed: {ended['error']}", style="red")
    else:
        values = ", ".join(metric.told(ended["metrics"]["test"].get(metric.key)) for metric in SHOWN)
        say(f"#{number}  {_marked(ended)}: {values}{', found finished' if ended['found'] else ''}")
    if folder is not None:
        write_json(Path(folder) / f"{number}.json", ended)


def _handed_on(words: Sequence[str]) -> list[str]:
    """Return the overrides of a sweep as a sweeper hands them on to its jobs, in its own spelling; those that list
    values as they are."""
    return [
        str(override.input_line)
        if override.is_sweep_override()
        else f"{override.get_key_element()}={override.get_value_element_as_str()}"
        for override in OverridesParser.create().parse_overrides(list(words))
    ]


def _given(folder: Path) -> list[str]:
    """Return the overrides that the sweep was called with; its jobs have those of them that list no values."""
    try:
        given: list[str] = read_json(folder / CALLED)
    except OSError:
        return []
    return given


def _in_all(word: str, ended: Sequence[dict[str, Any]]) -> bool:
    return all(word in job["overrides"] for job in ended)


def _marked(job: dict[str, Any]) -> str:
    """Return what a job was called with, and a mark where there is a warning."""
    return f"{job['called']} (!)" if job["warnings"] else str(job["called"])


def _warnings(done: list[dict[str, Any]]) -> list[str]:
    """Return each warning once, with the jobs that have it."""
    jobs: dict[str, list[str]] = {}
    for job in done:
        for warning in job["warnings"]:
            jobs.setdefault(warning, []).append(job["called"])
    lines = []
    for warning, called in jobs.items():
        more = f" and {len(called) - SHOWN_JOBS} more" if len(called) > SHOWN_JOBS else ""
        lines.append(f"(!) {warning}: {'; '.join(called[:SHOWN_JOBS])}{more}")
    return lines


def _table(done: list[dict[str, Any]]) -> Table:
    table = Table(title=f"{len(done)} runs, test in %", title_justify="left")
    table.add_column("called with", overflow="fold")
    for metric in SHOWN:
        table.add_column(metric.short_name, justify="right")
    for job in done:
        test = job["metrics"]["test"]
        table.add_row(plain(_marked(job)), *(metric.show(test.get(metric.key)) for metric in SHOWN))
    return table


def _best(done: list[dict[str, Any]], objective: str) -> str:
    # A job that lacks its objective has failed: all that are done have it.
    best = max(done, key=lambda job: gain(objective, job["metrics"]["val"][objective]))
    value = best["metrics"]["val"][objective]
    name, shown = objective, value
    if objective in BY_KEY:
        name, shown = BY_KEY[objective].short_name, BY_KEY[objective].show(value)
    return f"best by validation {name}: {best['called']} ({shown}): {best['folder']}"


def outdone(folders: Sequence[Path], objective: str) -> list[str]:
    """Say, for each network of some runs, which decisions validation tells apart from the best one on its scores.

    They are worse by the metric `objective`, and the 95% interval of the difference, paired over the validation images,
    says so. Nothing is said by a metric that is not one of label sets. A run whose files are damaged is named and not
    compared.
    """
    if objective not in LABEL_SET_KEYS:
        return []
    lines: list[str] = []
    by_network: dict[str, dict[str, Run]] = {}
    for folder in folders:
        if not (folder / RESULT).exists():  # no run that finished
            continue
        try:
            run, _ = read_run(folder / RESULT)
        except RecordError as error:
            lines.append(f"not compared: {folder / RESULT}: {error}")
            continue
        runs = by_network.setdefault(run.scores, {})
        name = run.decision  # and where several have it, as with other options, the run's own
        runs[f"{name} ({folder.name})" if name in runs else name] = run
    for runs in by_network.values():
        if len(runs) > 1:
            lines += _told_apart(runs, objective)
    return lines


def _told_apart(runs: dict[str, Run], objective: str) -> list[str]:
    bootstrap, column = PairedBootstrap(), LABEL_SET_KEYS.index(objective)
    lines, values, drawn = [], {}, {}
    for decision, run in runs.items():
        try:
            arrays = read_held(run, VALIDATION, "predictions", "targets", "mask")
        except RecordError as error:
            lines.append(f"not compared: {run.folder}/{error}")
            continue
        values[decision] = gain(objective, run.val.get(objective, np.nan))
        drawn[decision] = bootstrap.run_metrics(
            arrays["predictions"], arrays["targets"], arrays["mask"], "validation"
        )[:, column]
    best = max(values, key=lambda decision: values[decision], default="")
    sign = 1 if BY_KEY[objective].higher_is_better else -1
    worse = [
        decision
        for decision in values
        if decision != best and percentiles(sign * (drawn[best] - drawn[decision]))[0] > 0
    ]
    if worse:
        scorer, name = runs[best].method.scorer, BY_KEY[objective].short_name
        lines.append(f"on {scorer}'s scores, by validation {name}: {best} is better than {', '.join(worse)}")
    return lines
