"""What a picture looks like, in 64 bits: near-duplicates differ in few of them."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SIDE, LOW = 32, 8  # of the picture that is transformed, and of its low frequencies

_COSINES = np.cos(np.pi * np.outer(np.arange(LOW), 2 * np.arange(SIDE) + 1) / (2 * SIDE))


def perceptual_hash(image: NDArray[np.uint8]) -> int:
    """Hash a picture by its low frequencies (pHash: Zauner, Implementation and benchmarking of perceptual image hash
    functions, 2010).

    The picture in grey, 32 x 32, goes through the discrete cosine transform; a bit says whether one of the 8 x 8
    lowest coefficients is above their median. Rows first, the highest bit is the mean's.

    Args:
        image: uint8 (3, H, W).

    Returns:
        64 bits; 0 for a picture of one colour, which has nothing to be told by.
    """
    picture = Image.merge("RGB", [Image.fromarray(plane) for plane in image])
    small = picture.convert("L").resize((SIDE, SIDE), Image.Resampling.LANCZOS)
    coefficients = _COSINES @ np.asarray(small, np.float64) @ _COSINES.T
    coefficients = coefficients.round(6).reshape(-1)  # what is zero but for rounding is zero
    if not coefficients[1:].any():
        return 0
    bits = coefficients > np.median(coefficients)
    return int.from_bytes(np.packbits(bits).tobytes(), "big")
