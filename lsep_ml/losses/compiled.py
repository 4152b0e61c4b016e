"""A loss compiled into one region that computes its value and its gradient together."""

import logging
from collections.abc import Callable
from types import FunctionType
from typing import Any

import torch
from torch import Tensor
from torch._dynamo.exc import TorchDynamoException
from torch.nn.functional import pad

from lsep_ml.losses.fused import plain_eager
from lsep_ml.losses.hinge import ranking_loss, warp_loss
from lsep_ml.losses.inputs import Reduction, check
from lsep_ml.losses.labels import LabelIndices, soon_searched
from lsep_ml.losses.violations import UNROLLED

Loss = Callable[..., Tensor]

WIDEST = 4096
"""Labels beyond which compiled code no longer keeps a row in the cache, and the loss as it is takes less time."""

log = logging.getLogger(__name__)


def compiled(loss: Loss, backend: str | Callable[..., Any] = "inductor") -> Loss:
    """The same loss, compiled by torch.compile: value and gradient in one go, which the backward pass only scales.

        fast_loss = compiled(lsep_loss)
        fast_loss(scores, targets).backward()

    The first calls take seconds. Values and gradients are those of the loss to rounding; the gradient can not be
    differentiated again. The loss is called as it is for more than 4,096 labels and for WARP, where that takes less
    time, for draws (`max_pairs`), and where nothing can be compiled, as without a C++ compiler.

    Args:
        loss: any loss of this package, or a functools.partial of one.
        backend: of torch.compile.
    """
    options_of = getattr(loss, "keywords", {})
    function = getattr(loss, "func", loss)

    def value_and_gradient(
        scores: Tensor,
        targets: Tensor | LabelIndices,
        mask: Tensor | None,
        reduction: Reduction,
        options: dict[str, Any],
    ) -> tuple[Tensor, Tensor]:
        def total(f: Tensor) -> tuple[Tensor, Tensor]:
            values = loss(f, targets, mask=mask, reduction=reduction, **options)
            return values.sum(), values

        gradient, (_, values) = torch.func.grad_and_value(total, has_aux=True)(scores)
        return values, gradient

    region: Callable[..., Any] | None = torch.compile(
        _with_code_of_its_own(value_and_gradient), dynamic=True, backend=backend
    )

    def fast_loss(
        scores: Tensor,
        targets: Tensor | LabelIndices,
        *,
        reduction: Reduction = "mean",
        mask: Tensor | None = None,
        **options: Any,
    ) -> Tensor:
        nonlocal region
        check(scores, targets, mask)
        draws = {**options_of, **options}.get("max_pairs") is not None
        pays = scores.shape[1] <= WIDEST and function is not warp_loss and scores.requires_grad and not draws
        if region is not None and pays and plain_eager():
            arguments = _prepared(targets, function is ranking_loss), mask, reduction, options
            try:
                values: Tensor = _Compiled.apply(scores, region, arguments)
                return values
            except TorchDynamoException as error:
                log.warning("not compiled, the loss runs as it is: %s", " ".join(str(error).split("\n")[:2]))
                region = None
        return loss(scores, targets, mask=mask, reduction=reduction, **options)

    return fast_loss


def _with_code_of_its_own(function: Any) -> Any:
    """A copy: torch.compile counts by code object, and after a few compilations of one it stops compiling."""
    code = function.__code__.replace()
    return FunctionType(
        code, function.__globals__, function.__name__, function.__defaults__, function.__closure__
    )


def _prepared(targets: Tensor | LabelIndices, sparse: bool) -> Tensor | LabelIndices:
    """The targets in the form that compiles best."""
    if sparse and not isinstance(targets, LabelIndices) and soon_searched(targets):
        targets = LabelIndices.of(targets)
    if isinstance(targets, LabelIndices):
        # The code is unrolled over the positives of a row: few widths, few compilations.
        width = targets.indices.shape[1]
        wider = next((size for size in UNROLLED if size >= width), width)
        indices = pad(targets.indices, (0, wider - width), value=-1)
        if wider in UNROLLED:
            torch._dynamo.mark_static(indices, 1)
        return LabelIndices(indices, targets.num_labels)
    return targets.view(torch.uint8) if targets.dtype == torch.bool else targets


class _Compiled(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, scores: Tensor, region: Callable[..., Any], arguments: tuple[Any, ...]) -> Tensor:
        values: Tensor
        values, gradient = region(scores, *arguments)
        ctx.save_for_backward(gradient)
        return values

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, outer: Tensor) -> tuple[Tensor, None, None]:
        [gradient] = ctx.saved_tensors
        return gradient * (outer[:, None] if outer.ndim else outer).to(gradient.dtype), None, None
