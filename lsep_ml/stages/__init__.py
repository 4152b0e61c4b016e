"""The experiment from end to end: train prediction -> extract once -> fit decision -> evaluate."""

from lsep_ml.stages.decision import fit_decision
from lsep_ml.stages.experiment import run
from lsep_ml.stages.hydra_job import run_job

__all__ = ["fit_decision", "run", "run_job"]
