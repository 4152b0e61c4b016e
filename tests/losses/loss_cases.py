"""The table of losses: each with its options, its oracle and the properties its equation has."""

from dataclasses import dataclass, field
from typing import Any

import loss_oracles as oracles
import pytest
import torch
from torch import Tensor

from lsep_ml import losses


@dataclass(frozen=True)
class Case:
    """A loss with its options bound, its oracle, and which properties its equation has."""

    name: str
    oracle: oracles.Oracle
    options: dict[str, Any] = field(default_factory=dict)
    pairwise: bool = True  # rows without a negative are free too
    smooth: bool = True

    def __call__(self, scores: Tensor, targets: Tensor | losses.LabelIndices, **more: Any) -> Tensor:
        loss: Tensor = getattr(losses, f"{self.name}_loss")(scores, targets, **self.options, **more)
        return loss

    def expected(self, scores: Tensor, targets: Tensor, mask: Tensor | None = None) -> Tensor:
        known = torch.ones_like(targets, dtype=torch.bool) if mask is None else mask
        rows = [
            self.oracle(
                row,
                [k for k in range(len(row)) if y[k] and m[k]],
                [k for k in range(len(row)) if not y[k] and m[k]],
                **self.options,
            )
            for row, y, m in zip(scores.double().tolist(), targets.tolist(), known.tolist(), strict=True)
        ]
        return torch.tensor(rows, dtype=torch.float64)


CASES = [
    Case("lsep", oracles.lsep),
    Case("bpmll", oracles.bpmll),
    Case("bpmll", oracles.bpmll, {"normalize": True}),
    Case("ranking", oracles.ranking, smooth=False),
    Case("ranking", oracles.ranking, {"margin": 0.25}, smooth=False),
    Case("warp", oracles.warp, smooth=False),
    Case("warp", oracles.warp, {"margin": 2.5}, smooth=False),
    Case("softmax", oracles.softmax, pairwise=False),
    Case("softmax", oracles.softmax, {"normalize": True}, pairwise=False),
]


def case_name(case: Case) -> str:
    return "-".join([case.name, *case.options])


every_loss = pytest.mark.parametrize("case", CASES, ids=case_name)


def draw(rows: int, labels: int, density: float, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Scores float64 (N, K) and 0/1 targets."""
    generator = torch.Generator().manual_seed(seed)
    scores = 2 * torch.randn(rows, labels, dtype=torch.float64, generator=generator)
    return scores, (torch.rand(rows, labels, generator=generator) < density).long()
