"""The experiment from end to end: train prediction -> extract once -> fit decision -> evaluate."""

from typing import TYPE_CHECKING, Any

from lsep_ml.stages.light_torchmetrics import keep_torchmetrics_light

if TYPE_CHECKING:
    from lsep_ml.stages.experiment import run
    from lsep_ml.stages.hydra_job import run_job

__all__ = ["run", "run_job"]

keep_torchmetrics_light()  # in every process of a job, before Lightning is loaded


def __getattr__(name: str) -> Any:
    if name == "run":  # on first use, so that run.py names its folders before torch is loaded
        from lsep_ml.stages.experiment import run

        return run
    if name == "run_job":
        from lsep_ml.stages.hydra_job import run_job

        return run_job
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
