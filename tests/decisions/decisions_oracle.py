"""Searches by brute force over label sets, with the metrics as plain loops."""

import numpy as np
from metrics_oracle import label_sets

from lsep_ml.metrics.catalogue import gain


def top_k(row, k):
    """0/1 list of the k highest scores, the lower index first among equals."""
    chosen = sorted(range(len(row)), key=lambda label: (-row[label], label))[:k]
    return [label in chosen for label in range(len(row))]


def value(predictions, targets, mask, criterion):
    """The criterion, negated where lower is better."""
    return gain(criterion, label_sets(predictions, targets, mask)[criterion])


def every_cutoff(scores, mask):
    """A threshold for every distinct outcome: each known score, and one below all; descending."""
    distinct = np.unique(scores[mask])[::-1]
    return [*distinct.tolist(), -np.inf]


def best(values, tie=1e-9):
    """The first index of the maximum, up to rounding."""
    top = max(values)
    return next(index for index, entry in enumerate(values) if entry >= top - tie)
