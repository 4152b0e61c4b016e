"""Label decisions: from scores (and features) to label sets. Each is loaded on first use; `DECISIONS` has all."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from lsep_ml.decisions.catalogue import DECISIONS

if TYPE_CHECKING:  # what type checkers see; at run time torch is loaded with the first of these
    from lsep_ml.decisions.base import Decided, Decision, Rule
    from lsep_ml.decisions.calibration import Calibrated, ExpectedF1
    from lsep_ml.decisions.capped import CappedThreshold
    from lsep_ml.decisions.conformal import ConformalRisk
    from lsep_ml.decisions.estimation import CountEstimation, ThresholdEstimation
    from lsep_ml.decisions.learnt import LearntDecision
    from lsep_ml.decisions.linear import LinearThresholds
    from lsep_ml.decisions.loading import load, save
    from lsep_ml.decisions.per_class import PerClassThreshold
    from lsep_ml.decisions.rules import GlobalThreshold, TopK, ZeroThreshold
    from lsep_ml.decisions.support import LabelSetSupport
    from lsep_ml.decisions.threshold_class import ThresholdClass

__all__ = [
    "DECISIONS",
    "Calibrated",
    "CappedThreshold",
    "ConformalRisk",
    "CountEstimation",
    "Decided",
    "Decision",
    "ExpectedF1",
    "GlobalThreshold",
    "LabelSetSupport",
    "LearntDecision",
    "LinearThresholds",
    "PerClassThreshold",
    "Rule",
    "ThresholdClass",
    "ThresholdEstimation",
    "TopK",
    "ZeroThreshold",
    "load",
    "save",
]

_HOMES = {
    "Decided": "base",
    "Decision": "base",
    "LearntDecision": "learnt",
    "Rule": "base",
    "load": "loading",
    "save": "loading",
} | {row.class_name: row.kind.rpartition(".")[0] for row in DECISIONS}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
