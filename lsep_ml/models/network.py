"""The stage-1 network: normalisation on the device, a backbone, and the score layer; and its end alone, a probe."""

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from lsep_ml.models.heads import Csra, build_head


class Backbone(Protocol):
    """A module mapping normalised images (N, C, H, W) to features (N, `num_features`)."""

    num_features: int

    def __call__(self, images: Tensor) -> Tensor: ...


class Prediction(NamedTuple):
    """Says what the network says of a batch: label scores f(x) and the features f'(x) they are made from."""

    scores: Tensor  # float (N, K)
    features: Tensor  # float (N, D)


class Network(nn.Module):
    """Computes f(x) = W f'(x) + b on images normalised where they are computed on.

    Args:
        backbone: module with `num_features`, mapping float images (N, C, H, W) to features (N, D).
        num_labels: K, at least 2.
        mean, std: per channel, of images scaled to [0, 1].
        test_flip: whether f'(x) in evaluation is the mean of that of the image and that of its mirror image.

    Shapes:
        images uint8 (or float in [0, 255]) (N, C, H, W) -> scores (N, K) and features (N, D).

    Raises:
        ValueError: K < 2, `mean` and `std` of different or zero length, or `test_flip` with a head that reads places.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        backbone: nn.Module,
        num_labels: int,
        mean: Sequence[float],
        std: Sequence[float],
        test_flip: bool = False,
    ) -> None:
        super().__init__()
        if num_labels < 2:
            raise ValueError(f"num_labels={num_labels}: multi-label ranking needs at least 2 labels")
        if len(mean) != len(std) or not len(mean):
            raise ValueError(
                f"transform.mean={list(mean)}, transform.std={list(std)}: give one value per channel"
            )
        self.backbone = backbone
        self.score_layer: Any = build_head(backbone, num_labels)
        if test_flip and not isinstance(self.score_layer, nn.Linear):
            raise ValueError(
                "transform.test_flip=true: the mean of an image and its mirror image has no places that a head could "
                "read; take model.head=linear"
            )
        self.test_flip = test_flip
        self.register_buffer(
            "mean", 255 * torch.tensor(mean, dtype=torch.float32).view(-1, 1, 1), persistent=False
        )
        self.register_buffer(
            "std", 255 * torch.tensor(std, dtype=torch.float32).view(-1, 1, 1), persistent=False
        )

    @property
    def num_features(self) -> int:
        """Return D, the width of f'(x)."""
        width: int = self.score_layer.in_features
        return width

    @property
    def num_labels(self) -> int:
        """Return K."""
        number: int = self.score_layer.out_features
        return number

    @property
    def row_width(self) -> int:
        """D, and with it the width of the places behind f'(x) where the head reads some."""
        width: int = getattr(self.backbone, "row_width", self.num_features)
        return width

    def extract(self, images: Tensor) -> Tensor:
        """Compute from images (N, C, H, W) their features f'(x) (N, D), with the places behind them where the head
        reads places.

        With `test_flip`, in evaluation, the mean with those of the mirror image. Features that are given in their place
        are not normalised.
        """
        if images.ndim == 2:
            given: Tensor = self.backbone(images)
            return given
        normalised = (images.to(self.mean.dtype) - self.mean) / self.std
        features: Tensor = self.backbone(normalised)
        if self.test_flip and not self.training:
            features = (features + self.backbone(normalised.flip(-1))) / 2
        return features

    @torch.inference_mode()
    def places(self, images: Tensor) -> Tensor | None:
        """Compute from images (N, C, H, W) the places (N, C', H', W') from which `place_scores` makes scores that say
        where in an image a label is.

        None where scores are no mean over places: of a head of queries, of a linear one on other features than the mean
        of a map or of patch tokens (found by comparing them), and with `test_flip`.
        """
        given, linear = getattr(self.backbone, "places", None), isinstance(self.score_layer, nn.Linear)
        if given is None or self.test_flip or not (linear or isinstance(self.score_layer, Csra)):
            return None
        found = given((images.to(self.mean.dtype) - self.mean) / self.std)
        if found is None or found[1].shape[2:].numel() == 1:
            return None
        features, maps = found
        mean, close = maps.mean(dim=(2, 3)), 1e-4 * float(features.abs().max())
        averaged = mean.shape == features.shape and torch.allclose(mean, features, rtol=0, atol=close)
        return torch.as_tensor(maps) if averaged or not linear else None

    def forward(self, images: Tensor) -> Prediction:
        features = self.extract(images)
        return Prediction(self.score_layer(features), features[:, : self.num_features])


@torch.no_grad()
def take_score_rows(
    layer: nn.Linear, label_names: Sequence[str], known: Sequence[str], weight: Tensor, bias: Tensor
) -> list[str]:
    """Copy the score rows of the labels that both have by name; the layer's others stay. Returns these labels.

    Args:
        layer: of `label_names`, (K, D).
        known: the names of the rows of `weight` (K', D) and `bias` (K',).

    Raises:
        ValueError: rows of another width.
    """
    if weight.shape[1] != layer.in_features:
        raise ValueError(
            f"model.weights: score rows are {weight.shape[1]} wide, f'(x) of this network {layer.in_features}"
        )
    rows = {name: row for row, name in enumerate(known)}
    kept = [name for name in label_names if name in rows]
    for label, name in enumerate(label_names):
        if name in rows:
            layer.weight[label] = weight[rows[name]]
            layer.bias[label] = bias[rows[name]]
    return kept


class Probe(nn.Module):
    """Is the end of a network whose backbone is never trained: features that were extracted before -> scores.

    It holds the score layer itself, not a copy: training the one trains the other.
    """

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.backbone = nn.Identity()
        self.score_layer = network.score_layer
        self.num_labels = network.num_labels
        self.num_features = network.num_features

    def extract(self, features: Tensor) -> Tensor:
        """Return the features themselves."""
        return features


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
