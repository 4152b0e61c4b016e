"""The main job: `python run.py loss=lsep decision=thresh_est data=nuswide`; `--help` explains the groups."""

import os

import hydra
from omegaconf import DictConfig

from lsep_ml.stages.resolvers import register_resolvers

# Read when torch loads: threads that wait for others sleep. Spinning, the default, is ten times slower as soon as
# another process (a data loader's worker, a second job) wants the same cores.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
register_resolvers()


@hydra.main(version_base="1.3", config_path="conf", config_name="config")
def main(config: DictConfig) -> float | None:
    # torch and Lightning are imported inside the job, so that --help and --cfg answer at once.
    from lsep_ml.stages import run_job

    return run_job(config)


if __name__ == "__main__":
    main()
