"""What a leak is worth: photographs with a cropped and compressed copy each, split in three ways, on frozen features.

twins.csv: of the copies, for several crops, the share whose perceptual hash is near their photograph's; of the
photographs, the share that has a twin. leak.csv: the photographs and one copy each are divided at random, by
near-duplicates (`data.twins=together`) and by photograph (`data.group=PATTERN`); on each split a score layer is fitted
by L-BFGS (weight decay and one threshold chosen on validation) and measured on the test split, and on as many
photographs of which it saw nothing ("new"): what is above these is the leak. Three CPU minutes:

    python experiments/photos/leak.py PHOTOS --weights tf_efficientnet_lite0.safetensors --out experiments/photos
"""

import argparse
import csv
import io
import itertools
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from pooling import LOSSES, probe
from torch import Tensor

from lsep_ml.data import Split, Transform
from lsep_ml.data.images.decode import ImageFiles, decode_image
from lsep_ml.data.sources.csv_labels import csv_annotations
from lsep_ml.data.sources.own import read_own
from lsep_ml.data.twins import DISTANCE, Twins, perceptual_hash
from lsep_ml.files import atomic_write
from lsep_ml.models import timm_backbone
from lsep_ml.models.preprocessing import timm_preprocessing

CROPS = (0.0, 0.02, 0.05, 0.1)
QUALITY = 60
DIVIDED = (0.02, 0.05)  # crops of the copies that are divided
PHOTOGRAPHS, SEEDS = 400, 5
SPLITS: dict[str, dict[str, Any]] = {
    "at random": {"twins": "ignore"},
    "no twins divided": {"twins": "together"},
    "by photograph": {"group": r"(.+)_\w\.jpg", "twins": "ignore"},
}


def copy_of(image: Image.Image, crop: float, draws: np.random.Generator) -> bytes:
    """The image without a share `crop` of each side, cut off at random ends, compressed anew."""
    cut = [round(crop * side) for side in image.size]
    left, top = (int(draws.integers(0, lost + 1)) for lost in cut)
    box = (left, top, left + image.width - cut[0], top + image.height - cut[1])
    stream = io.BytesIO()
    image.convert("RGB").crop(box).save(stream, "JPEG", quality=QUALITY)
    return stream.getvalue()


def found_copies(paths: list[Path]) -> list[list[str]]:
    """For each crop, the share of the copies that are twins of their photograph; and last the pairs of photographs that
    are twins of each other."""
    hashes = np.array([perceptual_hash(decode_image(path.read_bytes()).numpy()) for path in paths], np.uint64)
    rows = []
    for crop in CROPS:
        draws = np.random.default_rng(0)
        copies = [copy_of(Image.open(path), crop, draws) for path in paths]
        of_copies = np.array([perceptual_hash(decode_image(copy).numpy()) for copy in copies], np.uint64)
        near = np.bitwise_count(hashes ^ of_copies) <= DISTANCE
        rows.append([f"copies without {crop:.0%} of each side", len(copies), f"{100 * near.mean():.1f}"])
    rows.append(["photographs", len(paths), f"{100 * Twins(hashes).has_twin.mean():.1f}"])
    return rows


def write_doubled(root: Path, paths: list[Path], labels: list[str], crop: float) -> None:
    """The photographs, a copy of each, and their labels."""
    draws = np.random.default_rng(1)
    with (root / "labels.csv").open("w") as table:
        print("image,labels", file=table)
        for path, listed in zip(paths, labels, strict=True):
            for letter, content in (
                ("a", path.read_bytes()),
                ("b", copy_of(Image.open(path), crop, draws)),
            ):
                (root / f"{path.stem}_{letter}.jpg").write_bytes(content)
                print(f"{path.stem}_{letter}.jpg,{listed}", file=table)


def photographs(split: Split) -> list[str]:
    """What each image is, or is a copy of."""
    return [name.rpartition("_")[0] for name in split.image_ids.tolist()]


@torch.inference_mode()
def features_of(images: ImageFiles, weights: Path, name: str) -> Tensor:
    """Features (N, D) of the images."""
    wants = timm_preprocessing(name)
    transform = Transform(**wants.values())
    backbone = timm_backbone(name, weights=str(weights)).eval().to(memory_format=torch.channels_last)
    mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (wants.mean, wants.std))
    found = []
    for start in range(0, len(images), 16):
        batch = torch.stack([transform(images[row]) for row in range(start, min(start + 16, len(images)))])
        found.append(backbone(((batch / 255 - mean) / std).contiguous(memory_format=torch.channels_last)))
    return torch.cat(found)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("root", type=Path)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--name", default="tf_efficientnet_lite0")
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    torch.set_num_threads(1)
    listed = csv_annotations(given.root)
    order = np.random.default_rng(0).permutation(np.flatnonzero(listed.split_of == "train"))[:PHOTOGRAPHS]
    paths = [given.root / name for name in listed.image_ids[order].tolist()]
    names = np.array(listed.label_names)
    labels = ["|".join(names[row == 1]) for row in listed.targets[order]]
    copies = found_copies(paths)
    _write(given.out / "twins.csv", ["images", "number", "twins_%"], copies)

    new = np.flatnonzero(listed.split_of == "test")[:PHOTOGRAPHS]
    of_new = features_of(ImageFiles(given.root, listed.image_ids[new]), given.weights, given.name)
    rows = []
    for crop in DIVIDED:
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder)
            write_doubled(root, paths, labels, crop)
            ids = sorted(path.name for path in root.glob("*.jpg"))
            features = dict(
                zip(ids, features_of(ImageFiles(root, np.array(ids)), given.weights, given.name), strict=True)
            )
            for seed, split in itertools.product(range(SEEDS), SPLITS):
                data = read_own(root, seed, cache=root / ".cache", **({"group": "none"} | SPLITS[split]))
                left = np.isin(photographs(data.test), photographs(data.train)).mean()
                inputs, targets = {}, {}
                for part in ("train", "val", "test"):
                    of_part = data.split(part)
                    inputs[part] = torch.stack([features[name] for name in of_part.image_ids.tolist()])
                    targets[part] = torch.from_numpy(of_part.targets).float()
                columns = [list(names).index(name) for name in data.label_names]
                other = torch.from_numpy(listed.targets[new][:, columns]).float()
                for name, loss in LOSSES.items():
                    seen = probe(loss, inputs, targets)
                    unseen = probe(loss, inputs | {"test": of_new}, targets | {"test": other})
                    measured = (left, seen[1], seen[3], unseen[1], unseen[3])
                    rows.append([crop, split, seed, name, *(f"{100 * value:.1f}" for value in measured)])
                    print(*rows[-1], flush=True)
    header = ["crop", "split", "seed", "loss", "test_with_copy_in_training_%"]
    _write(
        given.out / "leak.csv", [*header, "test_map", "test_exact_match", "new_map", "new_exact_match"], rows
    )
    return 0


def _write(path: Path, header: list[str], rows: list[list[Any]]) -> None:
    with atomic_write(path) as file:
        csv.writer(file, lineterminator="\n").writerows([header, *rows])


if __name__ == "__main__":
    sys.exit(main())
