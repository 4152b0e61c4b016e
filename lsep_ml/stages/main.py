"""The main job as a program: run.py and `lsep-ml run` are this function."""

import os
import sys
from pathlib import Path

import hydra
from omegaconf import DictConfig

from lsep_ml.stages.resolvers import register_resolvers
from lsep_ml.terminal.safety_net import DEBUG, debugging, net

CONF = Path(__file__).resolve().parent.parent / "conf"


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")
def _job(config: DictConfig) -> float | None:
    # torch and Lightning are imported inside the job, so that --help and --cfg answer at once.
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
    asked = debugging()
    with net():
        os.environ[DEBUG] = "1"  # Hydra hands its errors on, instead of printing them its own way
        try:
            _job()
        finally:
            os.environ[DEBUG] = str(int(asked))
