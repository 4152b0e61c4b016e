"""Loops compiled by numba where it is installed (the extra `fast`): what operators do in many passes, done in few.

Each returns what operators return, sums of weights to rounding, and takes part on a CPU and for large tensors alone.
Rows are shared out among as many threads as torch has; no result depends on how many these are.
"""

import importlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache, lru_cache
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from lsep_ml.loops import installed
from lsep_ml.losses.kernels.fused import soon_searched

LARGE = 2**16
"""Scores from which arithmetic takes more time than calls, so that a look at their values is worth its call."""
FEW = 128
"""Positives a row up to which comparing every score with each costs less than finding its place among them."""
TARGETS = (torch.bool, torch.uint8, torch.int64, torch.float32)
"""Dtypes of dense targets that loops are compiled for."""


class HingeSums(NamedTuple):
    """What `hinge_sums` returns."""

    slope: Tensor
    """(N, K): at a negative v the sum of w_u over the positives u that it violates; at u minus w_u r_u; 0 elsewhere."""
    lowest: Tensor
    """(N, 1): the lowest bound of a row, 0 without a positive."""
    total: Tensor
    """(N,): the sum of w_u r_u."""


def compiled_for(values: Tensor, *dtypes: torch.dtype) -> bool:
    """Return whether a loop is there for `values`: large, on a CPU, of one of `dtypes`, and numba is installed."""
    return values.numel() >= LARGE and values.dtype in dtypes and soon_searched(values) and installed()


def hinge_sums(
    f: Tensor,
    targets: Tensor,
    known: Tensor | None,
    margin: float,
    weight: Callable[[Tensor], Tensor] | None,
    *,
    sparse: bool,
) -> HingeSums | None:
    """Weigh the pairs of a positive u and a negative v with f_v > f_u - a by w_u = w(r_u), r_u of them being with u.

    Args:
        f: scores (N, K), float32 or float64, `compiled_for`.
        targets: 0/1 (N, K) of one of TARGETS, or, if `sparse`, the labels of the positives (N, P), padded with -1.
        known: bool (N, K); None where all entries are.
        margin: a.
        weight: w, by the same numbers for the same ranks; None: 1.

    Returns:
        The sums; None where a known target is neither 0 nor 1, or no label.
    """
    f, targets = f.detach().contiguous(), targets.detach().contiguous()
    slope, lowest, total = torch.empty_like(f), f.new_empty(len(f), 1), f.new_empty(len(f))
    mask = f.new_empty(0, 0, dtype=torch.bool) if known is None else known.contiguous()
    arrays = [
        (given.view(torch.uint8) if given.dtype == torch.bool else given).numpy()
        for given in (f, targets, mask, slope, lowest, total)
    ]
    loops = _loops()
    loop = loops.hinges_sparse if sparse else loops.hinges_dense
    weights = _weights(weight, f.shape[1], f.dtype)

    def of_rows(start: int, end: int) -> bool:
        right: bool = loop(
            *(array[start:end] for array in arrays), arrays[0].dtype.type(margin), weights, FEW
        )
        return right

    return HingeSums(slope, lowest, total) if _all_parts(of_rows, len(f)) else None


def all_hard(targets: Tensor) -> bool:
    """Return whether all of `targets` (n,), `compiled_for`, are 0 or 1."""
    values = targets.detach().contiguous().numpy()
    return _all_parts(lambda start, end: bool(_loops().hard(values[start:end])), len(values))


def _all_parts(of: Callable[[int, int], bool], total: int) -> bool:
    """Return whether of(start, end) holds for all parts of range(total), one for each of torch's threads, at once."""
    threads = min(torch.get_num_threads(), total)
    if threads == 1:
        return of(0, total)
    ends = [total * part // threads for part in range(threads + 1)]
    with ThreadPoolExecutor(threads) as pool:  # the loops do not hold the interpreter's lock
        return all(list(pool.map(of, ends, ends[1:])))


@lru_cache(maxsize=4)
def _weights(weight: Callable[[Tensor], Tensor] | None, most: int, dtype: torch.dtype) -> Any:
    """Compute w(r) of every r up to `most`, as an array; an empty one stands for 1."""
    if weight is None:
        return np.empty(0, np.float64 if dtype == torch.float64 else np.float32)
    return weight(torch.arange(most + 1, dtype=dtype, device="cpu")).numpy()


@cache
def _loops() -> Any:
    return importlib.import_module("lsep_ml.losses.kernels.loops")
