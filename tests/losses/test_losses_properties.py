"""One table of properties over all losses, against the equations written as loops in float64."""

import math

import loss_oracles as oracles
import pytest
import torch
from loss_cases import Case, draw, every_loss
from torch import Tensor

from lsep_ml import losses


@every_loss
@pytest.mark.parametrize("labels", [2, 3, 20, 81])
@pytest.mark.parametrize("density", [0.02, 0.3, 0.98])
def test_value_and_gradient_are_the_equations(case: Case, labels: int, density: float) -> None:
    scores, targets = draw(6, labels, density)
    scores.requires_grad_()
    values = case(scores, targets, reduction="none")
    torch.testing.assert_close(values, case.expected(scores, targets), rtol=1e-9, atol=1e-9)
    [gradient] = torch.autograd.grad(values.sum(), scores)
    step = 1e-6
    for k in range(0, labels, max(1, labels // 5)):
        shift = torch.zeros_like(scores)
        shift[:, k] = step
        ahead = case.expected(scores.detach() + shift, targets)
        behind = case.expected(scores.detach() - shift, targets)
        torch.testing.assert_close(gradient[:, k], (ahead - behind) / (2 * step), rtol=1e-5, atol=1e-5)


@every_loss
@pytest.mark.parametrize("masked", [False, True])
def test_label_indices_are_the_same_targets(case: Case, masked: bool) -> None:
    scores, targets = draw(9, 7, 0.3, seed=11)
    targets[0], targets[1] = 0, 1
    mask = torch.rand(9, 7, generator=torch.Generator().manual_seed(2)) < 0.7 if masked else None
    results = []
    for given in (targets, losses.LabelIndices.of(targets)):
        f = scores.clone().requires_grad_()
        values = case(f, given, mask=mask, reduction="none")
        results.append((values, *torch.autograd.grad(values.sum(), f)))
    torch.testing.assert_close(results[0], results[1])


@every_loss
def test_fused_and_plain_agree(case: Case) -> None:
    scores, targets = draw(9, 20, 0.3, seed=12)
    results = []
    for enabled in (True, False):
        f = scores.clone().requires_grad_()
        with losses.fused(enabled):
            values = case(f, targets, reduction="none")
        results.append((values, *torch.autograd.grad(values.sum(), f)))
    torch.testing.assert_close(results[0], results[1], rtol=1e-12, atol=1e-12)


@every_loss
def test_gradcheck(case: Case) -> None:
    scores, targets = draw(4, 7, 0.4, seed=3)
    scores.requires_grad_()
    for enabled in (True, False):
        with losses.fused(enabled):
            assert torch.autograd.gradcheck(lambda f: case(f, targets), scores)
            if case.smooth:
                assert torch.autograd.gradgradcheck(lambda f: case(f, targets), scores)


@every_loss
@pytest.mark.parametrize("label", [0, 1])
def test_rows_without_a_pair_are_exactly_zero(case: Case, label: int) -> None:
    scores, targets = draw(3, 5, 0.5)
    targets[0] = label
    scores.requires_grad_()
    values = case(scores, targets, reduction="none")
    values.sum().backward()
    assert scores.grad is not None
    assert torch.isfinite(scores.grad).all()
    if case.pairwise or label == 0:
        assert values[0] == 0
        assert (scores.grad[0] == 0).all()
    else:
        assert values[0] > 0


@every_loss
def test_ties_on_exact_scores(case: Case) -> None:
    scores = torch.tensor([[1.0, 1.0, 0.0, 2.0, 1.0, 0.5], [0.0] * 6], dtype=torch.float32)
    targets = torch.tensor([[1, 0, 1, 0, 1, 0], [1, 0, 0, 1, 0, 0]])
    values = case(scores, targets, reduction="none")
    torch.testing.assert_close(values.double(), case.expected(scores, targets), rtol=1e-6, atol=0)


@every_loss
def test_a_masked_entry_enters_nothing(case: Case) -> None:
    scores, targets = draw(8, 9, 0.4, seed=5)
    mask = torch.rand(8, 9, generator=torch.Generator().manual_seed(1)) < 0.7
    mask[0] = False
    scores.requires_grad_()
    values = case(scores, targets, reduction="none", mask=mask)
    expected = case.expected(scores, targets, mask)
    torch.testing.assert_close(values, expected, rtol=1e-9, atol=1e-9)
    values.sum().backward()
    assert scores.grad is not None
    assert (scores.grad[~mask] == 0).all()
    flipped = torch.where(mask, targets, 1 - targets)
    assert torch.equal(case(scores, flipped, reduction="none", mask=mask), values)


@every_loss
def test_a_full_mask_changes_nothing(case: Case) -> None:
    scores, targets = draw(5, 6, 0.5)
    full = torch.ones_like(targets, dtype=torch.bool)
    assert torch.equal(case(scores, targets, mask=full), case(scores, targets))


@every_loss
def test_shift_and_permutation(case: Case) -> None:
    scores, targets = draw(6, 12, 0.3)
    values = case(scores, targets, reduction="none")
    torch.testing.assert_close(case(scores + 123.0, targets, reduction="none"), values)
    order = torch.randperm(12, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(case(scores[:, order], targets[:, order], reduction="none"), values)


@every_loss
def test_reductions(case: Case) -> None:
    scores, targets = draw(5, 6, 0.4)
    targets[0] = 0  # counts in the mean
    rows = case(scores, targets, reduction="none")
    assert rows.shape == (5,)
    torch.testing.assert_close(case(scores, targets), rows.sum() / 5)
    torch.testing.assert_close(case(scores, targets, reduction="sum"), rows.sum())
    with pytest.raises(ValueError, match="reduction='average'"):
        case(scores, targets, reduction="average")


@every_loss
@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.int64, torch.float32, torch.float16])
def test_targets_of_any_dtype(case: Case, dtype: torch.dtype) -> None:
    scores, targets = draw(5, 6, 0.4)
    assert torch.equal(case(scores, targets.to(dtype)), case(scores, targets))


@every_loss
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(case: Case, dtype: torch.dtype) -> None:
    scores, targets = draw(5, 20, 0.3)
    half = scores.to(dtype).requires_grad_()
    value = case(half, targets)
    assert value.dtype == torch.float32
    single = half.detach().float().requires_grad_()
    expected = case(single, targets)
    torch.testing.assert_close(value, expected)
    value.backward()
    expected.backward()
    assert half.grad is not None
    assert single.grad is not None
    assert half.grad.dtype == dtype
    assert torch.equal(half.grad, single.grad.to(dtype))


@every_loss
@pytest.mark.parametrize("size", [50.0, 1e4])
def test_extreme_scores_stay_finite(case: Case, size: float) -> None:
    scores = torch.tensor([[size, -size, 0.0, size], [-size, size, 3.0, 0.0]], requires_grad=True)
    targets = torch.tensor([[1, 0, 1, 0], [1, 0, 0, 0]])
    values = case(scores, targets, reduction="none")
    assert torch.isfinite(values).all()
    values.sum().backward()
    assert scores.grad is not None
    assert torch.isfinite(scores.grad).all()
    if case.name == "lsep":
        assert values.tolist() == pytest.approx([size, 2 * size], rel=1e-6)


def test_a_large_offset_costs_the_hinges_nothing() -> None:
    scores, targets = draw(2, 1000, 0.1, seed=7)
    exact = (torch.round(scores * 64) / 64).float()  # representable with the offset too
    for name in ("ranking", "warp"):
        case = Case(name, getattr(oracles, name))
        torch.testing.assert_close(
            case(exact + 1e4, targets, reduction="none").double(),
            case.expected(exact, targets),
            rtol=1e-5,
            atol=0,
        )


def test_ranking_is_torchs_multi_label_margin_loss() -> None:
    scores, targets = draw(7, 10, 0.4)
    indices = torch.full_like(targets, -1)
    for row, labels in enumerate(targets):
        positives = labels.nonzero().flatten()
        indices[row, : len(positives)] = positives
    reference = torch.nn.functional.multilabel_margin_loss(scores, indices, reduction="none") * 10
    torch.testing.assert_close(losses.ranking_loss(scores, targets, reduction="none"), reference)


def test_softmax_is_torchs_cross_entropy_for_one_label() -> None:
    scores, _ = draw(7, 10, 0.4)
    classes = torch.arange(7)
    targets = torch.nn.functional.one_hot(classes, 10)
    torch.testing.assert_close(
        losses.softmax_loss(scores, targets), torch.nn.functional.cross_entropy(scores, classes)
    )


def test_lsep_bounds_the_largest_violation_not_the_sum() -> None:
    scores, targets = torch.tensor([[-5.0, -5.0, 5.0]]).double(), torch.tensor([[1, 1, 0]])
    value = losses.lsep_loss(scores, targets).item()
    assert value == pytest.approx(math.log(1 + 2 * math.exp(10)))
    assert 10 <= value <= 10 + math.log(3) < 20 == oracles.ranking([-5, -5, 5], [0, 1], [2], margin=0)


def test_bpmll_counts_the_rows_its_clamp_holds() -> None:
    scores = torch.tensor([[-50.0, 50.0], [-30.0, 30.0], [60.0, 0.0]], requires_grad=True)
    targets = torch.tensor([[1, 0], [1, 0], [1, 0]])
    assert losses.bpmll_clamped_rows(scores, targets) == 1
    values = losses.bpmll_loss(scores, targets, reduction="none")
    torch.testing.assert_close(values, torch.tensor([math.exp(80), math.exp(60), math.exp(-60)]))
    values.sum().backward()
    # The held row is pushed the right way, with the size the gradient has at the limit.
    assert scores.grad is not None
    push = torch.tensor([[-math.exp(80), math.exp(80)], [-math.exp(60), math.exp(60)]])
    torch.testing.assert_close(scores.grad[:2], push)


@every_loss
@pytest.mark.parametrize(
    ("scores", "targets", "mask", "message"),
    [
        (torch.zeros(2, 3, dtype=torch.long), torch.zeros(2, 3), None, "scores: dtype torch.int64"),
        (torch.zeros(3), torch.zeros(3), None, r"scores: shape \(3,\)"),
        (torch.zeros(2, 3), torch.zeros(2, 4), None, r"targets: shape \(2, 4\), scores have \(2, 3\)"),
        (torch.zeros(2, 3), torch.zeros(2, 3), torch.ones(2, 3), "mask: torch.float32"),
        (
            torch.zeros(2, 3),
            torch.zeros(2, 3),
            torch.ones(2, 2, dtype=torch.bool),
            r"mask: torch.bool \(2, 2\)",
        ),
    ],
)
def test_wrong_shapes_and_dtypes(
    case: Case, scores: Tensor, targets: Tensor, mask: Tensor | None, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        case(scores, targets, mask=mask)
