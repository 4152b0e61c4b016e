"""The solver: minima known in closed form or by scikit-learn, and what it says where there is none."""

import math
from collections.abc import Callable, Sequence
from io import StringIO

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from rich.console import Console
from scipy import optimize
from sklearn.linear_model import LogisticRegression
from torch import Tensor, nn

from lsep_ml.losses import bce_loss, bpmll_loss, lsep_loss, softmax_loss, two_way_loss, zlpr_loss
from lsep_ml.training import solver
from lsep_ml.training.solver import Solution, minimise, minimise_each

N, D, K = 60, 7, 4


def problem(seed: int = 0) -> tuple[Tensor, Tensor]:
    draws = np.random.default_rng(seed)
    features = draws.normal(size=(N, D))
    targets = (features[:, :K] + draws.normal(size=(N, K)) > 0.3).astype(np.float64)
    return torch.from_numpy(features), torch.from_numpy(targets)


def regularised(
    layer: nn.Linear, loss: Callable[..., Tensor], features: Tensor, targets: Tensor, decay: float
) -> Callable[[], Tensor]:
    return lambda: loss(layer(features), targets) + decay * layer.weight.square().sum()


@pytest.mark.parametrize("condition", [1.0, 1e4])
def test_a_quadratic_is_solved(condition: float) -> None:
    draws = torch.Generator().manual_seed(0)
    basis = torch.linalg.qr(torch.randn(12, 12, dtype=torch.float64, generator=draws)).Q
    matrix = basis @ torch.diag(torch.logspace(0, -np.log10(condition), 12, dtype=torch.float64)) @ basis.T
    wanted = torch.randn(12, dtype=torch.float64, generator=draws)
    parts = [torch.zeros(4, dtype=torch.float64), torch.zeros(8, dtype=torch.float64)]
    for part in parts:
        part.requires_grad_()

    def objective() -> Tensor:
        away = torch.cat(parts) - wanted
        return away @ matrix @ away / 2

    solution = minimise(parts, objective, tolerance=1e-9)
    assert solution.converged
    assert solution.gradient_norm <= 1e-9
    assert solution.value == pytest.approx(0, abs=1e-12)
    found = torch.cat(parts).detach()
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-9 * condition)
    assert torch.linalg.vector_norm(matrix @ (found - wanted)) == pytest.approx(
        solution.gradient_norm, rel=1e-6, abs=1e-15
    )
    assert all(part.grad is None for part in parts)


@pytest.mark.parametrize("decay", [1e-3, 0.1])
def test_logistic_regression_is_scikit_learns(decay: float) -> None:
    features, targets = problem()
    layer = nn.Linear(D, K, dtype=torch.float64)
    objective = regularised(layer, bce_loss, features, targets, decay)
    assert minimise(list(layer.parameters()), objective, tolerance=1e-7).converged
    scores = layer(features).detach().numpy()
    for label in range(K):
        oracle = LogisticRegression(C=1 / (2 * decay * N), tol=1e-10, max_iter=10000)
        oracle.fit(features.numpy(), targets[:, label].numpy())
        np.testing.assert_allclose(scores[:, label], oracle.decision_function(features.numpy()), atol=1e-5)


@pytest.mark.parametrize(
    "loss",
    [bce_loss, bpmll_loss, lsep_loss, softmax_loss, two_way_loss, zlpr_loss],
    ids=lambda loss: loss.__name__,
)
def test_a_convex_loss_ends_at_one_place_from_anywhere(loss: Callable[..., Tensor]) -> None:
    features, targets = problem()
    found = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        layer = nn.Linear(D, K, dtype=torch.float64)
        objective = regularised(layer, loss, features, targets, 0.01)
        solution = minimise(list(layer.parameters()), objective, tolerance=1e-7)
        assert solution.converged, solution
        found.append((layer.weight.detach(), solution.value))
    torch.testing.assert_close(found[0][0], found[1][0], rtol=0, atol=2 * 1e-7 / 0.02)
    assert found[0][1] == pytest.approx(found[1][1], rel=1e-12)


@pytest.mark.parametrize("loss", [bpmll_loss, lsep_loss, two_way_loss], ids=lambda loss: loss.__name__)
def test_it_ends_no_higher_than_scipys(loss: Callable[..., Tensor]) -> None:
    features, targets = problem()
    layer = nn.Linear(D, K, dtype=torch.float64)
    objective = regularised(layer, loss, features, targets, 0.01)

    def scipys(flat: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        weight, bias = (torch.from_numpy(part).requires_grad_() for part in np.split(flat, [K * D]))
        scores = features @ weight.view(K, D).T + bias
        value = loss(scores, targets) + 0.01 * weight.square().sum()
        gradients = torch.autograd.grad(value, [weight, bias])
        return float(value.detach()), torch.cat(gradients).numpy()

    oracle = optimize.minimize(
        scipys, np.zeros(K * D + K), method="L-BFGS-B", jac=True, options={"ftol": 1e-15, "gtol": 1e-9}
    )
    found = minimise(list(layer.parameters()), objective, tolerance=1e-8)
    assert oracle.fun * (1 - 1e-6) <= found.value <= oracle.fun * (1 + 1e-12)


def test_slopes_lead_to_the_minimum_where_the_value_is_lost_in_rounding() -> None:
    features, targets = problem()
    layer = nn.Linear(D, K)
    objective = regularised(layer, bce_loss, features.float(), targets.float(), 0.01)
    found = minimise(list(layer.parameters()), lambda: objective() + 1e4, tolerance=1e-4)
    assert found.converged  # though float32 knows a value of 10,000 to 0.001
    assert found.iterations < 60


def test_it_is_determined_by_its_start() -> None:
    features, targets = problem()
    ends = []
    for _ in range(2):
        layer = nn.Linear(D, K)
        nn.init.zeros_(layer.weight)
        nn.init.zeros_(layer.bias)
        objective = regularised(layer, lsep_loss, features.float(), targets.float(), 0.01)
        ends.append((minimise(list(layer.parameters()), objective, tolerance=1e-3), layer.weight.detach()))
    assert ends[0][0] == ends[1][0]
    assert torch.equal(ends[0][1], ends[1][1])


def test_what_takes_long_says_where_it_is(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def said(between: float) -> list[str]:
        monkeypatch.setattr(solver, "_BETWEEN", between)
        caplog.clear()
        x = torch.tensor([3.0, -2.0], dtype=torch.float64, requires_grad=True)
        with caplog.at_level("INFO"):
            minimise([x], lambda: x.square().sum(), tolerance=1e-6)
        return [record.getMessage().strip() for record in caplog.records]

    assert said(60.0) == []
    assert said(0.0)[0] == "evaluation 1: 13, gradient norm 7.2, to be 1e-06"


def test_on_a_terminal_it_shows_how_far_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = Console(file=StringIO(), force_terminal=True, width=100)
    monkeypatch.setattr(solver, "console", shown)

    def written(before: float) -> str:
        monkeypatch.setattr(solver, "_BEFORE", before)
        x = torch.tensor([3.0, -2.0], dtype=torch.float64, requires_grad=True)
        minimise([x], lambda: x.square().sum(), tolerance=1e-6)
        return shown.file.getvalue()

    assert written(60.0) == ""
    said = written(0.0)
    assert "evaluation" in said
    assert "to be 1e-06" in said


def test_nothing_is_computed_twice_where_a_line_search_ends() -> None:
    features, targets = problem()
    layer, seen = nn.Linear(D, K).double(), list[bytes]()
    objective = regularised(layer, bce_loss, features, targets, 0.01)

    def counted() -> Tensor:
        seen.append(b"".join(part.detach().numpy().tobytes() for part in layer.parameters()))
        return objective()

    solution = minimise(list(layer.parameters()), counted, tolerance=1e-8)
    assert len(seen) > solution.iterations > 5
    assert len(set(seen)) == len(seen)
    assert float(objective().detach()) == solution.value  # of where they were left


def test_it_says_where_it_did_not_converge() -> None:
    features, targets = problem()
    layer = nn.Linear(D, K, dtype=torch.float64)
    objective = regularised(layer, bce_loss, features, targets, 1e-3)
    few = minimise(list(layer.parameters()), objective, tolerance=1e-9, max_iterations=3)
    assert not few.converged
    assert few.iterations == 3
    assert few.gradient_norm > 1e-9
    assert few.value == objective().item()
    # Float32 has no room for such a norm: it ends all the same.
    coarse = nn.Linear(D, K)
    objective = regularised(coarse, bce_loss, features.float(), targets.float(), 1e-3)
    stalled = minimise(list(coarse.parameters()), objective, tolerance=1e-12)
    assert not stalled.converged
    assert stalled.gradient_norm < 1e-4
    # Kinks: it stops at one, wherever the minimum is.
    corner = torch.tensor([1.0, 2.0], dtype=torch.float64, requires_grad=True)
    kinked = minimise([corner], lambda: (3 * corner.abs() + corner).sum(), tolerance=1e-6)
    assert not kinked.converged
    assert kinked.value < 12  # where it began


def test_what_is_not_finite_is_an_error() -> None:
    x = torch.ones(2, requires_grad=True)
    with pytest.raises(FloatingPointError, match="it is nan where it starts"):
        minimise([x], lambda: (x * torch.nan).sum(), tolerance=1e-3)
    with pytest.raises(FloatingPointError, match="it is inf"):
        minimise([x], lambda: (x * 1e30).pow(2).sum(), tolerance=1e-3)
    with pytest.raises(FloatingPointError, match="gradient is not finite where it starts"):
        minimise([x], lambda: (x - 1).sqrt().sum(), tolerance=1e-3)


def test_a_step_to_where_it_is_not_finite_is_halved() -> None:
    # e^2000x - 200,000 x overflows within the first step; -log(1 - x) - 10 x is nowhere from x = 1 on.
    x, y = (torch.zeros(2, dtype=dtype, requires_grad=True) for dtype in (torch.float64, torch.float32))
    assert minimise([x], lambda: (torch.exp(2000 * x) - 2e5 * x).sum(), tolerance=1e-3).converged
    np.testing.assert_allclose(x.detach(), math.log(100) / 2000, rtol=0, atol=1e-10)
    assert minimise([y], lambda: (-torch.log(1 - y) - 10 * y).sum(), tolerance=1e-3).converged
    torch.testing.assert_close(y.detach(), torch.full((2,), 0.9), rtol=0, atol=1e-5)


def test_several_functions_end_as_each_alone_whatever_the_others_are() -> None:
    def ends(*scales: float) -> list[tuple[Tensor, Solution]]:
        def evaluate(points: Sequence[Tensor]) -> tuple[Tensor, Sequence[Tensor]]:
            values = [(torch.exp(c * x) - c * x).sum() for c, x in zip(scales, points, strict=True)]
            slopes = [c * torch.exp(c * x) - c for c, x in zip(scales, points, strict=True)]
            return torch.stack(values), slopes

        starts = [torch.tensor([1.0, -2.0], dtype=torch.float64) for _ in scales]
        return minimise_each(starts, evaluate, tolerance=1e-8)

    together = ends(1.0, 3.0)
    assert [solution.converged for _, solution in together] == [True, True]
    for number, scale in enumerate((1.0, 3.0)):
        x = torch.tensor([1.0, -2.0], dtype=torch.float64, requires_grad=True)
        alone = minimise([x], lambda x=x, c=scale: (torch.exp(c * x) - c * x).sum(), tolerance=1e-8)
        assert together[number][1].iterations == alone.iterations
        torch.testing.assert_close(together[number][0], x.detach(), rtol=0, atol=1e-14)
        assert x.detach().abs().max() < 1e-8
        [(at, solution)] = ends(scale)
        assert torch.equal(at, together[number][0])
        assert solution == together[number][1]


@pytest.mark.parametrize("tolerance", [0.0, -1.0, float("nan"), float("inf")])
def test_a_tolerance_is_a_number_above_0(tolerance: float) -> None:
    with pytest.raises(ValueError, match="expected a number above 0"):
        minimise([torch.ones(1, requires_grad=True)], lambda: torch.ones(1).sum(), tolerance=tolerance)


def test_without_parameters_there_is_nothing_to_do() -> None:
    with pytest.raises(ValueError, match="none to minimise over"):
        minimise([], lambda: torch.ones(1).sum(), tolerance=1.0)


def test_a_kink_takes_no_more_evaluations_than_it_is_given() -> None:
    start = torch.tensor([3.0, -2.0], dtype=torch.float64)
    x, calls = start.clone().requires_grad_(), []

    def objective() -> Tensor:
        calls.append(1)
        return x.abs().sum() + 0.1 * x.square().sum()

    found = minimise([x], objective, tolerance=1e-9, max_evaluations=40)
    assert len(calls) <= 40
    assert found.value < float(start.abs().sum())
