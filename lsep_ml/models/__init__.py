"""Backbones: images -> features (N, D); the score layer on top: features -> scores (N, K)."""

from lsep_ml.models.given import GivenFeatures
from lsep_ml.models.network import Network, Prediction, Probe, take_score_rows
from lsep_ml.models.of_timm import timm_backbone
from lsep_ml.models.small_cnn import SmallCNN
from lsep_ml.models.vgg import vgg16

__all__ = [
    "GivenFeatures",
    "Network",
    "Prediction",
    "Probe",
    "SmallCNN",
    "take_score_rows",
    "timm_backbone",
    "vgg16",
]
