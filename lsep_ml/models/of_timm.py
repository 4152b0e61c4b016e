"""Backbones from timm, with the weights they were published with, a file's, or none."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import timm
import torch
from torch import Tensor, nn

from lsep_ml.models.names import pretrained_cfg
from lsep_ml.models.sizes import size_options
from lsep_ml.models.weights import load_weights


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


def timm_backbone(
    name: str = "resnet50",
    weights: str | None = "imagenet",
    image_size: int | Sequence[int] | None = None,
    **options: Any,
) -> TimmBackbone:
    """Any timm backbone by name (`timm.list_models()`), its classifier removed.

    Args:
        name: timm's name, e.g. "resnet50", "convnext_tiny.fb_in22k".
        weights: "imagenet" for the weights timm publishes under that name, a file, or None.
        image_size: of the images it will be given, one int or (height, width); None: its own. A network of a fixed
            size is built for it, its position embeddings interpolated.
        options: passed to `timm.create_model` (e.g. `in_chans`, `drop_path_rate`).

    Raises:
        ValueError: unknown name, a size that the network cannot take, or a file with the weights of another network.
        FileNotFoundError: the weights are neither on disk nor to be had.
    """
    own = pretrained_cfg(name).input_size
    size = own[1:] if image_size is None else _height_and_width(image_size)
    options = size_options(name, size, options)
    try:
        model: Any = timm.create_model(name, pretrained=weights == "imagenet", num_classes=0, **options)
    except (OSError, RuntimeError) as error:
        raise FileNotFoundError(
            f"model.weights=imagenet: no weights for {name} here ({error}). Fetch them elsewhere and give the file as "
            "model.weights=FILE, or start from scratch with model.weights=null"
        ) from error
    if weights not in (None, "imagenet"):
        load_weights(model, Path(str(weights)))
    return TimmBackbone(model, (options.get("in_chans", own[0]), *size))


def _height_and_width(size: int | Sequence[int]) -> tuple[int, int]:
    height, width = (size, size) if isinstance(size, int) else size
    return height, width
