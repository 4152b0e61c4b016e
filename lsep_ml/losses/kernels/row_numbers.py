"""What losses need of a row of scores W x + b, in one number and the positives' scores, by blocks of labels."""

from typing import Any, Literal

import torch
from torch import Tensor

from lsep_ml.losses.kernels.labels import FAR
from lsep_ml.losses.kernels.sums import LOG2_E, log_sum_exp, softplus

Statistic = Literal["softplus of negatives", "logsumexp of negatives", "logsumexp of known"]


class RowNumbers(torch.autograd.Function):
    """Says what a loss needs of the scores W x + b: one number a row, (N,), accumulated over blocks, and the
    positives'."""

    @staticmethod
    def forward(
        ctx: Any,
        features: Tensor,
        weight: Tensor,
        bias: Tensor,
        indices: Tensor,
        mask: Tensor | None,
        statistic: Statistic,
        block: int,
    ) -> tuple[Tensor, Tensor]:
        is_sum = statistic == "softplus of negatives"
        total = features.new_full((len(features),), 0.0 if is_sum else -FAR)
        positives = features.new_zeros(indices.shape)
        for start in range(0, len(weight), block):
            labels = slice(start, start + block)
            scores = torch.addmm(bias[labels], features, weight[labels].T)
            within, at = _places(indices, start, scores.shape[1])
            positives = torch.where(within, scores.gather(1, at), positives)
            _take_away(scores, within, at, mask, statistic, labels)
            if is_sum:
                total += softplus(scores).sum(1)
            else:
                largest, rest = log_sum_exp(scores)
                total = torch.logaddexp(total, largest + rest)
        ctx.save_for_backward(features, weight, bias, indices, mask, total)
        ctx.statistic, ctx.block = statistic, block
        return total, positives

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, of_total: Tensor, of_positives: Tensor) -> tuple[Any, ...]:
        with torch.autocast(of_total.device.type, enabled=False):
            return *_gradients(ctx, of_total, of_positives), None, None, None, None


def _gradients(ctx: Any, of_total: Tensor, of_positives: Tensor) -> list[Tensor | None]:
    """Compute, from those of the row numbers, the gradients of features, weight and bias that are needed."""
    features, weight, bias, indices, mask, total = ctx.saved_tensors
    wanted = zip((features, weight, bias), ctx.needs_input_grad, strict=False)
    gradients = [torch.zeros_like(each) if needs else None for each, needs in wanted]
    of_features, of_weight, of_bias = gradients
    for start in range(0, len(weight), ctx.block):
        labels = slice(start, start + ctx.block)
        slopes = torch.addmm(bias[labels], features, weight[labels].T)
        within, at = _places(indices, start, slopes.shape[1])
        _take_away(slopes, within, at, mask, ctx.statistic, labels)
        if ctx.statistic == "softplus of negatives":
            slopes.sigmoid_()
        else:
            slopes.sub_(total[:, None]).clamp_(max=0).mul_(LOG2_E).exp2_()
        slopes *= of_total[:, None]
        slopes.scatter_add_(1, at, torch.where(within, of_positives, 0.0))
        if of_features is not None:
            of_features.addmm_(slopes, weight[labels])
        if of_weight is not None:
            torch.mm(slopes.T, features, out=of_weight[labels])
        if of_bias is not None:
            of_bias[labels] = slopes.sum(0)
    return gradients


def _places(indices: Tensor, start: int, size: int) -> tuple[Tensor, Tensor]:
    """Return which positives stand in a block of labels, and where; any place for the others."""
    return (indices >= start) & (indices < start + size), (indices - start).clamp(0, size - 1)


def _take_away(
    scores: Tensor, within: Tensor, at: Tensor, mask: Tensor | None, statistic: Statistic, labels: slice
) -> None:
    """Move the scores of a block that do not enter the statistic to about -2e30, in place."""
    if statistic != "logsumexp of known":
        scores.scatter_add_(1, at, torch.where(within, -2 * FAR, 0.0).to(scores.dtype))
    if mask is not None:
        scores.masked_fill_(~mask[:, labels], -2 * FAR)
