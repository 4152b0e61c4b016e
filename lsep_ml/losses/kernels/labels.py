"""Labels as the losses see them: the scores of the positives on one side, those of the negatives on the other.

Every pair loss is a function of these two alone. An entry that does not belong to a side is moved so far away from it
that it weighs exactly nothing: exp(-1e30) is 0, and no hinge reaches that far. So rows without a pair need no case of
their own, their loss and gradient come out as exact zeros, and nothing on the way is infinite or NaN.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from lsep_ml.losses.kernels.compiled import LARGE
from lsep_ml.losses.kernels.fused import soon_searched
from lsep_ml.losses.kernels.values import all_ones, check_targets, cpu_array, known_hard

FAR = 1e30
"""Added to a score it absorbs it: in float32 for scores up to 1e22, in float64 up to 1e13."""

MANY = 512
"""Labels from which a search for the positives of dense targets takes less time than it saves, if they are large."""
MODERATE = 30.0
"""The size of scores up to which exp(f) K times exp(f) K, K being millions, can be represented in float32."""


class LabelIndices(NamedTuple):
    """Sparse targets, which say of each row which labels are positive.

    indices: int64 (N, P), the distinct positive labels of each row, in any order, padded with -1. num_labels: K.

    Example:
        >>> import torch
        >>> from lsep_ml.losses import LabelIndices
        >>> LabelIndices.of(torch.tensor([[0, 1, 0, 1], [1, 0, 0, 0]]))
        LabelIndices(indices=tensor([[ 1,  3],
                [ 0, -1]]), num_labels=4)
    """

    indices: Tensor
    num_labels: int

    @classmethod
    def of(cls, targets: Tensor) -> "LabelIndices":
        """Find the positives of dense `targets` (N, K), ascending; P is the most that a row has, and at least 1."""
        return cls.of_entries(nonzero(targets.reshape(-1)), *targets.shape)

    @classmethod
    def of_entries(cls, entries: Tensor, num_rows: int, num_labels: int) -> "LabelIndices":
        """Part the positives of a matrix, numbered row after row and ascending, into its rows; P as in `of`."""
        rows = entries.div(num_labels, rounding_mode="floor")
        counts = torch.bincount(rows, minlength=num_rows)
        width = max(1, int(counts.max())) if num_rows else 1
        present = torch.arange(width, device=rows.device) < counts[:, None]
        padding = rows.new_full((num_rows, width), -1)
        indices = padding.masked_scatter(present, entries - num_labels * rows)
        return cls(indices, num_labels)


def nonzero(values: Tensor) -> Tensor:
    """Find the places at which `values` (n,) are not 0."""
    if values.device.type != "cpu":
        return values.nonzero().squeeze(1)
    # NumPy is several times faster than torch, on bytes seen as booleans and in telling numbers from 0.
    if values.dtype in (torch.bool, torch.uint8):
        present = values.detach().view(torch.bool).numpy()
    else:
        present = cpu_array(values) != 0
    return torch.from_numpy(present.nonzero()[0])


def dense_targets(targets: LabelIndices) -> Tensor:
    """Write sparse `targets` as bool (N, K)."""
    positive = targets.indices >= 0
    dense = positive.new_zeros(len(positive), targets.num_labels, dtype=torch.uint8)
    return dense.scatter_add(1, targets.indices.clamp(min=0), positive.to(torch.uint8)).bool()


def _without_unknown(scores: Tensor, unknown: Tensor | None) -> Tensor:
    return scores if unknown is None else torch.add(scores, unknown, alpha=-FAR)


@dataclass(frozen=True, eq=False)
class _EveryEntry:
    """positive: weights (N, K) of every entry as a positive, in the dtype of the scores. unknown: 1 where an entry is
    unknown, (N, K); None when all are known."""

    positive: Tensor
    unknown: Tensor | None

    def known(self, scores: Tensor) -> Tensor:
        """Return f_j at every known entry, about -1e30 elsewhere, (N, K)."""
        return _without_unknown(scores, self.unknown)

    def of_positives(self, values: Tensor) -> Tensor:
        """Return the `values`, one a label (K,), of the labels that `positives` has, to be broadcast to these."""
        return values[None, :]

    def sum_over_images(self, values: Tensor) -> Tensor:
        """Compute the sum for each label, (K,), of values in the shape of the positives, 0 elsewhere."""
        return values.sum(0)

    def sum_of_positives(self, scores: Tensor) -> Tensor:
        """Compute sum_j y_j f_j, (N,)."""
        return (scores * self.positive).sum(1)

    def num_positives(self) -> Tensor:
        return self.positive.sum(1)

    def subtract_at_positives(self, entries: Tensor, values: Tensor) -> Tensor:
        """Subtract from entries (N, K), in place, values in the shape of what `positives` returns, (N, K)."""
        return entries.sub_(values)


@dataclass(frozen=True, eq=False)
class DenseLabels(_EveryEntry):
    """Indicators in place of weights. not_negative: 1 where an entry is not a known negative, (N, K)."""

    not_negative: Tensor

    def positives(self, scores: Tensor) -> Tensor:
        """Return f_u at the positives, about 1e30 elsewhere, (N, K)."""
        return torch.add(scores, 1 - self.positive, alpha=FAR)

    def negatives(self, scores: Tensor) -> Tensor:
        """Return f_v at the negatives, about -1e30 elsewhere, (N, K)."""
        return torch.add(scores, self.not_negative, alpha=-FAR)

    def num_negatives(self) -> Tensor:
        return (1 - self.not_negative).sum(1)

    def part_(self, exponentials: Tensor) -> tuple[Tensor, Tensor]:
        """Part exp(f) (N, K) into exp(-f_u), in the shape of the positives, and exp(f_v), in place; 0 elsewhere."""
        over_positives = self.positive / exponentials
        return over_positives, exponentials.addcmul_(exponentials, self.not_negative, value=-1)


class SparseLabels(NamedTuple):
    """indices: labels (N, P), any label at padding. positive: 1 where that label is a known positive, else 0, (N, P),
    like the scores. unknown: (N, K), 1 where an entry is unknown, or None when all are known."""

    indices: Tensor
    positive: Tensor
    num_labels: int
    unknown: Tensor | None

    def positives(self, scores: Tensor) -> Tensor:
        """Return f_u at the positives, about 1e30 at padding, (N, P)."""
        return torch.add(scores.gather(1, self.indices), 1 - self.positive, alpha=FAR)

    def negatives(self, scores: Tensor) -> Tensor:
        """Return f_v at the negatives, about -1e30 elsewhere, (N, K)."""
        # Adding leaves a label alone that stands in for padding, and its gradient is the identity.
        return self.known(scores).scatter_add(1, self.indices, -FAR * self.positive)

    def known(self, scores: Tensor) -> Tensor:
        """Return f_j at every known entry, about -1e30 elsewhere, (N, K)."""
        return _without_unknown(scores, self.unknown)

    def of_positives(self, values: Tensor) -> Tensor:
        """Return the `values`, one a label (K,), of the labels that `positives` has, to be broadcast to these."""
        return values[self.indices]

    def sum_over_images(self, values: Tensor) -> Tensor:
        """Compute the sum for each label, (K,), of values in the shape of the positives, 0 at padding."""
        return values.new_zeros(self.num_labels).index_add_(0, self.indices.reshape(-1), values.reshape(-1))

    def sum_of_positives(self, scores: Tensor) -> Tensor:
        """Compute sum_u f_u, (N,)."""
        return (scores.gather(1, self.indices) * self.positive).sum(1)

    def num_positives(self) -> Tensor:
        return self.positive.sum(1)

    def num_negatives(self) -> Tensor:
        unknown = 0 if self.unknown is None else self.unknown.sum(1)
        return self.num_labels - unknown - self.num_positives()

    def subtract_at_positives(self, entries: Tensor, values: Tensor) -> Tensor:
        """Subtract from entries (N, K), in place, values in the shape of what `positives` returns, 0 at padding."""
        return entries.scatter_add_(1, self.indices, -values)

    def part_(self, exponentials: Tensor) -> tuple[Tensor, Tensor]:
        """Part exp(f) (N, K) into exp(-f_u), in the shape of the positives, and exp(f_v), in place; 0 elsewhere."""
        of_positives = exponentials.gather(1, self.indices)
        exponentials.scatter_add_(1, self.indices, -self.positive * of_positives)
        if self.unknown is not None:
            exponentials.addcmul_(exponentials, self.unknown, value=-1)
        return self.positive / of_positives, exponentials


@dataclass(frozen=True, eq=False)
class SoftLabels(_EveryEntry):
    """Weights of an entry as a positive, y, and as a negative, 1 - y, (N, K); both are 0 where it is unknown. A weight
    enters a sum of exponentials by its logarithm."""

    negative: Tensor

    def positives(self, scores: Tensor) -> Tensor:
        """Compute f_j - log y_j, so that exp(-x) is weighted, (N, K)."""
        return scores - self.positive.log().clamp(min=-FAR)

    def negatives(self, scores: Tensor) -> Tensor:
        """Compute f_j + log(1 - y_j), so that exp(x) is weighted, (N, K)."""
        return scores + self.negative.log().clamp(min=-FAR)

    def num_negatives(self) -> Tensor:
        return self.negative.sum(1)

    def part_(self, exponentials: Tensor) -> tuple[Tensor, Tensor]:
        """Part exp(f) (N, K) into y exp(-f) and, in place, (1 - y) exp(f)."""
        return self.positive / exponentials, exponentials.mul_(self.negative)


Labels = DenseLabels | SparseLabels | SoftLabels


def labels_of(
    targets: Tensor | LabelIndices,
    mask: Tensor | None,
    dtype: torch.dtype,
    *,
    search: bool = False,
    soft: bool = False,
) -> Labels:
    """Give the known labels of `targets` as numbers of `dtype`, that of the scores.

    Dense targets are replaced by the indices of their positives where these are soon found (elsewhere the search would
    make a GPU wait, or could not be traced) and, unless `search` asks for it whatever it costs, where the targets are
    large and have many labels, few of them positive. Numbers between 0 and 1 are weights where they have a meaning
    (`soft`).

    Raises:
        ValueError: a known target that is not 0 or 1, or, where they are soft, not in [0, 1].
    """
    if isinstance(targets, LabelIndices):
        return _sparse(targets, mask, dtype)
    targets = known_targets(targets, mask)
    if soon_searched(targets) and (search or (many(targets) and targets.shape[1] >= MANY)):
        entries = nonzero(targets.reshape(-1))
        few = search or 4 * len(entries) <= targets.numel()
        if few and all_ones(targets, entries):
            found = LabelIndices.of_entries(entries, *targets.shape)
            if search or 4 * found.indices.shape[1] <= found.num_labels:
                return _sparse(found, mask, dtype)
    positive = targets.to(dtype)
    unknown = None if mask is None else (~mask).to(dtype)
    given = positive if targets.is_floating_point() else targets
    check_targets(given, soft=soft)
    if not soft or known_hard(given):
        return DenseLabels(positive, unknown, positive if unknown is None else positive + unknown)
    negative = 1 - positive
    return SoftLabels(positive, unknown, negative if unknown is None else negative - unknown)


def many(entries: Tensor) -> bool:
    """Tell whether there are so many `entries` that a look at them takes little of the time that it may save."""
    return entries.numel() >= LARGE


def moderate(scores: Tensor) -> bool:
    """Tell whether exp may be taken of `scores` (N, K) as they are, its sums over a row and their products included.

    Only where looking at them makes no device wait.
    """
    if not soon_searched(scores) or scores.numel() == 0:
        return False
    least, most = torch.aminmax(scores)
    return least.item() >= -MODERATE and most.item() <= MODERATE


def known_targets(targets: Tensor, mask: Tensor | None) -> Tensor:
    """Give `targets` with 0 where an entry is not known, whatever stands there."""
    return targets if mask is None else targets.masked_fill(~mask, 0)


def _sparse(targets: LabelIndices, mask: Tensor | None, dtype: torch.dtype) -> SparseLabels:
    positive = targets.indices >= 0
    indices = targets.indices.clamp(min=0)
    if mask is not None:
        positive = positive & mask.gather(1, indices)
    unknown = None if mask is None else (~mask).to(dtype)
    return SparseLabels(indices, positive.to(dtype), targets.num_labels, unknown)
