"""sigmoidF1 against its equation written as loops."""

import pytest
import torch
from loss_cases import draw, draw_mask
from torch import Tensor

from lsep_ml import losses
from lsep_ml.losses import soft_f1_loss


def oracle(f: Tensor, targets: Tensor, mask: Tensor, slope: float, offset: float) -> Tensor:
    total = f.new_zeros(())
    for k in range(f.shape[1]):
        rows = mask[:, k].nonzero()[:, 0].tolist()
        positives = [i for i in rows if targets[i, k]]
        if not positives:
            continue
        p = 1 / (1 + (-(slope * f[:, k] + offset)).exp())
        total = total + 1 - 2 * p[positives].sum() / (p[rows].sum() + len(positives))
    return total


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("options", [{}, {"slope": 3.0, "offset": -1.0}])
@pytest.mark.parametrize("density", [0.05, 0.5, 1.0])
def test_value_and_gradient_are_the_equation(masked: bool, options: dict[str, float], density: float) -> None:
    scores, targets = draw(9, 6, density)
    targets[:, 0] = 0
    mask = draw_mask(9, 6) if masked else None
    known = torch.ones(9, 6, dtype=torch.bool) if mask is None else mask
    exact = scores.clone().requires_grad_()
    total = (
        oracle(exact, targets, known, options.get("slope", 1.0), options.get("offset", 0.0)) + 0 * exact.sum()
    )
    [gradient] = torch.autograd.grad(total, exact)
    for given in (targets, targets.bool(), losses.LabelIndices.of(targets)):
        f = scores.clone().requires_grad_()
        value = soft_f1_loss(f, given, mask=mask, reduction="sum", **options)
        torch.testing.assert_close((value, *torch.autograd.grad(value, f)), (total, gradient))
        torch.testing.assert_close(soft_f1_loss(scores, given, mask=mask, **options), total / 6)


def test_it_compares_images_and_has_no_loss_of_one() -> None:
    scores, targets = draw(4, 3, 0.5)
    assert losses.compares_images(soft_f1_loss)
    with pytest.raises(ValueError, match="reduction='none': expected 'mean' or 'sum'"):
        soft_f1_loss(scores, targets, reduction="none")
    with pytest.raises(ValueError, match="slope=0"):
        soft_f1_loss(scores, targets, slope=0.0)


def test_perfect_and_useless_scores() -> None:
    targets = torch.eye(4, dtype=torch.long)
    sure = 1e4 * (2.0 * targets - 1)
    assert soft_f1_loss(sure, targets) == 0
    f = (-sure).requires_grad_()
    value = soft_f1_loss(f, targets)
    value.backward()
    assert value == 1
    assert f.grad is not None
    assert torch.isfinite(f.grad).all()
    assert soft_f1_loss(sure.half(), targets).dtype == torch.float32


def test_gradcheck() -> None:
    scores, targets = draw(4, 5, 0.4)
    assert torch.autograd.gradcheck(lambda f: soft_f1_loss(f, targets), scores.requires_grad_())
