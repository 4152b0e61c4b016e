"""Run a job of run.py in this process: composed as Hydra does, without the seconds that a new process takes."""

import copy
import multiprocessing
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
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


@contextmanager
def forked_processes() -> Iterator[None]:
    """Processes that a job starts are forked from one that has imported the package: each is there seconds earlier."""
    from torch.distributed.launcher import api

    multiprocessing.set_forkserver_preload(["lsep_ml.stages.experiment", "timm"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(api, "LaunchConfig", partial(api.LaunchConfig, start_method="forkserver"))
        yield
