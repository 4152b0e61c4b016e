"""Backbones: images -> features (N, D); the score layer on top: features -> scores (N, K).

Pretrained backbones are loaded on first use: timm knows a thousand networks, which takes seconds.
"""

from typing import TYPE_CHECKING, Any

from lsep_ml.light_packages import keep_vision_light
from lsep_ml.models.network import GivenFeatures, Network, Prediction, Probe, take_score_rows
from lsep_ml.models.small_cnn import SmallCNN

if TYPE_CHECKING:
    from lsep_ml.models.of_timm import timm_backbone
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

keep_vision_light()


def __getattr__(name: str) -> Any:
    if name == "timm_backbone":
        from lsep_ml.models.of_timm import timm_backbone

        return timm_backbone
    if name == "vgg16":
        from lsep_ml.models.vgg import vgg16

        return vgg16
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
