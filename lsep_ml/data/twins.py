"""Near-duplicates among images: what a picture looks like, in 64 bits, and which pictures differ in few of them."""

from collections.abc import Iterator
from functools import cached_property
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

DISTANCE = 8
"""Images whose hashes differ in so many of 64 bits or fewer are twins."""

BANDS = ((0, 21), (21, 21), (42, 22))  # first bit and width
CHUNK = 2**22  # pairs that are compared at a time


class Twins:
    """Holds which of N images are near-duplicates of each other.

    Args:
        hashes: uint64 (N,), perceptual hashes; 0 where an image has none, and no twin.
    """

    def __init__(self, hashes: NDArray[np.uint64]) -> None:
        self.hashes = hashes

    @cached_property
    def has_twin(self) -> NDArray[np.bool_]:
        """Return which images have a twin among all of them, (N,)."""
        _, place, sizes = self._distinct
        found = sizes > 1
        found[self._pairs.reshape(-1)] = True
        return found[place] & (self.hashes != 0)

    def among(self, rows: NDArray[np.bool_]) -> NDArray[np.int64]:
        """Find for each image the first of the chosen `rows`, bool (N,), that is its twin or itself: int64 (N,), -1
        where there is none."""
        distinct, place, _ = self._distinct
        none = len(self.hashes)
        first = np.full(len(distinct), none, np.int64)
        chosen = np.flatnonzero(rows & (self.hashes != 0))
        np.minimum.at(first, place[chosen], chosen)
        near = first.copy()
        for one, other in (self._pairs.T, self._pairs.T[::-1]):
            np.minimum.at(near, one, first[other])
        found = near[place]
        return np.where((found == none) | (self.hashes == 0), -1, found)

    def joined(self, groups: NDArray[np.int64] | None) -> NDArray[np.int64]:
        """Number what stays together, int64 (N,): twins, twins of twins, and images of one of the `groups` (N,)."""
        from scipy.sparse import coo_array
        from scipy.sparse.csgraph import connected_components

        distinct, place, _ = self._distinct
        images = np.arange(len(self.hashes))
        hashed = images[self.hashes != 0]
        edges = [(hashed, len(images) + place[hashed]), tuple(len(images) + self._pairs.T)]
        nodes = len(images) + len(distinct)
        if groups is not None:
            numbers = np.unique(groups, return_inverse=True)[1]
            edges.append((images, nodes + numbers))
            nodes += int(numbers.max(initial=-1)) + 1
        starts, ends = (np.concatenate(side) for side in zip(*edges, strict=True))
        graph = coo_array((np.ones(len(starts), bool), (starts, ends)), shape=(nodes, nodes))
        found = connected_components(graph, directed=False)[1][: len(images)]
        return np.unique(found, return_inverse=True)[1].astype(np.int64)

    @cached_property
    def _distinct(self) -> tuple[NDArray[np.uint64], NDArray[np.int64], NDArray[np.int64]]:
        """Return the distinct hashes, the place of each image's among them, and how many images have each."""
        return np.unique(self.hashes, return_inverse=True, return_counts=True)

    @cached_property
    def _pairs(self) -> NDArray[np.int64]:
        distinct = self._distinct[0]
        pairs = near_pairs(distinct)
        return pairs[(distinct[pairs] != 0).all(axis=1)]


def near_pairs(hashes: NDArray[np.uint64], distance: int = DISTANCE) -> NDArray[np.int64]:
    """Find all pairs of distinct `hashes`, uint64 (N,), that differ in at most `distance` bits.

    Of the three bands of a hash, one differs in at most `distance` // 3 bits: hashes are looked up by each band with up
    to so many bits flipped, and compared as a whole where that finds any.

    Returns:
        int64 (P, 2), each pair once, the smaller row first, sorted.
    """
    found = [np.zeros((0, 2), np.int64)]
    for first, width in BANDS:
        band = (hashes >> np.uint64(first)) & np.uint64(2**width - 1)
        order = np.argsort(band, kind="stable")
        keys, starts, sizes = np.unique(band[order], return_index=True, return_counts=True)
        for flipped in _flips(width, distance // len(BANDS)):
            wanted = keys ^ flipped
            left = np.flatnonzero(keys <= wanted)  # the others are found the other way round
            right = np.searchsorted(keys, wanted[left]).clip(max=len(keys) - 1)
            there = keys[right] == wanted[left]
            if not there.any():
                continue
            for one, other in _pairings(starts, sizes, left[there], right[there]):
                one, other = order[one], order[other]
                near = np.bitwise_count(hashes[one] ^ hashes[other]) <= distance
                near &= (one < other) | (flipped > 0)
                found.append(np.sort(np.stack([one[near], other[near]], axis=1), axis=1))
    return np.unique(np.concatenate(found), axis=0)


def _flips(width: int, most: int) -> list[np.uint64]:
    """Return all numbers of `width` bits of which at most `most` are 1."""
    chosen = [places for number in range(most + 1) for places in combinations(range(width), number)]
    return [np.uint64(sum(1 << place for place in places)) for places in chosen]


def _pairings(
    starts: NDArray[np.int64], sizes: NDArray[np.int64], left: NDArray[np.int64], right: NDArray[np.int64]
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Return every member of each of the runs `left` with every member of the run at the same place of `right`, about
    CHUNK pairs at a time; a run has a start and a size."""
    rows = np.repeat(np.arange(len(left)), sizes[left])  # one for each member of a run in `left`
    member = starts[left][rows] + _counted(sizes[left])
    partners = sizes[right][rows]
    steps = np.searchsorted(np.cumsum(partners), np.arange(CHUNK, int(partners.sum()), CHUNK))
    for part in np.split(np.arange(len(rows)), np.unique(steps)):
        one = np.repeat(member[part], partners[part])
        other = np.repeat(starts[right][rows[part]], partners[part]) + _counted(partners[part])
        if len(one):
            yield one, other


def _counted(sizes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Count 0, 1, ..., size - 1 for each of the `sizes`, one after the other."""
    ends = np.cumsum(sizes)
    return np.arange(int(sizes.sum())) - np.repeat(ends - sizes, sizes)


SIDE, LOW = 32, 8  # of the picture that is transformed, and of its low frequencies

_COSINES = np.cos(np.pi * np.outer(np.arange(LOW), 2 * np.arange(SIDE) + 1) / (2 * SIDE))


def perceptual_hash(image: NDArray[np.uint8]) -> int:
    """Hash a picture by its low frequencies (pHash: Zauner, Implementation and benchmarking of perceptual image hash
    functions, 2010).

    The picture in grey, 32 x 32, goes through the discrete cosine transform; a bit says whether one of the 8 x 8
    lowest coefficients is above their median. Rows first, the highest bit is the mean's.

    Args:
        image: uint8 (3, H, W).

    Returns:
        64 bits; 0 for a picture of one colour, which has nothing to be told by.
    """
    picture = Image.merge("RGB", [Image.fromarray(plane) for plane in image])
    small = picture.convert("L").resize((SIDE, SIDE), Image.Resampling.LANCZOS)
    coefficients = _COSINES @ np.asarray(small, np.float64) @ _COSINES.T
    coefficients = coefficients.round(6).reshape(-1)  # what is zero but for rounding is zero
    if not coefficients[1:].any():
        return 0
    bits = coefficients > np.median(coefficients)
    return int.from_bytes(np.packbits(bits).tobytes(), "big")
