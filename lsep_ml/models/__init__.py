"""Backbones: images -> features (N, D); the score layer on top: features -> scores (N, K)."""

from lsep_ml.models.network import Network, Prediction, Probe
from lsep_ml.models.pretrained import timm_backbone, vgg16
from lsep_ml.models.small_cnn import SmallCNN

__all__ = ["Network", "Prediction", "Probe", "SmallCNN", "timm_backbone", "vgg16"]
