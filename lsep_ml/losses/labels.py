"""Labels as the losses see them: the scores of the positives on one side, those of the negatives on the other.

Every pair loss is a function of these two alone. An entry that does not belong to a side is moved so far away from it
that it weighs exactly nothing: exp(-1e30) is 0, and no hinge reaches that far. So rows without a pair need no case of
their own, their loss and gradient come out as exact zeros, and nothing on the way is infinite or NaN.
"""

from typing import NamedTuple

import torch
from torch import Tensor

FAR = 1e30
"""Added to a score it absorbs it: in float32 for scores up to 1e22, in float64 up to 1e13."""


class LabelIndices(NamedTuple):
    """Sparse targets: which labels are positive, row by row.

    indices: int64 (N, P), the distinct positive labels of each row, in any order, padded with -1. num_labels: K.
    """

    indices: Tensor
    num_labels: int

    @classmethod
    def of(cls, targets: Tensor) -> "LabelIndices":
        """The positives of dense targets (N, K), in ascending order; P is the most that a row has, and at least 1."""
        rows, labels = targets.nonzero().unbind(1)
        counts = torch.bincount(rows, minlength=len(targets))
        slots = torch.arange(len(rows), device=rows.device) - (counts.cumsum(0) - counts)[rows]
        width = max(1, int(counts.max())) if len(counts) else 1
        indices = rows.new_full((len(targets), width), -1)
        indices[rows, slots] = labels
        return cls(indices, targets.shape[1])


class DenseLabels(NamedTuple):
    """positive, negative: 1 where an entry is a known positive, or a known negative, else 0; (N, K) like the scores."""

    positive: Tensor
    negative: Tensor

    def positives(self, scores: Tensor) -> Tensor:
        """f_u at the positives, about 1e30 elsewhere, (N, K)."""
        return torch.add(scores, 1 - self.positive, alpha=FAR)

    def negatives(self, scores: Tensor) -> Tensor:
        """f_v at the negatives, about -1e30 elsewhere, (N, K)."""
        return torch.add(scores, self.negative - 1, alpha=FAR)

    def known(self, scores: Tensor) -> Tensor:
        """f_j at every known entry, about -1e30 elsewhere, (N, K)."""
        return torch.add(scores, self.positive + self.negative - 1, alpha=FAR)

    def sum_of_positives(self, scores: Tensor) -> Tensor:
        """sum_u f_u, (N,)."""
        return (scores * self.positive).sum(1)

    def num_positives(self) -> Tensor:
        return self.positive.sum(1)

    def num_negatives(self) -> Tensor:
        return self.negative.sum(1)

    def add_to_positives(self, entries: Tensor, values: Tensor) -> Tensor:
        """Adds to (N, K) entries, in place, the values (N, K) that belong to what `positives` returned."""
        return entries.add_(values)


class SparseLabels(NamedTuple):
    """indices: labels (N, P), any label at padding. positive: 1 where that label is a known positive, else 0, (N, P),
    like the scores. unknown: (N, K), 1 where an entry is unknown, or None when all are known."""

    indices: Tensor
    positive: Tensor
    num_labels: int
    unknown: Tensor | None

    def positives(self, scores: Tensor) -> Tensor:
        """f_u at the positives, about 1e30 at padding, (N, P)."""
        return torch.add(scores.gather(1, self.indices), 1 - self.positive, alpha=FAR)

    def negatives(self, scores: Tensor) -> Tensor:
        """f_v at the negatives, about -1e30 elsewhere, (N, K)."""
        # Adding leaves a label alone that stands in for padding, and its gradient is the identity.
        return self.known(scores).scatter_add(1, self.indices, -FAR * self.positive)

    def known(self, scores: Tensor) -> Tensor:
        """f_j at every known entry, about -1e30 elsewhere, (N, K)."""
        return scores if self.unknown is None else torch.add(scores, self.unknown, alpha=-FAR)

    def sum_of_positives(self, scores: Tensor) -> Tensor:
        """sum_u f_u, (N,)."""
        return (scores.gather(1, self.indices) * self.positive).sum(1)

    def num_positives(self) -> Tensor:
        return self.positive.sum(1)

    def num_negatives(self) -> Tensor:
        unknown = 0 if self.unknown is None else self.unknown.sum(1)
        return self.num_labels - unknown - self.num_positives()

    def add_to_positives(self, entries: Tensor, values: Tensor) -> Tensor:
        """Adds to (N, K) entries, in place, the values (N, P) that belong to what `positives` returned."""
        return entries.scatter_add_(1, self.indices, values * self.positive)


Labels = DenseLabels | SparseLabels


def labels_of(targets: Tensor | LabelIndices, mask: Tensor | None, dtype: torch.dtype) -> Labels:
    """The known labels of a batch as numbers of the scores' dtype; targets (N, K) of 0 and 1, or their indices."""
    if isinstance(targets, LabelIndices):
        positive = targets.indices >= 0
        indices = targets.indices.clamp(min=0)
        if mask is not None:
            positive = positive & mask.gather(1, indices)
        unknown = None if mask is None else (~mask).to(dtype)
        return SparseLabels(indices, positive.to(dtype), targets.num_labels, unknown)
    positive = targets.to(dtype)
    negative = 1 - positive
    if mask is None:
        return DenseLabels(positive, negative)
    known = mask.to(dtype)
    return DenseLabels(positive * known, negative * known)
