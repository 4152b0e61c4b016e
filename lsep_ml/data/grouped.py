"""Splits that never divide a group, and keep each label's share as well as the groups allow."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lsep_ml.metrics.indicator import Targets

LARGE = 2**26  # counts of groups and labels from which on those that are 0 are left out

PASSES = 20  # of the search for better places, if it has not ended before
SWAPPED = 200  # groups up to which two that change places are tried too
STARTS = 16  # orders from which the search starts, for up to SWAPPED groups


def grouped_parts(
    groups: NDArray[np.int64], targets: Targets, shares: Sequence[float], seed: int
) -> NDArray[np.int64]:
    """Put whole groups into parts so that images and labels come near their shares (`deviation`).

    The largest groups first (and, of few groups, other orders), each where it does least harm; then single
    groups move, and with few groups two change
    places, as long as that helps. Which of equals goes where depends on `seed` alone.

    Args:
        groups: int64 (N,), equal for rows that stay together; at least as many groups as parts.
        targets: 0/1 (N, K).
        shares: of the P parts, positive, with sum 1.
        seed: of the orders that are tried.

    Returns:
        int64 (N,), the number of each row's part; no part is empty.
    """
    _, group_of = np.unique(groups, return_inverse=True)
    counts = _counts(group_of, targets)
    wanted = np.array(shares) / np.sum(shares)
    rng = np.random.default_rng(seed)
    starts = STARTS if counts.shape[0] <= SWAPPED else 1
    found = [_improved(counts, _placed(counts, wanted, rng, start > 0), wanted) for start in range(starts)]
    best = min(found, key=lambda parts: deviation(counts, parts, wanted))
    return best[group_of]


def deviation(counts: Any, parts: NDArray[np.int64], shares: NDArray[np.float64]) -> float:
    """Return how far the parts are from their shares: the squared differences of the share of the images, plus the mean
    over the labels of those of the label's images, summed over the parts.

    Args:
        counts: (G, 1 + K), images of each group, and its images with each label; compressed rows where that is large.
        parts: int (G,), each group's part.
        shares: (P,), with sum 1.
    """
    have = np.stack([counts[parts == part].sum(axis=0) for part in range(len(shares))])
    return float((_weights(counts) * (have - shares[:, None] * counts.sum(axis=0)) ** 2).sum())


def _weights(counts: Any) -> NDArray[np.float64]:
    """Return a weight for each column of `counts`: squared differences of counts become those of shares, and all labels
    together weigh as much as the images."""
    total = counts.sum(axis=0)
    present = np.maximum((total[1:] > 0).sum(), 1)
    weights = np.where(total > 0, 1 / np.maximum(total, 1) ** 2, 0.0)
    weights[1:] /= present
    return weights


def _counts(group_of: NDArray[np.int64], targets: Targets) -> Any:
    images = np.bincount(group_of)
    rows, labels = targets.nonzero()
    groups, width = group_of[rows], targets.shape[1]
    if len(images) * (1 + width) >= LARGE:
        from scipy.sparse import csr_array  # here: it takes as long to load as everything of ours

        places = (
            np.concatenate([np.arange(len(images)), groups]),
            np.append(np.zeros_like(images), 1 + labels),
        )
        ones = np.concatenate([images, np.ones(len(rows))]).astype(np.float64)
        return csr_array((ones, places), (len(images), 1 + width))  # which adds up what is given twice
    cells = np.bincount(groups * width + labels, minlength=len(images) * width)
    return np.column_stack([images, cells.reshape(len(images), -1)]).astype(np.float64)


def _of_group(counts: Any, group: int) -> tuple[Any, NDArray[np.float64]]:
    """Return the columns in which a group counts anything, and its counts there."""
    if isinstance(counts, np.ndarray):
        return slice(None), counts[group]
    there = slice(counts.indptr[group], counts.indptr[group + 1])
    return counts.indices[there], counts.data[there]


def _placed(
    counts: Any, shares: NDArray[np.float64], rng: np.random.Generator, any_order: bool
) -> NDArray[np.int64]:
    """Return the groups one after the other, the largest first or in any order, where each does least harm."""
    weights = _weights(counts)
    order = rng.permutation(counts.shape[0])
    if not any_order:
        images = np.asarray(counts[:, [0]].sum(axis=1))
        order = order[np.argsort(-images[order], kind="stable")]
    lack = shares[:, None] * counts.sum(axis=0)  # what each part has still to be given
    parts = np.full(counts.shape[0], -1, np.int64)
    for place, group in enumerate(order):
        empty = np.setdiff1d(np.arange(len(shares)), parts)
        columns, own = _of_group(counts, group)
        harm = (weights[columns] * own * (own - 2 * lack[:, columns])).sum(axis=1)
        allowed = empty if len(empty) >= len(order) - place else np.arange(len(shares))
        part = allowed[np.argmin(harm[allowed])]
        parts[group] = part
        lack[part, columns] -= own
    return parts


def _improved(counts: Any, parts: NDArray[np.int64], shares: NDArray[np.float64]) -> NDArray[np.int64]:
    """Groups moved, and with few of them swapped, as long as the deviation becomes smaller."""
    weights, parts = _weights(counts), parts.copy()
    have = np.stack([counts[parts == part].sum(axis=0) for part in range(len(shares))])
    over = have - shares[:, None] * counts.sum(axis=0)
    sizes = np.bincount(parts, minlength=len(shares))
    for _ in range(PASSES):
        moved = False
        for group in range(len(parts)):
            own, (columns, change) = int(parts[group]), _of_group(counts, group)
            if sizes[own] > 1:
                heavy, there = weights[columns] * change, over[:, columns]
                harm = (heavy * (change + 2 * there)).sum(axis=1) + (heavy * (change - 2 * there[own])).sum()
                harm[own] = 0
                best = int(np.argmin(harm))
                if harm[best] < -1e-12:
                    over[own, columns] -= change
                    over[best, columns] += change
                    sizes[own] -= 1
                    sizes[best] += 1
                    parts[group], moved = best, True
                    continue
            if len(parts) <= SWAPPED:
                dense = counts if isinstance(counts, np.ndarray) else counts.toarray()
                moved |= _swapped(group, dense, parts, over, weights)
        if not moved:
            break
    return parts


def _swapped(
    group: int,
    counts: NDArray[np.float64],
    parts: NDArray[np.int64],
    over: NDArray[np.float64],
    weights: NDArray[np.float64],
) -> bool:
    """Return whether the group changed places with another one, the best, in place."""
    own = parts[group]
    change = counts - counts[group]  # what the group's part would be given, and the other's lose
    harm = (weights * change * (2 * change + 2 * over[own] - 2 * over[parts])).sum(axis=1)
    harm[parts == own] = 0
    other = int(np.argmin(harm))
    if harm[other] >= -1e-12:
        return False
    over[own] += change[other]
    over[parts[other]] -= change[other]
    parts[group], parts[other] = parts[other], own
    return True
