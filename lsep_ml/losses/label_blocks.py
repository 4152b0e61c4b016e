"""A score layer and its loss where (N, K) scores would not fit: computed block by block of labels, exactly.

Of the labels that are not positive every loss here needs one number a row: a log-sum-exp of their scores, or a sum of
softplus. It is accumulated over the blocks; the backward pass computes the scores again. So N x `block` scores stand in
memory, forward and backward, instead of N x K.
"""

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor

from lsep_ml.losses.exponential import BPMLL_CLAMP
from lsep_ml.losses.kernels.inputs import Reduction, reduce
from lsep_ml.losses.kernels.labels import FAR, LabelIndices
from lsep_ml.losses.kernels.sums import log_sum_exp, softplus

__all__ = ["BLOCKWISE_LOSSES", "blockwise_loss"]

Statistic = Literal["softplus", "logsumexp", "logsumexp of negatives"]


def blockwise_loss(
    name: str,
    features: Tensor,
    weight: Tensor,
    bias: Tensor,
    targets: LabelIndices,
    *,
    reduction: Reduction = "mean",
    block: int = 8192,
) -> Tensor:
    r"""Compute the loss called `name` of the scores W x + b of each row x of `features`, without forming all of them.

    Value and gradient are those of `lsep_loss` and its like on `features @ weight.T + bias`, to rounding.

    Args:
        name: "lsep", "bpmll", "softmax" or "bce", with that function's default options.
        features: x, float (N, D). weight: W (K, D). bias: b (K,), all of one dtype.
        targets: the positives; every other entry is a known negative.
        reduction: "mean" over the N rows, "sum" or "none" (N,).
        block: labels whose scores are computed at a time.

    Raises:
        ValueError: another name; shapes that do not fit; a block below 1.

    Example:
        >>> import torch
        >>> from lsep_ml.losses import LabelIndices, blockwise_loss
        >>> features, weight = torch.tensor([[1.0]]), torch.tensor([[2.0], [1.0], [0.0]])
        >>> blockwise_loss("lsep", features, weight, torch.zeros(3), LabelIndices(torch.tensor([[0]]), 3), block=2)
        tensor(0.4076)
    """
    if name not in BLOCKWISE_LOSSES:
        raise ValueError(f"name={name!r}: expected one of {', '.join(BLOCKWISE_LOSSES)}")
    if block < 1:
        raise ValueError(f"block={block}: expected at least 1 label at a time")
    num_rows, num_labels = len(features), len(weight)
    if weight.shape != (num_labels, features.shape[-1]) or features.ndim != 2 or bias.shape != (num_labels,):
        shapes = (tuple(each.shape) for each in (features, weight, bias))
        raise ValueError(
            "features, weight, bias: shapes {}, {}, {}, expected (N, D), (K, D), (K,)".format(*shapes)
        )
    if targets.num_labels != num_labels or len(targets.indices) != num_rows:
        raise ValueError(
            f"targets: {len(targets.indices)} rows of {targets.num_labels} labels, expected {num_rows} of {num_labels}"
        )
    statistic, formula = BLOCKWISE_LOSSES[name]
    present = targets.indices >= 0
    others, positives = _RowNumbers.apply(features, weight, bias, targets.indices, statistic, block)
    return reduce(formula(others, positives, present, present.sum(1) < num_labels), reduction)


class _RowNumbers(torch.autograd.Function):
    """Says what a loss needs of the scores W x + b: one number a row, (N,), accumulated over blocks, and the
    positives'."""

    @staticmethod
    def forward(
        ctx: Any, features: Tensor, weight: Tensor, bias: Tensor, indices: Tensor, kind: Statistic, block: int
    ) -> tuple[Tensor, Tensor]:
        total = features.new_full((len(features),), 0.0 if kind == "softplus" else -FAR)
        for start in range(0, len(weight), block):
            scores = _scores(features, weight, bias, indices, kind, slice(start, start + block))
            if kind == "softplus":
                total += softplus(scores).sum(1)
            else:
                largest, rest = log_sum_exp(scores)
                total = torch.logaddexp(total, largest + rest)
        ctx.save_for_backward(features, weight, bias, indices, total)
        ctx.kind, ctx.block = kind, block
        labels = indices.clamp(min=0)
        return total, torch.einsum("npd,nd->np", weight[labels], features) + bias[labels]

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, of_total: Tensor, of_positives: Tensor) -> tuple[Any, ...]:
        features, weight, bias, indices, total = ctx.saved_tensors
        of_features, of_weight, of_bias = (torch.empty_like(each) for each in (features, weight, bias))
        of_features.zero_()
        for start in range(0, len(weight), ctx.block):
            labels = slice(start, start + ctx.block)
            scores = _scores(features, weight, bias, indices, ctx.kind, labels)
            slope = (
                scores.sigmoid_()
                if ctx.kind == "softplus"
                else scores.sub_(total[:, None]).clamp_(max=0).exp_()
            )
            slope *= of_total[:, None]
            of_features.addmm_(slope, weight[labels])
            torch.mm(slope.T, features, out=of_weight[labels])
            of_bias[labels] = slope.sum(0)
        padded = indices.clamp(min=0)
        of_features += torch.einsum("np,npd->nd", of_positives, weight[padded])
        of_weight.index_add_(
            0, padded.flatten(), (of_positives[:, :, None] * features[:, None]).flatten(0, 1)
        )
        of_bias.index_add_(0, padded.flatten(), of_positives.flatten())
        return of_features, of_weight, of_bias, None, None, None


def _scores(
    features: Tensor, weight: Tensor, bias: Tensor, indices: Tensor, kind: Statistic, labels: slice
) -> Tensor:
    """Return the scores of a block of labels; with "logsumexp of negatives" about -1e30 at the positives."""
    scores = torch.addmm(bias[labels], features, weight[labels].T)
    if kind == "logsumexp of negatives":
        within = (indices >= labels.start) & (indices < labels.start + scores.shape[1])
        away = torch.where(within, -2 * FAR, 0.0).to(scores.dtype)
        scores.scatter_add_(1, (indices - labels.start).clamp(0, scores.shape[1] - 1), away)
    return scores


def _exponents(others: Tensor, positives: Tensor, present: Tensor, has_negatives: Tensor) -> Tensor:
    """Return a of eqn 7, about -1e30 for a row without a pair."""
    least, rest = log_sum_exp(torch.where(present, -positives, -FAR))
    return torch.where(present.any(1) & has_negatives, others + (least + rest), -FAR)


def _lsep(others: Tensor, positives: Tensor, present: Tensor, has_negatives: Tensor) -> Tensor:
    return softplus(_exponents(others, positives, present, has_negatives))


def _bpmll(others: Tensor, positives: Tensor, present: Tensor, has_negatives: Tensor) -> Tensor:
    exponents = _exponents(others, positives, present, has_negatives)
    limit = BPMLL_CLAMP[others.dtype]
    return torch.where(exponents > limit, limit + (exponents - exponents.detach()), exponents).exp()


def _softmax(others: Tensor, positives: Tensor, present: Tensor, has_negatives: Tensor) -> Tensor:
    return torch.where(present, others[:, None] - positives, 0.0).sum(1)


def _bce(others: Tensor, positives: Tensor, present: Tensor, has_negatives: Tensor) -> Tensor:
    return others - torch.where(present, positives, 0.0).sum(1)


BLOCKWISE_LOSSES: dict[str, tuple[Statistic, Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]]] = {
    "lsep": ("logsumexp of negatives", _lsep),
    "bpmll": ("logsumexp of negatives", _bpmll),
    "softmax": ("logsumexp", _softmax),
    "bce": ("softplus", _bce),
}
"""What can be computed by blocks of labels: the number a row needs of all labels, and the loss from it."""
