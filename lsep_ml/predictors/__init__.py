"""Predictors that take the score layer's place: from extracted features to label sets and, where they can, scores."""

from lsep_ml.predictors.base import Predicted, Predictor
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
