"""What pretrained weights want of their images, as their publishers say it."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Preprocessing:
    """Says how images reach a network, in the words of `lsep_ml.data.Transform`.

    crop: height and width in pixels. crop_pct: that size over the size that its publisher scales images to.
    interpolation: nearest, bilinear or bicubic. antialias: whether scaling down averages.
    mean, std: per channel, of values in [0, 1].
    """

    crop: tuple[int, int]
    crop_pct: float
    interpolation: str
    antialias: bool
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def values(self) -> dict[str, Any]:
        """Return the same as plain data, sequences as lists."""
        return {
            key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()
        }


def timm_preprocessing(name: str, img_size: Any = None, source: str | None = None, **_: Any) -> Preprocessing:
    """Return timm's data configuration of a name, with or without the weights' tag (`timm.data.resolve_data_config`).

    Args:
        name: as `timm_backbone` takes it.
        source: where its weights are published, if elsewhere (`resolved_model`).
        img_size: a size that the network is built for in place of its own, as one int or (height, width).

    Raises:
        ValueError: an unknown name.
    """
    from timm.data import resolve_data_config  # on first use, as the backbones

    from lsep_ml.models.names import pretrained_cfg

    found = resolve_data_config(pretrained_cfg=pretrained_cfg(source or name).to_dict())
    size = found["input_size"][1:] if img_size is None else img_size
    height, width = (size, size) if isinstance(size, int) else size
    return Preprocessing(
        crop=(height, width),
        crop_pct=float(found["crop_pct"]),
        interpolation=str(found["interpolation"]),
        antialias=True,  # of Pillow, whose resizing always does
        mean=tuple(map(float, found["mean"])),
        std=tuple(map(float, found["std"])),
    )


def vgg16_preprocessing(**_: Any) -> Preprocessing:
    """Return torchvision's `VGG16_Weights.IMAGENET1K_V1.transforms()`."""
    from torchvision.models import VGG16_Weights

    found = VGG16_Weights.IMAGENET1K_V1.transforms()
    crop, resize = found.crop_size[0], found.resize_size[0]
    return Preprocessing(
        crop=(crop, crop),
        crop_pct=crop / resize,
        interpolation=found.interpolation.value,
        antialias=bool(found.antialias),
        mean=tuple(found.mean),
        std=tuple(found.std),
    )


_OF: dict[str, Callable[..., Preprocessing]] = {
    "lsep_ml.models.timm_backbone": timm_preprocessing,
    "lsep_ml.models.vgg16": vgg16_preprocessing,
}


def preprocessing_of(model: Mapping[str, Any]) -> Preprocessing | None:
    """Return what the backbone of a resolved `config.model` wants of its images; None for one that starts from
    nothing."""
    options = {str(key): value for key, value in model.items() if key != "_target_"}
    find = _OF.get(model["_target_"])
    return None if find is None else find(**options)
