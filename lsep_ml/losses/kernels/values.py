"""What the values of dense targets are: looked at in every loss, without making a device wait."""

from typing import Any

import torch
from torch import Tensor

from lsep_ml.losses.kernels.compiled import all_hard, compiled_for
from lsep_ml.losses.kernels.fused import plain_eager, soon_searched

WANTED = {
    False: "expected 0 or 1 (for -1 and 1 give targets > 0; what is not known belongs in the mask)",
    True: "expected numbers in [0, 1] (for -1 and 1 give targets > 0; what is not known belongs in the mask)",
}
"""The end of the error, by whether numbers between 0 and 1 have a meaning to the loss."""

BLOCK = 2**20
"""Targets looked at in one: bounds the memory that it takes, and is not worth less."""


def check_targets(targets: Tensor, *, soft: bool = False) -> None:
    """Check that every one of `targets` (N, K) is 0 or 1, or, where they are `soft`, a number from 0 to 1.

    Boolean targets cost nothing. On a CPU an error is raised at once; on CUDA it is an assertion of the device's own,
    for which nothing waits, as it is under torch.compile. Under the transforms of torch.func, and on tensors that are
    no plain ones, nothing is looked at.

    Args:
        targets: with 0 where an entry is not known.
        soft: whether numbers between 0 and 1 have a meaning.

    Raises:
        ValueError: another value, or NaN; names the first entry that has one.
    """
    if targets.dtype == torch.bool or targets.numel() == 0:
        return
    if torch.compiler.is_compiling():
        torch._assert_async(_allowed(targets, soft).all(), f"targets: {WANTED[soft]}")
    elif plain_eager() and type(targets) is Tensor:
        within = soft or not targets.is_floating_point()
        if targets.device.type == "cuda":
            assert_without_waiting(targets, within)
        elif targets.device.type == "cpu" and not _right(targets, within):
            row, column = (~_allowed(targets, soft)).nonzero()[0].tolist()
            raise ValueError(f"targets[{row}, {column}]={targets[row, column].item():g}: {WANTED[soft]}")


def assert_without_waiting(targets: Tensor, within: bool) -> None:
    """Leave it to the device to find that `targets` are not all from 0 to 1, and, unless that is enough (`within`), 0
    or 1; on a CPU it is found at once.

    Raises:
        RuntimeError: on a CPU; on CUDA later, by any call that waits.
    """
    low, high = _range(targets)
    right = (low >= 0) & (high <= 1)
    torch._assert_async(right if within else right & (_spread(targets) == 0))


def known_hard(targets: Tensor) -> bool:
    """Return whether `targets`, checked to be in [0, 1], are 0 or 1, so far as that is known without making a device
    wait."""
    if not targets.is_floating_point():
        return True
    return soon_searched(targets) and _spread(targets).item() == 0


def all_ones(targets: Tensor, entries: Tensor) -> bool:
    """Return whether all `entries` of `targets` (N, K), numbered row after row, are 1."""
    return targets.dtype == torch.bool or bool((targets.reshape(-1)[entries] == 1).all())


def _range(targets: Tensor) -> tuple[Tensor, Tensor]:
    """Compute the least and the largest of `targets`; of those without a sign nothing less than 0 is looked for."""
    if targets.dtype == torch.uint8:
        return targets.new_zeros(()), targets.max()
    return torch.aminmax(targets)


def _spread(targets: Tensor) -> Tensor:
    """Compute the sum of y (1 - y) over `targets` in [0, 1], which is 0 where all are 0 or 1, and there alone."""
    y = targets.reshape(-1)
    return torch.dot(y, 1 - y)


def _right(targets: Tensor, within: bool) -> bool:
    """Return whether `targets` on a CPU are from 0 to 1, and, unless that is enough (`within`), 0 or 1."""
    if not within:
        return _hard(targets)
    least, most = (bound.item() for bound in _range(targets))
    return least >= 0 and most <= 1


def _hard(targets: Tensor) -> bool:
    """Return whether all of `targets`, floating point on a CPU, are 0 or 1."""
    if compiled_for(targets, torch.float32, torch.float64):
        return all_hard(targets.reshape(-1))
    for y in targets.reshape(-1).split(BLOCK):
        values = cpu_array(y)
        wrong = values != 0
        wrong &= values != 1
        if wrong.any():
            return False
    return True


def cpu_array(values: Tensor) -> Any:
    """Give `values` on a CPU as an array, those of half precision as float32: NumPy compares several times faster than
    torch."""
    values = values.detach()
    return (values.float() if values.is_floating_point() and values.itemsize < 4 else values).numpy()


def _allowed(targets: Tensor, soft: bool) -> Tensor:
    return (targets >= 0) & (targets <= 1) if soft else (targets == 0) | (targets == 1)
