"""What weights want of their images is what timm and torchvision say, for every name, and what a transform does."""

import pytest
import timm
from timm.data import resolve_data_config
from torchvision.models import VGG16_Weights

from lsep_ml.data import Transform
from lsep_ml.models.names import pretrained_cfg
from lsep_ml.models.preprocessing import preprocessing_of, timm_preprocessing


def test_every_pretrained_name_is_right() -> None:
    names = timm.list_pretrained()
    assert len(names) > 1500
    for name in names:
        own = resolve_data_config(pretrained_cfg=timm.get_pretrained_cfg(name).to_dict())
        found = timm_preprocessing(name)
        assert (3, *found.crop) == own["input_size"], name
        assert (found.mean, found.std) == (own["mean"], own["std"]), name
        assert (found.interpolation, found.crop_pct) == (own["interpolation"], own["crop_pct"]), name
        applied = Transform(geometry="squash", **found.values())
        assert (applied.crop, applied.mean, applied.std) == (found.crop, own["mean"], own["std"]), name
        assert applied.interpolation == own["interpolation"], name
        assert applied.antialias


def test_the_default_weights_speak_for_a_name_without_a_tag() -> None:
    default = timm.get_pretrained_cfg("vit_small_patch14_dinov2")
    assert timm_preprocessing("vit_small_patch14_dinov2").crop == default.input_size[1:] == (518, 518)
    assert timm_preprocessing("resnet50", img_size=[96, 64]).crop == (96, 64)


def test_vgg16_is_torchvisions() -> None:
    own = VGG16_Weights.IMAGENET1K_V1.transforms()
    found = preprocessing_of({"_target_": "lsep_ml.models.vgg16", "weights": None})
    assert found is not None
    assert (found.mean, found.std) == (tuple(own.mean), tuple(own.std))
    assert ([found.crop[0]], found.interpolation, found.antialias) == (own.crop_size, "bilinear", True)
    assert round(found.crop[0] / found.crop_pct) == own.resize_size[0] == 256


def test_a_network_that_starts_from_nothing_wants_nothing() -> None:
    assert preprocessing_of({"_target_": "lsep_ml.models.SmallCNN", "in_channels": 1}) is None


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("resnet5O", r"model\.name='resnet5O': not a timm model; close names: resnet50"),
        ("resnet50.a9_in1k", r"no such weights; there are: .*resnet50\.a1_in1k"),
    ],
)
def test_unknown_names_are_refused(name: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        pretrained_cfg(name)
