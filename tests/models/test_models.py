"""Backbones and the network: shapes, the fc7 contract, weights from files, and messages for bad ones."""

import re

import pytest
import torch
from torch import nn
from torchvision.models import vgg16 as torchvision_vgg16

from lsep_ml.models import Network, SmallCNN, on_cpu, timm_backbone, vgg16
from lsep_ml.models.on_cpu import BatchNorm, MaximumOfPairs
from lsep_ml.models.small_cnn import MaximumOfMap
from lsep_ml.models.vgg import MeanOfMap


def test_network_normalises_on_the_device_and_scores_its_features() -> None:
    torch.manual_seed(0)
    network = Network(
        SmallCNN(in_channels=3, num_features=7), 5, mean=[0.1, 0.2, 0.3], std=[0.5, 0.6, 0.7]
    ).eval()
    images = torch.randint(0, 256, (2, 3, 20, 24), dtype=torch.uint8)
    scores, features = network(images)
    assert scores.shape == (2, 5)
    assert features.shape == (2, 7)
    assert (network.num_features, network.num_labels) == (7, 5)
    by_hand = (images.float() / 255 - torch.tensor([0.1, 0.2, 0.3]).view(3, 1, 1)) / torch.tensor(
        [0.5, 0.6, 0.7]
    ).view(3, 1, 1)
    torch.testing.assert_close(features, network.backbone(by_hand))
    torch.testing.assert_close(scores, network.score_layer(features))


def test_normalisation_is_no_part_of_the_state() -> None:
    assert not [name for name in Network(SmallCNN(), 2, [0.0], [1.0]).state_dict() if name in ("mean", "std")]


@pytest.mark.parametrize(
    ("num_labels", "mean", "std", "message"),
    [
        (1, [0.5], [0.5], "num_labels=1"),
        (3, [0.5, 0.5], [0.5], "transform.mean"),
        (3, [], [], "transform.mean"),
    ],
)
def test_network_refuses(num_labels: int, mean: list[float], std: list[float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Network(SmallCNN(), num_labels, mean, std)


@pytest.fixture(scope="module")
def vgg16_file(tmp_path_factory: pytest.TempPathFactory) -> tuple[nn.Module, str]:
    torch.manual_seed(1)
    model = torchvision_vgg16(num_classes=3).eval()
    file = tmp_path_factory.mktemp("weights") / "vgg16.pth"
    torch.save(model.state_dict(), file)
    return model, str(file)


def test_vgg16_features_are_fc7_after_its_relu(vgg16_file: tuple[nn.Module, str]) -> None:
    model, file = vgg16_file
    backbone = vgg16(weights=file).eval()
    images = torch.rand(1, 3, 32, 32)
    with torch.inference_mode():
        features = backbone(images)
        pooled = model.avgpool(model.features(images)).flatten(1)
        classifier = model.classifier
        fc7 = torch.relu(classifier[3](torch.relu(classifier[0](pooled))))
    assert features.shape == (1, 4096)
    assert backbone.num_features == 4096
    torch.testing.assert_close(features, fc7)


def test_vgg16_without_the_published_file_says_where_to_put_it(
    tmp_path: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_network(*_: object, **__: object) -> None:
        raise OSError("no route to host")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", no_network)
    place = re.escape(f"{tmp_path}/hub/checkpoints/vgg16-397923af.pth")
    with pytest.raises(FileNotFoundError, match=rf"no route to host.*put it at {place}.*model\.weights=null"):
        vgg16(weights="imagenet")


def test_weights_of_another_network_are_refused(tmp_path) -> None:
    file = tmp_path / "other.pth"
    torch.save(SmallCNN().state_dict(), file)
    with pytest.raises(ValueError, match=r"other\.pth: the weights of another network"):
        timm_backbone("resnet18", weights=str(file))
    with pytest.raises(FileNotFoundError, match=r"absent\.pth: no such file"):
        timm_backbone("resnet18", weights=str(tmp_path / "absent.pth"))
    (tmp_path / "text.pth").write_text("no tensors here")
    with pytest.raises(ValueError, match=r"text\.pth: not a readable file of tensors"):
        timm_backbone("resnet18", weights=str(tmp_path / "text.pth"))


@pytest.mark.parametrize(
    ("name", "width"), [("resnet18", 512), ("mobilenetv3_small_050", 1024), ("vit_tiny_patch16_224", 192)]
)
def test_timm_backbone_measures_its_width(name: str, width: int) -> None:
    backbone = timm_backbone(name, weights=None).eval()
    assert backbone.num_features == width
    with torch.inference_mode():
        assert backbone(torch.zeros(2, 3, 224, 224)).shape == (2, width)


def test_timm_backbone_loads_a_file_and_names_close_models(tmp_path) -> None:
    torch.manual_seed(2)
    model = timm_backbone("resnet18", weights=None)
    file = tmp_path / "resnet18.pth"
    torch.save({"state_dict": model.model.state_dict()}, file)
    loaded = timm_backbone("resnet18", weights=str(file))
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(tensor, loaded.state_dict()[name], rtol=0, atol=0)
    with pytest.raises(ValueError, match=r"model\.name='resnet1O1'.*resnet"):
        timm_backbone("resnet1O1", weights=None)


@pytest.mark.parametrize(("name", "size"), [("test_vit", 170), ("vit_tiny_patch16_224", [224, 230])])
def test_a_size_that_patches_do_not_divide_is_refused(name: str, size: int | list[int]) -> None:
    said = r"not a size for .*(its patches of 16 x 16 would leave|divisible by patch).*sizes that work: "
    with pytest.raises(ValueError, match=said):
        timm_backbone(name, weights="no such file", image_size=size)


@pytest.mark.parametrize("size", [(8, 8), (48, 48), (37, 91)])
@pytest.mark.parametrize("channels", [1, 3])
def test_small_cnn_takes_any_size(size: tuple[int, int], channels: int) -> None:
    backbone = SmallCNN(in_channels=channels, num_features=11)
    features = backbone(torch.rand(2, channels, *size))
    assert features.shape == (2, 11)
    assert (features >= 0).all()


@pytest.mark.parametrize("training", [False, True])
def test_maxima_are_those_of_torchs_pooling_which_has_no_deterministic_gradient_on_a_gpu(
    training: bool,
) -> None:
    maps = torch.randn(3, 5, 6, 4, generator=torch.Generator().manual_seed(0)).relu()
    maps[0, 0], maps[1, 1, 2:4] = 0.0, 7.0  # ties
    outer = torch.arange(15.0).reshape(3, 5)
    found = []
    for pool in (MaximumOfMap(), nn.Sequential(nn.AdaptiveMaxPool2d(1), nn.Flatten())):
        for given in (maps, maps.to(memory_format=torch.channels_last)):
            given = given.clone().requires_grad_()
            pooled = pool.train(training)(given)
            found.append((pooled.detach(), *torch.autograd.grad(pooled, given, outer)))
    assert all(
        torch.equal(one, other) for pair in found[1:] for one, other in zip(pair, found[0], strict=True)
    )


def test_backbones_have_deterministic_gradients_on_a_gpu() -> None:
    """Of what torch.use_deterministic_algorithms refuses there, none is run at 224 x 224."""
    maps = torch.randn(2, 3, 7, 7)
    assert MeanOfMap()(maps) is maps
    assert MeanOfMap()(maps[:, :, :5]).shape == (2, 3, 7, 7)
    for backbone in (SmallCNN(), vgg16(weights=None)):
        refused = (nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d)
        assert not [module for module in backbone.modules() if type(module) in refused]


@pytest.fixture(params=["loops", "operators"])
def looped(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Have loops take small maps too, or have none."""
    by_loops = request.param == "loops"
    if by_loops:
        pytest.importorskip("numba")
        monkeypatch.setattr(on_cpu, "LARGE", 0)
    monkeypatch.setattr(on_cpu, "installed", lambda: by_loops)
    return by_loops


@pytest.mark.parametrize("size", [(8, 6), (7, 6), (8, 5)], ids=str)
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_maxima_of_pairs_are_the_pooling_of_torch(
    size: tuple[int, int], layout: torch.memory_format, looped: bool
) -> None:
    maps = torch.randn(3, 4, *size, generator=torch.Generator().manual_seed(0))
    maps[0] = maps[0].relu()
    maps[1] = maps[1].round()  # ties
    maps[2, 0, 0, 0], maps[2, 1, 2, 3] = torch.inf, -torch.inf
    maps = maps.contiguous(memory_format=layout)
    one, other = maps.clone().requires_grad_(), maps.clone().requires_grad_()
    pooled, expected = MaximumOfPairs()(one), nn.MaxPool2d(2)(other)
    outer = torch.randn(expected.shape, generator=torch.Generator().manual_seed(1))
    pooled.backward(outer)
    expected.backward(outer)
    assert torch.equal(pooled, expected)
    assert torch.equal(one.grad, other.grad)
    assert torch.equal(MaximumOfPairs()(maps), expected)
    for place in range(4):  # the loss says that there is NaN, wherever it was
        maps[1, 1, place // 2, place % 2] = torch.nan
        assert MaximumOfPairs()(maps)[1, 1, 0, 0].isnan()


@pytest.mark.parametrize("channels", [8, 6])  # 6: no loop
@pytest.mark.parametrize("momentum", [0.1, 0.3, None])
def test_batch_norm_is_that_of_torch(
    channels: int, momentum: float | None, looped: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw = torch.Generator().manual_seed(0)
    ours, plain = (of(channels, momentum=momentum) for of in (BatchNorm, nn.BatchNorm2d))
    for weight in (ours.weight, ours.bias):
        nn.init.normal_(weight, generator=draw)
    plain.load_state_dict(ours.state_dict())
    calls = []
    monkeypatch.setattr(
        on_cpu._Normalised, "apply", lambda *given, of=on_cpu._Normalised.apply: calls.append(1) or of(*given)
    )
    for layout in (torch.contiguous_format, torch.channels_last, torch.contiguous_format):
        maps = 3 + 2 * torch.randn(5, channels, 7, 9, generator=draw)
        maps[0, 1] = 1000.0
        outer = torch.randn(maps.shape, generator=draw)
        found = []
        for norm in (ours, plain):
            given = maps.clone(memory_format=layout).requires_grad_()
            normalised = norm(given)
            found.append([normalised, *torch.autograd.grad(normalised, [given, *norm.parameters()], outer)])
        assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))
    assert all(torch.equal(ours.state_dict()[name], value) for name, value in plain.state_dict().items())
    assert torch.equal(ours.eval()(maps), plain.eval()(maps))
    assert len(calls) == (2 if looped and channels == 8 and momentum is not None else 0)


def test_a_maximum_before_its_relu_is_that_after_it_and_so_is_the_gradient(looped: bool) -> None:
    draw = torch.Generator().manual_seed(0)
    maps = (
        torch.randn(3, 4, 8, 6, generator=draw).mul(2).round()
    )  # ties, and windows without a positive entry
    maps[0, 0] = -1.0
    outer = torch.randn(3, 4, 4, 3, generator=draw)
    found = []
    for order in ((MaximumOfPairs(), nn.ReLU()), (nn.ReLU(), nn.MaxPool2d(2))):
        given = maps.clone().requires_grad_()
        pooled = nn.Sequential(*order)(given)
        found.append((pooled, *torch.autograd.grad(pooled, given, outer)))
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))
    kinds = [type(part) for part in SmallCNN().blocks[:4]]
    assert kinds == [nn.Conv2d, BatchNorm, MaximumOfPairs, nn.ReLU]
