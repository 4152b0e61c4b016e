"""decode_image against Pillow over kinds of files, and what it refuses."""

import io
import struct
import zlib

import numpy as np
import pytest
import torch
from data_trees import picture
from PIL import Image, ImageOps

from lsep_ml.bundle.images import read_image
from lsep_ml.data.errors import ImageError
from lsep_ml.data.images.content import decoded_down_to
from lsep_ml.data.images.decode import MAX_PIXELS, ImageFiles, decode_image, decode_pil


def encoded(image: Image.Image, kind: str = "JPEG", **options) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def by_pillow(content: bytes) -> torch.Tensor:
    image = ImageOps.exif_transpose(Image.open(io.BytesIO(content))).convert("RGB")
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


PICTURE = picture(0, 45, 61)
ROTATED = Image.Exif()
ROTATED[0x0112] = 6

SAME_AS_PILLOW = {
    "colour JPEG": encoded(PICTURE, quality=90),
    "grey JPEG": encoded(PICTURE.convert("L")),
    "CMYK JPEG": encoded(PICTURE.convert("CMYK")),
    "progressive JPEG": encoded(PICTURE, progressive=True),
    "rotated JPEG": encoded(PICTURE, exif=ROTATED),
    "rotated grey JPEG": encoded(PICTURE.convert("L"), exif=ROTATED),
    "colour PNG": encoded(PICTURE, "PNG"),
    "palette PNG": encoded(PICTURE.quantize(16), "PNG"),
    "1-bit PNG": encoded(PICTURE.convert("1"), "PNG"),
    "rotated PNG": encoded(PICTURE, "PNG", exif=ROTATED),
    "WebP": encoded(PICTURE, "WEBP"),
    "GIF": encoded(PICTURE, "GIF"),
    "BMP": encoded(PICTURE, "BMP"),
    "TIFF": encoded(PICTURE, "TIFF"),
    "CMYK TIFF": encoded(PICTURE.convert("CMYK"), "TIFF"),
    "1 x 1": encoded(PICTURE.crop((0, 0, 1, 1))),
    "20,000 x 100": encoded(PICTURE.resize((20_000, 100))),
}


@pytest.mark.parametrize("content", SAME_AS_PILLOW.values(), ids=SAME_AS_PILLOW)
def test_decodes_as_pillow_does(content):
    ours, pillow = decode_image(content), by_pillow(content)
    assert ours.dtype == torch.uint8
    assert ours.shape == pillow.shape
    assert (ours.int() - pillow.int()).abs().max() <= 1


SMOOTH = Image.fromarray(np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)).resize(
    (192, 128)
)


@pytest.mark.parametrize(("least", "part"), [(16, 8), (17, 4), (32, 4), (33, 2), (64, 2), (65, 1), (None, 1)])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_a_jpeg_is_decoded_at_the_smallest_part_of_its_size_that_keeps_the_least_side(least, part, mode):
    content = encoded(SMOOTH.convert(mode), quality=95)
    whole, scaled = decode_image(content), decode_image(content, least)
    assert scaled.shape == (3, 128 // part, 192 // part)
    means = whole.float().reshape(3, 128 // part, part, 192 // part, part).mean((2, 4))
    assert (scaled - means).abs().mean() <= (1 if part > 1 else 0)  # else the same pixels


def test_scaled_decoding_turns_the_image_and_leaves_other_kinds_whole(tmp_path):
    rotated = encoded(SMOOTH, exif=ROTATED)
    assert decode_image(rotated, 32).shape == (3, 48, 32)
    for kind in ("PNG", "WEBP"):
        content = encoded(SMOOTH, kind)
        assert torch.equal(decode_image(content, 16), decode_image(content))
    (tmp_path / "a.jpg").write_bytes(rotated)
    with decoded_down_to(32):
        images = ImageFiles(tmp_path, np.array(["a.jpg"]))
    assert torch.equal(images[0], decode_image(rotated, 32))  # also later, and in another process
    assert torch.equal(images[0], read_image(tmp_path / "a.jpg", least_side=32))
    assert ImageFiles(tmp_path, np.array(["a.jpg"]))[0].shape == (3, 192, 128)


def test_exif_rotation_turns_the_image():
    assert decode_image(SAME_AS_PILLOW["rotated JPEG"]).shape == (3, 61, 45)


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_16_bits_are_scaled_not_clipped(kind):
    levels = np.linspace(0, 65535, 64 * 8).astype(np.uint16).reshape(8, 64)
    decoded = decode_image(encoded(Image.fromarray(levels), kind))
    assert np.abs(decoded[0].numpy() - levels / 257).max() <= 1
    assert torch.equal(decoded[0], decoded[2])


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparency_is_white(mode):
    image = Image.new("RGBA", (4, 4), (200, 10, 10, 0))
    if mode == "P":
        image = image.convert("RGB").quantize(2)
        content = encoded(image, "PNG", transparency=image.getpixel((0, 0)))
    else:
        content = encoded(image.convert(mode), "PNG")
    assert (decode_image(content) == 255).all()


def huge_png(width: int, height: int) -> bytes:
    """A PNG of a few bytes that claims this size."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
    )


def huge_jpeg() -> bytes:
    """A JPEG that claims 65,000 x 65,000 pixels."""
    content = bytearray(SAME_AS_PILLOW["colour JPEG"])
    start = content.index(b"\xff\xc0")
    content[start + 5 : start + 9] = struct.pack(">HH", 65_000, 65_000)
    return bytes(content)


JPEG = SAME_AS_PILLOW["colour JPEG"]
PNG = SAME_AS_PILLOW["colour PNG"]

UNUSABLE = {
    "zero bytes": (b"", "empty"),
    "text": (b"this is no image\n" * 10, "not an image"),
    "HTML for a dead link": (b"<html><body>404</body></html>", "not an image"),
    "JPEG cut in half": (JPEG[: len(JPEG) // 2], "JPEG cannot be decoded: .*truncated"),
    "JPEG cut in its header": (JPEG[:30], "not an image|cannot be decoded"),
    "PNG cut in half": (PNG[: len(PNG) // 2], "PNG cannot be decoded"),
    "PNG with damaged data": (PNG[:60] + b"\0" * 40 + PNG[100:], "PNG cannot be decoded"),
    "PNG bomb": (huge_png(60_000, 60_000), "pixels"),
    "smaller PNG bomb": (huge_png(10_000, 10_000), f"more than {MAX_PIXELS:,}|larger than"),
    "JPEG bomb": (huge_jpeg(), "pixels"),
    "PostScript": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n", "not an image"),
    "float TIFF": (encoded(Image.new("F", (4, 4)), "TIFF"), "floating-point"),
    "32-bit TIFF": (encoded(Image.new("I", (4, 4), 70_000), "TIFF"), "outside 16 bits"),
}


@pytest.mark.parametrize(("content", "message"), UNUSABLE.values(), ids=UNUSABLE)
def test_unusable_content_is_refused_with_the_reason(content, message):
    with pytest.raises(ImageError, match=message):
        decode_image(content)


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


LARGE = b"a" * 5_000_000
TEXTS = {
    "compressed": chunk(b"zTXt", b"note\0\0" + zlib.compress(LARGE)),
    "plain": chunk(b"tEXt", b"note\0" + LARGE * 14),
    "unicode": chunk(b"iTXt", b"note\0\1\0\0\0" + zlib.compress(LARGE)),
    "damaged": chunk(b"zTXt", b"note\0\0no zlib at all"),
    "a colour profile": chunk(b"iCCP", b"mine\0\0" + zlib.compress(LARGE)),
}


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
@pytest.mark.parametrize("end", [False, True], ids=["before the pixels", "after them"])
def test_the_pixels_of_a_png_are_read_whatever_its_texts_are(text, end):
    content = encoded(PICTURE, "PNG")
    place = content.index(b"IEND") - 4 if end else 33  # behind the header
    assert torch.equal(decode_image(content[:place] + text + content[place:]), by_pillow(content))


def test_a_png_with_large_texts_that_is_damaged_too_says_why():
    content = encoded(PICTURE, "PNG")
    with pytest.raises(ImageError, match="PNG cannot be decoded"):
        decode_image(content[:33] + TEXTS["compressed"] + content[33:-200])


@pytest.mark.parametrize("compression", ["jpeg", "tiff_lzw", "group4", None])
def test_a_pil_image_is_what_its_file_is(compression):
    image = PICTURE.convert("1") if compression == "group4" else PICTURE
    content = encoded(
        image, "TIFF", compression=compression, **({"quality": 20} if compression == "jpeg" else {})
    )
    opened = Image.open(io.BytesIO(content))
    assert torch.equal(decode_pil(opened), by_pillow(content))
    assert torch.equal(decode_pil(opened), decode_image(content))


def test_a_pil_image_that_cannot_be_read_is_an_image_error():
    cut = Image.open(io.BytesIO(encoded(PICTURE)[:-300]))
    with pytest.raises(ImageError, match=r"PIL image of mode 'RGB' and size \(\d+, \d+\): .*truncated"):
        decode_pil(cut)
    closed = Image.open(io.BytesIO(encoded(PICTURE)))
    closed.close()
    for image, reason in (
        (closed, "PIL image"),
        (Image.new("RGB", (0, 3)), "no pixels"),
    ):
        with pytest.raises(ImageError, match=reason):
            decode_pil(image)


def test_truncated_anywhere_is_refused():
    for cut in range(1, len(JPEG) - 2, len(JPEG) // 25):
        with pytest.raises(ImageError):
            decode_image(JPEG[:cut])


def test_heic_is_named_with_the_way_out():
    content = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(64)
    with pytest.raises(ImageError, match=r"HEIC|HEIF cannot be decoded"):
        decode_image(content)
