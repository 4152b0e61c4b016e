"""From an image of any size to what the network takes: resize, crop, flip, on uint8 tensors."""

from collections.abc import Sequence

from torch import Tensor
from torchvision.transforms.v2 import functional as F

from lsep_ml.data.errors import DataError

Size = int | Sequence[int] | None

LONGEST = 16  # a strip of 1 x 20,000 pixels with its shorter side at 256 would take gigabytes


class Transform:
    """Resize, then crop, then flip; random in training, fixed in evaluation.

    Args:
        resize: (height, width), or the length of the shorter side as one int (the longer one at most 16 times
            that: thinner strips are squeezed), or None to keep the size. Bilinear with antialiasing.
        crop: (height, width), or one int for a square; at a random place in training, the centre in
            evaluation. An image smaller than the crop is padded with zeros on all sides. None: no crop.
        flip: mirror left to right with probability 1/2 in training.
        channels: 1 (grey) or 3 (RGB) of the result, whatever the image has.
        mean, std: per channel, in units of grey level / 255. Kept for the network, which normalises on the
            device; nothing is normalised here.

    Raises:
        DataError: a size below 1, channels not in {1, 3}, mean or std of another length, std not positive.
    """

    def __init__(
        self,
        resize: Size = None,
        crop: Size = None,
        flip: bool = False,
        channels: int = 3,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
    ) -> None:
        if channels not in (1, 3):
            raise DataError(f"transform.channels={channels}: 1 (grey) or 3 (RGB)")
        self.resize = None if resize is None else _pixels("resize", resize)
        self.crop = None if crop is None else _pixels("crop", crop)
        if self.crop is not None and len(self.crop) == 1:
            self.crop *= 2
        self.flip = flip
        self.channels = channels
        self.mean = _per_channel("mean", mean, default=0.0, channels=channels)
        self.std = _per_channel("std", std, default=1.0, channels=channels)
        if min(self.std) <= 0:
            raise DataError(f"transform.std={list(self.std)}: a standard deviation is positive")

    @property
    def fixed_size(self) -> bool:
        """Whether images of all sizes come out at one size, so that they fit in one batch."""
        return self.crop is not None or (self.resize is not None and len(self.resize) == 2)

    @property
    def is_random(self) -> bool:
        """Whether training differs from evaluation."""
        return self.crop is not None or self.flip

    def __call__(self, images: Tensor, draws: Sequence[float] | None = None) -> Tensor:
        """Transform images of one size.

        Args:
            images: uint8 (..., C, H, W), C in {1, 3}.
            draws: None in evaluation; in training three numbers in [0, 1): the crop's place from the top,
                from the left, and the coin of the flip. All images given get the same draws.

        Returns:
            uint8 (..., channels, H', W').
        """
        if images.shape[-3] != self.channels:
            images = F.rgb_to_grayscale(images) if self.channels == 1 else F.grayscale_to_rgb(images)
        if self.resize is not None:
            images = F.resize(images, _resized(self.resize, *images.shape[-2:]), antialias=True)
        if draws is None:
            return images if self.crop is None else F.center_crop(images, list(self.crop))
        if self.crop is not None:
            images = _random_crop(images, self.crop, draws)
        return F.horizontal_flip(images) if self.flip and draws[2] < 0.5 else images


def _resized(size: tuple[int, ...], height: int, width: int) -> list[int]:
    """Height and width of an image after resizing to (height, width) or to the shorter side."""
    if len(size) == 2:
        return list(size)
    longer = min(size[0] * max(height, width) // min(height, width), LONGEST * size[0])
    return [size[0], longer] if height <= width else [longer, size[0]]


def _random_crop(images: Tensor, size: tuple[int, ...], draws: Sequence[float]) -> Tensor:
    """The crop whose top left corner is uniform over all that fit."""
    missing = [max(wanted - given, 0) for wanted, given in zip(size, images.shape[-2:], strict=True)]
    if any(missing):
        top, left = missing[0] // 2, missing[1] // 2
        images = F.pad(images, [left, top, missing[1] - left, missing[0] - top])
    height, width = images.shape[-2:]
    top = int(draws[0] * (height - size[0] + 1))
    left = int(draws[1] * (width - size[1] + 1))
    return F.crop(images, top, left, *size)


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
