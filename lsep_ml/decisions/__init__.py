"""Label decisions: from scores (and features) to label sets. Each is loaded on first use; `DECISIONS` has all."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from lsep_ml.decisions.catalogue import DECISIONS

if TYPE_CHECKING:
    from lsep_ml.decisions.base import Decided as Decided
    from lsep_ml.decisions.base import Decision as Decision
    from lsep_ml.decisions.base import Rule as Rule
    from lsep_ml.decisions.calibration import Calibrated as Calibrated
    from lsep_ml.decisions.calibration import ExpectedF1 as ExpectedF1
    from lsep_ml.decisions.conformal import ConformalRisk as ConformalRisk
    from lsep_ml.decisions.estimation import CountEstimation as CountEstimation
    from lsep_ml.decisions.estimation import ThresholdEstimation as ThresholdEstimation
    from lsep_ml.decisions.learnt import LearntDecision as LearntDecision
    from lsep_ml.decisions.loading import load as load
    from lsep_ml.decisions.loading import save as save
    from lsep_ml.decisions.per_class import PerClassThreshold as PerClassThreshold
    from lsep_ml.decisions.rules import GlobalThreshold as GlobalThreshold
    from lsep_ml.decisions.rules import TopK as TopK
    from lsep_ml.decisions.rules import ZeroThreshold as ZeroThreshold
    from lsep_ml.decisions.threshold_class import ThresholdClass as ThresholdClass

_MODULES = {
    "Decided": "base",
    "Decision": "base",
    "LearntDecision": "learnt",
    "Rule": "base",
    "load": "loading",
    "save": "loading",
} | {row.class_name: row.kind.rpartition(".")[0] for row in DECISIONS}

__all__ = ["DECISIONS", *_MODULES]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
