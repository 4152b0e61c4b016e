"""Images with their labels drawn beneath."""

from pathlib import Path

import matplotlib
from PIL import Image, ImageDraw, ImageFont
from torchvision.transforms.v2.functional import to_pil_image

from lsep_ml.bundle.images import read_file
from lsep_ml.bundle.predictions import ImageLabels, Predictions
from lsep_ml.files import atomic_write

SIZE = 640
_LINE = 20
# DejaVu comes with matplotlib and draws most scripts
_FONT = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"


def draw_labels(path: Path, labels: ImageLabels) -> Image.Image:
    """The image, no larger than SIZE, over a strip with its labels and their scores."""
    picture = to_pil_image(read_file(path))
    picture.thumbnail((SIZE, SIZE))
    font = ImageFont.truetype(str(_FONT), 14)
    lines = [f"{name}  {labels.scores[name]:+.2f}" for name in labels.labels] or ["no label"]
    width = max(picture.width, *(int(font.getlength(line)) + 12 for line in lines))
    page = Image.new("RGB", (width, picture.height + _LINE * len(lines) + 8), "white")
    page.paste(picture)
    drawing = ImageDraw.Draw(page)
    for number, line in enumerate(lines):
        drawing.text((6, picture.height + 4 + _LINE * number), line, fill="black", font=font)
    return page


def write_pictures(folder: Path, images: list[str], predictions: Predictions) -> None:
    """A JPEG for each image at its own path below `folder`."""
    for image, labels in zip(images, predictions, strict=True):
        target = picture_path(folder, image)
        target.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(target, "wb") as file:
            draw_labels(Path(image), labels).save(file, "JPEG", quality=90)


def picture_path(folder: Path, image: str) -> Path:
    """Where the picture of an image goes: its path with what leads out of a folder left out, plus .jpg."""
    path = Path(image)
    parts = [part for part in path.parts if part not in (path.anchor, "..")]
    return folder.joinpath(*parts[:-1], f"{parts[-1]}.jpg")
