"""Half precision, large scores, large offsets; and the losses that torch and torchvision have too."""

import math
from typing import Any

import pytest
import torch
from loss_cases import CASES, Case, case_name, draw, draw_mask, every_loss, plain, shift_invariant_losses
from torch.nn import functional as F
from torchvision.ops import sigmoid_focal_loss

from lsep_ml import losses
from lsep_ml.losses.kernels import labels, violations

HALF = [torch.float16, torch.bfloat16]


@every_loss
@pytest.mark.parametrize("dtype", HALF)
def test_half_precision_is_computed_in_float32(case: Case, dtype: torch.dtype) -> None:
    scores, targets = draw(5, 20, 0.3)
    half = scores.to(dtype)
    values, gradient = case.computed(half, targets)
    assert values.dtype == torch.float32
    expected_values, expected_gradient = case.computed(half.float(), targets)
    torch.testing.assert_close(values, expected_values)
    assert torch.equal(gradient, expected_gradient.to(dtype))


@every_loss
@pytest.mark.parametrize("dtype", HALF)
def test_half_precision_scores_far_apart(case: Case, dtype: torch.dtype) -> None:
    scores, targets = draw(5, 20, 0.3)
    values, gradient = case.computed(scores.sign().mul(60).to(dtype), targets)
    assert torch.isfinite(values).all()
    assert torch.isfinite(gradient).all()


@every_loss
def test_under_autocast(case: Case) -> None:
    scores, targets = draw(4, 6, 0.4)
    features, weights = scores.float(), torch.eye(6, requires_grad=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        computed = features @ weights
        loss = case(computed, targets)
    assert computed.dtype == torch.bfloat16
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, case(computed.float(), targets))
    loss.backward()
    assert weights.grad is not None
    assert torch.isfinite(weights.grad).all()


LARGEST = {
    "lsep": [1e4, 2e4],
    "ranking": [1 + 1e4 + 1, 2e4 + 1 + 1e4 + 3 + 1 + 1e4 + 1],
    "warp": [1 + 1e4 + 1, (1 + 1 / 2 + 1 / 3) * (2e4 + 1 + 1e4 + 3 + 1 + 1e4 + 1)],
    "pairwise_logistic": [math.log(2) + 1e4, 2e4 + 1e4 + 3 + 1e4],
    "softmax": [math.log(2) + 1e4 + math.log(2), 2e4],
    "zlpr": [1e4 + math.log(2), 1e4 + 1e4],
    "bce": [1e4 + math.log(2), 1e4 + 1e4 + 3 + math.log(2)],
}


@pytest.mark.parametrize("name", LARGEST)
def test_scores_of_ten_thousand(name: str) -> None:
    scores = torch.tensor([[1e4, -1e4, 0.0, 1e4], [-1e4, 1e4, 3.0, 0.0]])
    targets = torch.tensor([[1, 0, 1, 0], [1, 0, 0, 0]])
    if name == "bce":
        targets[0, 0] = 1
    case = plain(name)
    for enabled in (True, False):
        with losses.fused(enabled):
            values, gradient = case.computed(scores, targets)
            torch.testing.assert_close(values, torch.tensor(LARGEST[name]), rtol=1e-4, atol=0)
            assert torch.isfinite(gradient).all()
            assert (gradient.abs() > 0.1).any()


@pytest.mark.parametrize("case", [case for case in CASES if case.name in ("lsep", "bpmll")], ids=case_name)
@pytest.mark.parametrize("many", [0, 512], ids=["sparse", "dense"])
@pytest.mark.parametrize("masked", [False, True])
def test_exponentials_of_large_batches_are_taken_of_moderate_scores_alone(
    case: Case, many: int, masked: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(labels, "MANY", many)
    monkeypatch.setattr(labels, "LARGE", 0)
    scores, targets = draw(6, 40, 0.1)
    targets[0], targets[1], targets[2, :7] = 0, 1, 1
    mask = draw_mask(6, 40) if masked else None
    if mask is not None:
        mask[3] = False
    scores[4, 3], scores[5, 7] = labels.MODERATE, -labels.MODERATE
    for further in (1.0, 1.01, 1e4):  # just within, just beyond, and where exp overflows
        f = (scores * further).float()
        assert labels.moderate(f) == (further == 1)
        values, gradient = case.computed(f, targets, mask=mask)
        with torch.no_grad():
            expected = case(f.double(), targets, mask=mask, reduction="none")
        if case.name == "bpmll":
            values, expected = values.clamp(max=1e30), expected.clamp(max=1e30)
        torch.testing.assert_close(values.double(), expected, rtol=3e-5, atol=1e-6)
        empty = expected == 0
        assert (gradient[empty] == 0).all()
        assert (values[empty] == 0).all()
        assert empty[:2].all()
        assert not torch.isnan(gradient).any()
        if further == 1:
            torch.testing.assert_close(
                (values.double(), gradient.double()), case.expected(f, targets, mask), rtol=3e-5, atol=1e-6
            )


@every_loss
def test_any_score_gives_finite_values_and_gradients(case: Case) -> None:
    targets = torch.tensor([[1, 0, 1, 0]])
    for scale in (100.0, 1e4, 1e6):
        for signs in ([1, -1, 0, 1], [-1, 1, 0, 0], [1, -1, 1, -1]):
            values, gradient = case.computed(scale * torch.tensor([signs]).float(), targets)
            assert torch.isfinite(values).all()
            assert torch.isfinite(gradient).all()


@shift_invariant_losses
def test_a_large_offset_costs_nothing(case: Case) -> None:
    scores, targets = draw(2, 300, 0.1, seed=7)
    exact = (torch.round(scores * 64) / 64).float()  # representable with the offset too
    for enabled in (True, False):
        with losses.fused(enabled):
            there, here = case.computed(exact + 1e4, targets), case.computed(exact, targets)
        torch.testing.assert_close(there, here, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("name", ["lsep", "zlpr", "pairwise_logistic", "bce"])
def test_no_logarithm_becomes_the_identity(name: str) -> None:
    """torch's softplus does at 20, 2e-9 off."""
    scores, targets = torch.tensor([[-12.5, 12.5]]).double(), torch.tensor([[1, 0]])
    pair, single = 25 + math.log1p(math.exp(-25)), 12.5 + math.log1p(math.exp(-12.5))
    expected = {"lsep": pair, "pairwise_logistic": pair, "zlpr": 2 * single, "bce": 2 * single}
    value = getattr(losses, f"{name}_loss")(scores, targets).item()
    assert value == pytest.approx(expected[name], rel=1e-15)


def test_hinges_of_a_hair_keep_their_digits() -> None:
    scores = torch.tensor([[1000.0, 999.5, -1000.0, 3.0]], requires_grad=True)
    targets = torch.tensor([[1, 0, 0, 0]])
    value = losses.ranking_loss(scores, targets, margin=0.5 + 2**-12)
    assert value.item() == pytest.approx(2**-12, rel=0.25)  # float32 resolves 1000 to 2^-14


@pytest.mark.parametrize("name", ["ranking", "warp"])
@pytest.mark.parametrize(
    ("few", "long", "large"),
    [(0, 9999, 9999), (100, 9999, 9999), (0, 1, 9999), (0, 1, 0)],
    ids=["search", "compare", "bin", "pairs"],
)
def test_every_way_to_count_violations(
    name: str, few: int, long: int, large: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(violations, "FEW", few)
    monkeypatch.setattr(violations, "LONG", long)
    monkeypatch.setattr(violations, "LARGE", large)
    monkeypatch.setattr(violations, "MANY", 9999)
    monkeypatch.setattr(violations, "CACHED", 70)
    case = plain(name)
    scores, targets = draw(3, 60, 0.2)
    targets[1] = 0
    for f in (scores, (2 * scores).round() / 2):  # without and with ties
        torch.testing.assert_close(case.computed(f, targets), case.expected(f, targets), rtol=1e-9, atol=1e-9)
    wide = torch.rand(2, 2500, generator=torch.Generator().manual_seed(0)).double()
    few = losses.LabelIndices(torch.tensor([[5, 2400, 7], [1, -1, -1]]), 2500)
    dense = torch.zeros(2, 2500).scatter(1, few.indices.clamp(min=0), 1.0)
    dense[1, 0] = 0
    torch.testing.assert_close(
        case.computed(wide, few), case.expected(wide, dense.long()), rtol=1e-9, atol=1e-9
    )


NAN, FAR = math.nan, violations.FAR


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    "bounds",
    [
        [-0.5, 0.0, 0.25, 1.0],
        [0.0, 0.0, 0.0, FAR],  # ties
        [0.5, FAR, FAR, FAR],
        [FAR, FAR, FAR, FAR],  # no positive
        [0.0, 1e-6, 2e-6, 1e4],  # nearly all scores in one bin
        [1e4, 1e4 + 1e-3, 2e4, FAR],
        [-1e20, 0.0, 1e20, FAR],
        [0.25, NAN, NAN, NAN],
    ],
    ids=str,
)
def test_bins_tell_what_comparing_tells(bounds: list[float], dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(3, 9000, generator=generator).to(dtype)
    scores[1] = (scores[1] * 4).round() / 4
    scores[2, :4], scores[2, 4:8] = torch.tensor([[1e25, -FAR, 1e4, -math.inf], bounds]).clamp(max=1e25)
    ascending = torch.tensor([bounds] * 3, dtype=dtype)
    below, ranks = violations._count_by_binning(scores, ascending)
    exceeds = scores[:, :, None] > ascending[:, None, :]
    if not ascending.isnan().any():  # else the loss is NaN whatever is counted
        assert torch.equal(below, exceeds.sum(2).to(dtype))
        assert torch.equal(ranks, exceeds.sum(1).to(dtype))


def test_scores_that_are_not_numbers_give_a_loss_that_is_none() -> None:
    scores = torch.randn(2, 5000, generator=torch.Generator().manual_seed(0))
    scores[0, 3] = NAN
    targets = torch.zeros(2, 5000).index_fill(1, torch.tensor([7, 9]), 1)
    values = losses.ranking_loss(scores, targets, reduction="none")
    assert values.isnan().tolist() == [True, False]


def test_bpmll_counts_the_rows_its_clamp_holds() -> None:
    scores = torch.tensor([[-50.0, 50.0], [-30.0, 30.0], [60.0, 0.0]], requires_grad=True)
    targets = torch.tensor([[1, 0], [1, 0], [1, 0]])
    assert losses.bpmll_clamped_rows(scores, targets) == 1
    assert losses.bpmll_clamped_rows(scores, targets, torch.tensor([[True, False]] * 3)) == 0
    values = losses.bpmll_loss(scores, targets, reduction="none")
    torch.testing.assert_close(values, torch.tensor([math.exp(80), math.exp(60), math.exp(-60)]))
    values.sum().backward()
    # The held row is pushed the right way, with the size the gradient has at the limit.
    assert scores.grad is not None
    push = torch.tensor([[-math.exp(80), math.exp(80)], [-math.exp(60), math.exp(60)]])
    torch.testing.assert_close(scores.grad[:2], push)


@pytest.mark.parametrize("dtype", losses.BPMLL_CLAMP)
def test_bpmll_is_held_in_every_dtype(dtype: torch.dtype) -> None:
    scores, targets = torch.tensor([[-5e2, 5e2]], dtype=dtype), torch.tensor([[1, 0]])
    values, gradient = plain("bpmll").computed(scores, targets)
    assert values.item() == pytest.approx(math.exp(losses.BPMLL_CLAMP[dtype]), rel=1e-5)
    assert torch.isfinite(gradient).all()
    assert gradient[0, 0] < -1e4 < 1e4 < gradient[0, 1]
    assert losses.bpmll_clamped_rows(scores, targets) == 1


def test_lsep_bounds_the_largest_violation_not_the_sum() -> None:
    scores, targets = torch.tensor([[-5.0, -5.0, 5.0]]).double(), torch.tensor([[1, 1, 0]])
    value = losses.lsep_loss(scores, targets).item()
    assert value == pytest.approx(math.log(1 + 2 * math.exp(10)))
    assert 10 <= value <= 10 + math.log(3) < 20 == losses.ranking_loss(scores, targets, margin=0.0)


def test_lsep_gradient_has_the_factor_of_the_exponential() -> None:
    """1 / exp(loss), where eqn 10 prints 1 / loss."""
    scores = torch.tensor([[0.5, -0.25]], dtype=torch.float64, requires_grad=True)
    value = losses.lsep_loss(scores, torch.tensor([[1, 0]]))
    value.backward()
    assert scores.grad is not None
    assert scores.grad[0, 1].item() == pytest.approx(math.exp(-0.75) / math.exp(value.item()))


def test_ranking_is_torchs_multi_label_margin_loss() -> None:
    scores, targets = draw(7, 10, 0.4)
    indices = F.pad(losses.LabelIndices.of(targets).indices, (0, 10), value=-1)[:, :10]
    reference = F.multilabel_margin_loss(scores, indices, reduction="none") * 10
    torch.testing.assert_close(losses.ranking_loss(scores, targets, reduction="none"), reference)


def test_softmax_is_torchs_cross_entropy_for_one_label() -> None:
    scores, _ = draw(7, 10, 0.4)
    classes = torch.arange(7)
    targets = F.one_hot(classes, 10)
    torch.testing.assert_close(losses.softmax_loss(scores, targets), F.cross_entropy(scores, classes))


def test_bce_is_torchs() -> None:
    scores, targets = draw(7, 10, 0.4)
    reference = F.binary_cross_entropy_with_logits(scores, targets.double())
    torch.testing.assert_close(losses.bce_loss(scores, targets, normalize=True), reference)


def test_focal_is_torchvisions() -> None:
    scores, targets = draw(7, 10, 0.4)
    reference = sigmoid_focal_loss(scores, targets.double(), reduction="sum")
    torch.testing.assert_close(losses.focal_loss(scores, targets, reduction="sum"), reference)


def test_asl_and_focal_without_focus_are_bce() -> None:
    scores, targets = draw(7, 10, 0.4)
    expected = losses.bce_loss(scores, targets)
    torch.testing.assert_close(losses.focal_loss(scores, targets, gamma=0.0, alpha=None), expected)
    torch.testing.assert_close(losses.asl_loss(scores, targets, gamma_negative=0.0, shift=0.0), expected)


REFUSED = [(case.name, *refused) for case in CASES for refused in case.refused]


@pytest.mark.parametrize(("name", "options", "message"), REFUSED)
def test_options_out_of_range(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        getattr(losses, f"{name}_loss")(torch.zeros(1, 2), torch.tensor([[1, 0]]), **options)


def test_every_case_has_a_name_of_its_own() -> None:
    assert len({case_name(case) for case in CASES}) == len(CASES)
