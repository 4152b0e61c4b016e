"""A job as Hydra calls it: run or planned in the output folder, its failure recorded and told by the exit code."""

import logging
import traceback
from contextlib import suppress
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.errors import InstantiationException
from hydra.types import RunMode
from omegaconf import DictConfig
from pytorch_lightning.utilities.exceptions import MisconfigurationException

from lsep_ml.files import write_json
from lsep_ml.processes.group import own_rank
from lsep_ml.processes.start import RankError
from lsep_ml.stages.experiment import run
from lsep_ml.stages.job import build_job, plan
from lsep_ml.training.resume import end_on_sigterm

log = logging.getLogger(__name__)

EXPECTED_ERRORS = (
    ValueError,
    OSError,
    FloatingPointError,
    MisconfigurationException,
    InstantiationException,
    RankError,
)
"""What bad input raises, here or in a process of the job; the rest is the program's fault and keeps its traceback."""

ERROR = "error.json"


def run_job(config: DictConfig) -> float | None:
    """Run, or with `plan=true` plan, a job in Hydra's output folder; returns the validation metric `objective`.

    A job that fails leaves error.json. Bad input ends it with one message and an exit code that is not 0; in a sweep
    the other jobs go on first.
    """
    hydra_config = HydraConfig.get()
    folder = Path(hydra_config.runtime.output_dir)
    end_on_sigterm()
    logging.raiseExceptions = False  # a log that cannot be written, on a full disk, hides no error of the job
    logging.captureWarnings(True)  # one way to the terminal and to the run's log
    if own_rank() == 0 and not config.plan:
        (folder / ERROR).unlink(missing_ok=True)
    try:
        if config.plan:
            plan(build_job(config), folder)
            return None
        record = run(config, folder)
        if record is None:
            return None
        validation: dict[str, float] = record["metrics"]["val"]
        if config.objective not in validation:
            raise ValueError(f"objective={config.objective}: there are {', '.join(validation)} on validation")
        return validation[config.objective]
    except Exception as error:
        failure = _error_record(error, list(hydra_config.overrides.task))
        log.error("%s", failure["error"])
        if not (folder / ERROR).exists():  # of several processes, the first to fail has said why
            with suppress(OSError):  # a full disk has no room for this either
                write_json(folder / ERROR, failure)
        if hydra_config.mode == RunMode.MULTIRUN or not isinstance(error, EXPECTED_ERRORS):
            raise  # in a sweep Hydra goes on with the other jobs and fails at the end
        raise SystemExit(1) from None


def _error_record(error: Exception, overrides: list[str]) -> dict[str, Any]:
    if isinstance(error, RankError):
        return {"error": str(error), "overrides": overrides, "traceback": error.traceback}
    cause = error.__cause__ if isinstance(error, InstantiationException) and error.__cause__ else error
    message = f"{type(cause).__name__}: {cause}"
    return {"error": message, "overrides": overrides, "traceback": traceback.format_exc()}
