"""The backbone of features that were computed elsewhere: it leaves them as they are."""

from torch import Tensor, nn


class GivenFeatures(nn.Module):
    """Is the identity on features (N, `width`), which stand in the place of images; it has no `weights`.

    Raises:
        ValueError: no number of features, as with data that has images.
    """

    def __init__(self, width: int | None, weights: None = None) -> None:
        super().__init__()
        if width is None or width < 1:
            raise ValueError(
                f"model.width={width}: model=given takes the features of data=features; choose another "
                "model for images"
            )
        self.num_features = width

    def forward(self, features: Tensor) -> Tensor:
        return features
