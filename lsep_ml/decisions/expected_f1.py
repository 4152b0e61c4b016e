"""The label set of highest expected F1 for independent labels: exact sums, all images at once."""

import torch
from torch import Tensor
from torch.nn.functional import pad

_CELLS = 4_000_000  # probabilities held at a time: bounds the memory
_TIE = 1e-12


def rows_at_once(num_labels: int) -> int:
    """Return how many images `best_sizes` should be given at a time."""
    return max(1, _CELLS // (num_labels + 1) ** 2)


def best_sizes(probabilities: Tensor) -> Tensor:
    """Return how many of an image's most probable labels to take, int64 (N,), from probabilities float64 (N, K)."""
    expected = expected_f1(probabilities.sort(dim=1, descending=True, stable=True).values)
    best = expected >= expected.amax(1, keepdim=True) - _TIE
    return (best.int().cumsum(1) == 0).sum(1)  # the first of the best


def expected_f1(ranked: Tensor) -> Tensor:
    """Expected F1 of the first m labels, m = 0..K, (N, K + 1), from probabilities in descending order (N, K).

    With C of the m chosen and D of the other labels true, F1 = 2 C / (m + C + D): the sum over C of
    2 C P(C) E[1 / (m + C + D)]. P(C) is built label by label from the front, E[1 / (a + D)] from the back.
    """
    labels = ranked.shape[1]
    columns = ranked.split(1, dim=1)
    chosen = [torch.ones_like(columns[0])]  # chosen[m][:, c] = P(C = c) among the first m
    for p in columns:
        chosen.append(pad((1 - p) * chosen[-1], (0, 1)) + pad(p * chosen[-1], (1, 0)))
    places = torch.arange(1, 2 * labels + 1, dtype=ranked.dtype, device=ranked.device)
    counts, inverse = places[:labels], (1 / places).expand(ranked.shape[0], -1)  # of a = 1, 2, ...
    expected = [chosen[labels][:, :1]]  # no label is true: the empty set is right
    terms = []
    for m in range(labels, 0, -1):
        terms.append((2 * counts[:m] * chosen[m][:, 1:] * inverse[:, m : 2 * m]).sum(1, keepdim=True))
        p = columns[m - 1]
        inverse = p * inverse[:, 1:] + (1 - p) * inverse[:, :-1]
    return torch.cat(expected + terms[::-1], 1)
