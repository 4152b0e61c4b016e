"""Image files as uint8 RGB tensors."""

import io
import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from lsep_ml.data.errors import ImageError
from lsep_ml.data.images.content import least_side, read_content, size_limit
from lsep_ml.data.images.packed import packed_images

if TYPE_CHECKING:
    from torch import Tensor

MAX_PIXELS = Image.MAX_IMAGE_PIXELS or 2**27
"""Larger images are refused: a small file can claim any size, and decoding it would take all memory."""

HEIC = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
"""Brands of the containers that phones put their images in."""

PNG = b"\x89PNG\r\n\x1a\n"
TEXTS = (b"tEXt", b"zTXt", b"iTXt", b"iCCP")
"""Chunks of a PNG that are no pixels, and may be large."""

Image.init()
if find_spec("pillow_heif") is not None:  # the extra lsep-ml[heic]
    import_module("pillow_heif").register_heif_opener()
FORMATS = [
    name
    for name in ["JPEG", "MPO", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "AVIF", "HEIF"]
    if name in Image.OPEN
]
"""No others: some of Pillow's plugins start programs (EPS)."""


class ImageFiles:
    """Holds the images at these paths, files of their own or packed, decoded when they are asked for.

    Args:
        root: the folder that the paths are relative to.
        paths: unicode (N,), POSIX.
        checked: whether all of them were opened before; else one that is bad may be met, which `BatchedSplit` leaves
            out.

    Raises:
        DataError: as `packed_images`.
    """

    def __init__(self, root: Path, paths: NDArray[np.str_], *, checked: bool = True) -> None:
        self.root = root
        self.paths = paths
        self.checked = checked
        self._max_bytes = sys.maxsize if checked else size_limit()  # the check knew the limit
        self._least_side = least_side()
        self._packed = packed_images(root)
        self._rows = None if self._packed is None else self._packed.rows(paths.tolist())

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, row: int, /) -> "Tensor":
        path = self.root / str(self.paths[row])
        try:
            return decode_image(self._content(row, path), self._least_side)
        except (OSError, ImageError) as error:
            before = "; it was readable when it was checked" if self.checked else ""
            raise ImageError(f"{path}: {error}{before}") from error

    def _content(self, row: int, path: Path) -> bytes:
        if self._packed is not None and self._rows is not None and self._rows[row] >= 0:
            return self._packed.read(int(self._rows[row]))
        return read_content(path, self._max_bytes)


def decode_image(content: bytes, least_side: int | None = None) -> "Tensor":
    """Return an image file's content as a uint8 tensor (3, H, W), upright.

    least_side: a JPEG in grey or colour is decoded at 1/8, 1/4 or 1/2 of its size, at the first of which both sides
    have so many pixels or more (libjpeg's scaled decoding, which leaves out most of the work); None: at its size.

    JPEG in grey or colour goes through torchvision, everything else (CMYK, PNG, WebP, ...) through Pillow:
    the first frame, transparency on white, 16 bits reduced to 8, EXIF rotation applied. Of a PNG whose texts or colour
    profile Pillow refuses, for their size or damage, the pixels are read.

    Raises:
        ImageError: empty, no image, truncated, more than MAX_PIXELS pixels, or a kind without a meaning as
            RGB.
    """
    if not content:
        raise ImageError("the file is empty (0 bytes)")
    try:
        return _decode(content, least_side)
    except ImageError:
        pixels = _without_texts(content)
        if len(pixels) == len(content):
            raise
    return _decode(pixels)


def decode_pil(image: Image.Image) -> "Tensor":
    """Return a PIL image of any mode as `decode_image` gives the pixels of a file of it.

    Raises:
        ImageError: its pixels cannot be read, are more than MAX_PIXELS, or without a meaning as RGB.
    """
    from torchvision.transforms.v2.functional import pil_to_tensor

    try:
        _check_pixels(image)
        if 0 in image.size:
            raise ImageError("no pixels")
        return pil_to_tensor(_as_rgb(ImageOps.exif_transpose(image)))
    except MemoryError:
        raise
    except Exception as error:  # what it was opened from may be damaged, or closed
        raise ImageError(f"PIL image of mode {image.mode!r} and size {image.size}: {error}") from error


def _decode(content: bytes, least_side: int | None = None) -> "Tensor":
    # Here, so that a check which remembers all images is done before torch would be loaded.
    import torch
    from torchvision.io import ImageReadMode, decode_jpeg
    from torchvision.transforms.v2.functional import pil_to_tensor

    header = _read_header(content)
    if header.format in ("JPEG", "MPO") and header.mode in ("L", "RGB") and not _drafted(header, least_side):
        data = torch.frombuffer(bytearray(content), dtype=torch.uint8)
        try:
            return decode_jpeg(data, mode=ImageReadMode.RGB, apply_exif_orientation=True)
        except RuntimeError:
            pass  # Pillow reads some that torchvision refuses, and says more clearly what is wrong
    try:
        return pil_to_tensor(_as_rgb(ImageOps.exif_transpose(header)))
    except (MemoryError, ImageError):
        raise
    except Exception as error:  # Pillow's plugins raise whatever their format's parser does
        raise ImageError(f"{header.format} cannot be decoded: {error}") from error


def _drafted(header: Image.Image, least_side: int | None) -> bool:
    """Have Pillow decode a JPEG at a part of its size where that leaves `least_side`; whether it does."""
    size = header.size
    if least_side is not None:
        header.draft(header.mode, (least_side, least_side))
    return header.size != size


def _read_header(content: bytes) -> Image.Image:
    try:
        header = Image.open(io.BytesIO(content), formats=FORMATS)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageError(f"larger than {MAX_PIXELS:,} pixels") from error
    except MemoryError:
        raise
    except Exception as error:  # as above
        if content[4:8] == b"ftyp" and content[8:12] in HEIC:
            raise ImageError(
                "HEIC, which needs pillow-heif (pip install 'lsep-ml[heic]'); or convert it to JPEG"
            ) from error
        if isinstance(error, UnidentifiedImageError):
            raise ImageError("not an image, or of a kind that cannot be read") from error
        raise ImageError(f"it cannot be decoded: {error}") from error
    _check_pixels(header)
    return header


def _check_pixels(image: Image.Image) -> None:
    if image.width * image.height > MAX_PIXELS:
        raise ImageError(f"{image.width} x {image.height} pixels, more than {MAX_PIXELS:,}")


def _without_texts(content: bytes) -> bytes:
    """Return a PNG without its chunks that say nothing of the pixels; any other file as it is."""
    if not content.startswith(PNG):
        return content
    kept, place = [PNG], len(PNG)
    while place < len(content):
        # length, kind and checksum are 12 bytes
        end = place + 12 + int.from_bytes(content[place : place + 4], "big")
        if content[place + 4 : place + 8] not in TEXTS:
            kept.append(content[place:end])
        place = end
    return b"".join(kept)


def _as_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):  # 16 bits a pixel; Pillow would clip them at 255 instead of scaling
        levels = np.asarray(image).astype(np.int64)
        if levels.min() < 0 or levels.max() > 0xFFFF:
            raise ImageError(f"grey levels from {levels.min()} to {levels.max()}, outside 16 bits")
        image = Image.fromarray((levels // 257).astype(np.uint8))
    if image.mode == "F":
        raise ImageError("floating-point grey levels, whose range is unknown; convert it to 8 or 16 bits")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")
