"""Pair losses of exponentials, LSEP (eqn 7) and BP-MLL (eqn 12), in time and memory linear in the number of labels.

Both are functions of one number a row, the log-sum-exp over its pairs, which factors over the positives u and the
negatives v, so that no pair is ever formed:

    A = log sum_u sum_v exp(f_v - f_u) = logsumexp_v(f_v) + logsumexp_u(-f_u)

with the gradient softmax_v(f_v) at the negatives and -softmax_u(-f_u) at the positives.
"""

import torch
from torch import Tensor

from lsep_ml.losses.fused import rowwise
from lsep_ml.losses.inputs import Reduction, check, reduce
from lsep_ml.losses.labels import LabelIndices, Labels, labels_of
from lsep_ml.losses.logsumexp import log_sum_exp, shifted_exp_

BPMLL_CLAMP = {torch.float64: 700.0, torch.float32: 80.0, torch.bfloat16: 80.0, torch.float16: 11.0}
"""The exponent A from which BP-MLL is held, by the dtype of the scores; exp(A) and its gradient fit in all of them."""


def lsep_loss(
    scores: Tensor,
    targets: Tensor | LabelIndices,
    *,
    reduction: Reduction = "mean",
    mask: Tensor | None = None,
) -> Tensor:
    r"""Log-sum-exp pairwise loss: log(1 + sum_u sum_v exp(f_v - f_u)) (eqn 7), exact.

    It bounds the largest violation z = f_v - f_u, max(0, max z) <= loss <= max(0, max z) + log(1 + pairs), not their
    sum as the paper's eqn 8 has it; the gradient's factor is 1 / exp(loss), not the 1 / loss printed in eqn 10.

    Args:
        scores: f, floating point (N, K); half precision is computed, and the loss returned, in float32.
        targets: 0/1 of any dtype (N, K), or LabelIndices.
        reduction: "mean" over the N rows (rows without a pair count), "sum" or "none" (N,).
        mask: bool (N, K), True where the target is known; an unknown entry enters no pair.

    A row without a known positive or without a known negative has loss 0 and gradient 0.

    Raises:
        ValueError: wrong shapes or dtypes.
    """
    f = check(scores, targets, mask)
    exponents = _pair_exponents(f, labels_of(targets, mask, f.dtype))
    # Not softplus, which becomes the identity at 20.
    return reduce(torch.logaddexp(exponents, torch.zeros_like(exponents)), reduction)


def bpmll_loss(
    scores: Tensor,
    targets: Tensor | LabelIndices,
    *,
    reduction: Reduction = "mean",
    mask: Tensor | None = None,
    normalize: bool = False,
) -> Tensor:
    r"""BP-MLL: sum_u sum_v exp(f_v - f_u) = exp(A) (eqn 12), exact up to A = 80.

    There is no outer logarithm, so the loss leaves float32 at A = 88.7. From A = 80 on (float64: 700; float16, whose
    gradient could not be represented: 11) a row's loss is held at exp(80), about 5.5e34, and its gradient has the size
    it has there: finite and still pointing the way out, though only gradient clipping makes a step of that size
    useful. `bpmll_clamped_rows` counts such rows.

    Args:
        scores, targets, reduction, mask: as in `lsep_loss`.
        normalize: divide by |Y| |not-Y|, the row's number of pairs, as Zhang and Zhou (2006) do; A is the exponent
            after that.

    Raises:
        ValueError: wrong shapes or dtypes.
    """
    exponents = _bpmll_exponents(scores, targets, mask, normalize)
    limit = BPMLL_CLAMP[scores.dtype]
    # Beyond the limit the value stays and the slope of the exponent is kept: x - x.detach() is 0 with the gradient 1.
    held = torch.where(exponents > limit, limit + (exponents - exponents.detach()), exponents)
    return reduce(held.exp(), reduction)


def bpmll_clamped_rows(
    scores: Tensor, targets: Tensor | LabelIndices, mask: Tensor | None = None, *, normalize: bool = False
) -> Tensor:
    """How many rows of a batch BP-MLL holds at its limit, an integer tensor without dimensions."""
    exponents = _bpmll_exponents(scores.detach(), targets, mask, normalize)
    return (exponents > BPMLL_CLAMP[scores.dtype]).sum()


def _bpmll_exponents(
    scores: Tensor, targets: Tensor | LabelIndices, mask: Tensor | None, normalize: bool
) -> Tensor:
    f = check(scores, targets, mask)
    labels = labels_of(targets, mask, f.dtype)
    exponents = _pair_exponents(f, labels)
    if not normalize:
        return exponents
    return exponents - (labels.num_positives() * labels.num_negatives()).clamp(min=1).log()


def _pair_exponents(scores: Tensor, labels: Labels) -> Tensor:
    """A of every row (N,); about -1e30 where a row has no pair."""

    def formula(f: Tensor) -> Tensor:
        largest, over_negatives = log_sum_exp(labels.negatives(f))
        least, over_positives = log_sum_exp(-labels.positives(f))
        return (largest + least) + (over_negatives + over_positives)

    def with_gradient(f: Tensor) -> tuple[Tensor, Tensor]:
        largest, e_v = shifted_exp_(labels.negatives(f))
        least, e_u = shifted_exp_(labels.positives(f).neg_())
        sum_v, sum_u = e_v.sum(1, keepdim=True), e_u.sum(1, keepdim=True)
        gradient = labels.add_to_positives(e_v.div_(sum_v), e_u.div_(-sum_u))
        return (largest + least) + (sum_v.log() + sum_u.log()).squeeze(1), gradient

    return rowwise(scores, formula, with_gradient)
