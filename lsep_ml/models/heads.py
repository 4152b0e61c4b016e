"""Heads that see where things are: from the places of a map, or the patch tokens, to label scores.

They are given what `packed` makes: f'(x), which stage 2 reads whatever the head, and behind it the places.
"""

from typing import Any

import torch
from torch import Tensor, nn

HEADS = ("linear", "csra", "ml_decoder")
"""linear: W f'(x) + b. csra: `Csra`. ml_decoder: `QueryHead`."""


def packed(features: Tensor, tokens: Tensor) -> Tensor:
    """Compute f'(x) (N, D) and the places (N, T, C) in one row, (N, D + T C)."""
    return torch.cat([features, tokens.flatten(1)], dim=1)


def unpacked(row: Tensor, num_features: int, width: int) -> Tensor:
    """Return the places (N, T, C) of what was packed, C = `width`."""
    return row[:, num_features:].unflatten(1, (-1, width))


class Csra(nn.Module):
    """Class-specific residual attention (Zhu and Wu, ICCV 2021), one head at temperature 1.

    s_kt = w_k . x_t / |w_k| at every place t; f_k(x) = mean_t s_kt + lambda sum_t softmax_t(s_k)_t s_kt.

    Args:
        num_features: D, the width of f'(x), which it does not read.
        width: C of the places.
        num_labels: K.
        attention: lambda.

    Shapes:
        packed (N, D + T C) -> scores (N, K).
    """

    attention: Tensor

    def __init__(self, num_features: int, width: int, num_labels: int, attention: float = 0.1) -> None:
        super().__init__()
        self.in_features, self.out_features, self.width = num_features, num_labels, width
        self.weight = nn.Parameter(nn.Linear(width, num_labels, bias=False).weight.detach().clone())
        self.register_buffer("attention", torch.tensor(float(attention)))

    @property
    def directions(self) -> Tensor:
        """Return w_k / |w_k|, (K, C)."""
        return self.weight / self.weight.norm(dim=1, keepdim=True)

    def forward(self, row: Tensor) -> Tensor:
        x = unpacked(row, self.in_features, self.width)
        scores = x @ self.directions.T  # (N, T, K)
        attended = (scores.softmax(dim=1) * scores).sum(dim=1)
        return scores.mean(dim=1) + self.attention * attended


class _InTurn(nn.Module):
    """Decoder layers one after the other. torch's own, which timm uses, asks its layers for self-attention by now."""

    def __init__(self, layers: nn.ModuleList) -> None:
        super().__init__()
        self.layers = layers

    def forward(self, queries: Tensor, memory: Tensor) -> Tensor:
        for layer in self.layers:
            queries = layer(queries, memory)
        return queries


class QueryHead(nn.Module):
    """ML-Decoder (Ridnik et al. 2021), `timm.layers.ml_decoder`: fixed queries, one a label or a group of them, attend
    to the places; a score is a linear function of its query's answer.

    Args:
        num_features: D, the width of f'(x), which it does not read.
        width: C of the places.
        num_labels: K; beyond 100, labels share queries.
        hidden: width of the decoder.

    Shapes:
        packed (N, D + T C) -> scores (N, K).
    """

    def __init__(self, num_features: int, width: int, num_labels: int, hidden: int = 768) -> None:
        from timm.layers.ml_decoder import MLDecoder  # on first use, as the backbones

        super().__init__()
        self.in_features, self.out_features, self.width = num_features, num_labels, width
        self.decoder = MLDecoder(num_labels, decoder_embedding=hidden, initial_num_features=width)
        self.decoder.decoder = _InTurn(self.decoder.decoder.layers)

    @property
    def weight(self) -> Tensor:
        """Return what a score is made by from its query's answer; on the device that the head is on."""
        weight: Tensor = self.decoder.duplicate_pooling
        return weight

    def forward(self, row: Tensor) -> Tensor:
        scores: Tensor = self.decoder(unpacked(row, self.in_features, self.width))
        return scores


def place_scores(layer: nn.Module, maps: Tensor, labels: Tensor) -> Tensor:
    """Compute the scores (N, L, H, W) of some labels at each place of `maps` (N, C, H, W), by a linear layer or `Csra`.

    Of the linear layer on the mean of the places, the mean of these is the label's score (class activation maps, Zhou
    et al. 2016); of `Csra`, the score is their mean and lambda times their attended mean.
    """
    if isinstance(layer, Csra):
        return torch.einsum("lc,nchw->nlhw", layer.directions[labels], maps)
    weight, bias = (torch.as_tensor(getattr(layer, name))[labels] for name in ("weight", "bias"))
    return torch.einsum("lc,nchw->nlhw", weight, maps) + bias[:, None, None]


def build_head(backbone: Any, num_labels: int) -> nn.Module:
    """Return the head that a backbone was asked to give places for, or a linear layer.

    Args:
        backbone: with `num_features`, and with `head`, `head_lambda` and `token_width` where it gives places.
        num_labels: K.
    """
    kind = getattr(backbone, "head", "linear")
    if kind == "linear":
        return nn.Linear(backbone.num_features, num_labels)
    if kind == "csra":
        return Csra(backbone.num_features, backbone.token_width, num_labels, backbone.head_lambda)
    return QueryHead(backbone.num_features, backbone.token_width, num_labels)
