"""The loops of `compiled`, in the part of Python that numba compiles. Importing this needs numba."""

from typing import Any

import numpy as np

from lsep_ml.loops import compiled
from lsep_ml.losses.kernels.labels import FAR

BLOCK = 2**12
"""Scores compared with all bounds in turn before the next ones are: they stay in a core's nearest cache."""


@compiled
def hard(values: Any) -> bool:
    """Return whether all of `values` (n,) are 0 or 1."""
    wrong = np.int32(0)
    for i in range(len(values)):
        wrong |= np.int32(values[i] != 0 and values[i] != 1)
    return wrong == 0


@compiled
def hinges_dense(
    f: Any, targets: Any, known: Any, slope: Any, lowest: Any, total: Any, margin: Any, weights: Any, few: int
) -> bool:
    """Fill slope (N, K), lowest (N, 1) and total (N,), as `compiled.HingeSums` has them, from 0/1 targets (N, K).

    known: (N, K), 0 where an entry is not known; of no rows where all are. weights: w of every rank; of length 0
    where all are 1. few: positives up to which scores are compared with each. False, and nothing that is of use, where
    a known target is neither 0 nor 1.
    """
    num_rows, num_labels = f.shape
    places = np.empty(num_labels, np.int64)
    far = f.dtype.type(-FAR)
    for i in range(num_rows):
        of, row = targets[i], slope[i]
        for j in range(num_labels):
            row[j] = f[i, j] if of[j] == 0 else far
        if len(known):
            for j in range(num_labels):
                row[j] = row[j] if known[i, j] != 0 else far
        count = 0
        for j in range(num_labels):
            if of[j] != 0 and (len(known) == 0 or known[i, j] != 0):
                if of[j] != 1:
                    return False
                places[count] = j
                count += 1
        total[i] = _weigh(f[i], row, places[:count], margin, weights, few, lowest[i])
    return True


@compiled
def hinges_sparse(
    f: Any, indices: Any, known: Any, slope: Any, lowest: Any, total: Any, margin: Any, weights: Any, few: int
) -> bool:
    """Do as `hinges_dense` does, from the labels of the positives, (N, P), padded with -1. False where there is no
    such label."""
    num_rows, width = indices.shape
    places = np.empty(width, np.int64)
    far = f.dtype.type(-FAR)
    for i in range(num_rows):
        row = slope[i]
        row[:] = f[i]
        if len(known):
            for j in range(len(row)):
                row[j] = row[j] if known[i, j] != 0 else far
        count = 0
        for k in range(width):
            j = indices[i, k]
            if j >= len(row):
                return False
            if j >= 0:
                row[j] = far
                if len(known) == 0 or known[i, j] != 0:
                    places[count] = j
                    count += 1
        total[i] = _weigh(f[i], row, places[:count], margin, weights, few, lowest[i])
    return True


@compiled
def _weigh(f: Any, row: Any, places: Any, margin: Any, weights: Any, few: int, lowest: Any) -> Any:
    """Turn `row` (K,), f_v at the known negatives and -FAR elsewhere, into the slope; write the lowest bound of the
    positives at `places` (P,) to lowest[0]; return the sum of w_u r_u."""
    zero = f.dtype.type(0)
    bounds = np.empty(len(places), f.dtype)
    for u in range(len(places)):
        bounds[u] = f[places[u]] - margin
    lowest[0] = bounds.min() if len(bounds) else zero
    if len(bounds) <= few:
        return _compare(row, places, bounds, weights)
    return _search(row, places, bounds, weights)


@compiled
def _compare(row: Any, places: Any, bounds: Any, weights: Any) -> Any:
    num_labels, zero = len(row), row.dtype.type(0)
    ranks = np.zeros(len(bounds), np.int64)
    for start in range(0, num_labels, BLOCK):
        block = row[start : start + BLOCK]
        for u in range(len(bounds)):
            bound, count = bounds[u], np.int32(0)
            for v in range(len(block)):
                count += np.int32(block[v] > bound)
            ranks[u] += count
    weighed, total = np.ones(len(bounds), row.dtype), zero
    for u in range(len(bounds)):
        if len(weights):
            weighed[u] = weights[ranks[u]]
        total += weighed[u] * row.dtype.type(ranks[u])
    sums = np.empty(min(BLOCK, num_labels), row.dtype)
    for start in range(0, num_labels, BLOCK):
        block = row[start : start + BLOCK]
        sums[:] = zero
        for u in range(len(bounds)):
            if ranks[u] > 0:
                bound, weight = bounds[u], weighed[u]
                for v in range(len(block)):
                    sums[v] += weight if block[v] > bound else zero
        for v in range(len(block)):
            block[v] = sums[v]
    for u in range(len(bounds)):
        row[places[u]] = -weighed[u] * row.dtype.type(ranks[u])
    return total


@compiled
def _search(row: Any, places: Any, bounds: Any, weights: Any) -> Any:
    num_labels, num_bounds = len(row), len(bounds)
    order = np.argsort(bounds)
    ascending = bounds[order]
    # Bins of equal width between the lowest and the highest bound: what lies in a lower bin is a lower number, in
    # floating point too. first[b]: how many bounds lie in bins below b.
    bins, lowest = 4 * num_bounds, ascending[0]
    bins_a_unit = bins / max(ascending[-1] - lowest, row.dtype.type(1 / FAR))
    first = np.zeros(bins + 2, np.int32)
    for u in range(num_bounds):
        first[int(min((ascending[u] - lowest) * bins_a_unit, float(bins))) + 1] += 1
    for b in range(bins):
        first[b + 1] += first[b]
    below = np.empty(num_labels, np.int32)
    above = np.zeros(num_bounds + 1, np.int64)  # scores above just so many bounds, then above bound u - 1
    for v in range(num_labels):
        place, low = (row[v] - lowest) * bins_a_unit, 0
        if place >= 0:
            low = first[int(min(place, float(bins)))]
            while low < num_bounds and ascending[low] < row[v]:
                low += 1
        below[v] = low
        above[low] += 1
    for u in range(num_bounds - 1, -1, -1):
        above[u] += above[u + 1]
    total, cumulative = row.dtype.type(0), 0.0
    sums = np.zeros(num_bounds + 1, row.dtype)
    at_positive = np.empty(num_bounds, row.dtype)
    for u in range(num_bounds):
        rank = above[u + 1]
        weight = weights[rank] if len(weights) else row.dtype.type(1)
        cumulative += weight
        sums[u + 1] = cumulative
        at_positive[u] = weight * row.dtype.type(rank)
        total += at_positive[u]
    for v in range(num_labels):
        row[v] = sums[below[v]]
    for u in range(num_bounds):
        row[places[order[u]]] = -at_positive[u]
    return total
