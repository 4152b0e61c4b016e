"""From an image of any size to what the network takes: resize, crop, flip and what else augments, on uint8 tensors."""

import math
from collections.abc import Sequence
from typing import Any

from torch import Tensor

from lsep_ml.data.augment import Augmentation, Operation
from lsep_ml.data.errors import DataError
from lsep_ml.data.images.resize import pillow_resize

Size = int | Sequence[int] | None

LONGEST = 16  # a strip of 1 x 20,000 pixels with its shorter side at 256 would take gigabytes
GEOMETRIES = ("squash", "center", "pad")
INTERPOLATIONS = ("nearest", "bilinear", "bicubic")
DECODINGS = ("full", "scaled")


class Transform:
    """Resize, then crop, then flip; random in training, fixed in evaluation.

    Without a geometry, `resize` and `crop` say how; with one, `crop` is the size that comes out of it:

    - squash: the whole image, its sides scaled by factors of their own.
    - center: the shorter side scaled to 1 / crop_pct of the size, then the centre; what lies outside is lost.
    - pad: the whole image in its own proportions, bars in the mean's colour on two sides.

    Training takes each of them at 1 / crop_pct of the size, and a crop at a random place in it.

    Args:
        resize: (height, width), or the length of the shorter side as one int (the longer one at most 16 times
            that: thinner strips are squeezed), or None to keep the size.
        crop: (height, width), or one int for a square; at a random place in training, the centre in
            evaluation. An image smaller than the crop is padded with zeros on all sides. None: no crop.
        flip: mirror left to right with probability 1/2 in training.
        channels: 1 (grey) or 3 (RGB) of the result, whatever the image has.
        mean, std: per channel, in units of grey level / 255. Kept for the network, which normalises on the
            device; nothing is normalised here.
        geometry: squash, center, pad, or None.
        crop_pct: with a geometry, the share of the scaled image's side that the crop has; positive.
        interpolation: of resizing: nearest, bilinear or bicubic; with a geometry Pillow's, as in most pretraining.
        antialias: whether resizing averages over all pixels that it leaves out.
        augment: further augmentations of training, after crop and flip: names of
            `lsep_ml.data.augment.AUGMENTATIONS`, or operations on uint8 images that keep their size.
        decode: how files are to be decoded for it: "full", or "scaled", a JPEG at 1/2, 1/4 or 1/8 of its size where its
            sides are no smaller then than what is resized to (`least_side`).
        test_flip: whether evaluation averages the features of the image and of its mirror image. Kept for the network,
            as mean and std are.

    Raises:
        DataError: a size below 1, channels not in {1, 3}, mean or std of another length, std not positive, an unknown
            geometry or interpolation, a geometry without `crop` or with `resize`, a value that only a model can give,
            scaled decoding where nothing is resized.
    """

    def __init__(
        self,
        resize: Size = None,
        crop: Size = None,
        flip: bool = False,
        channels: int = 3,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        *,
        geometry: str | None = None,
        crop_pct: float = 1.0,
        interpolation: str = "bilinear",
        antialias: bool = True,
        augment: str | Operation | Sequence[str | Operation] | None = None,
        decode: str = "full",
        test_flip: bool = False,
    ) -> None:
        if channels not in (1, 3):
            raise DataError(f"transform.channels={channels}: 1 (grey) or 3 (RGB)")
        self.resize = None if resize is None else _pixels("resize", resize)
        self.crop = None if crop is None else _pixels("crop", crop)
        if self.crop is not None and len(self.crop) == 1:
            self.crop *= 2
        self.flip, self.test_flip = flip, test_flip
        self.augment = Augmentation(augment)
        self.channels = channels
        self.mean = _per_channel("mean", mean, default=0.0, channels=channels)
        self.std = _per_channel("std", std, default=1.0, channels=channels)
        if min(self.std) <= 0:
            raise DataError(f"transform.std={list(self.std)}: a standard deviation is positive")
        if interpolation not in INTERPOLATIONS:
            raise DataError(f"transform.interpolation={interpolation}: {', '.join(INTERPOLATIONS)}")
        self.interpolation, self.antialias = interpolation, antialias
        self.geometry, self.crop_pct = geometry, crop_pct
        self._check_geometry()
        if decode not in DECODINGS:
            raise DataError(f"transform.decode={decode}: {', '.join(DECODINGS)}")
        if decode == "scaled" and geometry is None and self.resize is None:
            raise DataError(
                "transform.decode=scaled: nothing is resized here, so images are decoded whole: transform.decode=full"
            )
        self.decode = decode

    def _check_geometry(self) -> None:
        if self.geometry is None:
            return
        if self.geometry not in GEOMETRIES:
            raise DataError(f"transform.geometry={self.geometry}: {', '.join(GEOMETRIES)}, or null")
        if self.crop is None:
            raise DataError(f"transform.geometry={self.geometry}: needs transform.crop, the network's size")
        if self.resize is not None:
            raise DataError(
                f"transform.resize={list(self.resize)}: with transform.geometry={self.geometry} the size is "
                "transform.crop; leave resize out, or set transform.geometry=null"
            )
        if (
            isinstance(self.crop_pct, bool)
            or not isinstance(self.crop_pct, float | int)
            or self.crop_pct <= 0
        ):
            raise DataError(
                f"transform.crop_pct={self.crop_pct}: a positive share of the scaled image's side"
            )

    @property
    def settings(self) -> dict[str, Any]:
        """Return what evaluation does, as plain data: `Transform(**settings)` does it again."""
        sizes = {"resize": self.resize, "crop": self.crop, "mean": self.mean, "std": self.std}
        return {
            **{key: None if value is None else list(value) for key, value in sizes.items()},
            "channels": self.channels,
            "geometry": self.geometry,
            "crop_pct": self.crop_pct,
            "interpolation": self.interpolation,
            "antialias": self.antialias,
            **({"test_flip": True} if self.test_flip else {}),
            **({"decode": self.decode} if self.decode != "full" else {}),
        }

    @property
    def least_side(self) -> int | None:
        """Return the pixels that both sides of an image keep where it is decoded at a part of its size; None: never.

        It is the largest side that anything is resized to, in training and evaluation, which so see the same images.
        """
        if self.decode == "full":
            return None
        return max(self._area(training=True) if self.geometry is not None else self.resize or ())

    @property
    def fixed_size(self) -> bool:
        """Return whether images of all sizes come out at one size, so that they fit in one batch."""
        return self.crop is not None or (self.resize is not None and len(self.resize) == 2)

    @property
    def is_random(self) -> bool:
        """Return whether training differs from evaluation."""
        return self.crop is not None or self.flip or len(self.augment) > 0

    def __call__(self, images: Tensor, draws: Sequence[float] | None = None, seed: int = 0) -> Tensor:
        """Transform images of one size.

        Args:
            images: uint8 (..., C, H, W), C in {1, 3}.
            draws: None in evaluation; in training three numbers in [0, 1): the crop's place from the top,
                from the left, and the coin of the flip. All images given get the same draws.
            seed: of the further augmentations, in training.

        Returns:
            uint8 (..., channels, H', W').
        """
        if images.shape[-3] != self.channels:
            functional = _torchvision()
            recolored = functional.rgb_to_grayscale if self.channels == 1 else functional.grayscale_to_rgb
            images = recolored(images)
        images = self._scaled(images, training=draws is not None)
        if draws is None:
            return images if self.crop is None else _torchvision().center_crop(images, list(self.crop))
        if self.crop is not None:
            images = _random_crop(images, self.crop, draws)
        if self.flip and draws[2] < 0.5:
            images = _torchvision().horizontal_flip(images)
        return self.augment(images, seed) if len(self.augment) else images

    def _scaled(self, images: Tensor, training: bool) -> Tensor:
        """Return images that only have to be cropped."""
        if self.geometry is None or self.crop is None:
            return (
                images if self.resize is None else self._resize(images, _resized(self.resize, images.shape))
            )
        size = self._area(training)
        scaled = self._resize(images, self._size_in(size, images.shape))
        if self.geometry != "pad":
            return scaled
        return _padded(scaled, size, [round(255 * mean) for mean in self.mean])

    def _area(self, training: bool) -> list[int]:
        """Return height and width of what is cropped, by the geometry."""
        assert self.crop is not None
        enlarged = training or self.geometry == "center"
        return [math.floor(side / self.crop_pct) if enlarged else side for side in self.crop]

    def _size_in(self, size: list[int], shape: Sequence[int]) -> list[int]:
        """Return height and width at which the geometry puts an image of a `shape` into an area of `size`."""
        if self.geometry == "squash":
            return size
        if self.geometry == "center":
            return _resized((size[0],), shape) if size[0] == size[1] else _over(size, shape)
        return _within(size, shape)

    def seen(self, height: int, width: int) -> tuple[float, float, float, float]:
        """Return top, left, height and width of what evaluation shows the network of an image of this size, as shares
        of its height and width: outside [0, 1] where there are bars.
        """
        shape, scaled = (height, width), [height, width]
        if self.geometry is not None:
            scaled = self._size_in(self._area(training=False), shape)
        elif self.resize is not None:
            scaled = _resized(self.resize, shape)
        crop = self.crop or scaled
        # Odd bars and crops as torchvision halves them.
        before = [
            round((whole - side) / 2) if whole > side else -((side - whole) // 2)
            for side, whole in zip(crop, scaled, strict=True)
        ]
        return before[0] / scaled[0], before[1] / scaled[1], crop[0] / scaled[0], crop[1] / scaled[1]

    def _resize(self, images: Tensor, size: list[int]) -> Tensor:
        # Without a geometry as ever, so that what is stored is found; torch's pixels are within two levels.
        if self.geometry is not None and self.antialias:
            return pillow_resize(images, size, self.interpolation)
        from torchvision.transforms import InterpolationMode

        how = InterpolationMode(self.interpolation)
        return _torchvision().resize(images, size, interpolation=how, antialias=self.antialias)


def _torchvision() -> Any:
    """Return torchvision's functional operations, which take a second to load, and which small images may not need."""
    from torchvision.transforms.v2 import functional

    return functional


def _resized(size: tuple[int, ...], shape: Sequence[int]) -> list[int]:
    """Height and width of images after resizing to (height, width) or to the shorter side."""
    if len(size) == 2:
        return list(size)
    height, width = shape[-2:]
    longer = min(size[0] * max(height, width) // min(height, width), LONGEST * size[0])
    return [size[0], longer] if height <= width else [longer, size[0]]


def _over(size: list[int], shape: Sequence[int]) -> list[int]:
    """Height and width of images that just cover `size` in their own proportions, as timm's ResizeKeepRatio gives."""
    ratio = min(given / wanted for given, wanted in zip(shape[-2:], size, strict=True))
    return [min(max(1, round(given / ratio)), LONGEST * max(size)) for given in shape[-2:]]


def _within(size: list[int], shape: Sequence[int]) -> list[int]:
    """Height and width of images that just fit in `size` in their own proportions."""
    ratio = max(given / wanted for given, wanted in zip(shape[-2:], size, strict=True))
    return [max(1, round(given / ratio)) for given in shape[-2:]]


def _padded(images: Tensor, size: list[int], fill: list[int]) -> Tensor:
    """Put images in the middle of an area of `size` in the colour `fill`."""
    missing = [wanted - given for wanted, given in zip(size, images.shape[-2:], strict=True)]
    top, left = missing[0] // 2, missing[1] // 2
    return _torchvision().pad(images, [left, top, missing[1] - left, missing[0] - top], fill=fill)


def _random_crop(images: Tensor, size: tuple[int, ...], draws: Sequence[float]) -> Tensor:
    """Return the crop whose top left corner is uniform over all that fit."""
    missing = [max(wanted - given, 0) for wanted, given in zip(size, images.shape[-2:], strict=True)]
    if any(missing):
        top, left = missing[0] // 2, missing[1] // 2
        images = _torchvision().pad(images, [left, top, missing[1] - left, missing[0] - top])
    height, width = images.shape[-2:]
    top = int(draws[0] * (height - size[0] + 1))
    left = int(draws[1] * (width - size[1] + 1))
    return _torchvision().crop(images, top, left, *size)


def _pixels(name: str, size: int | Sequence[int]) -> tuple[int, ...]:
    pixels = (size,) if isinstance(size, int) else tuple(size)
    if len(pixels) > 2 or not pixels or not all(isinstance(p, int) and p >= 1 for p in pixels):
        raise DataError(f"transform.{name}={size}: a number of pixels, [height, width], or null")
    return pixels


def _per_channel(
    name: str, values: Sequence[float] | None, default: float, channels: int
) -> tuple[float, ...]:
    numbers = (default,) * channels if values is None else tuple(float(value) for value in values)
    if len(numbers) != channels:
        raise DataError(f"transform.{name}={list(numbers)}: one number for each of {channels} channels")
    return numbers
