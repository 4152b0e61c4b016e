"""The mean precision-recall curve over classes (Figure 3 of the paper)."""

import numpy as np

RECALLS = np.linspace(0, 1, 101)
"""Where precision-recall curves are read off."""


def mean_precision_recall(scores: np.ndarray, targets: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Precision (101,) at recall 0, 0.01, ..., 1, averaged over the classes that have a positive.

    A class's precision at recall r is the highest at any recall >= r (interpolated precision). Scores float (N, K),
    targets and mask 0/1 (N, K); only known entries count.
    """
    curves = []
    for column, true, counted in zip(scores.T, targets.T, mask.T, strict=True):
        ranked = np.sort(column[counted != 0])
        found = np.sort(column[(counted != 0) & (true != 0)])
        if len(found):
            # At a cut-off on each positive, from the highest: positives and all entries from there up, ties included.
            cuts = found[::-1]
            positives = len(found) - np.searchsorted(found, cuts)
            precision = positives / (len(ranked) - np.searchsorted(ranked, cuts))
            highest = np.maximum.accumulate(precision[::-1])[::-1]
            curves.append(highest[np.searchsorted(positives, RECALLS * len(found) - 1e-9)])
    return np.mean(curves, axis=0) if curves else np.full(len(RECALLS), np.nan)
