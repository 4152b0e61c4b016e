"""A small convolutional network, trained from scratch in minutes on a CPU."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from lsep_ml.models.weights import load_weights


class MaximumOfMap(nn.Module):
    """Takes the maximum of each channel's map, (N, C, H, W) -> (N, C); its gradient goes to the first of equal ones.

    `nn.AdaptiveMaxPool2d(1)` has no deterministic gradient on a GPU.
    """

    def forward(self, maps: Tensor) -> Tensor:
        return maps.flatten(2).max(dim=2).values


class MaximumOfPairs(nn.Module):
    """Does what `nn.MaxPool2d(2)` does, bit for bit, on a CPU in half its time: (N, C, H, W) -> (N, C, H/2, W/2).

    torch looks at one window after the other, where two maxima of strided halves take whole vectors at a time.
    """

    def forward(self, maps: Tensor) -> Tensor:
        eager = maps.device.type == "cpu" and not torch.compiler.is_compiling() and not torch.jit.is_tracing()
        if not eager or not maps.is_contiguous() or maps.shape[2] % 2 or maps.shape[3] % 2:
            return F.max_pool2d(maps, 2)
        if maps.requires_grad and torch.is_grad_enabled():
            pooled: Tensor = _MaximumOfPairs.apply(maps)
            return pooled
        return _maxima(maps)[1]


def _maxima(maps: Tensor) -> tuple[Tensor, Tensor]:
    """Compute the maxima of neighbours in a line, (N, C, H, W/2), and those of two lines of them, (N, C, H/2, W/2)."""
    of_columns = torch.maximum(maps[..., ::2], maps[..., 1::2])
    return of_columns, torch.maximum(of_columns[:, :, ::2], of_columns[:, :, 1::2])


class _MaximumOfPairs(torch.autograd.Function):
    """Gives the gradient to the first of equal ones in reading order, as torch does."""

    @staticmethod
    def forward(ctx: Any, maps: Tensor) -> Tensor:
        of_columns, pooled = _maxima(maps)
        ctx.save_for_backward(maps, of_columns)
        return pooled

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *outer: Tensor) -> Tensor:
        maps, of_columns = ctx.saved_tensors
        inner, gradient = torch.empty_like(of_columns), torch.empty_like(maps)
        _part(outer[0], of_columns[:, :, ::2], of_columns[:, :, 1::2], inner[:, :, ::2], inner[:, :, 1::2])
        _part(inner, maps[..., ::2], maps[..., 1::2], gradient[..., ::2], gradient[..., 1::2])
        return gradient


def _part(outer: Tensor, first: Tensor, second: Tensor, to_first: Tensor, to_second: Tensor) -> None:
    """Write `outer` to where the maximum of `first` and `second` is, and 0 to where it is not."""
    torch.mul(outer, first >= second, out=to_first)  # several times faster than torch.where
    torch.sub(outer, to_first, out=to_second)


class SmallCNN(nn.Module):
    """Blocks of (3 x 3 convolution, batch norm, 2 x 2 maximum, ReLU), the maximum over the map, a hidden layer.

    The maximum asks whether something is anywhere in the image, which is what a label says. Batch norm before the
    hidden layer's ReLU keeps it alive at the rates at which plain SGD learns from scratch.

    Args:
        in_channels: 1 for grey, 3 for colour images.
        widths: output channels of each block.
        num_features: D, the width of f'(x), taken after a ReLU like VGG's fc7.
        dropout: probability of zeroing an entry of the pooled map's vector in training.
        weights: a file with its state dict, or None for a random start.
        strict: whether a file that does not fit whole is refused (`load_weights`).

    Shapes:
        float (N, in_channels, H, W) with H, W >= 2 ** len(widths) -> (N, num_features).
    """

    def __init__(
        self,
        in_channels: int = 1,
        widths: Sequence[int] = (16, 32, 64),
        num_features: int = 128,
        dropout: float = 0.0,
        weights: str | None = None,
        strict: bool = True,
    ) -> None:
        super().__init__()
        blocks: list[nn.Module] = []
        for width in widths:
            blocks += [
                nn.Conv2d(in_channels, width, kernel_size=3, padding=1, bias=False),
                nn.BatchNorm2d(width),
                MaximumOfPairs(),
                nn.ReLU(
                    inplace=True
                ),  # of a quarter of the map: it and the maximum commute, the gradients too
            ]
            in_channels = width
        self.blocks = nn.Sequential(*blocks, MaximumOfMap())
        self.hidden = nn.Sequential(
            nn.Dropout(dropout),
            nn.Linear(in_channels, num_features, bias=False),
            nn.BatchNorm1d(num_features),
            nn.ReLU(inplace=True),
        )
        self.num_features = num_features
        if weights is not None:
            load_weights(self, Path(weights), strict=strict)

    def forward(self, images: Tensor) -> Tensor:
        features: Tensor = self.hidden(self.blocks(images))
        return features
