"""How whatever a person has as an image becomes a uint8 tensor (C, H, W)."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from lsep_ml.data.errors import ImageError
from lsep_ml.data.images.content import MAX_BYTES, read_content
from lsep_ml.data.images.decode import decode_image, decode_pil

ImageLike = str | Path | Image.Image | np.ndarray | Tensor


def single_images(images: ImageLike | Iterable[ImageLike]) -> Iterator[ImageLike]:
    """Give `images` one by one: a batch is taken apart, anything else that is one image stays as it is."""
    if isinstance(images, str | Path | Image.Image):
        yield images
    elif isinstance(images, np.ndarray | Tensor):
        if images.ndim == 4:
            yield from images
        else:
            yield images
    else:
        for item in images:
            yield from single_images(item)


def read_image(image: ImageLike, max_bytes: int = MAX_BYTES, least_side: int | None = None) -> Tensor:
    """Read `image` as uint8 (C, H, W), C in {1, 3}.

    Paths: the file, of at most `max_bytes`, decoded as in training; `least_side`: see `decode_image`. PIL images: as
    they are, by the same rules (transparency on white, EXIF rotation, 16 bits to 8). Arrays: uint8 (H, W), (H, W, 1) or
    (H, W, 3), as NumPy and PIL lay images out. Tensors: uint8 (H, W), (1, H, W) or (3, H, W), as torch does.

    Raises:
        ImageError: none of these; names what was given.
    """
    if isinstance(image, str | Path):
        return read_file(Path(image), max_bytes, least_side)
    if isinstance(image, Image.Image):
        return decode_pil(image)
    if isinstance(image, np.ndarray):
        array = image[:, :, None] if image.ndim == 2 else image
        # a copy, since an array may be read-only or of negative strides
        tensor = torch.from_numpy(_checked(array, -1, image).copy()).movedim(-1, 0)
    elif isinstance(image, Tensor):
        tensor = _checked(image[None] if image.ndim == 2 else image, 0, image).cpu()
    else:
        raise ImageError(f"{type(image).__name__}: expected a path, a PIL image, an array or a tensor")
    return tensor


def read_file(path: Path, max_bytes: int = MAX_BYTES, least_side: int | None = None) -> Tensor:
    """Read `path`, a regular file of at most `max_bytes`, as uint8 (3, H, W).

    Raises:
        ImageError: it cannot be read; names it and says why.
    """
    try:
        return decode_image(read_content(path, max_bytes), least_side)
    except OSError as error:
        raise ImageError(f"{path}: {error.strerror}") from error
    except ImageError as error:
        raise ImageError(f"{path}: {error}") from error


def _checked(image: Any, channel_axis: int, given: Any) -> Any:
    if image.ndim != 3 or image.shape[channel_axis] not in (1, 3) or 0 in image.shape:
        raise ImageError(
            f"{type(given).__name__} of shape {tuple(given.shape)}: an array is (H, W, C), a tensor (C, H, W), with 1 "
            "or 3 channels; a batch has one dimension more in front"
        )
    if str(image.dtype).removeprefix("torch.") != "uint8":
        raise ImageError(
            f"{type(given).__name__} of {image.dtype}: expected uint8 in 0..255, as in an image file"
        )
    return image
