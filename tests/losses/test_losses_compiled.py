"""The loops that numba compiles, against the equations and against operators."""

import math
from collections.abc import Callable

import pytest
import torch
from loss_cases import draw, draw_mask, plain
from torch import Tensor

from lsep_ml import losses
from lsep_ml.losses.kernels import compiled

pytest.importorskip("numba")

NAMES = ["ranking", "warp"]
every_loss = pytest.mark.parametrize("name", NAMES)
Targets = Tensor | losses.LabelIndices


@pytest.fixture(autouse=True)
def used(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Have the loops take small tensors too. Of each call, whether all targets were right."""
    monkeypatch.setattr(compiled, "LARGE", 0)
    seen: list[bool] = []
    all_parts = compiled._all_parts

    def watched(of: Callable[[int, int], bool], total: int) -> bool:
        seen.append(all_parts(of, total))
        return seen[-1]

    monkeypatch.setattr(compiled, "_all_parts", watched)
    return seen


def by_operators(
    name: str, scores: Tensor, targets: Targets, mask: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compiled, "installed", lambda: False)
        return plain(name).computed(scores, targets, mask=mask)


@every_loss
@pytest.mark.parametrize("few", [0, 128], ids=["search", "compare"])
@pytest.mark.parametrize("masked", [False, True])
def test_the_equation(
    name: str, few: int, masked: bool, used: list[bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compiled, "FEW", few)
    scores, targets = draw(6, 40, 0.3)
    targets[0], targets[1] = 0, 1
    mask = draw_mask(6, 40) if masked else None
    for f in (scores, (2 * scores).round() / 2):  # without and with ties
        expected = plain(name).expected(f, targets, mask)
        for given in (targets.to(torch.uint8), losses.LabelIndices.of(targets)):
            computed = plain(name).computed(f, given, mask=mask)
            torch.testing.assert_close(computed, expected, rtol=1e-9, atol=1e-9)
    assert used == [True] * 4


@pytest.mark.parametrize("few", [0, 128], ids=["search", "compare"])
@pytest.mark.parametrize(
    "special",
    [
        [0.0, 0.0, 0.0, 0.0],
        [1e4, 1e4 + 1e-3, -1e4, 2e4],  # nearly all scores in one bin
        [1e20, -1e20, 1e25, 0.0],
        [math.inf, -math.inf, 0.0, 1.0],
        [math.nan, 0.0, 1.0, 2.0],
    ],
    ids=str,
)
def test_ranking_has_the_bits_of_operators(
    special: list[float], few: int, used: list[bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compiled, "FEW", few)
    scores, targets = torch.randn(8, 5000, generator=torch.Generator().manual_seed(0)), torch.zeros(8, 5000)
    targets[:, ::7] = 1  # of several blocks
    targets[3] = 0
    scores[0, :4] = torch.tensor(special)
    scores[1, 7::7][:4] = torch.tensor(special)
    scores[2] = (scores[2] * 2).round()
    value, gradient = plain("ranking").computed(scores, targets)
    expected_value, expected_gradient = by_operators("ranking", scores, targets)
    assert used == [True]
    right = ~expected_value.isnan()
    assert torch.equal(value.isnan(), ~right)
    torch.testing.assert_close(value[right], expected_value[right], rtol=1e-6, atol=0)
    assert torch.equal(gradient[right], expected_gradient[right])


@every_loss
@pytest.mark.parametrize("dtype", [torch.bool, torch.int64, torch.float32])
def test_targets_of_any_dtype(name: str, dtype: torch.dtype, used: list[bool]) -> None:
    scores, targets = draw(5, 30, 0.3)
    expected = by_operators(name, scores, targets)
    computed = plain(name).computed(scores.T.contiguous().T, targets.to(dtype).T.contiguous().T)
    torch.testing.assert_close(computed, expected)
    assert used == [True]


@every_loss
def test_the_number_of_threads_changes_no_bit(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    scores, targets = draw(7, 30, 0.3)
    alone = plain(name).computed(scores, targets)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    for one, other in zip(alone, plain(name).computed(scores, targets), strict=True):
        assert torch.equal(one, other)


@every_loss
@pytest.mark.parametrize("value", [-1, 2, 0.5, math.nan])
def test_other_targets_are_refused_as_ever(name: str, value: float, used: list[bool]) -> None:
    scores, targets = draw(5, 30, 0.3)
    targets = targets.float()
    targets[2, 4] = value
    with pytest.raises(ValueError, match=rf"targets\[2, 4\]={value:g}: expected"):
        plain(name)(scores, targets)
    known = torch.ones_like(targets, dtype=torch.bool)
    known[2, 4] = False
    assert plain(name)(scores, targets, mask=known).isfinite()
    assert used == [False, False, True]  # the loop, and the look that names the entry


@every_loss
@pytest.mark.parametrize(("rows", "labels"), [(40, 2000), (200, 400), (8, 9000)])
def test_scores_stay_on_their_device_whatever_the_default_is(name: str, rows: int, labels: int) -> None:
    scores, targets = draw(rows, labels, 0.02)
    expected = plain(name).computed(scores, targets)
    operators = by_operators(name, scores, targets)
    compiled._weights.cache_clear()
    with torch.device("meta"):
        torch.testing.assert_close(plain(name).computed(scores, targets), expected)
        torch.testing.assert_close(by_operators(name, scores, targets), operators)


@every_loss
def test_a_label_that_is_none_is_refused_as_ever(name: str, used: list[bool]) -> None:
    targets = losses.LabelIndices(torch.tensor([[3], [8]]), 8)
    with pytest.raises((RuntimeError, IndexError)):
        plain(name)(torch.zeros(2, 8), targets)
    assert used == [False]


@every_loss
def test_second_derivatives_and_no_derivatives(name: str, used: list[bool]) -> None:
    scores, targets = draw(4, 12, 0.3)
    loss = plain(name)
    assert torch.equal(loss(scores, targets), loss(scores.clone().requires_grad_(), targets).detach())
    f = scores.clone().requires_grad_()
    [gradient] = torch.autograd.grad(loss(f, targets), f, create_graph=True)
    torch.testing.assert_close(gradient.detach(), by_operators(name, scores, targets)[1] / 4)
    assert used
