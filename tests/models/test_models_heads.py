"""Heads that read places: scores and gradients are what plain loops give, whatever backbone they are on."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lsep_ml.models import Network, SmallCNN, timm_backbone
from lsep_ml.models.heads import Csra, QueryHead, packed, place_scores, unpacked


def csra_by_loops(x: list[list[list[float]]], w: list[list[float]], lam: float) -> list[list[float]]:
    found = []
    for image in x:
        row = []
        for label in w:
            norm = math.sqrt(math.fsum(v * v for v in label))
            s = [math.fsum(a * b for a, b in zip(place, label, strict=True)) / norm for place in image]
            total = math.fsum(math.exp(value) for value in s)
            attended = math.fsum(math.exp(value) / total * value for value in s)
            row.append(math.fsum(s) / len(s) + lam * attended)
        found.append(row)
    return found


def test_csra_is_what_loops_give() -> None:
    torch.manual_seed(0)
    head, x, features = Csra(2, 5, 4, 0.3).double(), torch.randn(3, 6, 5).double(), torch.randn(3, 2).double()
    expected = csra_by_loops(x.tolist(), head.weight.tolist(), head.attention.item())
    torch.testing.assert_close(head(packed(features, x)), torch.tensor(expected, dtype=torch.float64))


def test_csra_has_the_gradient_of_its_equation() -> None:
    torch.manual_seed(1)
    head = Csra(2, 3, 2, 0.3).double()
    row = torch.randn(2, 2 + 4 * 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(head, (row,))

    def of_weight(weight: Tensor) -> Tensor:
        return torch.func.functional_call(head, {"weight": weight}, (row.detach(),))

    assert torch.autograd.gradcheck(of_weight, (head.weight.detach().clone().requires_grad_(),))


def test_csra_on_one_place_is_a_linear_head_times_one_plus_lambda() -> None:
    torch.manual_seed(2)
    head, x = Csra(4, 4, 3, 0.25), torch.rand(5, 1, 4)
    weight = head.weight / head.weight.norm(dim=1, keepdim=True)
    linear = nn.functional.linear(x[:, 0], weight)
    torch.testing.assert_close(head(packed(x[:, 0], x)), 1.25 * linear)


def ml_decoder_by_loops(head: QueryHead, x: list[list[float]]) -> list[float]:
    """One image's scores; every step of the decoder written out."""
    decoder = head.decoder
    layer: Any = decoder.decoder.layers[0]
    number = decoder.num_classes

    def linear(weight: Tensor, bias: Tensor, vector: list[float]) -> list[float]:
        return [
            math.fsum(a * b for a, b in zip(row, vector, strict=True)) + c
            for row, c in zip(weight.tolist(), bias.tolist(), strict=True)
        ]

    def norm(module: nn.LayerNorm, vector: list[float]) -> list[float]:
        mean = math.fsum(vector) / len(vector)
        scale = math.sqrt(math.fsum((v - mean) ** 2 for v in vector) / len(vector) + module.eps)
        return [
            (v - mean) / scale * w + b
            for v, w, b in zip(vector, module.weight.tolist(), module.bias.tolist(), strict=True)
        ]

    def plus(one: list[float], other: list[float]) -> list[float]:
        return [a + b for a, b in zip(one, other, strict=True)]

    def relu(vector: list[float]) -> list[float]:
        return [max(v, 0.0) for v in vector]

    memory = [relu(linear(decoder.embed_standart.weight, decoder.embed_standart.bias, place)) for place in x]
    attention = layer.multihead_attn
    width, heads = attention.embed_dim, attention.num_heads
    wq, wk, wv = attention.in_proj_weight.split(width)
    bq, bk, bv = attention.in_proj_bias.split(width)
    keys, values = [linear(wk, bk, m) for m in memory], [linear(wv, bv, m) for m in memory]
    answers = []
    for query in decoder.query_embed.weight.tolist():
        tgt = norm(layer.norm1, plus(query, query))
        q, mixed, size = linear(wq, bq, tgt), [], width // heads
        for h in range(heads):
            part = slice(h * size, (h + 1) * size)
            s = [
                math.fsum(a * b for a, b in zip(q[part], k[part], strict=True)) / math.sqrt(size)
                for k in keys
            ]
            top = max(s)
            e = [math.exp(v - top) for v in s]
            mixed += [
                math.fsum(w / sum(e) * v[part][d] for w, v in zip(e, values, strict=True))
                for d in range(size)
            ]
        tgt = norm(layer.norm2, plus(tgt, linear(attention.out_proj.weight, attention.out_proj.bias, mixed)))
        hidden = relu(linear(layer.linear1.weight, layer.linear1.bias, tgt))
        answers.append(norm(layer.norm3, plus(tgt, linear(layer.linear2.weight, layer.linear2.bias, hidden))))
    pooling = decoder.duplicate_pooling.tolist()
    flat = [
        math.fsum(a[d] * pooling[i][d][f] for d in range(width))
        for i, a in enumerate(answers)
        for f in range(decoder.duplicate_factor)
    ]
    return [
        score + bias
        for score, bias in zip(flat[:number], decoder.duplicate_pooling_bias.tolist(), strict=True)
    ]


def test_ml_decoder_is_what_loops_give() -> None:
    torch.manual_seed(3)
    head = QueryHead(2, 5, 3, hidden=16).double().eval()
    nn.init.normal_(head.decoder.duplicate_pooling_bias)
    x = torch.randn(2, 4, 5, dtype=torch.float64)
    with torch.inference_mode():
        found = head(packed(torch.randn(2, 2).double(), x))
    expected = [ml_decoder_by_loops(head, image) for image in x.tolist()]
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64))


def test_ml_decoder_has_the_gradient_of_its_equation() -> None:
    torch.manual_seed(4)
    head = QueryHead(2, 3, 2, hidden=8).double().eval()
    row = torch.randn(2, 2 + 3 * 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(head, (row,))

    # Of the weights, against the plain loops, one number of each tensor moved a little.
    x = unpacked(row.detach(), 2, 3)
    out = torch.randn(2, 2, dtype=torch.float64)
    (head(row.detach()) * out).sum().backward()

    def by_loops() -> float:
        scores = torch.tensor([ml_decoder_by_loops(head, image) for image in x.tolist()], dtype=torch.float64)
        return float((scores * out).sum())

    checked = 0
    for name, weight in head.named_parameters():
        if not weight.requires_grad:
            continue
        assert weight.grad is not None, name
        flat, index, step = weight.data.view(-1), weight.numel() // 2, 1e-6
        before = float(flat[index])
        flat[index] = before + step
        above = by_loops()
        flat[index] = before - step
        below = by_loops()
        flat[index] = before
        assert float(weight.grad.view(-1)[index]) == pytest.approx((above - below) / (2 * step), abs=1e-7), (
            name
        )
        checked += 1
    assert checked >= 15


def test_labels_beyond_a_hundred_share_queries() -> None:
    head = QueryHead(2, 5, 130, hidden=16)
    assert head.decoder.embed_len_decoder == 100
    assert head(torch.randn(3, 2 + 4 * 5)).shape == (3, 130)


@pytest.mark.parametrize("kind", ["csra", "ml_decoder"])
@pytest.mark.parametrize(
    ("name", "size"), [("test_resnet", 64), ("test_vit", 160), ("mobilenetv3_small_050", 64)]
)
@pytest.mark.parametrize("pool", ["trained", "max"])
def test_stage_2_reads_the_pooled_features_whatever_the_head(
    name: str, size: int, pool: str, kind: str
) -> None:
    def network(head: str) -> Network:
        torch.manual_seed(0)
        backbone = timm_backbone(name, weights=None, image_size=size, pool=pool, head=head)
        return Network(backbone, 3, [0.5] * 3, [0.5] * 3).eval()

    linear, other = network("linear"), network(kind)
    images = torch.randint(0, 256, (2, 3, size, size), dtype=torch.uint8)
    with torch.inference_mode():
        features, found = linear(images).features, other(images)
        torch.testing.assert_close(found.features, features)
        assert other.num_features == linear.num_features == features.shape[1]
        row = other.extract(images)
        assert row.shape[1] == other.backbone.row_width
        before = other.backbone.model.forward_features((images - 127.5) / 127.5)
        given = unpacked(row, other.num_features, other.backbone.token_width)
        tokens = before.flatten(2).transpose(1, 2) if before.ndim == 4 else before[:, 1:]
        torch.testing.assert_close(given, tokens)
        assert found.scores.shape == (2, 3)


@pytest.mark.parametrize(
    ("name", "size", "options"),
    [
        ("test_resnet", 64, {}),
        ("test_resnet", (64, 96), {"pool": "mean"}),
        ("test_vit", (160, 64), {"head": "csra"}),
        ("mobilenetv3_small_050", 64, {"head": "csra", "head_lambda": 0.4, "pool": "max"}),
        ("test_vit", 160, {"pool": "mean"}),
    ],
)
def test_scores_of_places_recombine_to_the_score(
    name: str, size: int | tuple[int, int], options: dict[str, Any]
) -> None:
    torch.manual_seed(5)
    network = Network(
        timm_backbone(name, weights=None, image_size=size, **options), 4, [0.5] * 3, [0.5] * 3
    ).eval()
    height, width = (size, size) if isinstance(size, int) else size
    images = torch.randint(0, 256, (2, 3, height, width), dtype=torch.uint8)
    maps = network.places(images)
    assert maps is not None
    assert maps.shape[2] * width == maps.shape[3] * height  # where they lie in the image
    with torch.no_grad():
        scores = network(images).scores
        found = place_scores(network.score_layer, maps, torch.tensor([2, 0]))
    for image in range(2):
        for place, label in enumerate((2, 0)):
            s = found[image, place].flatten().tolist()
            expected = math.fsum(s) / len(s)
            if "head" in options:
                total = math.fsum(map(math.exp, s))
                lam = options.get("head_lambda", 0.1)
                expected += lam * math.fsum(math.exp(v) / total * v for v in s)
            assert float(scores[image, label]) == pytest.approx(expected, abs=1e-5)


def test_a_place_is_where_it_is_in_the_image() -> None:
    torch.manual_seed(6)
    backbone = timm_backbone("test_vit", weights=None, image_size=(160, 64), head="csra")
    network = Network(backbone, 2, [0.5] * 3, [0.5] * 3).eval()
    network.backbone.model.blocks = nn.Sequential()  # no place knows of another
    image = torch.full((1, 3, 160, 64), 90, dtype=torch.uint8)
    spot = image.clone()
    spot[..., 16:32, 48:64] = 250
    one, other = network.places(image), network.places(spot)
    assert one is not None
    assert other is not None
    assert (one != other).any(dim=1)[0].nonzero().tolist() == [[1, 3]]


@pytest.mark.parametrize(
    ("name", "size", "options"),
    [
        ("test_resnet", 64, {"pool": "max"}),
        ("test_resnet", 64, {"pool": "gem"}),
        ("test_resnet", 64, {"pool": "mean_max"}),
        ("test_resnet", 64, {"head": "ml_decoder"}),
        ("test_resnet", 32, {"head": "csra"}),  # one place
        ("test_vit", 160, {}),  # the class token
        ("test_convnext", 64, {}),  # normalised after the mean
    ],
)
def test_other_networks_have_no_scores_of_places(name: str, size: int, options: dict[str, Any]) -> None:
    torch.manual_seed(7)
    network = Network(
        timm_backbone(name, weights=None, image_size=size, **options), 3, [0.5] * 3, [0.5] * 3
    ).eval()
    assert network.places(torch.randint(0, 256, (2, 3, size, size), dtype=torch.uint8)) is None


def test_of_two_views_there_are_no_places() -> None:
    images = torch.randint(0, 256, (1, 1, 8, 8), dtype=torch.uint8)
    assert Network(SmallCNN(), 3, [0.5], [0.5]).eval().places(images) is None
    backbone = timm_backbone("test_resnet", weights=None, image_size=64)
    flipped = Network(backbone, 3, [0.5] * 3, [0.5] * 3, test_flip=True).eval()
    assert flipped.places(torch.zeros(1, 3, 64, 64, dtype=torch.uint8)) is None


def test_another_head_is_refused() -> None:
    with pytest.raises(ValueError, match=r"model\.head=mlp: linear, csra, ml_decoder"):
        timm_backbone("test_vit", weights=None, head="mlp")
