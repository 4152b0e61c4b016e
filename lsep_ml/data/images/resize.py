"""Resizing as Pillow does it, on tensors."""

import numpy as np
import torch
from PIL import Image
from torch import Tensor

_FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
}


def pillow_resize(images: Tensor, size: list[int], interpolation: str) -> Tensor:
    """Resize images uint8 (..., C, H, W), C in {1, 3}, at another height and width, antialiased; bit for bit
    Pillow's."""
    height, width = size
    flat = images.reshape(-1, *images.shape[-3:]).permute(0, 2, 3, 1).contiguous().numpy()
    resized = [
        np.asarray(
            Image.fromarray(image.squeeze(-1) if image.shape[-1] == 1 else image).resize(
                (width, height), _FILTERS[interpolation]
            )
        )
        for image in flat
    ]
    rows = torch.from_numpy(np.stack(resized)).reshape(len(resized), height, width, -1).permute(0, 3, 1, 2)
    return rows.contiguous().reshape(*images.shape[:-2], height, width)
