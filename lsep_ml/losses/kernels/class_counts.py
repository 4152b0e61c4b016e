"""How often each label is positive in the training data, and the weights and margins that losses take from it."""

from collections.abc import Callable, Sequence
from functools import partial
from inspect import signature
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

PosWeight = Literal["balanced", "tempered"] | Sequence[float] | Tensor | None


class ClassCounts(NamedTuple):
    """Holds how many known `positives` and `negatives` each label has in the training data, (K,).

    Example:
        >>> import torch
        >>> from lsep_ml.losses import ClassCounts
        >>> ClassCounts.of(torch.tensor([[1, 0], [1, 1], [0, 0]]))
        ClassCounts(positives=tensor([2, 1]), negatives=tensor([1, 2]))
    """

    positives: Tensor
    negatives: Tensor

    @classmethod
    def of(cls, targets: Tensor, mask: Tensor | None = None) -> "ClassCounts":
        """Count the known positives and negatives of dense 0/1 `targets` (N, K)."""
        known = torch.ones_like(targets, dtype=torch.bool) if mask is None else mask
        positive = (targets != 0) & known
        return cls(positive.sum(0), (known & ~positive).sum(0))


def with_class_counts(loss: Callable[..., Any], counts: Callable[[], ClassCounts]) -> Callable[..., Any]:
    """Give `loss`, a function or a functools.partial of one, with class counts filled in where it takes them.

    What comes back is a partial of the function itself, which says what the loss is.

    counts: takes them, called only if they are wanted.
    """
    if "class_counts" not in signature(loss).parameters:
        return loss
    function, options = getattr(loss, "func", loss), getattr(loss, "keywords", {})
    return partial(function, **options, class_counts=counts())


def counts_of(class_counts: ClassCounts | None, scores: Tensor, who: str) -> ClassCounts:
    """Give both counts in the dtype and on the device of `scores` (N, K), each at least 1.

    Raises:
        ValueError: there are none, or not K of each; `who` needs them.
    """
    if class_counts is None:
        raise ValueError(
            f"class_counts: {who} needs those of the training data; give class_counts=ClassCounts.of(targets)"
        )
    for name, counts in zip(ClassCounts._fields, class_counts, strict=True):
        if counts.shape != scores.shape[1:]:
            raise ValueError(
                f"class_counts.{name}: {len(counts)} counts, scores have {scores.shape[1]} labels"
            )
    return ClassCounts(*(counts.to(scores).clamp(min=1) for counts in class_counts))


def positive_weights(
    scores: Tensor, pos_weight: PosWeight, cap: float, class_counts: ClassCounts | None
) -> Tensor | None:
    """Give the weights of the labels' positive terms, (K,) like `scores` (N, K); None: all are 1.

    Raises:
        ValueError: an unknown name, weights that are not K numbers above 0, a cap below 1, or no class counts.
    """
    if pos_weight is None:
        return None
    if isinstance(pos_weight, str):
        if pos_weight not in ("balanced", "tempered"):
            raise ValueError(
                f"pos_weight={pos_weight!r}: expected balanced, tempered, a number a label, or None"
            )
        if cap < 1:
            raise ValueError(f"pos_weight_cap={cap}: expected at least 1")
        positives, negatives = counts_of(class_counts, scores, f"pos_weight={pos_weight}")
        ratio = negatives / positives
        return (ratio if pos_weight == "balanced" else ratio.sqrt()).clamp(max=cap)
    given = pos_weight if isinstance(pos_weight, Tensor) else torch.tensor(list(pos_weight))
    if given.shape != scores.shape[1:]:
        raise ValueError(f"pos_weight: {given.numel()} numbers, scores have {scores.shape[1]} labels")
    if not isinstance(pos_weight, Tensor) and not all(weight > 0 for weight in pos_weight):
        raise ValueError(f"pos_weight={list(pos_weight)}: expected numbers above 0")
    return given.to(scores)
