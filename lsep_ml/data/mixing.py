"""Two images in one: mixup blends them, cutmix puts a rectangle of the one into the other; each keeps its label set.

What is drawn for a batch is a function of (seed, epoch, batch), and partners are of the whole batch, so neither depends
on the number of processes.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lsep_ml.data.errors import DataError

_MIXING = 3  # third word of the seed, see order.py


class Mix(NamedTuple):
    """Says how the images of a batch are mixed: each with that of its row in `partners`.

    share: lambda, what is left of an image itself. place: the middle of the rectangle that is cut from the partner, as
    shares of height and width; None blends.
    """

    partners: NDArray[np.int64]
    share: float
    place: tuple[float, float] | None = None


@dataclass(frozen=True)
class Mixing:
    """Says how training images are mixed: by mixup (Zhang et al. 2018), cutmix (Yun et al. 2019), or either with a
    coin.

    mixup, cutmix: alpha of the Beta(alpha, alpha) that a batch's share is drawn from; 0 leaves it out.

    Raises:
        DataError: a negative alpha.
    """

    mixup: float = 0.0
    cutmix: float = 0.0

    def __post_init__(self) -> None:
        for name, alpha in (("mixup", self.mixup), ("cutmix", self.cutmix)):
            if not 0 <= alpha < math.inf:
                raise DataError(f"training.{name}={alpha}: at least 0")

    def __bool__(self) -> bool:
        return self.mixup > 0 or self.cutmix > 0

    def draw(self, seed: int, epoch: int, batch: int, rows: NDArray[np.int64]) -> Mix:
        """Draw how the whole batch number `batch`, of these `rows`, is mixed."""
        rng = np.random.default_rng([seed, epoch, _MIXING, batch])
        partners = rng.permutation(rows)
        coin, *place = rng.random(3)
        cut = self.cutmix > 0 and (self.mixup == 0 or coin < 0.5)
        alpha = self.cutmix if cut else self.mixup
        return Mix(partners, float(rng.beta(alpha, alpha)), (place[0], place[1]) if cut else None)


UNMIXED = Mixing()


def mixed(images: Tensor, partners: Tensor, mix: Mix) -> tuple[Tensor, float]:
    """Mix `images`, uint8 (B, C, H, W), with their `partners`.

    Returns:
        The mixed images, blended ones rounded to the nearest grey level, and the share of themselves that is left: of a
        rectangle that the border cuts, more than was drawn.
    """
    if mix.place is None:
        blended = torch.lerp(partners.float(), images.float(), mix.share)
        return blended.round_().to(images.dtype), mix.share
    height, width = images.shape[-2:]
    top, bottom = _side(height, mix.share, mix.place[0])
    left, right = _side(width, mix.share, mix.place[1])
    cut = images.clone()
    cut[..., top:bottom, left:right] = partners[..., top:bottom, left:right]
    return cut, 1 - (bottom - top) * (right - left) / (height * width)


def _side(length: int, share: float, middle: float) -> tuple[int, int]:
    """Return where the rectangle begins and ends: sqrt(1 - share) of the side around `middle`, within the image."""
    half = int(length * math.sqrt(1 - share)) // 2
    centre = int(middle * length)
    return max(centre - half, 0), min(centre + half, length)
