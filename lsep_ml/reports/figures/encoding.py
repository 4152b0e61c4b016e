"""Pictures as they sit inside the page: data addresses, nothing to fetch."""

import base64
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

_QUALITY = 82


def data_uri(picture: NDArray[np.uint8]) -> str:
    """A small image, uint8 (h, w) or (h, w, 3), as WebP."""
    return webp_uri(Image.fromarray(picture))


def webp_uri(image: Image.Image) -> str:
    """An image as a data address, as WebP."""
    buffer = BytesIO()
    image.convert("RGB").save(buffer, "WEBP", quality=_QUALITY, method=4)
    return address("image/webp", buffer.getvalue())


def address(kind: str, content: bytes) -> str:
    """A data address of this media type."""
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"
