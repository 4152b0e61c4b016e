"""Run a job of run.py in this process: composed as Hydra does, without the seconds that a new process takes."""

import copy
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from lsep_ml.stages import run
from lsep_ml.stages.resolvers import register_resolvers

ROOT = Path(__file__).parent.parent


def compose_here(output: Path, *overrides: str) -> tuple[DictConfig, Path]:
    """The configuration and the folder of the job `python run.py paths.output=<output> <overrides>`."""
    register_resolvers()
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        config = compose("config", [f"paths.output={output}", *overrides], return_hydra_config=True)
    HydraConfig.instance().set_config(config)
    folder = Path(OmegaConf.select(config, "hydra.run.dir"))
    OmegaConf.set_readonly(config.hydra, False)
    config.hydra.runtime.output_dir = str(folder)
    HydraConfig.instance().set_config(config)
    folder.mkdir(parents=True, exist_ok=True)
    config = copy.deepcopy(config)  # Hydra's own interpolations go by the whole
    OmegaConf.set_struct(config, False)
    del config["hydra"]
    return config, folder


def run_job_here(output: Path, *overrides: str) -> tuple[dict[str, Any], Path]:
    """The record and the folder of that job, run."""
    config, folder = compose_here(output, *overrides)
    record = run(config, folder, [f"paths.output={output}", *overrides])
    assert record is not None
    return record, folder
