"""A job as Hydra calls it: run or planned in the output folder, its failure recorded and told by the exit code."""

import logging
import os
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from lsep_ml.files import write_json
from lsep_ml.processes.group import own_rank
from lsep_ml.processes.start import RankError
from lsep_ml.runs.files import ERROR
from lsep_ml.stages.experiment import run
from lsep_ml.stages.folds import fold_jobs
from lsep_ml.stages.job import build_job
from lsep_ml.stages.plan import plan
from lsep_ml.stages.sweep import sweeping, tell
from lsep_ml.terminal.safety_net import debugging, message
from lsep_ml.training.resume import end_on_sigterm

log = logging.getLogger(__name__)


def run_job(config: DictConfig) -> float | None:
    """Run, or with `plan=true` plan, a job in Hydra's output folder; returns the validation metric `objective`.

    A job that fails leaves error.json and ends with one message and an exit code that is not 0; in a sweep it gives
    NaN, and the other jobs go on. With HYDRA_FULL_ERROR=1 its traceback is shown.
    """
    hydra_config = HydraConfig.get()
    folder = Path(hydra_config.runtime.output_dir)
    if hydra_config.job.chdir:  # relative paths are of where the program was started, in every run of a sweep
        os.chdir(hydra_config.runtime.cwd)
    in_sweep = sweeping() and not config.plan
    started = datetime.now(UTC).isoformat(timespec="seconds")
    end_on_sigterm()
    logging.raiseExceptions = False  # a log that cannot be written, on a full disk, hides no error of the job
    logging.captureWarnings(True)  # one way to the terminal and to the run's log
    if own_rank() == 0 and not config.plan:
        (folder / ERROR).unlink(missing_ok=True)
    overrides = list(hydra_config.overrides.task)
    ended: dict[str, Any] = {"folder": str(folder)}
    try:
        if config.plan:
            with _no_trace(folder, Path(config.paths.output).absolute()):
                for of_job, below in (*fold_jobs(config, folder), (config, folder)):
                    plan(build_job(of_job), below)
            return None
        record = run(config, folder, overrides)
        if record is None:
            return None
        validation: dict[str, float] = record["metrics"]["val"]
        if config.objective not in validation:
            raise ValueError(f"objective={config.objective}: there are {', '.join(validation)} on validation")
    except Exception as error:
        failure = _error_record(error, overrides)
        if not (folder / ERROR).exists():  # of several processes, the first to fail has said why
            with suppress(OSError):  # a full disk has no room for this either
                write_json(folder / ERROR, failure)
        if in_sweep:
            log.info("%s", failure["error"])
            tell(hydra_config.job.num, overrides, ended | {"error": failure["error"]})
            return float("nan")
        log.error("%s", failure["error"])
        if debugging():
            raise
        raise SystemExit(1) from None
    if in_sweep:
        found = record["finished"] < started
        tell(
            hydra_config.job.num,
            overrides,
            ended | {"metrics": record["metrics"], "found": found, "warnings": record["warnings"]},
        )
    return validation[config.objective]


@contextmanager
def _no_trace(folder: Path, output: Path) -> Iterator[None]:
    """Let nothing stay of a job that only looks: no log in its `folder`, nor an empty folder up to `output`."""
    root = logging.getLogger()
    for handler in list(root.handlers):
        if isinstance(handler, logging.FileHandler):
            root.removeHandler(handler)
            handler.close()
            file = Path(handler.baseFilename)
            if file.parent == folder and file.stat().st_size == 0:
                file.unlink()
    try:
        yield
    finally:
        with suppress(OSError):  # which is raised where something is left in one
            for empty in (folder, *folder.parents):  # never what lies above `output`, such as where one is
                if empty in (folder, output) or output in empty.parents:
                    empty.rmdir()


def _error_record(error: Exception, overrides: list[str]) -> dict[str, Any]:
    if isinstance(error, RankError):
        return {"error": str(error), "overrides": overrides, "traceback": error.traceback}
    return {"error": message(error), "overrides": overrides, "traceback": traceback.format_exc()}
