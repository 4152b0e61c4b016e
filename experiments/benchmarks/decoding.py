"""What decoding at a part of the size (transform.decode=scaled) gains and changes, by the size of the photographs.

    python experiments/benchmarks/decoding.py FOLDER --images 24

FOLDER has JPEG files; the first of them, in name order, are taken as they are and resized to the sizes of SIZES, at
quality 90. From each, images of 224 x 224 and 128 x 128 are made as evaluation makes them (the whole image, bilinear
with antialiasing), decoded in full and scaled, in turn; images a second of one core, their median ratio over the
rounds, and how far the results are apart in grey levels.
"""

import argparse
import io
import statistics
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image
from rich.console import Console
from rich.table import Table
from torch import Tensor

from lsep_ml.data import Transform
from lsep_ml.data.images.decode import decode_image

SIZES = (None, (500, 375), (1000, 750), (3000, 2000))
"""Width and height; None: as they are."""
SIDES = (224, 128)


def resized(content: bytes, size: tuple[int, int] | None) -> bytes:
    """The JPEG file at another size."""
    if size is None:
        return content
    stream = io.BytesIO()
    Image.open(io.BytesIO(content)).convert("RGB").resize(size, Image.Resampling.BICUBIC).save(
        stream, "JPEG", quality=90
    )
    return stream.getvalue()


def timed(contents: Sequence[bytes], transform: Transform) -> tuple[float, Tensor]:
    """Images a second of this process's own time, and the images."""
    started = time.process_time()
    images = torch.stack([transform(decode_image(content, transform.least_side)) for content in contents])
    return len(contents) / (time.process_time() - started), images


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--images", type=int, default=24)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    files = [file.read_bytes() for file in sorted(options.folder.glob("*.jpg"))[: options.images]]
    table = Table("photographs", "to", "full, images / s", "scaled, images / s", "ratio", "mean, max apart")
    for size in SIZES:
        contents = [resized(content, size) for content in files]
        for side in SIDES:
            full = Transform(crop=side, geometry="squash")
            scaled = Transform(crop=side, geometry="squash", decode="scaled")
            rounds = [(timed(contents, full), timed(contents, scaled)) for _ in range(options.repeats + 1)]
            rates = [(one[0], other[0]) for one, other in rounds[1:]]  # the first round warms up
            apart = (rounds[0][0][1].int() - rounds[0][1][1].int()).abs()
            ratio = statistics.median(other / one for one, other in rates)
            median = [f"{statistics.median(column):.0f}" for column in zip(*rates, strict=True)]
            name = "as they are" if size is None else f"{size[0]} x {size[1]}"
            difference = f"{apart.float().mean():.2f}, {apart.max()}"
            table.add_row(name, str(side), *median, f"{ratio:.2f}", difference)
    Console(width=110).print(table)


if __name__ == "__main__":
    main()
