"""Parameter groups of timm's networks are timm.optim's; of others, their layers in order; nothing is left out."""

from typing import Any

import pytest
import timm
import torch
from timm.optim import param_groups_layer_decay, param_groups_weight_decay
from torch import nn

from lsep_ml.models import SmallCNN, timm_backbone, vgg16
from lsep_ml.training.parameter_groups import backbone_groups, new_groups

NAMES = ("test_resnet", "test_vit", "test_convnext", "mobilenetv3_small_050", "tf_efficientnet_lite0")


def facts(groups: list[dict[str, Any]]) -> dict[int, tuple[float, bool]]:
    """Each parameter's factor on the rate, and whether it decays."""
    return {
        id(p): (round(group.get("lr_scale", 1.0), 9), group.get("weight_decay", 1.0) != 0)
        for group in groups
        for p in group["params"]
    }


@pytest.mark.parametrize("decay_all", [True, False])
@pytest.mark.parametrize("name", NAMES)
def test_layers_of_timm_networks_are_timms(name: str, decay_all: bool) -> None:
    backbone = timm_backbone(name, weights=None)
    spared = () if decay_all else getattr(backbone.model, "no_weight_decay", set)()
    theirs = param_groups_layer_decay(
        backbone.model, 1.0, spared, weight_decay_exclude_1d=not decay_all, layer_decay=0.8
    )
    ours = backbone_groups(backbone, 0.8, decay_all)
    assert facts(ours) == facts(theirs)
    assert len(facts(ours)) == len(list(backbone.parameters()))
    scales = [group.get("lr_scale", 1.0) for group in ours]
    assert scales == sorted(scales, reverse=True)
    assert scales[0] == 1
    assert min(scales) < 0.8


@pytest.mark.parametrize("name", NAMES)
def test_what_does_not_decay_is_timms_choice(name: str) -> None:
    backbone = timm_backbone(name, weights=None)
    spared = getattr(backbone.model, "no_weight_decay", set)()
    assert facts(backbone_groups(backbone, 1.0, False)) == facts(
        param_groups_weight_decay(backbone.model, 1.0, no_weight_decay_list=spared)
    )


def test_nothing_asked_for_is_one_group() -> None:
    backbone = timm.create_model("test_resnet", num_classes=0)
    [group] = backbone_groups(backbone, 1.0, True)
    assert group.keys() == {"params"}
    assert [id(p) for p in group["params"]] == [id(p) for p in backbone.parameters()]
    assert backbone_groups(nn.Identity(), 0.5, False) == [{"params": []}]  # a probe's


def test_layers_of_other_networks_are_in_the_order_of_their_modules() -> None:
    small = SmallCNN(widths=(4, 5, 6), num_features=7)
    scale = {id(p): 0.5**n for n, layer in enumerate((small.hidden[1], *(small.blocks[i] for i in (8, 4, 0))))
             for p in layer.parameters()}  # fmt: skip
    norms = {id(p): 0.5**n for n, layer in enumerate((small.hidden[2], *(small.blocks[i] for i in (9, 5, 1))))
             for p in layer.parameters()}  # fmt: skip
    found = facts(backbone_groups(small, 0.5, False))
    assert {key: value[0] for key, value in found.items()} == scale | norms
    assert {key: value[1] for key, value in found.items()} == dict.fromkeys(scale, True) | dict.fromkeys(
        norms, False
    )
    vgg = backbone_groups(vgg16(None), 0.9, True)
    assert [len(group["params"]) for group in vgg] == [2] * 15
    assert [round(group.get("lr_scale", 1.0), 9) for group in vgg] == [round(0.9**n, 9) for n in range(15)]


def test_new_layers_have_one_rate() -> None:
    layer = nn.Linear(3, 2)
    assert new_groups([layer], True) == [{"params": [layer.weight, layer.bias]}]
    weights, rest = new_groups([layer], False)
    assert weights == {"params": [layer.weight]}
    assert rest == {"params": [layer.bias], "weight_decay": 0.0}


def test_a_step_is_scaled_and_not_decayed() -> None:
    model = nn.Sequential(nn.Linear(1, 1), nn.Linear(1, 1))
    groups = backbone_groups(model, 0.5, False)
    optimizer = torch.optim.SGD(groups, lr=1.0, weight_decay=0.1)
    assert [(g.get("lr_scale", 1.0), g["weight_decay"]) for g in optimizer.param_groups] == [
        (1.0, 0.1),
        (1.0, 0.0),
        (0.5, 0.1),
        (0.5, 0.0),
    ]
