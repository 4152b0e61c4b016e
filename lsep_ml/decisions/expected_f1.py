"""The label set of highest expected F1 for independent labels: exact sums, vectorised over the images."""

import numpy as np
from numpy.typing import NDArray

_CELLS = 4_000_000  # probabilities held at a time: bounds the memory
_TIE = 1e-12

Floats = NDArray[np.float64]


def best_sizes(probabilities: Floats) -> NDArray[np.int64]:
    """How many of an image's most probable labels to take, int64 (N,), from probabilities (N, K)."""
    block = max(1, _CELLS // (probabilities.shape[1] + 1) ** 2)
    sizes = []
    for start in range(0, len(probabilities), block):
        expected = expected_f1(-np.sort(-probabilities[start : start + block], axis=1))
        sizes.append((expected >= expected.max(1, keepdims=True) - _TIE).argmax(1))
    return np.concatenate(sizes) if sizes else np.zeros(0, np.int64)


def expected_f1(ranked: Floats) -> Floats:
    """Expected F1 of the first m labels, m = 0..K, (N, K + 1), from probabilities in descending order (N, K).

    With C of the m chosen and D of the other labels true, F1 = 2 C / (m + C + D): the sum over C of
    2 C P(C) E[1 / (m + C + D)]. P(C) is built label by label from the front, E[1 / (a + D)] from the back.
    """
    images, labels = ranked.shape
    chosen = np.zeros((labels + 1, images, labels + 1))  # chosen[m, :, c] = P(C = c) among the first m
    chosen[0, :, 0] = 1
    for m in range(labels):
        p = ranked[:, m, None]
        chosen[m + 1] = (1 - p) * chosen[m]
        chosen[m + 1, :, 1:] += p * chosen[m, :, :-1]
    expected = np.empty((images, labels + 1))
    counts = np.arange(labels + 1)
    inverse = np.broadcast_to(1 / np.arange(1.0, 2 * labels + 1), (images, 2 * labels))  # of a = 1, 2, ...
    for m in range(labels, 0, -1):
        expected[:, m] = (2 * counts[1 : m + 1] * chosen[m, :, 1 : m + 1] * inverse[:, m : 2 * m]).sum(1)
        p = ranked[:, m - 1, None]
        inverse = p * inverse[:, 1:] + (1 - p) * inverse[:, :-1]
    expected[:, 0] = (1 - ranked).prod(1)
    return expected
