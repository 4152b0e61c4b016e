"""From a map or tokens to one vector: the ways that `model.pool` names, beside the network's own."""

import math
from typing import Any

import torch
from torch import Tensor, nn

POOLS = ("trained", "mean", "max", "gem", "mean_max", "cls_mean")
"""trained: the network's own pooling. The others: `Pooling`."""

GEM_POWER = 3.0
_SMALLEST = 1e-6  # below it, the root in `gem` has no gradient that can be computed with


def gem(tokens: Tensor, power: float = GEM_POWER) -> Tensor:
    """Compute the generalised mean over the places, (mean x^p)^(1/p), of values >= 0 (Radenovic et al. 2018).

    (N, T, D) -> (N, D).
    """
    return tokens.clamp(min=_SMALLEST).pow(power).mean(dim=1).pow(1 / power)


class Pooling(nn.Module):
    """Pools what a timm network has before its own pooling, then passes it through what comes after that.

    mean, max, gem: over the places of the map or over the patch tokens, prefix tokens left out. mean_max: mean and
    maximum side by side. cls_mean: class token and mean of the patch tokens side by side. Each part goes through what
    the network has between its pooling and its classifier, where that takes a vector of its width; else it stays.

    Args:
        kind: one of POOLS but `trained`.
        model: timm's, its classifier removed.
        example: what its `forward_features` gives for an image, in evaluation.

    Raises:
        ValueError: an unknown kind, a network that gives neither map nor tokens, `cls_mean` without a class token,
            `gem` on values that can be negative.
    """

    def __init__(self, kind: str, model: Any, example: Any) -> None:
        super().__init__()
        if kind not in POOLS[1:]:
            raise ValueError(f"model.pool={kind}: {', '.join(POOLS)}")
        self.kind = kind
        self.layout = Layout(model, example)
        if kind == "cls_mean" and not self.layout.class_token:
            raise ValueError("model.pool=cls_mean: this network has no class token; take mean or mean_max")
        if kind == "gem" and not example.is_meta and bool(example.min() < 0):
            raise ValueError(
                "model.pool=gem: the map of this network can be negative, which has no generalised mean; take mean, "
                "max or mean_max"
            )
        self.continues = self._continues(model, example)

    def forward(self, model: Any, before: Tensor) -> Tensor:
        """Return features (N, D), or (N, 2 D), of what `model.forward_features` gave."""
        tokens = self.layout.tokens(before)
        parts = {
            "mean": lambda: (tokens.mean(dim=1),),
            "max": lambda: (tokens.amax(dim=1),),
            "gem": lambda: (gem(tokens),),
            "mean_max": lambda: (tokens.mean(dim=1), tokens.amax(dim=1)),
            "cls_mean": lambda: (before[:, 0], tokens.mean(dim=1)),
        }[self.kind]()
        return torch.cat([self._after(model, part) for part in parts], dim=1)

    def _after(self, model: Any, part: Tensor) -> Tensor:
        """Return what the network makes of a pooled vector: that of a map with this vector everywhere."""
        if _attends(model):
            return model.fc_norm(part) if hasattr(model, "fc_norm") else part
        return model.forward_head(self.layout.constant(part)) if self.continues else part

    def _continues(self, model: Any, example: Tensor) -> bool:
        if _attends(model):
            return False
        vector = self.layout.tokens(example)[:, 0]
        try:
            return bool(model.forward_head(self.layout.constant(vector)).ndim == 2)
        except (RuntimeError, AssertionError, ValueError, TypeError, AttributeError):
            return False  # it pools by attention over a map of one size, for instance


class Layout:
    """Says where the places, the channels and the prefix tokens are in what a timm network has before its pooling.

    Raises:
        ValueError: it is neither a map nor tokens.
    """

    def __init__(self, model: Any, example: Any) -> None:
        if not isinstance(example, Tensor) or example.ndim not in (3, 4):
            raise ValueError(
                "this network gives neither a map nor tokens before its pooling: model.pool=trained and "
                "model.head=linear are what it has"
            )
        has_class = getattr(model, "cls_token", None) is not None
        self.is_map = example.ndim == 4
        self.prefix = 0 if self.is_map else int(getattr(model, "num_prefix_tokens", int(has_class)))
        self.class_token = has_class and self.prefix > 0
        width = model.num_features
        self.channels_first = self.is_map and (example.shape[1] == width or example.shape[3] != width)
        if self.is_map and example.shape[1] == example.shape[3]:
            self.channels_first = str(getattr(model, "output_fmt", "NCHW")).rpartition(".")[2] != "NHWC"
        self.width: int = example.shape[1 if self.channels_first else -1]

    def tokens(self, before: Tensor) -> Tensor:
        """Return places (N, T, D), prefix tokens left out."""
        if self.channels_first:
            return before.flatten(2).transpose(1, 2)
        return before.flatten(1, 2) if self.is_map else before[:, self.prefix :]

    def grid(self, model: Any, before: Tensor) -> Tensor | None:
        """Return the places where they lie in the image, (N, D, H, W); None of tokens that are in no grid."""
        if self.is_map:
            return before if self.channels_first else before.movedim(-1, 1)
        tokens = before[:, self.prefix :]
        size = (
            getattr(getattr(model, "patch_embed", None), "grid_size", None)
            or [math.isqrt(tokens.shape[1])] * 2
        )
        fits = size[0] * size[1] == tokens.shape[1]
        return tokens.transpose(1, 2).unflatten(2, tuple(size)) if fits else None

    def constant(self, vector: Tensor) -> Tensor:
        """Return a vector (N, D) as a map of one place, or as all tokens."""
        if self.channels_first:
            return vector[:, :, None, None]
        if self.is_map:
            return vector[:, None, None, :]
        return vector.unsqueeze(1).expand(-1, self.prefix + 1, -1)


def _attends(model: Any) -> bool:
    """Return whether the network pools its tokens by attention, which is then left out."""
    return getattr(model, "attn_pool", None) is not None
