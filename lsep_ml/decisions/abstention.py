"""Which images are left to a person: those whose label sets are decided by the least."""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lsep_ml.decisions.checks import Array, float_tensor
from lsep_ml.metrics.counts import binary, compare_label_sets, row_slices
from lsep_ml.metrics.functional import as_numpy, group_ends, known_entries
from lsep_ml.metrics.metric import ratio

if TYPE_CHECKING:
    from lsep_ml.decisions.base import Decided


class Abstention(NamedTuple):
    """Asks a person about images of a confidence below `least`; about all where none is to be answered.

    coverage, exact_match: on the images it was chosen on, the share that is answered, and of these the share whose
    whole label set is right, 0 where none is.
    """

    least: float
    coverage: float
    exact_match: float

    def asks(self, scores: Array, decided: "Decided") -> Tensor:
        """Return whether a person is asked about each image, bool (N,)."""
        return (confidence(scores, decided) < self.least) | (self.coverage == 0)

    @classmethod
    def of_plain(cls, plain: Mapping[str, Any]) -> "Abstention":
        """Return what `_asdict` gave, from JSON too. Raises ValueError for anything else."""
        numbers = [plain.get(name) for name in cls._fields] if isinstance(plain, Mapping) else []
        if len(numbers) != 3 or not all(isinstance(n, int | float) and math.isfinite(n) for n in numbers):
            raise ValueError(f"abstention = {plain!r:.80}: expected {', '.join(cls._fields)}, three numbers")
        return cls(*map(float, numbers))  # type: ignore[arg-type]


def confidence(scores: Array, decided: "Decided") -> Tensor:
    """Return how far the closest label of each image is from being decided otherwise, float32 (N,), at least 0.

    By thresholds, the smallest |f_k - theta_k|; by counts, the gap between the lowest score (or probability) that is
    named and the highest that is not, infinite where all or none are; else the smallest |p_k - 1/2|.
    """
    values = float_tensor(scores)
    if decided.thresholds is not None:
        return (values - decided.thresholds).abs().amin(1)
    if decided.probabilities is not None:
        values = decided.probabilities
    if decided.counts is None:
        return (values - 0.5).abs().amin(1)
    named = values.masked_fill(~decided.label_sets, torch.inf).amin(1)
    left = values.masked_fill(decided.label_sets, -torch.inf).amax(1)
    # infinite scores on both sides
    tied = (named == left) & decided.label_sets.any(1) & ~decided.label_sets.all(1)
    return (named - left).clamp_min(0).masked_fill(tied, 0)


def choose_abstention(
    scores: Array, decided: "Decided", targets: Array, mask: Array | None = None, *, exact_match: float
) -> Abstention:
    """Choose the lowest confidence to answer at, so that of the answered images `exact_match` have a right label set.

    decided: of scores (N, K) that did not fit the decision, or out of fold; targets 0/1 and mask (N, K), True = known.
    Images without a known label do not count. Images of equal confidence are answered together.

    Raises:
        ValueError: a share outside (0, 1]; known targets other than 0 and 1; no image with a known label; no part of
            the images is right so often.
    """
    certain = confidence(scores, decided).cpu().numpy()
    return abstention_at(certain, as_numpy(decided.label_sets), targets, mask, exact_match=exact_match)


def abstention_at(
    certain: NDArray[np.float32],
    label_sets: NDArray[Any],
    targets: Array,
    mask: Array | None = None,
    *,
    exact_match: float,
) -> Abstention:
    """Choose as `choose_abstention` does, by the `confidence` (N,) in label sets 0/1 (N, K); raises what it does."""
    if not 0 < exact_match <= 1:
        raise ValueError(f"exact_match={exact_match}: expected a share in (0, 1]")
    right, counted = _wholly_right(label_sets, targets, mask)
    if not counted.any():
        raise ValueError("mask: no image has a known label, so none can be judged")
    right, certain = right[counted], certain[counted]
    order = np.argsort(-certain, kind="stable")
    shares = ratio(right[order].cumsum(), np.arange(1, len(order) + 1))
    enough = np.flatnonzero((shares >= exact_match - 1e-12) & group_ends(certain[order]))
    if not len(enough):
        best = float(shares[group_ends(certain[order])].max())
        raise ValueError(
            f"exact_match={exact_match}: no part of the images reaches it; the most is {best:.3f}"
        )
    last = int(enough[-1])
    least = min(float(certain[order[last]]), float(np.finfo(np.float32).max))  # JSON has no infinity
    return Abstention(least, (last + 1) / len(order), float(shares[last]))


def answered(
    abstention: Abstention,
    certain: NDArray[np.float32],
    label_sets: NDArray[Any],
    targets: Array,
    mask: Array | None = None,
) -> dict[str, float]:
    """Return `coverage` and `exact_match` of what is answered of other images; 0 and 0 where none is.

    certain: the `confidence` (N,) in the label sets 0/1 (N, K). Images without a known label do not count.
    """
    right, counted = _wholly_right(label_sets, targets, mask)
    kept = counted & (certain >= abstention.least) & (abstention.coverage > 0)
    shares = ratio(kept.sum(), counted.sum()), ratio((right & kept).sum(), kept.sum())
    return {"coverage": float(shares[0]), "exact_match": float(shares[1])}


def _wholly_right(
    label_sets: NDArray[Any], targets: Array, mask: Array | None
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return which images have every known label right, and which have a known label, bool (N,)."""
    right, counted = np.empty((2, len(targets)), bool)
    for rows in row_slices(*targets.shape):
        true, known = (
            as_numpy(targets[rows]),
            known_entries(targets[rows], None if mask is None else mask[rows]),
        )
        compared = compare_label_sets(
            as_numpy(label_sets[rows]), binary("targets", true, known, rows.start), known
        )
        right[rows], counted[rows] = ~(compared.wrong | compared.missed).any(1), known.any(1)
    return right, counted
