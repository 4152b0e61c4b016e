"""The losses as their equations are written: loops over labels in Python floats (float64)."""

import math
from collections.abc import Callable, Sequence

Row = Sequence[float]
Labels = Sequence[int]
Oracle = Callable[..., float]


def pairs(scores: Row, positives: Labels, negatives: Labels) -> list[tuple[float, float]]:
    """(f_u, f_v) of every pair."""
    return [(scores[u], scores[v]) for u in positives for v in negatives]


def lsep(scores: Row, positives: Labels, negatives: Labels) -> float:
    return math.log(1 + sum(math.exp(v - u) for u, v in pairs(scores, positives, negatives)))


def bpmll(scores: Row, positives: Labels, negatives: Labels, normalize: bool = False) -> float:
    total = sum(math.exp(v - u) for u, v in pairs(scores, positives, negatives))
    return total / max(1, len(positives) * len(negatives)) if normalize else total


def ranking(scores: Row, positives: Labels, negatives: Labels, margin: float = 1.0) -> float:
    return sum(max(0.0, margin + v - u) for u, v in pairs(scores, positives, negatives))


def warp(scores: Row, positives: Labels, negatives: Labels, margin: float = 1.0) -> float:
    total = 0.0
    for u in positives:
        hinges = [margin + scores[v] - scores[u] for v in negatives if scores[v] > scores[u] - margin]
        total += sum(1 / r for r in range(1, len(hinges) + 1)) * sum(hinges)
    return total


def softmax(scores: Row, positives: Labels, negatives: Labels, normalize: bool = False) -> float:
    every = math.log(sum(math.exp(scores[k]) for k in [*positives, *negatives])) if positives else 0.0
    total = sum(every - scores[u] for u in positives)
    return total / max(1, len(positives)) if normalize else total
