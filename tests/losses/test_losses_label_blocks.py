"""A score layer and its loss by blocks of labels: value and gradients are those of all scores at once."""

from typing import Any

import pytest
import torch
from torch import Tensor

from lsep_ml import losses
from lsep_ml.losses import BLOCKWISE_LOSSES, LabelIndices, blockwise_loss


def layer(num_rows: int, num_labels: int, scale: float = 1.0) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Features, weight, bias and targets; the first row has no positive, the last none but positives."""
    generator = torch.Generator().manual_seed(num_labels)
    features = torch.randn(num_rows, 5, generator=generator, dtype=torch.float64)
    weight = scale * torch.randn(num_labels, 5, generator=generator, dtype=torch.float64)
    bias = torch.randn(num_labels, generator=generator, dtype=torch.float64)
    targets = torch.rand(num_rows, num_labels, generator=generator) < 0.3
    targets[0], targets[-1] = False, True
    return features, weight, bias, targets


@pytest.mark.parametrize("name", BLOCKWISE_LOSSES)
@pytest.mark.parametrize("block", [1, 3, 7, 100])
@pytest.mark.parametrize("scale", [1.0, 40.0])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_values_and_gradients_are_those_of_all_labels_at_once(
    name: str, block: int, scale: float, reduction: Any
) -> None:
    *tensors, targets = layer(6, 11, scale)
    indices = LabelIndices.of(targets)
    plain, blocked = ([each.clone().requires_grad_() for each in tensors] for _ in range(2))
    expected = getattr(losses, f"{name}_loss")(plain[0] @ plain[1].T + plain[2], targets, reduction=reduction)
    found = blockwise_loss(name, *blocked, indices, reduction=reduction, block=block)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)
    expected.sum().backward()
    found.sum().backward()
    for ours, theirs in zip(blocked, plain, strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", BLOCKWISE_LOSSES)
def test_gradients_are_numerical_ones(name: str) -> None:
    *tensors, targets = layer(4, 6)
    indices = LabelIndices.of(targets)
    assert torch.autograd.gradcheck(
        lambda *given: blockwise_loss(name, *given, indices, block=4),
        [each.requires_grad_() for each in tensors],
    )


@pytest.mark.parametrize("name", BLOCKWISE_LOSSES)
def test_large_scores_in_single_precision_have_finite_gradients(name: str) -> None:
    *tensors, targets = (each.float() for each in layer(6, 11, 1e3))
    given = [each.clone().requires_grad_() for each in tensors]
    blockwise_loss(name, *given, LabelIndices.of(targets), block=4).backward()
    assert all(torch.isfinite(each.grad).all() for each in given if each.grad is not None)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"name": "warp"}, "name='warp'"),
        ({"block": 0}, "block=0"),
        ({"bias": torch.zeros(3)}, r"bias: shapes .* expected \(N, D\)"),
        ({"targets": LabelIndices(torch.zeros(2, 1, dtype=torch.int64), 11)}, "2 rows of 11 labels"),
        ({"targets": LabelIndices(torch.zeros(6, 1, dtype=torch.int64), 4)}, "6 rows of 4 labels"),
    ],
)
def test_what_does_not_fit_is_refused(change: dict[str, Any], words: str) -> None:
    features, weight, bias, targets = layer(6, 11)
    given: dict[str, Any] = {
        "name": "lsep",
        "features": features,
        "weight": weight,
        "bias": bias,
        "targets": LabelIndices.of(targets),
    }
    with pytest.raises(ValueError, match=words):
        blockwise_loss(**(given | change))
