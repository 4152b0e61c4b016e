"""The paper's network from torchvision, with the weights it was published with, a file's, or none."""

from pathlib import Path
from urllib.error import URLError

import torch
from torch import Tensor, nn
from torchvision.models import VGG16_Weights
from torchvision.models import vgg16 as torchvision_vgg16

from lsep_ml.models.weights import load_weights


class MeanOfMap(nn.AdaptiveAvgPool2d):
    """Averages maps to 7 x 7, those of images at 224 x 224 being so already; the gradient of averaging is not
    deterministic on a GPU, that of leaving them is.
    """

    def __init__(self) -> None:
        super().__init__((7, 7))

    def forward(self, maps: Tensor) -> Tensor:
        return maps if tuple(maps.shape[-2:]) == (7, 7) else super().forward(maps)


class FeatureLayers(nn.Sequential):
    """Layers in a row whose output is f'(x); keeps the names of the model they were taken from."""

    def __init__(self, num_features: int, **layers: nn.Module) -> None:
        super().__init__()
        for name, layer in layers.items():
            self.add_module(name, layer)
        self.num_features = num_features


def vgg16(weights: str | None = "imagenet", *, strict: bool = True) -> FeatureLayers:
    """Build VGG16 up to fc7 after its ReLU: f'(x) is `classifier[:5]`, 4096 wide (method of the paper, section 5).

    Args:
        weights: "imagenet" for torchvision's IMAGENET1K_V1 (a retrained network, not the original Caffe one),
            a file with a state dict in torchvision's names, or None for a random start.
        strict: whether a file that does not fit whole is refused (`load_weights`).

    Raises:
        FileNotFoundError: the weights are neither on disk nor to be had; names the file and where to put it.
        ValueError: the file holds weights of another network.
    """
    model = torchvision_vgg16(weights=None)
    backbone = FeatureLayers(
        4096,
        features=model.features,
        avgpool=MeanOfMap(),
        flatten=nn.Flatten(),
        classifier=model.classifier[:5],
    )
    if weights is not None:
        file = _published_vgg16() if weights == "imagenet" else Path(weights)
        load_weights(backbone, file, strict=strict, classifiers=("classifier.6",))
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
