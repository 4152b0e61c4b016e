"""The main job as a program: run.py and `lsep-ml run` are this function."""

import os
import sys
from pathlib import Path

import hydra
from omegaconf import DictConfig

from lsep_ml.stages import load_job
from lsep_ml.stages.composing import parse_once
from lsep_ml.stages.resolvers import register_resolvers
from lsep_ml.terminal.safety_net import DEBUG, hydras_errors_here, net

CONF = Path(__file__).resolve().parent.parent / "conf"


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")
def _job(config: DictConfig) -> float | None:
    # torch and Lightning are imported inside the job, so that --help and --cfg answer at once.
    load_job()
    from lsep_ml.stages import run_job

    return run_job(config)


def main() -> None:
    """Compose a configuration from the command line's overrides and run it, or with -m a sweep of them.

    Exit codes: 0 done, 1 nothing done, 3 done with problems listed, 130 interrupted, 143 to be started again.
    """
    # Read when torch loads: threads that wait for others sleep. Spinning, the default, is ten times slower as soon as
    # another process (a data loader's worker, a second job) wants the same cores.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    if "--debug" in sys.argv:
        sys.argv.remove("--debug")
        os.environ[DEBUG] = "1"
    register_resolvers()
    parse_once()
    with net(), hydras_errors_here():
        try:
            _job()
        except OSError as error:  # a job says its own: this is of the folder that Hydra makes for it
            if error.errno is None:  # only called one, such as a part of the configuration that is not there
                raise
            advice = f"{error.strerror}; the results go there, paths.output=FOLDER names another place"
            raise OSError(error.errno, advice, error.filename) from error
