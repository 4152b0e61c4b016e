"""Trained classifiers on their own: one folder of network, decision and names; in Python, over files, as ONNX."""

from lsep_ml.bundle.classifier import Classifier, load
from lsep_ml.bundle.files import read_bundle, write_bundle
from lsep_ml.bundle.parts import Parts
from lsep_ml.bundle.predictions import Predictions
from lsep_ml.bundle.sources import read_parts

__all__ = ["Classifier", "Parts", "Predictions", "load", "read_bundle", "read_parts", "write_bundle"]
