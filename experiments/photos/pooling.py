"""What a frozen network's geometry, size and pooling are worth to a probe, on a folder of photographs.

The map of each image is computed once for each geometry and size and pooled in every way; on each of these features a
score layer is fitted by L-BFGS with LSEP and with BCE (weight decay chosen on validation), one global threshold on
validation, and all of it is measured on test. Ten CPU minutes on 2,600 photographs:

    python experiments/photos/pooling.py PHOTOS --weights tf_efficientnet_lite0.safetensors --train 800 \
        --out experiments/photos/pooling.csv
"""

import argparse
import csv
import itertools
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from lsep_ml.data import Transform
from lsep_ml.data.data_set import DataSet
from lsep_ml.data.sources.csv_labels import read_csv
from lsep_ml.decisions import GlobalThreshold
from lsep_ml.files import atomic_write
from lsep_ml.losses import bce_loss, lsep_loss
from lsep_ml.metrics import LabelSetMetrics
from lsep_ml.metrics.functional import ranking_metrics
from lsep_ml.models import timm_backbone
from lsep_ml.models.pooling import Pooling
from lsep_ml.models.preprocessing import timm_preprocessing
from lsep_ml.training.solver import minimise

SPLITS = ("train", "val", "test")
POOLS = ("mean", "max", "gem", "mean_max")
LOSSES: dict[str, Callable[..., Tensor]] = {"lsep": lsep_loss, "bce": bce_loss}
DECAYS = (0.3, 0.1, 0.03, 0.01)
COLUMNS = ("geometry", "size", "pool", "loss", "weight_decay", "map", "f1", "exact_match")
Features = dict[tuple[str, str], Tensor]  # by pool and split


@torch.inference_mode()
def pooled_features(
    data: DataSet, weights: Path, name: str, geometry: str, size: int, train: int
) -> Features:
    """Features by every pooling, of all images as one geometry and size shows them."""
    wants = timm_preprocessing(name)
    transform = Transform(geometry=geometry, **(wants.values() | {"crop": size}))
    model = timm_backbone(name, weights=str(weights)).eval().model.to(memory_format=torch.channels_last)
    mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (wants.mean, wants.std))
    example = torch.randn(1, 3, size, size)
    pools = {pool: Pooling(pool, model, model.forward_features(example)) for pool in POOLS}
    found: dict[tuple[str, str], list[Tensor]] = {(pool, split): [] for pool in POOLS for split in SPLITS}
    for split in SPLITS:
        images = data.split(split).images
        count = train if split == "train" else len(images)
        for start in range(0, count, 16):
            batch = torch.stack([transform(images[row]) for row in range(start, min(start + 16, count))])
            normalised = ((batch / 255 - mean) / std).contiguous(memory_format=torch.channels_last)
            before = model.forward_features(normalised)
            for pool, pooling in pools.items():
                found[pool, split].append(pooling(model, before))
    return {key: torch.cat(parts) for key, parts in found.items()}


def probe(
    loss: Callable[..., Tensor], features: dict[str, Tensor], targets: dict[str, Tensor]
) -> list[float]:
    """Weight decay, and mAP, F1 and exact match on test, of a score layer chosen by mAP on validation."""
    mean, std = features["train"].mean(0), features["train"].std(0) + 1e-6
    inputs = {split: (features[split] - mean) / std for split in SPLITS}
    torch.manual_seed(0)
    layer = nn.Linear(inputs["train"].shape[1], targets["train"].shape[1])
    nn.init.zeros_(layer.weight)
    best: tuple[float, float, dict[str, Tensor]] | None = None
    for decay in DECAYS:

        def objective(decay: float = decay) -> Tensor:
            return loss(layer(inputs["train"]), targets["train"]) + decay * layer.weight.square().sum()

        minimise(list(layer.parameters()), objective, tolerance=0.02, max_iterations=60)
        with torch.inference_mode():
            scores = {split: layer(inputs[split]) for split in SPLITS}
        value = ranking_metrics(scores["val"].numpy(), targets["val"].numpy())["map"]
        if best is None or value > best[0]:
            best = value, decay, scores
    assert best is not None
    _, decay, scores = best
    decision = GlobalThreshold().fit(scores["val"], targets["val"])
    metrics = LabelSetMetrics(targets["test"].shape[1])
    metrics.update(decision.predict(scores["test"]), targets["test"])
    sets = metrics.compute()
    mean_ap = ranking_metrics(scores["test"].numpy(), targets["test"].numpy())["map"]
    return [decay, float(mean_ap), float(sets["f1"]), float(sets["exact_match"])]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("root", type=Path)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--name", default="tf_efficientnet_lite0")
    parser.add_argument("--views", nargs="+", default=["squash-224", "center-224", "pad-224", "squash-320"])
    parser.add_argument("--train", type=int, default=1200, help="training images")
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    torch.set_num_threads(1)
    data = read_csv(given.root)
    rows = []
    for view in given.views:
        geometry, size = view.split("-")
        started = time.process_time()
        features = pooled_features(data, given.weights, given.name, geometry, int(size), given.train)
        print(f"{view}: features in {time.process_time() - started:.0f} CPU seconds", flush=True)
        targets = {split: torch.from_numpy(data.split(split).targets).float() for split in SPLITS}
        targets["train"] = targets["train"][: given.train]
        for pool, (name, loss) in itertools.product(POOLS, LOSSES.items()):
            found = probe(loss, {split: features[pool, split] for split in SPLITS}, targets)
            rows.append([geometry, size, pool, name, found[0], *(f"{100 * v:.1f}" for v in found[1:])])
            print(*rows[-1], flush=True)
        with atomic_write(given.out) as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerows([COLUMNS, *rows])
    return 0


if __name__ == "__main__":
    sys.exit(main())
