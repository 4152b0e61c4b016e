"""Pooling: every way of it equals plain loops over the network's map or tokens, and passes what comes after it."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lsep_ml.models import timm_backbone
from lsep_ml.models.pooling import POOLS, Pooling, gem

OTHERS = POOLS[1:]
MAPS = ("resnet18", "tf_efficientnet_lite0", "test_convnext", "mobilenetv3_small_050")
TOKENS = ("test_vit", "test_vit2", "test_vit3", "test_vit4")


def built(name: str, pool: str) -> Any:
    torch.manual_seed(0)
    return timm_backbone(name, weights=None, image_size=96 if name in MAPS else None, pool=pool).eval()


def places(model: Any, before: Tensor) -> list[list[list[float]]]:
    """The vectors of an image's places, by hand."""
    rows = []
    for image in before.double().tolist():
        if before.ndim == 3:
            rows.append(image[model.num_prefix_tokens :])
        else:
            width, height, across = len(image), len(image[0]), len(image[0][0])
            rows.append(
                [[image[d][i][j] for d in range(width)] for i in range(height) for j in range(across)]
            )
    return rows


def by_loops(kind: str, vectors: list[list[float]], class_token: list[float] | None) -> list[list[float]]:
    width, count = range(len(vectors[0])), len(vectors)
    mean = [math.fsum(v[d] for v in vectors) / count for d in width]
    maximum = [max(v[d] for v in vectors) for d in width]
    if kind == "gem":
        return [[(math.fsum(max(v[d], 1e-6) ** 3 for v in vectors) / count) ** (1 / 3) for d in width]]
    if kind == "cls_mean":
        assert class_token is not None
        return [class_token, mean]
    return {"mean": [mean], "max": [maximum], "mean_max": [mean, maximum]}[kind]


@pytest.mark.parametrize("kind", OTHERS)
@pytest.mark.parametrize("name", [*MAPS, *TOKENS])
def test_every_pooling_is_what_loops_give(name: str, kind: str) -> None:
    model = built(name, "trained").model
    images = torch.randn(2, 3, *([96, 96] if name in MAPS else [160, 160]))
    with torch.inference_mode():
        before = model.forward_features(images)
        positive, has_class = bool((before >= 0).all()), getattr(model, "cls_token", None) is not None
    refused = {"gem": not positive, "cls_mean": not has_class}.get(kind, False)
    if refused:
        with pytest.raises(ValueError, match=f"model.pool={kind}: "):
            built(name, kind)
        return
    backbone = built(name, kind)
    with torch.inference_mode():
        found = backbone(images)
        expected = []
        for row, vectors in enumerate(places(model, before)):
            token = before[row, 0].double().tolist() if has_class else None
            parts = [torch.tensor(part).float() for part in by_loops(kind, vectors, token)]
            expected.append(torch.cat([after(model, part) for part in parts]))
    torch.testing.assert_close(found, torch.stack(expected), rtol=1e-4, atol=1e-5)
    assert backbone.num_features == found.shape[1]
    assert found.shape[1] == built(name, "trained").num_features * (
        2 if kind in ("mean_max", "cls_mean") else 1
    )


def after(model: Any, part: Tensor) -> Tensor:
    """What each of these networks has between its pooling and its classifier, named by hand."""
    kind = type(model).__name__
    if kind == "ConvNeXt":
        return model.head.norm(part[None, :, None, None]).flatten()
    if kind == "MobileNetV3":
        return model.act2(model.norm_head(model.conv_head(part[None, :, None, None]))).flatten()
    if kind == "VisionTransformer":
        return model.fc_norm(part)
    assert kind in ("ResNet", "EfficientNet")
    return part


@pytest.mark.parametrize("name", ["resnet18", "tf_efficientnet_lite0"])
def test_mean_is_what_these_were_trained_with(name: str) -> None:
    images = torch.randn(2, 3, 96, 96)
    with torch.inference_mode():
        torch.testing.assert_close(built(name, "mean")(images), built(name, "trained")(images))


class Map(nn.Module):
    """A network whose map is its input."""

    num_features = 5

    def forward_features(self, images: Tensor) -> Tensor:
        return images

    def forward_head(self, before: Tensor) -> Tensor:
        return 2 * before.mean(dim=(2, 3))


def test_a_map_of_one_place_is_the_same_by_all() -> None:
    before = torch.rand(4, 5, 1, 1) + 0.1
    found = {kind: Pooling(kind, Map(), before)(Map(), before) for kind in ("mean", "max", "gem", "mean_max")}
    torch.testing.assert_close(found["mean"], 2 * before.flatten(1))
    for kind in ("max", "gem"):
        torch.testing.assert_close(found[kind], found["mean"])
    torch.testing.assert_close(found["mean_max"], torch.cat([found["mean"], found["mean"]], dim=1))


def test_gem_has_a_gradient_where_the_map_is_zero() -> None:
    tokens = torch.zeros(2, 3, 4, dtype=torch.float64, requires_grad=True)
    gem(tokens).sum().backward()
    assert tokens.grad is not None
    assert torch.isfinite(tokens.grad).all()
    positive = torch.rand(2, 3, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(gem, (positive + 0.1,))


def test_layouts_with_channels_last_and_attention_pooling() -> None:
    swin = timm_backbone("swin_tiny_patch4_window7_224", weights=None, pool="max").eval()
    images = torch.randn(1, 3, 224, 224)
    with torch.inference_mode():
        before = swin.model.forward_features(images)
        assert before.shape == (1, 7, 7, 768)
        torch.testing.assert_close(swin(images), before.amax(dim=(1, 2)))
    siglip = timm_backbone("vit_base_patch16_siglip_224", weights=None, pool="mean").eval()
    with torch.inference_mode():
        before = siglip.model.forward_features(images)
        torch.testing.assert_close(siglip(images), siglip.model.fc_norm(before.mean(dim=1)))


@pytest.mark.parametrize(
    ("name", "pool", "message"),
    [
        ("test_vit", "average", r"model\.pool=average: trained, mean, max"),
        ("crossvit_9_240", "mean", "gives neither a map nor tokens"),
        ("swin_tiny_patch4_window7_224", "cls_mean", "has no class token"),
        ("efficientnet_b0", "gem", "can be negative"),
    ],
)
def test_what_cannot_be_had_is_refused(name: str, pool: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        timm_backbone(name, weights=None, pool=pool)
