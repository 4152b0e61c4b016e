"""Trainings on small digit scenes, by the parts of the main job: composed by Hydra, found again in the store."""

import copy
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ensemble import Problem
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf
from torch import Tensor

from lsep_ml.stages import run
from lsep_ml.stages.job import build_job
from lsep_ml.stages.network import train_prediction
from lsep_ml.stages.resolvers import register_resolvers
from lsep_ml.terminal import console
from lsep_ml.training.progress import quiet_lightning

ROOT = Path(__file__).parents[2]
OUTPUT = ROOT / "outputs"

SCENES = (
    "data.canvas=24",
    "data.density=1",
    "data.noise=0.03",
    "data.train=1500",
    "data.val=500",
    "data.test=1000",
)
"""Small scenes: one to eight digits, two in the mean, on 24 x 24 pixels."""
NETWORK = ("model.widths=[8,16,32]", "model.num_features=64")
"""A smaller network than the default: 6,000 parameters."""

Row = dict[str, Any]


def history(output: Path, *overrides: str) -> tuple[list[Row], str]:
    """The epochs of stage 1 of the job `python run.py paths.output=<output> <overrides>`, and what ended it early.

    That is "" for a training that went to its end.
    """
    rows: list[Row] = []
    with _composed(output, *overrides) as (config, _), quiet_lightning():
        job = build_job(config)
        try:
            train_prediction(job.store, job.made_by, job.network, job.training, job.data, rows.append)
        except FloatingPointError as error:
            return rows, str(error)
    return rows, ""


def record(output: Path, *overrides: str) -> tuple[Row, Path]:
    """The result record of that job, run as a whole, and the folder of its files."""
    with _composed(output, *overrides) as (config, folder):
        console.quiet = True
        try:
            found = run(config, folder)
            assert found is not None
            return found, folder
        finally:
            console.quiet = False


@contextmanager
def _composed(output: Path, *overrides: str) -> Iterator[tuple[DictConfig, Path]]:
    """The configuration and the folder of a job, its messages but for warnings left out."""
    logger = logging.getLogger("lsep_ml")
    level = logger.level
    register_resolvers()
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        config = compose(
            "config", [f"paths.output={output}", "trainer=cpu", *overrides], return_hydra_config=True
        )
    HydraConfig.instance().set_config(config)
    folder = Path(OmegaConf.select(config, "hydra.run.dir"))
    OmegaConf.set_readonly(config.hydra, False)  # as setting it has made it
    config.hydra.runtime.output_dir = str(folder)
    HydraConfig.instance().set_config(config)
    folder.mkdir(parents=True, exist_ok=True)
    config = copy.deepcopy(config)  # Hydra's own interpolations go by the whole
    OmegaConf.set_struct(config, False)
    del config["hydra"]
    logger.setLevel(logging.WARNING)
    try:
        yield config, folder
    finally:
        logger.setLevel(level)


def cached_features(output: Path, network: str = "loss=bce") -> Problem:
    """Features of the small scenes by the small network, trained with a loss that no claim compares; standardised."""
    found, _ = record(output, *SCENES, *NETWORK, network, "decision=zero", "training.epochs=4")
    folder = output / "store" / "features" / found["stored"]["features"]

    def load(name: str) -> Tensor:
        return torch.from_numpy(np.load(folder / f"{name}.npy", allow_pickle=False))

    features = load("train_features")
    mean, scale = features.mean(0), features.std(0).clamp(min=1e-6)
    return Problem(
        (features - mean) / scale,
        load("train_targets").long(),
        (load("val_features") - mean) / scale,
        load("val_targets").long(),
    )
