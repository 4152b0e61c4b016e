"""decode_image against Pillow over kinds of files, what it refuses; the check of all images and its cache."""

import io
import struct
import zlib

import numpy as np
import pytest
import torch
from data_trees import picture, write_image
from PIL import Image, ImageOps

from lsep_ml.data.errors import ImageError
from lsep_ml.data.images.decode import MAX_PIXELS, ImageFiles, decode_image
from lsep_ml.data.images.opened import MISSING, check_images


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


def test_truncated_anywhere_is_refused():
    for cut in range(1, len(JPEG) - 2, len(JPEG) // 25):
        with pytest.raises(ImageError):
            decode_image(JPEG[:cut])


@pytest.fixture
def folder(tmp_path):
    for number in range(5):
        write_image(tmp_path / f"{number}.jpg", seed=number)
    (tmp_path / "2.jpg").write_bytes(JPEG[:1000])
    (tmp_path / "copy.jpg").write_bytes((tmp_path / "1.jpg").read_bytes())
    return tmp_path


IDS = np.array(["0.jpg", "1.jpg", "2.jpg", "3.jpg", "gone.jpg", "copy.jpg"])


@pytest.mark.parametrize("cached", [False, True])
def test_check_finds_what_is_wrong(folder, cached):
    cache = folder / "cache" if cached else None
    first, second = (check_images(folder, IDS, cache) for _ in range(2))
    assert first.problems[4] == MISSING
    assert "cannot be decoded" in first.problems[2]
    assert list(first.problems) == list(second.problems) == [2, 4]
    assert first.problems == second.problems
    assert first.digests[1] == first.digests[5]
    assert len(set(first.digests[[0, 1, 2, 3]])) == 4
    assert first.sizes[0].tolist() == list(decode_image((folder / "0.jpg").read_bytes()).shape[1:])
    assert first.num_bytes[2] == 1000
    assert first.num_bytes[4] == -1
    for one, other in zip(
        (first.sizes, first.digests, first.num_bytes),
        (second.sizes, second.digests, second.num_bytes),
        strict=True,
    ):
        assert np.array_equal(one, other)


@pytest.fixture
def opened(monkeypatch):
    """The names of the images that were opened."""
    from lsep_ml.data.images import opened as opened_images

    names, real = [], opened_images._open_one

    def record(path):
        names.append(path.name)
        return real(path)

    monkeypatch.setattr(opened_images, "_open_one", record)
    return names


def test_only_changed_and_new_images_are_opened_again(folder, opened):
    check_images(folder, IDS, folder / "cache")
    assert sorted(opened) == ["0.jpg", "1.jpg", "2.jpg", "3.jpg", "copy.jpg"]
    opened.clear()
    check_images(folder, IDS, folder / "cache")
    assert opened == []
    write_image(folder / "2.jpg", seed=77)
    write_image(folder / "new.jpg", seed=78)
    ids = np.array(["new.jpg", "3.jpg", "2.jpg", "gone.jpg", "0.jpg"])
    assert check_images(folder, ids, folder / "cache").problems == {3: MISSING}
    assert sorted(opened) == ["2.jpg", "new.jpg"]


def test_a_damaged_cache_is_made_again(folder, opened, caplog):
    check_images(folder, IDS, folder / "cache")
    [stored] = (folder / "cache").iterdir()
    stored.write_bytes(stored.read_bytes()[:100])
    opened.clear()
    assert list(check_images(folder, IDS, folder / "cache").problems) == [2, 4]
    assert len(opened) == 5
    assert "damaged" in caplog.text


def test_a_cache_that_cannot_be_written_is_only_a_warning(folder, caplog):
    (folder / "cache").write_text("a file where the folder should be")
    assert list(check_images(folder, IDS, folder / "cache").problems) == [2, 4]
    assert "data.cache" in caplog.text


def test_a_file_that_breaks_after_the_check_is_named(folder):
    images = ImageFiles(folder, IDS)
    assert images[0].shape[0] == 3
    with pytest.raises(ImageError, match=r"2\.jpg: JPEG cannot be decoded"):
        images[2]
    with pytest.raises(ImageError, match=r"gone\.jpg"):
        images[4]
