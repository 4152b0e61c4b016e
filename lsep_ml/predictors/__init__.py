"""Predictors that take the score layer's place: from extracted features to label sets and, where they can, scores.

Each is loaded on first use, with what it needs of scikit-learn.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from lsep_ml.predictors.base import Predicted, Predictor

if TYPE_CHECKING:
    from lsep_ml.predictors.cnn_rnn import CNNRNN
    from lsep_ml.predictors.mlknn import MLkNN
    from lsep_ml.predictors.problem_transformation import BinaryRelevance, ClassifierChains, LabelPowerset

__all__ = [
    "CNNRNN",
    "BinaryRelevance",
    "ClassifierChains",
    "LabelPowerset",
    "MLkNN",
    "Predicted",
    "Predictor",
]

_HOMES = {
    "CNNRNN": "cnn_rnn",
    "MLkNN": "mlknn",
    "BinaryRelevance": "problem_transformation",
    "ClassifierChains": "problem_transformation",
    "LabelPowerset": "problem_transformation",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"lsep_ml.predictors.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
