"""The loops of `on_cpu`, in the part of Python that numba compiles. Importing this needs numba."""

from typing import Any

import numpy as np

from lsep_ml.loops import compiled

TOGETHER = 4
"""Channels that are summed at once: an addition waits for the one before, but not for those of other channels."""


@compiled
def moments(maps: Any, means: Any, squares: Any) -> None:
    """Fill `means` and `squares`, the sums of squared deviations, float32 (C,), of `maps` float32 (N, C, H * W).

    As torch does: sums in float64 of float32 values, one after the other in the order of `maps`. C is a multiple of
    TOGETHER.
    """
    num_images, channels, size = maps.shape
    sums, centres = np.zeros(TOGETHER), np.zeros(TOGETHER, np.float32)
    for first in range(0, channels, TOGETHER):
        sums[:] = 0
        for i in range(num_images):
            for j in range(size):
                for c in range(TOGETHER):
                    sums[c] += maps[i, first + c, j]
        for c in range(TOGETHER):
            centres[c] = means[first + c] = np.float32(sums[c] / (num_images * size))
        sums[:] = 0
        for i in range(num_images):
            for j in range(size):
                for c in range(TOGETHER):
                    deviation = maps[i, first + c, j] - centres[c]
                    sums[c] += deviation * deviation
        for c in range(TOGETHER):
            squares[first + c] = np.float32(sums[c])


@compiled
def maxima(maps: Any, pooled: Any, places: Any) -> None:
    """Fill `pooled` (M, H/2, W/2) with the maxima of the 2 x 2 windows of `maps` (M, H, W), and `places` with where.

    Places count from 0 in reading order; of equal ones the first, and NaN before all.
    """
    for i in range(len(maps)):
        for row in range(pooled.shape[1]):
            upper, lower = maps[i, 2 * row], maps[i, 2 * row + 1]
            largest, place = pooled[i, row], places[i, row]
            for j in range(pooled.shape[2]):
                value, at = upper[2 * j], np.uint8(0)
                other = upper[2 * j + 1]
                above = (other > value) | (other != other)
                value, at = other if above else value, np.uint8(1) if above else at
                other = lower[2 * j]
                above = (other > value) | (other != other)
                value, at = other if above else value, np.uint8(2) if above else at
                other = lower[2 * j + 1]
                above = (other > value) | (other != other)
                largest[j], place[j] = other if above else value, np.uint8(3) if above else at


@compiled
def unpool(pooled: Any, places: Any, maps: Any) -> None:
    """Fill `maps` (M, H, W) with each entry of `pooled` (M, H/2, W/2) at its place in its window, and 0 elsewhere."""
    zero = np.float32(0)
    for i in range(len(pooled)):
        for row in range(pooled.shape[1]):
            value, place = pooled[i, row], places[i, row]
            upper, lower = maps[i, 2 * row], maps[i, 2 * row + 1]
            for j in range(pooled.shape[2]):
                upper[2 * j] = value[j] if place[j] == 0 else zero
                upper[2 * j + 1] = value[j] if place[j] == 1 else zero
            # a loop of its own, of which entries side by side are written at once
            for j in range(pooled.shape[2]):
                lower[2 * j] = value[j] if place[j] == 2 else zero
                lower[2 * j + 1] = value[j] if place[j] == 3 else zero
