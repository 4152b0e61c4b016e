"""The experiment from end to end: train prediction -> extract once -> fit decision -> evaluate."""

from lsep_ml.stages.decision import fit_decision
from lsep_ml.stages.experiment import run, run_job

__all__ = ["fit_decision", "run", "run_job"]
