"""A small convolutional network, trained from scratch in minutes on a CPU."""

from collections.abc import Sequence

from torch import Tensor, nn


class SmallCNN(nn.Module):
    """Blocks of (3 x 3 convolution, batch norm, ReLU, 2 x 2 maximum), then the mean and a hidden layer.

    Args:
        in_channels: 1 for grey, 3 for colour images.
        widths: output channels of each block.
        num_features: D, the width of f'(x), taken after a ReLU like VGG's fc7.
        dropout: probability of zeroing an entry of the pooled map's vector in training.
        pool: side of the map the last block is averaged to; its entries enter the hidden layer.

    Shapes:
        float (N, in_channels, H, W) with H, W >= 2 ** len(widths) -> (N, num_features).
    """

    def __init__(
        self,
        in_channels: int = 1,
        widths: Sequence[int] = (24, 48, 96),
        num_features: int = 128,
        dropout: float = 0.2,
        pool: int = 3,
    ) -> None:
        super().__init__()
        blocks: list[nn.Module] = []
        for width in widths:
            blocks += [
                nn.Conv2d(in_channels, width, kernel_size=3, padding=1, bias=False),
                nn.BatchNorm2d(width),
                nn.ReLU(inplace=True),
                nn.MaxPool2d(2),
            ]
            in_channels = width
        self.blocks = nn.Sequential(*blocks, nn.AdaptiveAvgPool2d(pool), nn.Flatten())
        self.hidden = nn.Sequential(
            nn.Dropout(dropout), nn.Linear(in_channels * pool**2, num_features), nn.ReLU(inplace=True)
        )
        self.num_features = num_features

    def forward(self, images: Tensor) -> Tensor:
        features: Tensor = self.hidden(self.blocks(images))
        return features
