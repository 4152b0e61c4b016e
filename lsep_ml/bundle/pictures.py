"""How images are drawn with their labels beneath."""

from pathlib import Path

import numpy as np
from PIL import Image
from torchvision.transforms.v2.functional import to_pil_image

from lsep_ml.bundle.images import read_file
from lsep_ml.bundle.predictions import ImageLabels, Predictions
from lsep_ml.drawing import Tile, Word, draw, lay_out
from lsep_ml.files import atomic_write

SIZE = 640
_NARROWEST = 240  # room for words beneath


def draw_labels(path: Path, labels: ImageLabels) -> Image.Image:
    """Draw the image of `path`, no larger than SIZE, over its labels and their scores, a label a line."""
    picture = to_pil_image(read_file(path))
    picture.thumbnail((SIZE, SIZE))
    lines = [[Word(f"{name}  {labels.scores[name]:+.2f}")] for name in labels.labels] or [[Word("none")]]
    box = max(picture.width, _NARROWEST), picture.height
    return draw(lay_out({"": [Tile(np.asarray(picture), lines)]}, columns=1, box=box))


def write_pictures(folder: Path, images: list[str], predictions: Predictions) -> None:
    """Write a JPEG for each of `images` at its own path below `folder`."""
    for image, labels in zip(images, predictions, strict=True):
        target = picture_path(folder, image)
        target.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(target, "wb") as file:
            draw_labels(Path(image), labels).save(file, "JPEG", quality=90)


def picture_path(folder: Path, image: str) -> Path:
    """Return where the picture of `image` goes: its path with what leads out of a folder left out, plus .jpg."""
    path = Path(image)
    parts = [part for part in path.parts if part not in (path.anchor, "..")]
    return folder.joinpath(*parts[:-1], f"{parts[-1]}.jpg")
