"""How loops are compiled by numba, where it is installed (the extra `fast`).

They are in modules of their own, which nothing imports before `installed` was asked.
"""

import importlib.util
from collections.abc import Callable
from functools import cache
from typing import Any


@cache
def installed() -> bool:
    """Return whether there is numba."""
    return importlib.util.find_spec("numba") is not None


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile `function` when it is first called, and keep the result beside its file, or in the user's cache."""
    import numba

    try:
        return numba.njit(nogil=True, cache=True, error_model="numpy")(function)
    except RuntimeError:  # no folder can be written to
        return numba.njit(nogil=True, error_model="numpy")(function)
