"""A small convolutional network, trained from scratch in minutes on a CPU."""

from collections.abc import Sequence
from pathlib import Path

from torch import Tensor, nn

from lsep_ml.models.on_cpu import BatchNorm, MaximumOfPairs
from lsep_ml.models.weights import load_weights


class MaximumOfMap(nn.Module):
    """Takes the maximum of each channel's map, (N, C, H, W) -> (N, C); its gradient goes to the first of equal ones.

    `nn.AdaptiveMaxPool2d(1)` has no deterministic gradient on a GPU.
    """

    def forward(self, maps: Tensor) -> Tensor:
        return maps.flatten(2).max(dim=2).values


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
                BatchNorm(width),
                MaximumOfPairs(),
                # of a quarter of the map: it and the maximum commute, the gradients too
                nn.ReLU(inplace=True),
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
