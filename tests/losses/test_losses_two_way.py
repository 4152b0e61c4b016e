"""The two-way loss against its equation written as loops, and the properties that the equation has."""

import math
from functools import partial

import pytest
import torch
from loss_cases import draw, draw_mask, two_way
from torch import Tensor

from lsep_ml import losses
from lsep_ml.losses import two_way_loss
from lsep_ml.losses.kernels import labels


def expected(
    scores: Tensor, targets: Tensor, mask: Tensor | None, reduction: str, temperature: float
) -> tuple[Tensor, Tensor]:
    f = scores.detach().double().requires_grad_()
    known = torch.ones_like(targets, dtype=torch.bool) if mask is None else mask
    rows, columns = two_way(f, targets, known, temperature)
    num_rows, num_labels = f.shape
    value = rows / num_rows + columns / num_labels if reduction == "mean" else rows + columns
    return value.detach(), *torch.autograd.grad(value, f)


def computed(
    scores: Tensor, targets: Tensor | losses.LabelIndices, **options: object
) -> tuple[Tensor, Tensor]:
    f = scores.detach().clone().requires_grad_()
    value = two_way_loss(f, targets, **options)
    return value.detach(), *torch.autograd.grad(value, f)


@pytest.mark.parametrize("shape", [(1, 5), (6, 1), (7, 4), (40, 9)])
@pytest.mark.parametrize("density", [0.05, 0.5, 0.95])
@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("masked", [False, True])
def test_value_and_gradient_are_the_equation(
    shape: tuple[int, int], density: float, temperature: float, reduction: str, masked: bool
) -> None:
    scores, targets = draw(*shape, density)
    mask = draw_mask(*shape) if masked else None
    wanted = expected(scores, targets, mask, reduction, temperature)
    options = {"mask": mask, "reduction": reduction, "temperature": temperature}
    for given in (targets, targets.bool(), losses.LabelIndices.of(targets)):
        for enabled in (True, False):
            with losses.fused(enabled):
                found = computed(scores, given, **options)
            torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-9)


def test_large_targets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where dense targets are replaced by indices, in rows and in columns."""
    monkeypatch.setattr(labels, "LARGE", 0)
    monkeypatch.setattr(labels, "MANY", 0)
    scores, targets = draw(40, 30, 0.05)
    mask = draw_mask(40, 30)
    wanted = expected(scores, targets, mask, "mean", 4.0)
    torch.testing.assert_close(computed(scores, targets, mask=mask), wanted, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("many", [0, 512], ids=["sparse", "dense"])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0, 30.0])
def test_exponentials_are_taken_of_moderate_scores_alone(
    many: int, masked: bool, temperature: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(labels, "LARGE", 0)
    monkeypatch.setattr(labels, "MANY", many)
    scores, targets = draw(30, 12, 0.1)
    targets[0], targets[1], targets[2, :7], targets[2:, 11] = 0, 1, 1, 0
    mask = draw_mask(30, 12) if masked else None
    if mask is not None:
        mask[3] = False
    scores[4, 3], scores[5, 7] = labels.MODERATE, -labels.MODERATE
    for further in (1.0, 1.01, 1e4):  # just within, just beyond, and where exp overflows
        f = (scores * further).float()
        assert labels.moderate(f) == (further == 1)
        found = computed(f, targets, mask=mask, temperature=temperature)
        if further < 10:
            wanted = expected(f, targets, mask, "mean", temperature)
        else:  # where the loops overflow
            with losses.fused(False):
                wanted = computed(f.double(), targets, mask=mask, temperature=temperature)
        for part, of_equation in zip(found, wanted, strict=True):
            torch.testing.assert_close(part.double(), of_equation, rtol=3e-5, atol=1e-6)
        assert (found[1][wanted[1] == 0] == 0).all()


def test_gradcheck() -> None:
    scores, targets = draw(4, 6, 0.4, seed=3)
    scores.requires_grad_()
    for enabled in (True, False):
        with losses.fused(enabled):
            loss = partial(two_way_loss, targets=targets)
            assert torch.autograd.gradcheck(loss, scores)
            assert torch.autograd.gradgradcheck(loss, scores)


def test_transposed_scores_give_the_transposed_gradient() -> None:
    scores, targets = draw(5, 8, 0.4)
    value, gradient = computed(scores, targets)
    turned, of_turned = computed(scores.T, targets.T)
    torch.testing.assert_close((turned, of_turned.T), (value, gradient))


def test_without_the_columns_it_is_lsep_at_its_temperature() -> None:
    scores, targets = draw(6, 7, 0.4)
    rows = losses.lsep_loss(scores, targets, reduction="sum", temperature=2.0)
    columns = losses.lsep_loss(scores.T, targets.T, reduction="sum", temperature=2.0)
    both = two_way_loss(scores, targets, temperature=2.0)
    torch.testing.assert_close(both, rows / 6 + columns / 7)


def test_no_offset_of_all_scores_changes_it_and_an_offset_of_one_label_does() -> None:
    scores, targets = draw(6, 7, 0.4)
    torch.testing.assert_close(two_way_loss(scores + 50, targets), two_way_loss(scores, targets))
    other = scores.clone()
    other[:, 0] += 1
    assert not torch.isclose(two_way_loss(other, targets), two_way_loss(scores, targets))


def test_it_is_convex() -> None:
    scores, targets = draw(5, 4, 0.4)
    hessian = torch.autograd.functional.hessian(lambda f: two_way_loss(f, targets), scores).reshape(20, 20)
    assert torch.linalg.eigvalsh(hessian)[0] > -1e-12


@pytest.mark.parametrize("label", [0, 1])
def test_rows_and_columns_without_a_pair_add_nothing(label: int) -> None:
    scores, targets = draw(5, 4, 0.5)
    targets[2], targets[:, 1] = label, label
    value, gradient = computed(scores, targets, reduction="sum")
    wanted = expected(scores, targets, None, "sum", 4.0)
    torch.testing.assert_close((value, gradient), wanted)
    assert gradient[2, 1] == 0
    all_alike = computed(scores, torch.full_like(targets, label))
    assert all_alike[0] == 0
    assert (all_alike[1] == 0).all()
    hidden = computed(scores, targets, mask=torch.zeros(5, 4, dtype=torch.bool))
    assert hidden[0] == 0
    assert (hidden[1] == 0).all()


def test_one_image_has_no_columns_to_compare() -> None:
    scores, targets = draw(1, 6, 0.5)
    torch.testing.assert_close(
        two_way_loss(scores, targets), losses.lsep_loss(scores, targets, temperature=4.0)
    )


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(dtype: torch.dtype) -> None:
    scores, targets = draw(5, 20, 0.3)
    half = scores.to(dtype)
    value, gradient = computed(half, targets)
    assert value.dtype == torch.float32
    of_float, gradient_of_float = computed(half.float(), targets)
    assert value == of_float
    assert torch.equal(gradient, gradient_of_float.to(dtype))


@pytest.mark.parametrize("temperature", [0.1, 4.0, 100.0])
def test_any_score_gives_a_finite_value_and_gradient(temperature: float) -> None:
    targets = torch.tensor([[1, 0, 1, 0], [0, 0, 0, 0], [1, 1, 1, 1], [0, 1, 0, 1]])
    scores = torch.tensor([[1e4, -1e4, 0, 1e4], [5, 6, 7, 8], [-1e4, 0, 0, 1], [1e4, -1e4, 3, 0]])
    for enabled in (True, False):
        with losses.fused(enabled):
            value, gradient = computed(scores, targets, temperature=temperature)
        assert torch.isfinite(value)
        assert torch.isfinite(gradient).all()
        assert (gradient.abs() > 0.01).any()


def test_a_large_offset_costs_nothing() -> None:
    scores, targets = draw(8, 30, 0.1, seed=7)
    exact = (torch.round(scores * 64) / 64).float()
    for temperature in (1.0, 3.0):
        there = computed(exact + 1e4, targets, temperature=temperature)
        torch.testing.assert_close(
            there, computed(exact, targets, temperature=temperature), rtol=1e-5, atol=1e-7
        )


def test_rows_have_no_loss_of_their_own() -> None:
    scores, targets = draw(3, 4, 0.5)
    for reduction in ("none", "average"):
        with pytest.raises(ValueError, match=f"reduction='{reduction}': expected 'mean' or 'sum'"):
            two_way_loss(scores, targets, reduction=reduction)
    with pytest.raises(ValueError, match="temperature=inf"):
        two_way_loss(scores, targets, temperature=math.inf)
    assert losses.compares_images(partial(two_way_loss, temperature=2.0))
    assert not losses.compares_images(losses.lsep_loss)


def test_wrong_shapes_and_dtypes() -> None:
    with pytest.raises(ValueError, match=r"targets: shape \(2, 4\), scores have \(2, 3\)"):
        two_way_loss(torch.zeros(2, 3), torch.zeros(2, 4))
    with pytest.raises(ValueError, match=r"mask: torch.float32"):
        two_way_loss(torch.zeros(2, 3), torch.zeros(2, 3), mask=torch.ones(2, 3))


def test_perfect_scores_far_apart_cost_nothing() -> None:
    targets = torch.eye(3, dtype=torch.long)
    assert two_way_loss(200.0 * targets.double(), targets).item() == pytest.approx(0, abs=1e-60)
    wrong = two_way_loss(-200.0 * targets.double(), targets).item()
    assert wrong == pytest.approx(2 * (200 + math.log(2)))
