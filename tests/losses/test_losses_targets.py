"""Targets are looked at in every loss: what is neither 0 nor 1 is refused, or has a meaning."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from loss_cases import class_counts, draw, draw_mask
from torch import Tensor
from torch.func import grad, vmap

from lsep_ml import losses
from lsep_ml.losses.kernels import labels, values

PUBLIC = {name.removesuffix("_loss"): getattr(losses, name) for name in losses.__all__ if "_loss" in name}
del PUBLIC["blockwise"]  # of sparse targets alone
PUBLIC = {
    name: losses.with_class_counts(loss, lambda: class_counts(40))
    if name in ("distribution_balanced", "ldam")
    else loss
    for name, loss in PUBLIC.items()
}
PUBLIC["bpmll_clamped_rows"] = losses.bpmll_clamped_rows
SOFT = ("bce", "softmax", "zlpr")
every_function = pytest.mark.parametrize("name", PUBLIC)


def counts_for(name: str, num_labels: int) -> dict[str, Any]:
    """Class counts of so many labels, for the losses that need them."""
    return {"class_counts": class_counts(num_labels)} if name in ("distribution_balanced", "ldam") else {}


@every_function
@pytest.mark.parametrize("value", [-1, 2, 0.5, 1 - 2**-24, 1e-30, -0.25, 1.25, math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("large", [0, 10**9])
def test_floats_that_are_no_targets_are_refused(
    name: str, value: float, large: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(labels, "LARGE", large)
    monkeypatch.setattr(labels, "MANY", 0)
    scores, targets = draw(3, 40, 0.1)
    wrong = targets.float()
    wrong[1, 7] = value
    if name in SOFT and 0 <= value <= 1:
        PUBLIC[name](scores, wrong)
        return
    with pytest.raises(ValueError, match=rf"targets\[1, 7\]={value:g}: expected") as error:
        PUBLIC[name](scores, wrong)
    assert "give targets > 0" in str(error.value)


@every_function
@pytest.mark.parametrize(
    ("value", "dtype"), [(-1, torch.int64), (2, torch.int64), (2, torch.uint8), (-1, torch.int8)]
)
@pytest.mark.parametrize("large", [0, 10**9])
def test_integers_that_are_no_targets_are_refused(
    name: str, value: int, dtype: torch.dtype, large: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(labels, "LARGE", large)
    monkeypatch.setattr(labels, "MANY", 0)
    scores, targets = draw(3, 40, 0.1)
    wrong = targets.to(dtype)
    wrong[0, 39] = value
    with pytest.raises(ValueError, match=rf"targets\[0, 39\]={value}: expected"):
        PUBLIC[name](scores, wrong)


@every_function
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_both_signs_are_refused_though_they_cancel(name: str, dtype: torch.dtype) -> None:
    """y (1 - y) is negative outside [0, 1]: 1.2 and 0.4 sum to 0."""
    targets = torch.tensor([[1.2, 0.4, 1, 0] * 10], dtype=dtype)
    with pytest.raises(ValueError, match=r"targets\[0, 0\]=1\.2"):
        PUBLIC[name](torch.zeros(1, 40), targets)


@every_function
@pytest.mark.parametrize("large", [0, 10**9])
def test_what_stands_at_an_unknown_entry_does_not_matter(
    name: str, large: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(labels, "LARGE", large)
    monkeypatch.setattr(labels, "MANY", 0)
    scores, targets = draw(6, 40, 0.2)
    mask = draw_mask(6, 40)
    wrong = torch.where(mask, targets, torch.tensor([-1, math.nan, 9, 0.5] * 10))
    for given in (wrong, wrong.nan_to_num().long()):
        f, g = scores.clone().requires_grad_(), scores.clone().requires_grad_()
        found, expected = PUBLIC[name](f, given, mask=mask), PUBLIC[name](g, targets, mask=mask)
        assert torch.equal(found, expected)
        if found.requires_grad:
            found.backward()
            expected.backward()
            assert torch.equal(f.grad, g.grad)


@every_function
@pytest.mark.filterwarnings("ignore")
def test_a_compiled_loss_asserts(name: str) -> None:
    scores, targets = draw(3, 40, 0.4)
    torch.compiler.reset()
    compiled = torch.compile(PUBLIC[name], backend="aot_eager", fullgraph=True)
    assert torch.allclose(compiled(scores, targets.double()), PUBLIC[name](scores, targets))
    with pytest.raises(RuntimeError, match="targets: expected"):
        compiled(scores, 2.0 * targets)


@pytest.mark.parametrize("num_labels", [3, 5000])
@pytest.mark.parametrize("name", [name for name in PUBLIC if name != "bpmll_clamped_rows"])
@pytest.mark.parametrize("sparse", [False, True])
def test_an_empty_batch_has_nothing_to_refuse(name: str, num_labels: int, sparse: bool) -> None:
    scores = torch.zeros(0, num_labels, requires_grad=True)
    targets = torch.zeros(0, num_labels)
    given = losses.LabelIndices(torch.zeros(0, 2, dtype=torch.int64), num_labels) if sparse else targets
    loss = PUBLIC[name](scores, given, reduction="sum", **counts_for(name, num_labels))
    loss.backward()
    assert loss == 0
    assert scores.grad is not None
    assert scores.grad.shape == scores.shape


def soft_bce(f: Tensor, y: Tensor, known: list[int]) -> Tensor:
    return sum(
        (
            -y[j] * torch.log(torch.sigmoid(f[j])) - (1 - y[j]) * torch.log(torch.sigmoid(-f[j]))
            for j in known
        ),
        f.new_zeros(()),
    )


def soft_softmax(f: Tensor, y: Tensor, known: list[int]) -> Tensor:
    total = sum((f[j].exp() for j in known), f.new_zeros(()))
    return sum((-y[j] * torch.log(f[j].exp() / total) for j in known), f.new_zeros(()))


def soft_zlpr(f: Tensor, y: Tensor, known: list[int]) -> Tensor:
    negative = sum(((1 - y[j]) * f[j].exp() for j in known), f.new_zeros(()))
    positive = sum((y[j] * (-f[j]).exp() for j in known), f.new_zeros(()))
    return torch.log(1 + negative) + torch.log(1 + positive)


soft_losses = pytest.mark.parametrize(
    ("loss", "oracle"),
    [(losses.bce_loss, soft_bce), (losses.softmax_loss, soft_softmax), (losses.zlpr_loss, soft_zlpr)],
)


def soft_case() -> tuple[Tensor, Tensor]:
    """Targets of all kinds: 0, 1, and between."""
    scores, targets = draw(5, 6, 0.4)
    soft = targets + (1 - 2 * targets) * torch.rand(5, 6, generator=torch.Generator().manual_seed(3)) / 2
    soft[:, :2] = targets[:, :2].float()
    return scores, soft.double()


@soft_losses
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("large", [0, 10**9])
def test_soft_targets_are_the_equation(
    loss: Callable[..., Any],
    oracle: Callable[..., Tensor],
    masked: bool,
    large: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(labels, "LARGE", large)
    monkeypatch.setattr(labels, "MANY", 0)
    scores, soft = soft_case()
    mask = draw_mask(5, 6) if masked else torch.ones(5, 6, dtype=torch.bool)
    exact = scores.clone().requires_grad_()
    expected = torch.stack(
        [oracle(f, y, m.nonzero()[:, 0].tolist()) for f, y, m in zip(exact, soft, mask, strict=True)]
    )
    [gradient] = torch.autograd.grad(expected.sum(), exact)
    given = torch.where(mask, soft, math.nan)
    for enabled in (True, False):
        f = scores.clone().requires_grad_()
        with losses.fused(enabled):
            values = loss(f, given, mask=mask if masked else None, reduction="none")
            [found] = torch.autograd.grad(values.sum(), f)
        torch.testing.assert_close((values, found), (expected, gradient), rtol=1e-9, atol=1e-9)


@soft_losses
def test_soft_targets_under_transforms(loss: Callable[..., Any], oracle: Callable[..., Tensor]) -> None:
    scores, soft = soft_case()
    rows = vmap(grad(lambda f, y: loss(f[None], y[None])))(scores, soft)
    f = scores.clone().requires_grad_()
    [expected] = torch.autograd.grad(loss(f, soft, reduction="sum"), f)
    torch.testing.assert_close(rows, expected)
    assert torch.autograd.gradgradcheck(lambda f: loss(f, soft), scores.requires_grad_())


@soft_losses
def test_soft_targets_at_the_ends_are_hard_ones(
    loss: Callable[..., Any], oracle: Callable[..., Tensor]
) -> None:
    """However near: there is no jump between the two ways."""
    scores, targets = draw(5, 6, 0.4)
    nearly = targets.double() + (1 - 2 * targets) * 1e-12
    torch.testing.assert_close(loss(scores, nearly), loss(scores, targets), rtol=1e-9, atol=0)


READS = [
    "item",
    "tolist",
    "nonzero",
    "numpy",
    "cpu",
    "to",
    "equal",
    "is_nonzero",
    "allclose",
    "unique",
    "masked_select",
    "__bool__",
    "__int__",
    "__float__",
    "__index__",
    "__array__",
    "__contains__",
]
"""Methods of tensors for whose values a device is waited for; `to` at least where it is to the CPU."""


@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize(
    ("value", "dtype"),
    [
        *((value, torch.float32) for value in (0, 1, 0.5, -1, 1.5, math.nan)),
        (0.5, torch.float64),
        (1, torch.float16),
        (1, torch.bool),
        *((value, dtype) for value in (1, 2) for dtype in (torch.uint8, torch.int64)),
        (-1, torch.int8),
    ],
)
def test_on_a_device_nothing_waits_for_the_look(
    value: float, dtype: torch.dtype, soft: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Targets that say they are on CUDA: no number is read, and the assertion is the device's."""
    targets = torch.tensor([[0, 1], [value, 0]], dtype=dtype)
    right = 0 <= value <= 1 and (soft or value in (0, 1))

    def waits(*_: object, **__: object) -> None:
        raise AssertionError("a number is read")

    asserted = torch._assert_async
    told: list[Tensor] = []
    with monkeypatch.context() as patch:
        patch.setattr(Tensor, "device", property(lambda _: torch.device("cuda")), raising=False)
        patch.setattr(Tensor, "is_cuda", property(lambda _: True), raising=False)
        for name in READS:
            patch.setattr(Tensor, name, waits, raising=False)
        for name in ("equal", "is_nonzero", "nonzero", "allclose", "unique"):
            patch.setattr(torch, name, waits)
        patch.setattr(torch, "_assert_async", told.append)
        values.check_targets(targets, soft=soft)
        values.check_targets(targets[:0], soft=soft)
    if dtype == torch.bool:  # which cannot be anything else
        assert told == []
        return
    assert [bool(one) for one in told] == [right]
    if not right:
        with pytest.raises(RuntimeError):
            asserted(told[0])
