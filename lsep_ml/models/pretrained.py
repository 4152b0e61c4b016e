"""Backbones from torchvision and timm, with the weights they were published with, a file's, or none."""

from difflib import get_close_matches
from pathlib import Path
from typing import Any
from urllib.error import URLError

import timm
import torch
from timm.models import load_state_dict
from torch import Tensor, nn
from torchvision.models import VGG16_Weights
from torchvision.models import vgg16 as torchvision_vgg16


class FeatureLayers(nn.Sequential):
    """Layers in a row whose output is f'(x); keeps the names of the model they were taken from."""

    def __init__(self, num_features: int, **layers: nn.Module) -> None:
        super().__init__()
        for name, layer in layers.items():
            self.add_module(name, layer)
        self.num_features = num_features


def vgg16(weights: str | None = "imagenet") -> FeatureLayers:
    """VGG16 up to fc7 after its ReLU: f'(x) is `classifier[:5]`, 4096 wide (method of the paper, section 5).

    Args:
        weights: "imagenet" for torchvision's IMAGENET1K_V1 (a retrained network, not the original Caffe one),
            a file with a state dict in torchvision's names, or None for a random start.

    Raises:
        FileNotFoundError: the weights are neither on disk nor to be had; names the file and where to put it.
        ValueError: the file holds weights of another network.
    """
    model = torchvision_vgg16(weights=None)
    backbone = FeatureLayers(
        4096,
        features=model.features,
        avgpool=model.avgpool,
        flatten=nn.Flatten(),
        classifier=model.classifier[:5],
    )
    if weights is not None:
        load_weights(backbone, _published_vgg16() if weights == "imagenet" else Path(weights))
    return backbone


def _published_vgg16() -> Path:
    url = VGG16_Weights.IMAGENET1K_V1.url
    file = Path(torch.hub.get_dir()) / "checkpoints" / url.rsplit("/", 1)[1]
    if not file.is_file():
        file.parent.mkdir(parents=True, exist_ok=True)
        try:
            torch.hub.download_url_to_file(url, str(file), hash_prefix=file.stem.rsplit("-", 1)[1])
        except (URLError, OSError, RuntimeError) as error:
            raise FileNotFoundError(
                f"model.weights=imagenet: {file.name} could not be downloaded ({error}). Fetch it elsewhere and put it "
                f"at {file}, or give its path as model.weights=FILE, or start from scratch with model.weights=null"
            ) from error
    return file


def load_weights(model: nn.Module, file: Path) -> None:
    """Load a state dict (or a checkpoint holding one under `state_dict`); what the file has beyond it is ignored.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not a file of tensors, or tensors of another network.
    """
    if not file.is_file():
        raise FileNotFoundError(f"model.weights={file}: no such file")
    try:
        state = load_state_dict(str(file), weights_only=True)
    except (
        Exception
    ) as error:  # torch and safetensors raise a dozen kinds, all meaning the same to the reader
        raise ValueError(f"model.weights={file}: not a readable file of tensors ({error})") from error
    own: dict[str, Tensor] = model.state_dict()
    missing = [name for name in own if name not in state or state[name].shape != own[name].shape]
    if missing:
        raise ValueError(
            f"model.weights={file}: the weights of another network; {len(missing)} of {len(own)} tensors missing or of "
            f"another shape, the first {missing[0]!r}"
        )
    model.load_state_dict({name: state[name] for name in own})


class TimmBackbone(nn.Module):
    """A timm model without its classifier; f'(x) is what the classifier would be given."""

    def __init__(self, model: nn.Module, image_size: tuple[int, int, int]) -> None:
        super().__init__()
        self.model = model
        training = model.training
        with torch.inference_mode():
            # Some architectures have more than one candidate for the width, so it is measured.
            self.num_features: int = model.eval()(torch.zeros(1, *image_size)).shape[1]
        model.train(training)

    def forward(self, images: Tensor) -> Tensor:
        features: Tensor = self.model(images)
        return features


def timm_backbone(name: str = "resnet50", weights: str | None = "imagenet", **options: Any) -> TimmBackbone:
    """Any timm backbone by name (`timm.list_models()`), its classifier removed.

    Args:
        name: timm's name, e.g. "resnet50", "convnext_tiny.fb_in22k".
        weights: "imagenet" for the weights timm publishes under that name, a file, or None.
        options: passed to `timm.create_model` (e.g. `img_size`, `in_chans`, `drop_path_rate`).

    Raises:
        ValueError: unknown name, or a file with the weights of another network.
        FileNotFoundError: the weights are neither on disk nor to be had.
    """
    if not timm.is_model(name):
        close = get_close_matches(name, timm.list_models(), n=5)
        raise ValueError(f"model.name={name!r}: not a timm model; close names: {', '.join(close) or 'none'}")
    try:
        model: Any = timm.create_model(name, pretrained=weights == "imagenet", num_classes=0, **options)
    except (OSError, RuntimeError) as error:
        raise FileNotFoundError(
            f"model.weights=imagenet: no weights for {name} here ({error}). Fetch them elsewhere and give the file as "
            "model.weights=FILE, or start from scratch with model.weights=null"
        ) from error
    if weights not in (None, "imagenet"):
        load_weights(model, Path(str(weights)))
    channels, height, width = model.pretrained_cfg["input_size"]
    size = options.get("img_size", (height, width))
    height, width = (size, size) if isinstance(size, int) else size
    return TimmBackbone(model, (options.get("in_chans", channels), height, width))
