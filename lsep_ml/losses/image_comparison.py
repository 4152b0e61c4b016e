"""Which losses compare images with each other, said by the losses themselves."""

from collections.abc import Callable
from typing import Any, TypeVar

Loss = TypeVar("Loss", bound=Callable[..., Any])


def comparing_images(loss: Loss) -> Loss:
    """Mark a loss that is no sum over images: it is computed from all images of a batch together."""
    loss.compares_images = True  # type: ignore[attr-defined]
    return loss


def compares_images(loss: Callable[..., Any]) -> bool:
    """Tell whether `loss`, a loss of this package or a functools.partial of one, compares images with each other.

    It is no sum over rows then: it must be given all images that are to be compared, and refuses reduction="none".
    """
    return getattr(getattr(loss, "func", loss), "compares_images", False)


def check_reduction(reduction: str) -> None:
    """Raise ValueError for a reduction that a loss over the images of a label does not have."""
    if reduction not in ("mean", "sum"):
        raise ValueError(f"reduction={reduction!r}: expected 'mean' or 'sum'; a column is no image's")
