"""The table of losses: each with its options, its oracle and the properties its equation has."""

from dataclasses import dataclass, field
from typing import Any, Literal

import loss_oracles as oracles
import pytest
import torch
from torch import Tensor

from lsep_ml import losses

Targets = Tensor | losses.LabelIndices


@dataclass(frozen=True)
class Case:
    """A loss with its options bound, its oracle, and which properties its equation has.

    kind: "pairs" is 0 without a positive or a negative, "positives" without a positive, "labels" is a sum over labels
    on its own scale. smooth: differentiable twice.
    """

    name: str
    oracle: oracles.Oracle
    options: dict[str, Any] = field(default_factory=dict)
    kind: Literal["pairs", "positives", "labels"] = "pairs"
    smooth: bool = True

    def __call__(self, scores: Tensor, targets: Targets, **more: Any) -> Tensor:
        loss: Tensor = getattr(losses, f"{self.name}_loss")(scores, targets, **self.options, **more)
        return loss

    def expected(self, scores: Tensor, targets: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Values (N,) and gradients (N, K) by the oracle, in float64."""
        f = scores.detach().double().requires_grad_()
        known = torch.ones_like(targets, dtype=torch.bool) if mask is None else mask
        rows = []
        for row, y, m in zip(f, targets.bool(), known, strict=True):
            positives, negatives = (y & m).nonzero()[:, 0].tolist(), (~y & m).nonzero()[:, 0].tolist()
            rows.append(self.oracle(row, positives, negatives, **self.options))
        values = torch.stack(rows)
        [gradient] = torch.autograd.grad(values.sum() + 0 * f.sum(), f)
        return values.detach(), gradient

    def computed(self, scores: Tensor, targets: Targets, **more: Any) -> tuple[Tensor, Tensor]:
        """Values (N,) and gradients (N, K) by the library."""
        f = scores.detach().clone().requires_grad_()
        values = self(f, targets, reduction="none", **more)
        return values.detach(), *torch.autograd.grad(values.sum(), f)


CASES = [
    Case("lsep", oracles.lsep),
    Case("lsep", oracles.weighted_lsep, {"weighted": True}, smooth=False),
    Case("lsep", oracles.tempered_lsep, {"temperature": 4.0}),
    Case("bpmll", oracles.bpmll),
    Case("bpmll", oracles.bpmll, {"normalize": True}),
    Case("ranking", oracles.ranking, smooth=False),
    Case("ranking", oracles.ranking, {"margin": 0.25}, smooth=False),
    Case("warp", oracles.warp, smooth=False),
    Case("warp", oracles.warp, {"margin": 2.5}, smooth=False),
    Case("pairwise_logistic", oracles.pairwise_logistic),
    Case("pairwise_logistic", oracles.pairwise_logistic, {"normalize": True}),
    Case("softmax", oracles.softmax, kind="positives"),
    Case("softmax", oracles.softmax, {"normalize": True}, kind="positives"),
    Case("zlpr", oracles.zlpr, kind="labels"),
    Case("bce", oracles.bce, kind="labels"),
    Case("bce", oracles.bce, {"normalize": True}, kind="labels"),
    Case("focal", oracles.focal, kind="labels"),
    Case("focal", oracles.focal, {"gamma": 0.5, "alpha": None}, kind="labels"),
    Case("asl", oracles.asl, kind="labels", smooth=False),
    Case("asl", oracles.asl, {"gamma_positive": 1.0, "shift": 0.0}, kind="labels"),
]


def case_name(case: Case) -> str:
    return "-".join([case.name, *case.options])


every_loss = pytest.mark.parametrize("case", CASES, ids=case_name)
shift_invariant_losses = pytest.mark.parametrize(
    "case", [case for case in CASES if case.kind != "labels"], ids=case_name
)


def draw(rows: int, labels: int, density: float, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Scores float64 (N, K) and 0/1 targets."""
    generator = torch.Generator().manual_seed(seed)
    scores = 2 * torch.randn(rows, labels, dtype=torch.float64, generator=generator)
    return scores, (torch.rand(rows, labels, generator=generator) < density).long()


def draw_mask(rows: int, labels: int, seed: int = 0) -> Tensor:
    """Which of the targets are known: seven in ten."""
    return torch.rand(rows, labels, generator=torch.Generator().manual_seed(seed)) < 0.7
