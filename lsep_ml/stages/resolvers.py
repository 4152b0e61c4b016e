"""What a configuration can ask for besides its own values; imports nothing heavy, for run.py registers it first."""

from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from lsep_ml.runs.files import OVERRIDES, RESULT
from lsep_ml.store.keys import run_identity
from lsep_ml.store.sections import RUN_SECTIONS, config_sections


def register_resolvers() -> None:
    """Make these stand in a configuration for what is known once it is composed.

    ${run_identity:}: a short hash of everything that makes the run.
    ${hydra_subdir:}: the folder, below the run's own, in which Hydra writes down what it was called with; null where
        that would replace what a finished run was called with, or for a plan, which leaves nothing.
    ${shift_invariant:}: whether the scores are those of a loss that only compares the scores of one image; those of a
    predictor in the score layer's place are not.
    ${paper_max_count:}: count estimation's n on the paper's data sets and on digits, 4; null on others, where it is
        chosen from the label counts of the training images.
    ${gpu:4}: a GPU for a job of a sweep that runs side by side with others on 4 GPUs: 0, 1, 2, 3 in turn.
    """
    OmegaConf.register_new_resolver("run_identity", _run_identity, replace=True)
    OmegaConf.register_new_resolver("hydra_subdir", _hydra_subdir, replace=True)
    OmegaConf.register_new_resolver("shift_invariant", _shift_invariant, replace=True)
    OmegaConf.register_new_resolver("paper_max_count", _paper_max_count, replace=True)
    OmegaConf.register_new_resolver("gpu", _gpu, replace=True)


def _run_identity(_root_: DictConfig) -> str:
    return run_identity(config_sections(_root_, RUN_SECTIONS))


def _hydra_subdir(_root_: DictConfig) -> str | None:
    folder = OmegaConf.select(_root_, "hydra.runtime.output_dir", throw_on_missing=False)
    finished = folder is not None and (Path(folder) / RESULT).exists() and not _root_.force
    return None if _root_.plan or finished else Path(OVERRIDES).parent.name


def _shift_invariant(_root_: DictConfig) -> bool:
    from hydra.utils import get_method  # here, as the losses: with torch they take seconds

    from lsep_ml.losses import is_shift_invariant

    return not _root_.predictor and is_shift_invariant(get_method(_root_.loss._target_))


def _paper_max_count() -> int | None:
    return (
        4 if HydraConfig.get().runtime.choices["data"] in ("digits", "voc2007", "nuswide", "coco") else None
    )


def _gpu(gpus: int) -> int:
    return int(HydraConfig.get().job.num) % gpus
