"""Augmentations of training images by name: torchvision's operations on uint8 images, after crop and flip."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from lsep_ml.data.errors import DataError

Operation = Callable[[Tensor], Tensor]


def _torchvisions(name: str, *, smooth: bool = False, **options: Any) -> Operation:
    """Build an operation of torchvision, which takes a second to load; `smooth`: rotations are."""
    from torchvision.transforms import InterpolationMode, v2

    if smooth:
        options["interpolation"] = InterpolationMode.BILINEAR
    built: Operation = getattr(v2, name)(**options)
    return built


AUGMENTATIONS: Mapping[str, Callable[[], Operation]] = {
    "flip": partial(_torchvisions, "RandomHorizontalFlip"),
    "vertical_flip": partial(_torchvisions, "RandomVerticalFlip"),
    "trivial": partial(_torchvisions, "TrivialAugmentWide", smooth=True),
    "randaugment": partial(_torchvisions, "RandAugment", smooth=True),
    "autoaugment": partial(_torchvisions, "AutoAugment", smooth=True),
    "augmix": partial(_torchvisions, "AugMix", smooth=True),
    "color": partial(_torchvisions, "ColorJitter", brightness=0.4, contrast=0.4, saturation=0.4),
    "erasing": partial(_torchvisions, "RandomErasing", p=0.25),
}
"""What `transform.augment` calls them, with torchvision's own defaults but for smooth rotations."""


class Augmentation:
    """Applies torchvision operations one after the other, all that they draw a function of one seed.

    They draw from torch's random stream, which is put back as it was.

    Args:
        operations: names of AUGMENTATIONS or operations, uint8 (C, H, W) -> the same.

    Raises:
        DataError: an unknown name, or what is no operation.
    """

    def __init__(self, operations: str | Operation | Sequence[str | Operation] | None) -> None:
        listed: Any = [] if operations is None else operations
        if isinstance(listed, str) or callable(listed):
            listed = [listed]
        self.operations = [_built(operation) for operation in listed]

    def __len__(self) -> int:
        return len(self.operations)

    def __call__(self, image: Tensor, seed: int) -> Tensor:
        """Augment an image.

        Raises:
            DataError: an operation changes the image's size or type.
        """
        before = torch.default_generator.get_state()
        torch.default_generator.manual_seed(seed)
        try:
            for operation in self.operations:
                augmented = operation(image)
                if augmented.shape != image.shape or augmented.dtype != image.dtype:
                    raise DataError(
                        f"transform.augment: {operation} makes {augmented.dtype} {tuple(augmented.shape)} of "
                        f"{image.dtype} {tuple(image.shape)}; an augmentation keeps both"
                    )
                image = augmented
        finally:
            torch.default_generator.set_state(before)
        return image


def _built(operation: Any) -> Operation:
    if isinstance(operation, str) and operation in AUGMENTATIONS:
        return AUGMENTATIONS[operation]()
    if callable(operation):
        return operation
    raise DataError(
        f"transform.augment={operation}: {', '.join(AUGMENTATIONS)}, or a node with the _target_ of an operation, "
        "or a list of them"
    )
