"""Images per second of one core from JPEG files to training batches: ours against Pillow, in one run.

    python experiments/benchmarks/data.py --images 128 --repeats 7

The files are crops of scikit-learn's two sample photographs at about 500 x 375, written for the run. Three
pipelines to the same 224 x 224 crops, in batches of 32:

- pillow: Pillow decodes, torchvision v2 transforms the PIL image, floats are normalised on the CPU, rows are
collated - float: decode_jpeg and v2 on uint8 tensors, then the same normalisation and collation
- ours: `lsep_ml.data` as training runs it: uint8 batches; normalisation is the network's, on its device

Each round times the three in turn, so that a busy machine slows all of them; medians over the rounds.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from rich.console import Console
from rich.table import Table
from sklearn.datasets import load_sample_images
from torchvision.transforms import v2

from lsep_ml.data import Split, Transform
from lsep_ml.data.images.decode import ImageFiles
from lsep_ml.data.loading import BatchedSplit
from lsep_ml.data.order import TrainingOrder

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
BATCH = 32
AUGMENT = [v2.Resize((256, 256), antialias=True), v2.RandomCrop(224), v2.RandomHorizontalFlip()]
NORMALISE = [v2.ToDtype(torch.float32, scale=True), v2.Normalize(MEAN, STD)]


def write_photographs(folder: Path, number: int) -> np.ndarray:
    """JPEG files of about 500 x 375, quality 90; their names."""
    photographs = [Image.fromarray(image) for image in load_sample_images().images]
    rng = np.random.default_rng(0)
    names = []
    for row in range(number):
        photograph = photographs[row % len(photographs)]
        width, height = (int(side) for side in rng.integers((470, 350), (530, 400)))
        left, top = (
            int(rng.integers(most + 1)) for most in (photograph.width - width, photograph.height - height)
        )
        names.append(f"{row:04d}.jpg")
        photograph.crop((left, top, left + width, top + height)).save(folder / names[-1], quality=90)
    return np.array(names)


def pillow(images: ImageFiles) -> int:
    """The usual recipe: PIL images through v2, one by one, collated."""
    transform = v2.Compose([*AUGMENT, v2.ToImage(), *NORMALISE])
    done = 0
    for start in range(0, len(images), BATCH):
        rows = [
            Image.open(images.root / str(name)).convert("RGB") for name in images.paths[start : start + BATCH]
        ]
        done += len(torch.stack([transform(row) for row in rows]))
    return done


def decoded_to_float(images: ImageFiles) -> int:
    """Tensors all the way, normalised on the CPU."""
    transform = v2.Compose([*AUGMENT, *NORMALISE])
    done = 0
    for start in range(0, len(images), BATCH):
        rows = [images[row] for row in range(start, min(start + BATCH, len(images)))]
        done += len(torch.stack([transform(row) for row in rows]))
    return done


def ours(images: ImageFiles) -> int:
    """The training loader's work, without worker processes."""
    split = Split(images, np.zeros((len(images), 2), np.uint8), None, images.paths)
    batches = BatchedSplit(split, Transform(resize=(256, 256), crop=224, flip=True), seed=0)
    return sum(len(batches[key].images) for key in TrainingOrder(len(images), BATCH, seed=0))


PIPELINES: dict[str, Callable[[ImageFiles], int]] = {
    "pillow": pillow,
    "float": decoded_to_float,
    "ours": ours,
}


def main() -> None:
    """Time the pipelines and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=128)
    parser.add_argument("--repeats", type=int, default=7)
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        images = ImageFiles(Path(folder), write_photographs(Path(folder), options.images))
        rates: dict[str, list[float]] = {name: [] for name in PIPELINES}
        for repeat in range(options.repeats + 1):
            for name, pipeline in PIPELINES.items():
                start = time.process_time()
                done = pipeline(images)
                if repeat:  # the first round warms up
                    rates[name].append(done / (time.process_time() - start))
    table = Table("pipeline", "images / s of one core", "lowest - highest", "ratio to pillow")
    for name, found in rates.items():
        ratio = statistics.median(rate / other for rate, other in zip(found, rates["pillow"], strict=True))
        table.add_row(
            name, f"{statistics.median(found):.0f}", f"{min(found):.0f} - {max(found):.0f}", f"{ratio:.2f}"
        )
    Console().print(table)


if __name__ == "__main__":
    main()
