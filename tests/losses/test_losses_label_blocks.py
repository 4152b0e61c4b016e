"""A score layer and its loss by blocks of labels: value and gradients are those of all scores at once."""

from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from lsep_ml.losses import (
    BLOCKWISE_LOSSES,
    ClassCounts,
    LabelIndices,
    blockwise,
    blockwise_loss,
    bpmll_clamped_rows,
    bpmll_loss,
    lsep_loss,
    softmax_loss,
)


def layer(num_rows: int, num_labels: int, scale: float = 1.0) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Features, weight, bias and targets; the first row has no positive, the last none but positives."""
    generator = torch.Generator().manual_seed(num_labels)
    features = torch.randn(num_rows, 5, generator=generator, dtype=torch.float64)
    weight = scale * torch.randn(num_labels, 5, generator=generator, dtype=torch.float64)
    bias = torch.randn(num_labels, generator=generator, dtype=torch.float64)
    targets = torch.rand(num_rows, num_labels, generator=generator) < 0.3
    targets[0], targets[-1] = False, True
    return features, weight, bias, targets


COUNTS = ClassCounts(torch.arange(11), torch.arange(11, 0, -1))
CASES: list[tuple[str, dict[str, Any]]] = [
    *((name, {}) for name in BLOCKWISE_LOSSES),
    ("lsep", {"temperature": 3.0}),
    ("lsep", {"max_pairs": None, "weighted": False, "margin": 1.0}),
    ("bpmll", {"normalize": True}),
    ("softmax", {"normalize": True}),
    ("bce", {"normalize": True}),
    ("bce", {"pos_weight": "balanced", "class_counts": COUNTS, "pos_weight_cap": 3.0}),
]


@pytest.mark.parametrize(("name", "options"), CASES)
@pytest.mark.parametrize("block", [1, 4, 100])
@pytest.mark.parametrize("scale", [1.0, 40.0])
@pytest.mark.parametrize("masked", [False, True])
def test_values_and_gradients_are_those_of_all_labels_at_once(
    name: str, options: dict[str, Any], block: int, scale: float, masked: bool
) -> None:
    *tensors, targets = layer(6, 11, scale)
    mask = torch.rand(6, 11, generator=torch.Generator().manual_seed(1)) < 0.6 if masked else None
    if mask is not None:
        mask[1] = False
    indices = LabelIndices.of(targets)
    plain, blocked = ([each.clone().requires_grad_() for each in tensors] for _ in range(2))
    of_scores = partial(BLOCKWISE_LOSSES[name], mask=mask, reduction="none", **options)
    expected = of_scores(plain[0] @ plain[1].T + plain[2], targets)
    of_blocks = partial(blockwise_loss, name, *blocked, indices, mask=mask, block=block, **options)
    found = of_blocks(reduction="none")
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)
    of_rows = torch.linspace(-1, 2, 6, dtype=torch.float64)
    (of_rows @ expected).backward()
    (of_rows @ found).backward()
    for ours, theirs in zip(blocked, plain, strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-9, atol=1e-9)
    assert torch.equal(of_blocks(), found.mean())


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
        ({"max_pairs": 3}, "lsep with {'max_pairs': 3} is not"),
        ({"no": 3}, "lsep with {'no': 3} is not"),
        ({"block": 0}, "block=0"),
        ({"mask": torch.ones(6, 10, dtype=torch.bool)}, "mask: torch.bool"),
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


def test_functions_of_the_same_scores_are_computed_together() -> None:
    features, weight, bias, targets = layer(6, 11, 300.0)
    together = blockwise(partial(bpmll_loss, normalize=True), partial(bpmll_clamped_rows, normalize=True))
    assert together is not None
    losses, clamped = together(features, weight, bias, LabelIndices.of(targets), block=4)
    scores = features @ weight.T + bias
    torch.testing.assert_close(losses, bpmll_loss(scores, targets, normalize=True, reduction="none"))
    assert clamped.sum() == bpmll_clamped_rows(scores, targets, normalize=True) > 0


@pytest.mark.parametrize(
    "functions",
    [(partial(lsep_loss, max_pairs=4),), (torch.sum,), (softmax_loss, lsep_loss), (bpmll_loss, torch.sum)],
)
def test_what_needs_all_scores_has_no_way_by_blocks(functions: Any) -> None:
    assert blockwise(*functions) is None


def test_only_the_gradients_that_are_asked_for_are_computed() -> None:
    features, weight, bias, targets = layer(6, 11)
    given = features, weight.requires_grad_(), bias
    blockwise_loss("bce", *given, LabelIndices.of(targets)).backward()
    assert features.grad is None
    assert weight.grad is not None
    assert bias.grad is None
