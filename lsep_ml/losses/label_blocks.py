"""A score layer and its loss where (N, K) scores would not fit: computed block by block of labels, exactly.

Of the labels that are not positive every loss here needs one number a row: a log-sum-exp of their scores, or a sum of
softplus. It is accumulated over the blocks; the backward pass computes the scores again. So N x `block` scores stand in
memory, forward and backward, instead of N x K.
"""

from collections.abc import Callable
from functools import partial
from inspect import signature
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lsep_ml.losses.binary import bce_loss
from lsep_ml.losses.exponential import (
    BPMLL_CLAMP,
    bpmll_clamped_rows,
    bpmll_loss,
    check_temperature,
    lsep_loss,
)
from lsep_ml.losses.kernels.class_counts import ClassCounts, PosWeight, positive_weights
from lsep_ml.losses.kernels.inputs import Reduction, reduce
from lsep_ml.losses.kernels.labels import FAR, LabelIndices
from lsep_ml.losses.kernels.row_numbers import RowNumbers, Statistic
from lsep_ml.losses.kernels.sums import log_sum_exp, softplus
from lsep_ml.losses.softmax import softmax_loss

__all__ = ["BLOCKWISE_LOSSES", "blockwise", "blockwise_loss"]

BLOCKWISE_LOSSES: dict[str, Callable[..., Tensor]] = {
    "lsep": lsep_loss,
    "bpmll": bpmll_loss,
    "softmax": softmax_loss,
    "bce": bce_loss,
}
"""The losses that can be computed by blocks of labels."""


class RowStatistics(NamedTuple):
    """Holds what a loss needs of a batch's scores.

    others: the statistic over the labels of each row, (N,). positives: f_u (N, P), anything where it is not `present`.
    indices: the positives' labels. known: how many labels of each row are known. num_labels: K.
    """

    others: Tensor
    positives: Tensor
    present: Tensor
    indices: Tensor
    known: Tensor
    num_labels: int

    @property
    def num_positives(self) -> Tensor:
        """Return |Y| of each row (N,)."""
        return self.present.sum(1)

    @property
    def num_negatives(self) -> Tensor:
        """Return how many known labels of each row are no positives, (N,)."""
        return self.known - self.num_positives


def blockwise(*functions: Callable[..., Tensor]) -> Callable[..., list[Tensor]] | None:
    """Return what computes `functions` of the scores W x + b together, by blocks of labels; None where it cannot be.

    Args:
        functions: (scores, targets, mask) -> Tensor: losses of `BLOCKWISE_LOSSES` and `bpmll_clamped_rows`, or
            functools.partial of these, that need the same of the labels that are not positive. LSEP cannot have
            max_pairs or weights here.

    Returns:
        (features (N, D), weight (K, D), bias (K,), targets: `LabelIndices`, mask=None, block=8192) -> each function's
        value of every row, (N,); differentiable once in the first three, all of one dtype, float32 or float64, in
        which it computes under autocast too. It raises ValueError for shapes that do not fit and a block below 1.

    Example:
        >>> import torch
        >>> from lsep_ml.losses import LabelIndices, blockwise, lsep_loss
        >>> lsep = blockwise(lsep_loss)
        >>> features, weight = torch.tensor([[1.0]]), torch.tensor([[2.0], [1.0], [0.0]])
        >>> lsep(features, weight, torch.zeros(3), LabelIndices(torch.tensor([[0]]), 3))
        [tensor([0.4076])]
    """
    bound = [_bound(function) for function in functions]
    formulas = [of[1] for of in bound if of is not None]
    statistics = {None if of is None else of[0] for of in bound}
    statistic = statistics.pop()
    if statistic is None or statistics:
        return None

    def compute(
        features: Tensor,
        weight: Tensor,
        bias: Tensor,
        targets: LabelIndices,
        mask: Tensor | None = None,
        block: int = 8192,
    ) -> list[Tensor]:
        _check(features, weight, bias, targets, mask, block)
        present = targets.indices >= 0
        known = present.new_full((len(present),), len(weight), dtype=torch.int64)
        if mask is not None:
            present, known = present & mask.gather(1, targets.indices.clamp(min=0)), mask.sum(1)
        given = (features, weight, bias, targets.indices, mask, statistic, block)
        with torch.autocast(features.device.type, enabled=False):
            others, positives = RowNumbers.apply(*given)
        rows = RowStatistics(others, positives, present, targets.indices.clamp(min=0), known, len(weight))
        return [formula(rows) for formula in formulas]

    return compute


def blockwise_loss(
    name: str,
    features: Tensor,
    weight: Tensor,
    bias: Tensor,
    targets: LabelIndices,
    *,
    mask: Tensor | None = None,
    reduction: Reduction = "mean",
    block: int = 8192,
    **options: Any,
) -> Tensor:
    r"""Compute the loss called `name` of the scores W x + b of each row x of `features`, without forming all of them.

    Value and gradient are those of `lsep_loss` and its like on `features @ weight.T + bias`, to rounding.

    Args:
        name: "lsep", "bpmll", "softmax" or "bce".
        features: x, float (N, D). weight: W (K, D). bias: b (K,), all of one dtype.
        targets: the positives; every other entry is a negative.
        mask: bool (N, K), True where the target is known; None: every entry is.
        reduction: "mean" over the N rows, "sum" or "none" (N,).
        block: labels whose scores are computed at a time.
        options: that function's own: `temperature` of "lsep", `normalize` of the others, the weights of "bce".

    Raises:
        ValueError: another name or option; shapes that do not fit; a block below 1.

    Example:
        >>> import torch
        >>> from lsep_ml.losses import LabelIndices, blockwise_loss
        >>> features, weight = torch.tensor([[1.0]]), torch.tensor([[2.0], [1.0], [0.0]])
        >>> blockwise_loss("lsep", features, weight, torch.zeros(3), LabelIndices(torch.tensor([[0]]), 3), block=2)
        tensor(0.4076)
    """
    if name not in BLOCKWISE_LOSSES:
        raise ValueError(f"name={name!r}: expected one of {', '.join(BLOCKWISE_LOSSES)}")
    compute = blockwise(partial(BLOCKWISE_LOSSES[name], **options))
    if compute is None:
        raise ValueError(
            f"{name} with {options} is not computed by blocks of labels; give its scores to {name}_loss"
        )
    return reduce(compute(features, weight, bias, targets, mask, block)[0], reduction)


def _bound(function: Callable[..., Tensor]) -> tuple[Statistic, Callable[[RowStatistics], Tensor]] | None:
    """Return the statistic of a function and its formula with the options that are bound to it; None: not by blocks."""
    plain, options = getattr(function, "func", function), dict(getattr(function, "keywords", {}))
    if plain not in _FORMULAS or getattr(function, "args", None):
        return None
    statistic, formula = _FORMULAS[plain]
    defaults, taken = signature(plain).parameters, signature(formula).parameters
    for key in [key for key in options if key not in taken]:
        if key not in defaults or options.pop(key) != defaults[key].default:
            return None
    return statistic, partial(formula, **options)


def _check(
    features: Tensor, weight: Tensor, bias: Tensor, targets: LabelIndices, mask: Tensor | None, block: int
) -> None:
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
    if mask is not None and (mask.shape != (num_rows, num_labels) or mask.dtype != torch.bool):
        raise ValueError(f"mask: {mask.dtype} {tuple(mask.shape)}, expected bool {(num_rows, num_labels)}")


def _exponents(rows: RowStatistics, temperature: float = 1.0) -> Tensor:
    """Return A of eqn 7, about -1e30 for a row without a pair."""
    least, rest = log_sum_exp(torch.where(rows.present, -rows.positives, -FAR), temperature)
    pairs = (rows.num_positives > 0) & (rows.num_negatives > 0)
    return torch.where(pairs, rows.others + (least + rest), -FAR)


def _lsep(rows: RowStatistics, *, temperature: float = 1.0) -> Tensor:
    check_temperature(temperature)
    return softplus(_exponents(rows, temperature))


def _bpmll_exponents(rows: RowStatistics, normalize: bool) -> Tensor:
    exponents = _exponents(rows)
    if not normalize:
        return exponents
    return exponents - (rows.num_positives * rows.num_negatives).clamp(min=1).to(exponents).log()


def _bpmll(rows: RowStatistics, *, normalize: bool = False) -> Tensor:
    exponents, limit = _bpmll_exponents(rows, normalize), BPMLL_CLAMP[rows.others.dtype]
    return torch.where(exponents > limit, limit + (exponents - exponents.detach()), exponents).exp()


def _clamped(rows: RowStatistics, *, normalize: bool = False) -> Tensor:
    return _bpmll_exponents(rows, normalize) > BPMLL_CLAMP[rows.others.dtype]


def _softmax(rows: RowStatistics, *, normalize: bool = False) -> Tensor:
    losses = torch.where(rows.present, rows.others[:, None] - rows.positives, 0.0).sum(1)
    return losses / rows.num_positives.clamp(min=1) if normalize else losses


def _bce(
    rows: RowStatistics,
    *,
    normalize: bool = False,
    pos_weight: PosWeight = None,
    pos_weight_cap: float = 20.0,
    class_counts: ClassCounts | None = None,
) -> Tensor:
    of_labels = rows.others.new_empty(0, rows.num_labels)
    weights = positive_weights(of_labels, pos_weight, pos_weight_cap, class_counts)
    of_positives = softplus(-rows.positives)
    if weights is not None:
        of_positives = weights[rows.indices] * of_positives
    losses = rows.others + torch.where(rows.present, of_positives, 0.0).sum(1)
    return losses / rows.known.clamp(min=1) if normalize else losses


_FORMULAS: dict[Callable[..., Tensor], tuple[Statistic, Callable[..., Tensor]]] = {
    lsep_loss: ("logsumexp of negatives", _lsep),
    bpmll_loss: ("logsumexp of negatives", _bpmll),
    bpmll_clamped_rows: ("logsumexp of negatives", _clamped),
    softmax_loss: ("logsumexp of known", _softmax),
    bce_loss: ("softplus of negatives", _bce),
}
"""Of each function the number that a row needs of all labels, and what it makes of it."""
