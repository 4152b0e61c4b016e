"""One table of properties over all losses, against the equations written pair by pair in float64."""

from functools import partial

import pytest
import torch
from loss_cases import Case, draw, draw_mask, every_loss, plain
from torch import Tensor

from lsep_ml import losses
from lsep_ml.losses.kernels import labels, violations


@every_loss
@pytest.mark.parametrize("num_labels", [2, 3, 20, 81])
@pytest.mark.parametrize("density", [0.02, 0.3, 0.98])
def test_value_and_gradient_are_the_equations(case: Case, num_labels: int, density: float) -> None:
    scores, targets = draw(6, num_labels, density)
    expected = case.expected(scores, targets)
    for enabled in (True, False):
        with losses.fused(enabled):
            torch.testing.assert_close(case.computed(scores, targets), expected, rtol=1e-9, atol=1e-9)


@every_loss
def test_a_loss_says_whether_a_constant_added_to_an_images_scores_changes_it(case: Case) -> None:
    scores, targets = draw(6, 7, 0.4)
    targets[:, 0], targets[:, 1] = 1, 0
    moved = scores + torch.arange(1, 7)[:, None]
    same = torch.allclose(case(moved, targets, reduction="none"), case(scores, targets, reduction="none"))
    assert losses.is_shift_invariant(getattr(losses, f"{case.name}_loss")) == same
    assert losses.is_shift_invariant(partial(getattr(losses, f"{case.name}_loss"), mask=None)) == same


@every_loss
@pytest.mark.parametrize("positives", [3, 150])
def test_large_targets(case: Case, positives: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where dense targets are replaced by indices, and where these are too many for that."""
    monkeypatch.setattr(labels, "LARGE", 0)
    monkeypatch.setattr(labels, "MANY", 0)
    scores, _ = draw(1, 400, 0.5)
    targets = torch.zeros(1, 400, dtype=torch.uint8)
    targets[0, torch.randperm(400, generator=torch.Generator().manual_seed(0))[:positives]] = 1
    mask = draw_mask(1, 400)
    if positives > 3:
        mask[0, targets[0] == 0] = False  # few negatives: the oracle visits every pair
        mask[0, (targets[0] == 0).nonzero()[:5]] = True
    expected = case.expected(scores, targets, mask)
    torch.testing.assert_close(case.computed(scores, targets, mask=mask), expected, rtol=1e-9, atol=1e-9)


@every_loss
@pytest.mark.parametrize("masked", [False, True])
def test_label_indices_are_the_same_targets(case: Case, masked: bool) -> None:
    scores, targets = draw(9, 7, 0.3, seed=11)
    targets[0], targets[1] = 0, 1
    mask = draw_mask(9, 7) if masked else None
    indices = losses.LabelIndices.of(targets)
    expected = case.computed(scores, targets, mask=mask)
    torch.testing.assert_close(case.computed(scores, indices, mask=mask), expected, rtol=1e-12, atol=1e-12)
    reverse = losses.LabelIndices(indices.indices.flip(1), 7)  # any order, padding anywhere
    torch.testing.assert_close(case.computed(scores, reverse, mask=mask), expected, rtol=1e-12, atol=1e-12)


def test_indices_of_dense_targets() -> None:
    targets = torch.tensor([[0, 1, 0, 1], [0, 0, 0, 0], [1, 1, 1, 0]])
    expected = torch.tensor([[1, 3, -1], [-1, -1, -1], [0, 1, 2]])
    for dtype in (torch.bool, torch.uint8, torch.int64, torch.float32):
        indices, num_labels = losses.LabelIndices.of(targets.to(dtype))
        assert torch.equal(indices, expected)
        assert num_labels == 4
    assert losses.LabelIndices.of(targets[1:2]).indices.tolist() == [[-1]]
    assert losses.LabelIndices.of(targets[:0]).indices.shape == (0, 1)


@every_loss
def test_gradcheck(case: Case) -> None:
    scores, targets = draw(4, 7, 0.4, seed=3)
    scores.requires_grad_()
    for enabled in (True, False):
        with losses.fused(enabled):
            assert torch.autograd.gradcheck(lambda f: case(f, targets), scores)
            if case.smooth:
                assert torch.autograd.gradgradcheck(lambda f: case(f, targets), scores)


@pytest.mark.parametrize("name", ["lsep", "bpmll", "softmax", "pairwise_logistic", "zlpr", "bce"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_second_derivatives_are_finite_in_rows_without_a_pair_and_far_from_a_mistake(
    name: str, dtype: torch.dtype
) -> None:
    case = plain(name)
    targets = torch.tensor([[0, 0, 0], [1, 1, 1], [1, 0, 0]])
    scores = torch.tensor([[0.0, 1, 2], [0, 1, 2], [500, -500, -500]], dtype=dtype)
    with losses.fused(False):
        hessian = torch.autograd.functional.hessian(lambda f: case(f, targets), scores)
    assert torch.isfinite(hessian).all()


@every_loss
@pytest.mark.parametrize("label", [0, 1])
@pytest.mark.parametrize("enabled", [False, True])
def test_rows_without_a_pair_are_exactly_zero(case: Case, label: int, enabled: bool) -> None:
    scores, targets = draw(3, 5, 0.5)
    targets[0] = label
    with losses.fused(enabled):
        values, gradient = case.computed(scores, targets)
    assert torch.isfinite(gradient).all()
    if case.kind == "pairs" or (case.kind == "positives" and label == 0):
        assert values[0] == 0
        assert (gradient[0] == 0).all()
    else:
        assert values[0] > 0


@every_loss
@pytest.mark.filterwarnings("ignore:Anomaly Detection has been enabled")
def test_nothing_on_the_way_is_infinite_or_nan(case: Case) -> None:
    scores, targets = draw(4, 6, 0.5)
    targets[0], targets[1] = 0, 1
    mask = draw_mask(4, 6)
    mask[2] = False
    for enabled in (True, False):
        with losses.fused(enabled), torch.autograd.detect_anomaly(check_nan=True):
            case.computed(scores, targets, mask=mask)


@every_loss
def test_ties_on_exact_scores(case: Case) -> None:
    scores = torch.tensor([[1.0, 1.0, 0.0, 2.0, 1.0, 0.5], [0.0] * 6], dtype=torch.float32)
    targets = torch.tensor([[1, 0, 1, 0, 1, 0], [1, 0, 0, 1, 0, 0]])
    values, gradient = case.computed(scores, targets)
    expected = case.expected(scores, targets)
    torch.testing.assert_close((values.double(), gradient.double()), expected, rtol=2e-6, atol=1e-7)


@every_loss
def test_a_masked_entry_enters_nothing(case: Case) -> None:
    scores, targets = draw(8, 9, 0.4, seed=5)
    mask = draw_mask(8, 9, seed=1)
    mask[0] = False
    values, gradient = case.computed(scores, targets, mask=mask)
    torch.testing.assert_close((values, gradient), case.expected(scores, targets, mask), rtol=1e-9, atol=1e-9)
    assert values[0] == 0
    assert (gradient[~mask] == 0).all()
    flipped = torch.where(mask, targets, 1 - targets)
    torch.testing.assert_close(
        case.computed(scores, flipped, mask=mask), (values, gradient), rtol=1e-12, atol=1e-12
    )


@every_loss
def test_a_full_mask_changes_nothing(case: Case) -> None:
    scores, targets = draw(5, 6, 0.5)
    full = torch.ones_like(targets, dtype=torch.bool)
    torch.testing.assert_close(
        case.computed(scores, targets, mask=full), case.computed(scores, targets), rtol=1e-12, atol=0
    )


@every_loss
def test_shift_and_permutation(case: Case) -> None:
    scores, targets = draw(6, 12, 0.3)
    values = case(scores, targets, reduction="none")
    if case.kind != "labels":
        torch.testing.assert_close(case(scores + 123.0, targets, reduction="none"), values)
    order = torch.randperm(12, generator=torch.Generator().manual_seed(0))
    if (
        case.counted
    ):  # the counts of ten labels stay the same where the first five are moved behind the others
        scores, targets, order = scores[:, :10], targets[:, :10], torch.arange(10).roll(5)
        values = case(scores, targets, reduction="none")
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
@pytest.mark.parametrize("large", [1, 1000])
def test_targets_of_any_dtype(
    case: Case, dtype: torch.dtype, large: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(labels, "LARGE", large)
    monkeypatch.setattr(labels, "MANY", 0)
    scores, targets = draw(2, 50, 0.05)
    assert torch.equal(case(scores, targets.to(dtype)), case(scores, targets))


@every_loss
@pytest.mark.parametrize("few", [0, 64])
def test_scores_and_targets_need_not_be_contiguous(
    case: Case, few: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(violations, "FEW", few)
    scores, targets = draw(50, 3, 0.05)
    values = case(scores.T.contiguous(), targets.T.contiguous(), reduction="none")
    torch.testing.assert_close(case(scores.T, targets.T, reduction="none"), values)


def invalid(scores: Tensor, targets: object, mask: Tensor | None, message: str) -> object:
    return pytest.param(scores, targets, mask, message, id=message)


@every_loss
@pytest.mark.parametrize(
    ("scores", "targets", "mask", "message"),
    [
        invalid(torch.zeros(2, 3, dtype=torch.long), torch.zeros(2, 3), None, "scores: dtype torch.int64"),
        invalid(torch.zeros(3), torch.zeros(3), None, r"scores: shape \(3,\)"),
        invalid(torch.zeros(2, 0), torch.zeros(2, 0), None, r"scores: shape \(2, 0\)"),
        invalid(torch.zeros(2, 3), torch.zeros(2, 4), None, r"targets: shape \(2, 4\), scores have \(2, 3\)"),
        invalid(torch.zeros(2, 3), torch.zeros(2, 3), torch.ones(2, 3), "mask: torch.float32"),
        invalid(torch.zeros(2, 3), torch.zeros(2, 3), torch.ones(2, 2).bool(), r"mask: torch.bool \(2, 2\)"),
        invalid(
            torch.zeros(2, 3),
            losses.LabelIndices(torch.zeros(2, 1), 3),
            None,
            "targets.indices: dtype torch.float32",
        ),
        invalid(
            torch.zeros(2, 3),
            losses.LabelIndices(torch.zeros(3, 1).long(), 3),
            None,
            r"targets.indices: shape \(3, 1\)",
        ),
        invalid(
            torch.zeros(2, 3),
            losses.LabelIndices(torch.zeros(2, 1).long(), 4),
            None,
            "targets.num_labels=4, scores have 3",
        ),
    ],
)
def test_wrong_shapes_and_dtypes(
    case: Case, scores: Tensor, targets: Tensor, mask: Tensor | None, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        case(scores, targets, mask=mask)
