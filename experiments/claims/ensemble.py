"""Many small networks trained side by side on the same features: one for each learning rate and seed, in one pass.

The members share nothing but the arithmetic: each has its own weights, batches, rate and momentum, and each diverges
alone. So a sweep over rates and seeds takes seconds.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise, product
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from lsep_ml.losses import bpmll_clamped_rows
from lsep_ml.metrics import ranking_metrics

HIDDEN = (64, 64, 64)
MOMENTUM, WEIGHT_DECAY = 0.9, 5e-5
"""The paper's."""

Row = dict[str, Any]
Loss = Callable[..., Tensor]


class Problem(NamedTuple):
    """Features (N, D), standardised, and targets (N, K), for training and for validation."""

    features: Tensor
    targets: Tensor
    val_features: Tensor
    val_targets: Tensor


class Members:
    """Perceptrons, a layer of all in one tensor (M, inputs, outputs), drawn from the seed alone (He et al., 2015)."""

    def __init__(self, sizes: Sequence[int], seeds: Sequence[int], dtype: torch.dtype) -> None:
        self.parameters: list[Tensor] = []
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        for inputs, outputs in pairwise(sizes):
            draws = [torch.randn(inputs, outputs, generator=generator) for generator in generators]
            weights = torch.stack(draws) * (2 / inputs) ** 0.5
            self.parameters += [weights.to(dtype), torch.zeros(len(seeds), 1, outputs, dtype=dtype)]
        for parameter in self.parameters:
            parameter.requires_grad_()
        self.momenta = [torch.zeros_like(parameter) for parameter in self.parameters]

    def scores(self, features: Tensor) -> Tensor:
        """(M, B, D) or (B, D) -> (M, B, K)."""
        values = features
        for weights, bias in zip(self.parameters[::2], self.parameters[1::2], strict=True):
            values = values @ weights + bias
            if weights is not self.parameters[-2]:
                values = values.relu()
        return values

    @torch.no_grad()
    def step(self, gradients: Sequence[Tensor], rates: Tensor, clip: float | None) -> None:
        """SGD with momentum; each member's gradient clipped to a norm of its own."""
        norms = torch.stack([gradient.flatten(1).norm(dim=1) for gradient in gradients]).norm(dim=0)
        factors = torch.ones_like(norms) if clip is None else (clip / (norms + 1e-6)).clamp(max=1)
        for parameter, momentum, gradient in zip(self.parameters, self.momenta, gradients, strict=True):
            shape = (-1, 1, 1)
            momentum.mul_(MOMENTUM).add_(gradient * factors.view(shape) + WEIGHT_DECAY * parameter)
            parameter.sub_(rates.view(shape) * momentum)


def train(
    problem: Problem,
    loss: Loss,
    rates: Sequence[float],
    seeds: Sequence[int],
    epochs: int,
    *,
    clip: float | None = None,
    precision: torch.dtype = torch.float32,
    batch_size: int = 32,
) -> list[Row]:
    """One row for each rate, seed and epoch: train_loss, val_map, clamped_rows (BP-MLL's count) and failure.

    A member whose scores or weights are no longer finite has failed: a last row says so, and val_map is 0 in it.
    precision: float64 and float32 compute all in it; float16 and bfloat16 keep weights in float32 and multiply in it.
    """
    pairs = list(product(rates, seeds))
    dtype = torch.promote_types(precision, torch.float32)
    inputs, num_labels = problem.features.shape[1], problem.targets.shape[1]
    members = Members((inputs, *HIDDEN, num_labels), [seed for _, seed in pairs], dtype)
    rate_of = torch.tensor([rate for rate, _ in pairs], dtype=dtype)
    orders = {seed: np.random.default_rng(seed) for seed in seeds}
    features, val_features = problem.features.to(dtype), problem.val_features.to(dtype)
    alive = torch.ones(len(pairs), dtype=torch.bool)
    rows: list[Row] = []
    for epoch in range(1, epochs + 1):
        drawn = {seed: torch.from_numpy(rng.permutation(len(features))) for seed, rng in orders.items()}
        order = torch.stack([drawn[seed] for _, seed in pairs])
        totals, clamped = (
            torch.zeros(len(pairs), dtype=torch.float64),
            torch.zeros(len(pairs), dtype=torch.long),
        )
        for batch in order.split(batch_size, 1):
            with torch.autocast("cpu", dtype=precision, enabled=precision.itemsize < 4):
                scores = members.scores(features[batch])
            targets = problem.targets[batch]
            by_row = loss(scores.flatten(0, 1), targets.flatten(0, 1), reduction="none").view(batch.shape)
            clamped += clamped_rows(scores, targets)
            gradients = torch.autograd.grad(by_row.mean(1).sum(), members.parameters)
            members.step(gradients, rate_of, clip)
            totals += by_row.detach().sum(1)
        with torch.no_grad():
            val_scores = members.scores(val_features)
        finite = torch.stack(
            [parameter.flatten(1).isfinite().all(1) for parameter in members.parameters]
        ).all(0)
        finite &= val_scores.flatten(1).isfinite().all(1)
        for member in alive.nonzero()[:, 0].tolist():
            row = {"rate": pairs[member][0], "seed": pairs[member][1], "epoch": epoch}
            row |= {"train_loss": totals[member].item() / len(features), "clamped_rows": int(clamped[member])}
            ok = bool(finite[member])
            mean_ap = (
                ranking_metrics(val_scores[member].numpy(), problem.val_targets.numpy())["map"] if ok else 0.0
            )
            rows.append(row | {"val_map": mean_ap, "failure": "" if ok else "not finite"})
        alive &= finite
    return rows


def clamped_rows(scores: Tensor, targets: Tensor) -> Tensor:
    """Rows of each member's batch that BP-MLL would hold at its limit, (M,)."""
    return torch.stack([bpmll_clamped_rows(f, y) for f, y in zip(scores, targets, strict=True)])
