"""What a configuration can ask for besides its own values; imports nothing heavy, for run.py registers it first."""

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from lsep_ml.files import content_hash
from lsep_ml.store.keys import RUN_PARTS, config_parts


def register_resolvers() -> None:
    """Make these stand in a configuration for what is known once it is composed.

    ${run_identity:}: a short hash of everything that makes the run.
    ${gpu:4}: a GPU for a job of a sweep that runs side by side with others on 4 GPUs: 0, 1, 2, 3 in turn.
    """
    OmegaConf.register_new_resolver("run_identity", _run_identity, replace=True)
    OmegaConf.register_new_resolver("gpu", _gpu, replace=True)


def _run_identity(_root_: DictConfig) -> str:
    parts = config_parts(_root_, RUN_PARTS)
    return content_hash({name: part for name, part in parts.items() if part != {}}, length=8)


def _gpu(gpus: int) -> int:
    return int(HydraConfig.get().job.num) % gpus
