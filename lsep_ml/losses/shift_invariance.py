"""Which losses only compare the scores of one image, said by the losses themselves."""

from collections.abc import Callable
from typing import Any, TypeVar

Loss = TypeVar("Loss", bound=Callable[..., Any])


def shift_invariant(loss: Loss) -> Loss:
    """Mark a loss that is unchanged by a constant added to all scores of an image: zero then means nothing to them."""
    loss.shift_invariant = True  # type: ignore[attr-defined]
    return loss


def is_shift_invariant(loss: Callable[..., Any]) -> bool:
    """Return whether `loss`, or what it is a `functools.partial` of, is marked so."""
    return getattr(getattr(loss, "func", loss), "shift_invariant", False)
