"""A loss and its gradient in one go: what autograd would store and walk again is computed once, in few buffers."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor

Formula = Callable[[Tensor], Tensor]
"""Scores (N, K) -> one value a row (N,), differentiable by autograd to any order."""
WithGradient = Callable[[Tensor], tuple[Tensor, Tensor]]
"""Scores (N, K) -> the same values (N,), and each value's gradient with respect to its row (N, K)."""

_enabled: ContextVar[bool] = ContextVar("lsep_ml.losses.fused", default=True)


@contextmanager
def fused(enabled: bool) -> Iterator[None]:
    """Switch, by `enabled`, how losses are differentiated inside the `with` block.

    With `fused(False)` every loss is its plain formula under autograd, as forward-mode derivatives need.

    Both ways give the same values and gradients to rounding. Without this switch the fused way is taken wherever it
    can be: not inside torch.compile, which fuses the formula itself, nor inside the transforms of torch.func.
    """
    token = _enabled.set(enabled)
    try:
        yield
    finally:
        _enabled.reset(token)


def plain_eager() -> bool:
    """Return whether operations run one by one, as they are written: neither compiled nor under a transform of
    torch.func."""
    return not torch.compiler.is_compiling() and not torch._C._are_functorch_transforms_active()


def soon_searched(values: Tensor) -> bool:
    """Return whether targets or scores can be looked at now, nothing waiting for it and nothing being traced."""
    # A subclass of Tensor, such as those of tracing and of sharding, may have no values here.
    return plain_eager() and type(values) is Tensor and values.device.type == "cpu"


def rowwise(scores: Tensor, formula: Formula, with_gradient: WithGradient) -> Tensor:
    """Compute formula(scores), one value a row (N,), and have `with_gradient` differentiate it where that can be."""
    if _enabled.get() and plain_eager() and torch.is_grad_enabled() and scores.requires_grad:
        values: Tensor = _Fused.apply(scores, formula, with_gradient)
        return values
    return formula(scores)


class _Fused(torch.autograd.Function):
    """Computes the gradient in the forward pass; the backward pass only scales it."""

    @staticmethod
    def forward(ctx: Any, scores: Tensor, formula: Formula, with_gradient: WithGradient) -> Tensor:
        values, gradient = with_gradient(scores)
        ctx.formula = formula
        ctx.save_for_backward(scores, gradient)
        return values

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor | None, None, None]:
        scores, gradient = ctx.saved_tensors
        if torch.is_grad_enabled():  # create_graph=True: the gradient is to be differentiated in its turn
            return *torch.autograd.grad(ctx.formula(scores), scores, outer, create_graph=True), None, None
        return gradient * outer[0][:, None], None, None
