"""The experiment from end to end: train prediction -> extract once -> fit decision -> evaluate."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from lsep_ml.light_packages import keep_torchmetrics_light, load_lightning, loading_for_good

if TYPE_CHECKING:
    from lsep_ml.stages.experiment import run
    from lsep_ml.stages.hydra_job import run_job

__all__ = ["run", "run_job"]

keep_torchmetrics_light()  # in every process of a job, before Lightning is loaded


def load_job() -> None:
    """Load the modules of a job, once torch is wanted: run.py names its folders before."""
    with loading_for_good():
        load_lightning()
        import_module("lsep_ml.stages.hydra_job")


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    load_lightning()  # on first use, so that run.py names its folders before torch is loaded
    if name == "run":
        from lsep_ml.stages.experiment import run

        return run
    from lsep_ml.stages.hydra_job import run_job

    return run_job
