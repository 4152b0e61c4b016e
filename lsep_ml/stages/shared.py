"""What the jobs of a sweep share that run in one process, one after the other: it stays in memory."""

import hashlib
import os
from collections.abc import Callable
from typing import Any, Generic, TypeVar

import numpy as np

from lsep_ml.files import content_hash
from lsep_ml.metrics.indicator import dense_blocks
from lsep_ml.stages.sweep import FOLDER

T = TypeVar("T")


class Shared(Generic[T]):
    """Keeps the `kept` newest of what jobs made of a kind, for the jobs of the same sweep that follow.

    What is made is handed out as it is: whoever changes it takes a copy.
    """

    def __init__(self, kept: int) -> None:
        self._kept = kept
        self._made: dict[str, T] = {}

    def get(self, made_by: Any, make: Callable[[], T]) -> T:
        """Return what `make` made for an earlier job by the same `made_by`, plain data, or makes now; always now for a
        job that is not one of a sweep."""
        sweep = os.environ.get(FOLDER)
        if sweep is None:
            return make()
        key = content_hash([sweep, made_by])
        if key not in self._made:
            while len(self._made) >= self._kept:
                del self._made[next(iter(self._made))]
            self._made[key] = make()
        return self._made[key]


def digest_of(matrix: Any) -> str:
    """Return the SHA-256 (hex) of a matrix's entries, a sparse one's as those of the dense one."""
    digest = hashlib.sha256()
    for (block,) in dense_blocks(matrix):
        digest.update(np.ascontiguousarray(block).data)
    return digest.hexdigest()
