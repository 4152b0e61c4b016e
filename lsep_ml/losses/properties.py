"""What losses say of themselves: whether they compare images, only compare scores, and take soft targets."""

from collections.abc import Callable
from typing import Any, TypeVar

from torch import Tensor

Loss = TypeVar("Loss", bound=Callable[..., Any])

Towards = Callable[[Tensor, Tensor | None], Tensor | float]
"""Targets (N, K), float, and which of them are known -> what smoothed targets are moved towards."""


def half(targets: Tensor, mask: Tensor | None) -> float:
    """Give 1/2: each label is a decision of its own."""
    return 0.5


def spread(targets: Tensor, mask: Tensor | None) -> Tensor:
    """Give each known label of a row the same share of the row's positives, so that their sum stays."""
    if mask is None:
        return targets.mean(1, keepdim=True)
    return (targets * mask).sum(1, keepdim=True) / mask.sum(1, keepdim=True).clamp(min=1)


def takes_soft_targets(towards: Towards) -> Callable[[Loss], Loss]:
    """Mark a loss whose equation has a meaning for targets between 0 and 1, smoothed `towards` something."""

    def marked(loss: Loss) -> Loss:
        loss.smoothed_towards = towards  # type: ignore[attr-defined]
        return loss

    return marked


def smooths_labels(loss: Callable[..., Any]) -> bool:
    """Tell whether `loss`, a loss of this package or a functools.partial of one, takes smoothed targets."""
    return hasattr(getattr(loss, "func", loss), "smoothed_towards")


def smoothed(loss: Callable[..., Any], targets: Tensor, mask: Tensor | None, smoothing: float) -> Tensor:
    """Smooth `targets` (N, K), 0/1 or soft, as `loss` has a meaning for: (1 - smoothing) y + smoothing y', float32.

    y' is 1/2, or for the softmax loss, whose targets are weights of terms, the share of known labels that are present.

    Args:
        loss: one that `smooths_labels`.
        targets, mask: as the loss takes them.
        smoothing: in [0, 1).
    """
    y = targets.float()
    function: Any = getattr(loss, "func", loss)
    towards: Towards = function.smoothed_towards
    return (1 - smoothing) * y + smoothing * towards(y, mask)


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


def shift_invariant(loss: Loss) -> Loss:
    """Mark a loss that is unchanged by a constant added to all scores of an image: zero then means nothing to them."""
    loss.shift_invariant = True  # type: ignore[attr-defined]
    return loss


def is_shift_invariant(loss: Callable[..., Any]) -> bool:
    """Return whether `loss`, or what it is a `functools.partial` of, is marked so."""
    return getattr(getattr(loss, "func", loss), "shift_invariant", False)
