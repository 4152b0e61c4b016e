"""Run a job of run.py in this process: composed as Hydra does, without the seconds that a new process takes."""

from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from lsep_ml.identity import register_run_identity
from lsep_ml.stages import run

ROOT = Path(__file__).parent.parent


def compose_here(output: Path, *overrides: str) -> tuple[DictConfig, Path]:
    """The configuration and the folder of the job `python run.py paths.output=<output> <overrides>`."""
    register_run_identity()
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        config = compose("config", [f"paths.output={output}", *overrides], return_hydra_config=True)
    HydraConfig.instance().set_config(config)
    folder = Path(OmegaConf.select(config, "hydra.run.dir"))
    folder.mkdir(parents=True, exist_ok=True)
    OmegaConf.set_struct(config, False)
    del config["hydra"]
    return config, folder


def run_job_here(output: Path, *overrides: str) -> tuple[dict[str, Any], Path]:
    """The record and the folder of that job, run."""
    config, folder = compose_here(output, *overrides)
    return run(config, folder), folder
