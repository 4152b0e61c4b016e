"""The smallest distribution over label sets under which LSEP's minimiser contradicts the marginals, proved exactly.

    python experiments/claims/counterexample.py [--largest 8]

Theorem 1 says that f*_u >= f*_v if and only if P(u in Y) >= P(v in Y). For K = 3 that is true (docs/claims.md has the
two lines that prove it). For K = 4 this goes through all distributions P(Y) = n_Y / n, n = 2, 3, ..., one of each
class that a renaming of the labels makes equal, minimises LSEP's risk under each, and stops at the first n that has a
finite minimiser with a pair in the wrong order. Sets without a pair, the empty and the full one, are left out: they
change neither the minimiser nor the order of the marginals.

What the search finds in floating point, `is_proved` then decides in rational numbers alone. With x_u = exp(f_u),

    n R(f) = sum_Y n_Y log(1 + S_Y),   S_Y = (sum_{v not in Y} x_v) (sum_{u in Y} 1 / x_u),

is convex in f and its gradient is rational in x. At a point h with f_u = f_v near the best of such points, the tangent
plane bounds n R from below on all of {f_u >= f_v}; another point with f_u < f_v has a lower risk than that bound. So
every minimiser has f_u < f_v.

Cost: seconds. Writes counterexample.csv: the distribution, its marginals and the minimiser.
"""

import argparse
from collections.abc import Iterator, Sequence
from fractions import Fraction
from itertools import permutations
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from results import FOLDER, write_table
from risk import SMOOTH, label_sets, marginals, newton
from torch import Tensor

LABELS = "abcdefgh"
Weights = dict[tuple[int, ...], int]
"""Label set -> n_Y."""


class Counterexample(NamedTuple):
    """weights: n_Y; above, below: u and v with P(u in Y) > P(v in Y) but f*_u < f*_v; scores: f*, of mean 0."""

    weights: Weights
    above: int
    below: int
    scores: list[float]


def is_proved(
    weights: Weights, above: int, below: int, tied: Sequence[Fraction], better: Sequence[Fraction]
) -> bool:
    """Whether P(above) > P(below), yet every minimiser of LSEP's risk has f_above < f_below; exact arithmetic.

    tied and better: exp f at two points, the first with f_above = f_below. The proof may fail for a true statement
    when the points are badly chosen; it never succeeds for a false one.

    With G the gradient of n R at `tied`, convexity gives n R(f) >= n R(tied) + G . d, d = f - tied. Write G as
    c (e_above - e_below) + e with c >= 0: where f_above >= f_below the first part adds nothing negative, and the
    second takes away at most |e|_1 range(d) / 2, as e sums to 0. Points better than f = 0 have a small range, as each
    n_Y log(1 + S_Y) >= n_Y (f_v - f_u).
    """
    size = len(tied)
    if tied[above] != tied[below] or min(*tied, *better) <= 0:
        raise ValueError("tied: expected equal scores of the two labels; exp f is positive")
    count = [sum(n for labels, n in weights.items() if label in labels) for label in range(size)]
    span = _largest_range(weights, size)
    if count[above] <= count[below] or span is None:
        return False
    gradient = _gradient(weights, tied)
    slope = (gradient[above] - gradient[below]) / 2
    rest = [g - slope * ((label == above) - (label == below)) for label, g in enumerate(gradient)]
    # log(max x / min x) <= max x / min x - 1
    away = span + max(tied) / min(tied) - 1
    loss_of_bound = sum(map(abs, rest)) * away / 2
    if slope < 0 or loss_of_bound >= 1:
        return False
    ratio = Fraction(1)
    for labels, n in weights.items():
        ratio *= ((1 + _pairs_sum(labels, tied)) / (1 + _pairs_sum(labels, better))) ** n
    # n R(tied) - n R(better) = log(ratio) > loss_of_bound, as exp(t) <= 1 / (1 - t)
    return ratio > 1 / (1 - loss_of_bound)


def _pairs_sum(labels: tuple[int, ...], x: Sequence[Fraction]) -> Fraction:
    """S_Y."""
    outside = sum((x[v] for v in range(len(x)) if v not in labels), Fraction(0))
    return outside * sum((1 / x[u] for u in labels), Fraction(0))


def _gradient(weights: Weights, x: Sequence[Fraction]) -> list[Fraction]:
    """The gradient of n R with respect to f."""
    gradient = [Fraction(0)] * len(x)
    for labels, n in weights.items():
        outside = [v for v in range(len(x)) if v not in labels]
        share = n / (1 + _pairs_sum(labels, x))
        for v in outside:
            gradient[v] += share * x[v] * sum((1 / x[u] for u in labels), Fraction(0))
        for u in labels:
            gradient[u] -= share / x[u] * sum((x[v] for v in outside), Fraction(0))
    return gradient


def _largest_range(weights: Weights, size: int) -> Fraction | None:
    """What f_v - f_u can at most be where n R(f) <= n R(0), for any u, v; None where nothing bounds it."""
    # n R(0) = sum n_Y log(1 + |Y| |not-Y|) < sum n_Y (|Y| + |not-Y|): crude, but rational
    at_zero = Fraction(size * sum(weights.values()))
    reach = [[Fraction(0) if u == v else None for v in range(size)] for u in range(size)]
    for labels, n in weights.items():
        for u in labels:
            for v in set(range(size)) - set(labels):
                reach[u][v] = min(reach[u][v] or at_zero, at_zero / n)
    for w in range(size):  # over other labels
        for u in range(size):
            for v in range(size):
                first, second, direct = reach[u][w], reach[w][v], reach[u][v]
                if first is not None and second is not None:
                    reach[u][v] = first + second if direct is None else min(direct, first + second)
    found = [entry for row in reach for entry in row]
    return None if None in found else max(entry for entry in found if entry is not None)


def distributions(num_labels: int, total: int) -> Iterator[tuple[int, ...]]:
    """n_Y of the sets that have a pair, in the order of `label_sets`, their sum `total`; one up to renaming labels."""
    sets = [tuple(row) for row in label_sets(num_labels)[1:-1].tolist()]
    place = {row: number for number, row in enumerate(sets)}
    renamings = np.array(
        [[place[tuple(row[i] for i in order)] for row in sets] for order in permutations(range(num_labels))]
    )

    def extend(counts: list[int], left: int) -> Iterator[list[int]]:
        if len(counts) == len(sets) - 1:
            yield [*counts, left]
            return
        for n in range(left + 1):
            yield from extend([*counts, n], left - n)

    for counts in extend([], total):
        array = np.array(counts)
        if counts == max(array[renamings].tolist()):
            yield tuple(counts)


def search(num_labels: int, largest: int) -> Counterexample | None:
    """The counterexample of the smallest n; among those of this n, fewest sets, then the widest gap in f."""
    for total in range(2, largest + 1):
        counts = torch.tensor(list(distributions(num_labels, total)), dtype=torch.float64)
        probabilities = torch.nn.functional.pad(counts / total, (1, 1))
        scores = newton(SMOOTH["lsep"], probabilities)
        p = marginals(probabilities)
        above = p[:, :, None] - p[:, None, :] > 1e-9
        gap = torch.where(above, scores[:, None, :] - scores[:, :, None], -torch.inf)
        widest, pair = gap.flatten(1).max(1)
        finite = scores.amax(1) - scores.amin(1) < 10
        found = ((widest > 1e-6) & finite).nonzero()[:, 0].tolist()
        print(f"n = {total}: {len(counts)} distributions, {len(found)} with a pair in the wrong order")
        if found:
            best = max(found, key=lambda row: (-int((counts[row] > 0).sum()), float(widest[row])))
            return _named(counts[best], scores[best], *divmod(int(pair[best]), num_labels))
    return None


def _named(counts: Tensor, scores: Tensor, above: int, below: int) -> Counterexample:
    sets = label_sets(len(scores))[1:-1]
    weights = {
        tuple(row.nonzero()[:, 0].tolist()): int(n) for row, n in zip(sets, counts, strict=True) if n > 0
    }
    return Counterexample(weights, above, below, (scores - scores.mean()).tolist())


def certificate(weights: Weights, size: int, above: int, below: int) -> tuple[list[Fraction], list[Fraction]]:
    """The two points of `is_proved`: the best with f_above = f_below, and the best of all; found in floating point."""
    probabilities = torch.zeros(1, 2**size, dtype=torch.float64)
    for labels, n in weights.items():
        probabilities[0, sum(2 ** (size - 1 - label) for label in labels)] = n
    tie = torch.eye(size, dtype=torch.float64)
    tie[below] = tie[above]  # free scores -> scores with f_above = f_below

    def tied_lsep(free: Tensor, targets: Tensor, **options: str) -> Tensor:
        return SMOOTH["lsep"](free @ tie.T, targets, **options)

    tied = newton(tied_lsep, probabilities)[0] @ tie.T
    return _rounded(tied.exp()), _rounded(newton(SMOOTH["lsep"], probabilities)[0].exp())


def _rounded(x: Tensor) -> list[Fraction]:
    return [Fraction(value).limit_denominator(10**7) for value in x.tolist()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--largest", type=int, default=8, help="n to stop at")
    parser.add_argument("--folder", type=Path, default=FOLDER)
    arguments = parser.parse_args()
    example = search(4, arguments.largest)
    if example is None:
        print(f"None up to n = {arguments.largest}.")
        return
    points = certificate(example.weights, 4, example.above, example.below)
    proved = is_proved(example.weights, example.above, example.below, *points)
    total = sum(example.weights.values())
    rows = [
        {"what": "P(Y)", "of": "".join(LABELS[label] for label in labels), "value": str(Fraction(n, total))}
        for labels, n in example.weights.items()
    ]
    for label in range(4):
        count = sum(n for labels, n in example.weights.items() if label in labels)
        rows.append({"what": "P(u in Y)", "of": LABELS[label], "value": str(Fraction(count, total))})
    rows += [{"what": "f*", "of": LABELS[i], "value": f"{f:.6f}"} for i, f in enumerate(example.scores)]
    claim = f"{LABELS[example.above]} more probable than {LABELS[example.below]} but scored lower"
    rows.append({"what": "proved", "of": claim, "value": str(proved)})
    for row in rows:
        print("{what:10s} {of:4s} {value}".format(**row))
    write_table(arguments.folder, "counterexample", rows)


if __name__ == "__main__":
    main()
