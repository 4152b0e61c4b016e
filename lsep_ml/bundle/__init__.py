"""Trained classifiers on their own: one folder of network, decision and names; in Python, over files, as ONNX."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lsep_ml.bundle.classifier import Classifier, load
    from lsep_ml.bundle.files import read_bundle, read_parts, write_bundle
    from lsep_ml.bundle.parts import Parts
    from lsep_ml.bundle.predictions import Predictions

__all__ = ["Classifier", "Parts", "Predictions", "load", "read_bundle", "read_parts", "write_bundle"]

_HOMES = {
    "Classifier": "classifier",
    "load": "classifier",
    "read_bundle": "files",
    "write_bundle": "files",
    "Parts": "parts",
    "Predictions": "predictions",
    "read_parts": "files",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:  # on first use, so that the command line answers --help without torch
        return getattr(import_module(f"lsep_ml.bundle.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
