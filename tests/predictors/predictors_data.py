"""Features and label sets that linear and neighbour methods can learn; the last label follows from two others."""

import numpy as np


def images(seed: int, number: int, labels: int = 5, dims: int = 8) -> tuple[np.ndarray, np.ndarray]:
    """Features float32 (N, D) and targets uint8 (N, K)."""
    rng = np.random.default_rng(seed)
    weights = np.random.default_rng(99).normal(size=(dims, labels))
    features = rng.normal(size=(number, dims))
    targets = features @ weights + 0.5 * rng.normal(size=(number, labels)) > 0.8
    targets[:, -1] = targets[:, 0] & targets[:, 1]
    return (3 + 2 * features).astype(np.float32), targets.astype(np.uint8)
