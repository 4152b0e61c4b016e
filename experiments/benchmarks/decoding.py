"""What decoding at a part of the size (transform.decode=scaled) gains and changes, by the size of the photographs.

    python experiments/benchmarks/decoding.py FOLDER --images 24

FOLDER has JPEG files; the first of them, in name order, are taken as they are and resized to the sizes of SIZES, at
quality 90. From each, images of 224 x 224 and 128 x 128 are made as evaluation makes them (the whole image, bilinear
with antialiasing), decoded in full and scaled, in turn; images a second of one core, their median ratio over the
rounds, and how far the results are apart in grey levels.

    python experiments/benchmarks/decoding.py --labels FOLDER/labels.csv --weights tf_efficientnet_lite0.safetensors

What it does to a frozen network's features and to mAP: a probe (BCE) on one half of the first --images rows of
labels.csv (image,labels with | between labels), tested on the other half; minutes for 600.
"""

import argparse
import csv
import io
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.nn import functional as F

from lsep_ml.data import Transform
from lsep_ml.data.images.decode import decode_image
from lsep_ml.losses import bce_loss
from lsep_ml.metrics.functional import average_precisions
from lsep_ml.models import Network, timm_backbone
from lsep_ml.models.preprocessing import timm_preprocessing
from lsep_ml.training.linear_scores import StandardisedFeatures
from lsep_ml.training.probe import ProbeImages

SIZES = (None, (500, 375), (1000, 750), (3000, 2000))
"""Width and height; None: as they are."""
SIDES = (224, 128)
PROBED = ((None, 112), ((1000, 750), 224))
"""Size and side of what a probe is fitted on."""
NETWORK, DECAY = "tf_efficientnet_lite0", 0.1


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


def labelled(path: Path, images: int) -> tuple[list[bytes], Tensor]:
    """The files of the first rows of a labels.csv, and their targets (N, K)."""
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))[:images]
    listed = [row["labels"].split("|") for row in rows]
    names = sorted({name for labels in listed for name in labels if name})
    targets = torch.tensor([[int(name in labels) for name in names] for labels in listed])
    return [(path.parent / row["image"]).read_bytes() for row in rows], targets


@torch.inference_mode()
def features(network: Network, contents: Sequence[bytes], transform: Transform) -> Tensor:
    """What the frozen network says of the files, (N, D)."""
    images = [transform(decode_image(content, transform.least_side)) for content in contents]
    return torch.cat([network.extract(torch.stack(images[i : i + 16])) for i in range(0, len(images), 16)])


def probed(train: Tensor, targets: Tensor, test: Tensor, known: Tensor) -> float:
    """Test mAP in % of a probe fitted on features `train`."""
    images = ProbeImages(StandardisedFeatures(train), targets, None)
    zero, tolerance = images.start(bce_loss)
    layer, _ = images.solve(bce_loss, DECAY, zero, images.blocks(), tolerance=tolerance)
    raw = images.features.standardisation.raw(layer)
    scores = torch.addmm(raw.bias, test, raw.weight.T)
    return 100 * float(np.nanmean(average_precisions(scores.numpy(), known.numpy())))


def print_effect(labels: Path, weights: Path, images: int) -> None:
    """Print how far features are apart, and the test mAP by how training and test images are decoded."""
    files, targets = labelled(labels, images)
    given = timm_preprocessing(NETWORK)
    backbone = timm_backbone(NETWORK, str(weights))
    network = Network(backbone, targets.shape[1], given.mean, given.std).eval()
    network.to(memory_format=torch.channels_last)
    half = len(files) // 2
    table = Table(
        "photographs", "to", "cosine: mean, least", "mAP full", "scaled", "trained on full, tested on scaled"
    )
    for size, side in PROBED:
        contents = [resized(content, size) for content in files]
        how: dict[str, Any] = {"crop": side, "geometry": "squash", "interpolation": given.interpolation}
        full, scaled = (
            features(network, contents, Transform(**how, decode=decode)).clone()
            for decode in ("full", "scaled")
        )
        cosine = F.cosine_similarity(full, scaled)
        maps = [
            probed(one[:half], targets[:half], other[half:], targets[half:])
            for one, other in ((full, full), (scaled, scaled), (full, scaled))
        ]
        name = "as they are" if size is None else f"{size[0]} x {size[1]}"
        table.add_row(
            name, str(side), f"{cosine.mean():.4f}, {cosine.min():.4f}", *(f"{m:.2f}" for m in maps)
        )
    Console(width=110).print(table)


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--images", type=int)
    parser.add_argument("--labels", type=Path)
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.labels is not None:
        print_effect(options.labels, options.weights, options.images or 600)
        return
    files = [file.read_bytes() for file in sorted(options.folder.glob("*.jpg"))[: options.images or 24]]
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
