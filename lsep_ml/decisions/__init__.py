"""Label decisions: from scores (and features) to label sets."""

from lsep_ml.decisions.base import Decision, Rule
from lsep_ml.decisions.estimation import CountEstimation, ThresholdEstimation
from lsep_ml.decisions.learnt import LearntDecision
from lsep_ml.decisions.portable import load, save
from lsep_ml.decisions.rules import GlobalThreshold, TopK

__all__ = [
    "CountEstimation",
    "Decision",
    "GlobalThreshold",
    "LearntDecision",
    "Rule",
    "ThresholdEstimation",
    "TopK",
    "load",
    "save",
]
