"""Pair losses of exponentials, LSEP (eqn 7) and BP-MLL (eqn 12), in time and memory linear in the number of labels.

Both are functions of one number a row, the log-sum-exp over its pairs, which factors over the positives u and the
negatives v, so that no pair is ever formed:

    A = log sum_u sum_v exp(f_v - f_u) = logsumexp_v(f_v) + logsumexp_u(-f_u)

with the gradient softmax_v(f_v) at the negatives and -softmax_u(-f_u) at the positives. At a temperature T of the
positives the second term is T logsumexp_u(-f_u / T), with the gradient -softmax_u(-f_u / T).
"""

import math

import torch
from torch import Tensor

from lsep_ml.losses.kernels.fused import rowwise
from lsep_ml.losses.kernels.inputs import Reduction, check_inputs, reduce
from lsep_ml.losses.kernels.labels import FAR, LabelIndices, Labels, labels_of, many, moderate
from lsep_ml.losses.kernels.sampling import sampled_pairs
from lsep_ml.losses.kernels.sums import LOG2_E, log_sum_exp, shifted_exp_, softplus
from lsep_ml.losses.kernels.violations import harmonic, violations
from lsep_ml.losses.properties import shift_invariant

__all__ = ["BPMLL_CLAMP", "bpmll_clamped_rows", "bpmll_loss", "lsep_loss"]

BPMLL_CLAMP = {torch.float64: 700.0, torch.float32: 80.0, torch.bfloat16: 80.0, torch.float16: 11.0}
"""The exponent A from which BP-MLL is held, by the dtype of the scores; exp(A) and its gradient fit in all of them."""


@shift_invariant
def lsep_loss(
    scores: Tensor,
    targets: Tensor | LabelIndices,
    *,
    reduction: Reduction = "mean",
    mask: Tensor | None = None,
    max_pairs: int | None = None,
    generator: torch.Generator | None = None,
    weighted: bool = False,
    margin: float = 1.0,
    temperature: float = 1.0,
) -> Tensor:
    r"""Compute the log-sum-exp pairwise loss of each row of `scores`: log(1 + sum_u sum_v exp(f_v - f_u)) (eqn 7).

    u runs over the known positives of a row and v over its known negatives; the value is exact. It bounds the largest
    violation z = f_v - f_u, max(0, max z) <= loss <= max(0, max z) + log(1 + pairs), not their sum as the paper's eqn 8
    has it; the gradient's factor is 1 / exp(loss), not the 1 / loss printed in eqn 10.

    Args:
        scores: f, floating point (N, K); half precision is computed, and the loss returned, in float32.
        targets: 0/1 of any dtype (N, K), or LabelIndices.
        reduction: "mean" over the N rows (rows without a pair count), "sum" or "none" (N,).
        mask: bool (N, K), True where the target is known; an unknown entry enters no pair.
        max_pairs: t of eqn 9: the sum is over t of the row's pairs, drawn uniformly without replacement, and over all
            where there are no more. Neither cheaper than the exact loss nor unbiased: dropping pairs lowers every
            term of the sum's logarithm, so the value is on average below the exact one.
        generator: of the draws, on the device of the scores; torch's own by default.
        weighted: weigh the terms of positive u by w(r_u) of eqn 11, log(1 + sum_u w(r_u) sum_v exp(f_v - f_u)), the
            variant that the paper tried and dropped. The weights are constant in the gradient, and a positive that
            no negative violates has none.
        margin: a of the rank r_u, the number of negatives with a + f_v - f_u > 0; used by the weights alone.
        temperature: T > 0 of the positives, log(1 + (sum_v exp f_v) (sum_u exp(-f_u / T))^T): above 1 the gradient
            is shared out among the positives more evenly than by the lowest; 1 is eqn 7.

    A row without a known positive or without a known negative has loss 0 and gradient 0.

    Raises:
        ValueError: wrong shapes, dtypes or targets; max_pairs below 1, or together with weighted; a temperature that is
            not above 0, or one other than 1 together with max_pairs or weighted.

    Example:
        >>> import torch
        >>> from lsep_ml.losses import lsep_loss
        >>> scores, targets = torch.tensor([[2.0, 1.0, 0.0]]), torch.tensor([[1, 0, 0]])
        >>> lsep_loss(scores, targets)  # log(1 + e^-1 + e^-2)
        tensor(0.4076)
        >>> lsep_loss(scores + 5, targets)  # only differences of scores count
        tensor(0.4076)
    """
    if weighted and max_pairs is not None:
        raise ValueError(
            f"max_pairs={max_pairs} and weighted=True: ranks need all pairs; choose one of the two"
        )
    check_temperature(temperature)
    if temperature != 1 and (weighted or max_pairs is not None):
        raise ValueError(
            f"temperature={temperature}: with max_pairs={max_pairs} and weighted={weighted} only 1 has a meaning"
        )
    f = check_inputs(scores, targets, mask)
    labels = labels_of(targets, mask, f.dtype)
    if max_pairs is None:
        log_weights = _log_rank_weights(f, labels, margin) if weighted else None
        exponents = pair_exponents(f, labels, temperature, log_weights)
    else:
        largest, over_pairs = log_sum_exp(sampled_pairs(f, labels, max_pairs, generator))
        exponents = largest + over_pairs
    return reduce(softplus(exponents), reduction)


@shift_invariant
def bpmll_loss(
    scores: Tensor,
    targets: Tensor | LabelIndices,
    *,
    reduction: Reduction = "mean",
    mask: Tensor | None = None,
    normalize: bool = False,
) -> Tensor:
    r"""Compute BP-MLL of each row of `scores`: sum_u sum_v exp(f_v - f_u) = exp(A) (eqn 12), exact up to A = 80.

    There is no outer logarithm, so the loss leaves float32 at A = 88.7. From A = 80 on (float64: 700; float16, whose
    gradient could not be represented: 11) a row's loss is held at exp(80), about 5.5e34, and its gradient has the size
    it has there: finite and still pointing the way out, though only clipping makes a step of that size useful, and
    clipping by value, for its norm overflows. `bpmll_clamped_rows` counts such rows.

    Args:
        scores, targets, reduction, mask: as in `lsep_loss`.
        normalize: divide by |Y| |not-Y|, the row's number of pairs, as Zhang and Zhou (2006) do; A is the exponent
            after that.

    Raises:
        ValueError: wrong shapes, dtypes or targets.

    Example:
        >>> import torch
        >>> from lsep_ml.losses import bpmll_loss
        >>> scores, targets = torch.tensor([[2.0, 1.0, 0.0]]), torch.tensor([[1, 0, 0]])
        >>> bpmll_loss(scores, targets)  # e^-1 + e^-2
        tensor(0.5032)
        >>> bpmll_loss(scores, targets, normalize=True)
        tensor(0.2516)
    """
    exponents = _bpmll_exponents(scores, targets, mask, normalize)
    limit = BPMLL_CLAMP[scores.dtype]
    # Beyond the limit the value stays and the slope of the exponent is kept: x - x.detach() is 0 with the gradient 1.
    held = torch.where(exponents > limit, limit + (exponents - exponents.detach()), exponents)
    return reduce(held.exp(), reduction)


def bpmll_clamped_rows(
    scores: Tensor, targets: Tensor | LabelIndices, mask: Tensor | None = None, *, normalize: bool = False
) -> Tensor:
    """Count the rows of `scores` that `bpmll_loss` holds at its limit: an integer tensor without dimensions."""
    exponents = _bpmll_exponents(scores.detach(), targets, mask, normalize)
    return (exponents > BPMLL_CLAMP[scores.dtype]).sum()


def _bpmll_exponents(
    scores: Tensor, targets: Tensor | LabelIndices, mask: Tensor | None, normalize: bool
) -> Tensor:
    f = check_inputs(scores, targets, mask)
    labels = labels_of(targets, mask, f.dtype)
    exponents = pair_exponents(f, labels)
    if not normalize:
        return exponents
    return exponents - (labels.num_positives() * labels.num_negatives()).clamp(min=1).log()


def check_temperature(temperature: float) -> None:
    """Raise ValueError for a temperature that is not a positive number."""
    if not 0 < temperature < math.inf:
        raise ValueError(f"temperature={temperature}: expected a number above 0")


def pair_exponents(
    scores: Tensor, labels: Labels, temperature: float = 1.0, log_weights: Tensor | None = None
) -> Tensor:
    """Compute A of each row of `scores` (N, K) at the temperature T of its positives, about -1e30 where it has no pair.

    log_weights, in the shape of the positives: the terms of each are multiplied by their exponentials.
    """
    if log_weights is not None:  # a logarithm added to a large score would lose its digits
        scores = scores - scores.detach().amax(1, keepdim=True)

    def positives(f: Tensor) -> Tensor:
        f_u = labels.positives(f)
        return f_u if log_weights is None else f_u - log_weights

    def formula(f: Tensor) -> Tensor:
        largest, over_negatives = log_sum_exp(labels.negatives(f))
        least, over_positives = log_sum_exp(-positives(f), temperature)
        return (largest + least) + (over_negatives + over_positives)

    def with_gradient(f: Tensor) -> tuple[Tensor, Tensor]:
        if temperature == 1 and log_weights is None and many(f) and moderate(f):
            e_u, e_v = labels.part_(torch.mul(f, LOG2_E).exp2_())
            sum_v, sum_u = e_v.sum(1, keepdim=True), e_u.sum(1, keepdim=True)
            values = (sum_v * sum_u).log_().clamp_(min=-FAR)
            tiny = torch.finfo(f.dtype).tiny
            e_v.div_(sum_v.clamp_(min=tiny))
            return values.squeeze(1), labels.subtract_at_positives(e_v, e_u.div_(sum_u.clamp_(min=tiny)))
        largest, e_v = shifted_exp_(labels.negatives(f))
        least, e_u = shifted_exp_(positives(f), temperature, negated=True)
        sum_v, sum_u = e_v.sum(1, keepdim=True), e_u.sum(1, keepdim=True)
        gradient = labels.subtract_at_positives(e_v.div_(sum_v), e_u.div_(sum_u))
        return (largest + least) + (sum_v.log() + temperature * sum_u.log()).squeeze(1), gradient

    return rowwise(scores, formula, with_gradient)


@torch.no_grad()
def _log_rank_weights(scores: Tensor, labels: Labels, margin: float) -> Tensor:
    """Compute log w(r_u) in the shape of the positives, about -1e30 for a positive without a violator."""
    positives = labels.positives(scores)
    _, ranks = violations(labels.negatives(scores), positives - margin)
    return harmonic(ranks).log().masked_fill(ranks == 0, -FAR)
