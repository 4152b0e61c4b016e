"""Label decisions: from scores (and features) to label sets."""

from lsep_ml.decisions.base import Decision, Rule
from lsep_ml.decisions.calibration import Calibrated, ExpectedF1
from lsep_ml.decisions.conformal import ConformalRisk
from lsep_ml.decisions.estimation import CountEstimation, ThresholdEstimation
from lsep_ml.decisions.learnt import LearntDecision
from lsep_ml.decisions.per_class import PerClassThreshold
from lsep_ml.decisions.portable import load, save
from lsep_ml.decisions.rules import GlobalThreshold, TopK, ZeroThreshold
from lsep_ml.decisions.threshold_class import ThresholdClass

__all__ = [
    "Calibrated",
    "ConformalRisk",
    "CountEstimation",
    "Decision",
    "ExpectedF1",
    "GlobalThreshold",
    "LearntDecision",
    "PerClassThreshold",
    "Rule",
    "ThresholdClass",
    "ThresholdEstimation",
    "TopK",
    "ZeroThreshold",
    "load",
    "save",
]
