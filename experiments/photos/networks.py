"""What pixels, size, pooling, heads and the training recipe are worth on a folder of photographs, one seed.

maps: what the frozen network has before its pooling, once for each view of all images, in float16, to --maps. pools: a
score layer by L-BFGS on each pooling of each view, its weight decay chosen on validation. heads: each head trained
alike on the maps of each view, its epoch chosen on validation. tuned: the whole network fine-tuned by `lsep-ml run`,
plain and with one part of the recipe each. Everywhere one global threshold from validation; the rest is measured on
test. A view is a geometry and a size, or `imagenet224`: what every network was given before its own pixels were read.

    python experiments/photos/networks.py maps PHOTOS --weights tf_efficientnet_lite0.safetensors --maps MAPS
    python experiments/photos/networks.py pools PHOTOS --weights ... --maps MAPS --out experiments/photos/pools.csv
    python experiments/photos/networks.py heads PHOTOS --weights ... --maps MAPS --views squash-224 --epochs 6 \
        --out experiments/photos/heads.csv
    python experiments/photos/networks.py tuned PHOTOS --weights ... --train 800 --out experiments/photos/tuned.csv
"""

import argparse
import csv
import itertools
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lsep_ml.data import Transform
from lsep_ml.data.data_set import SPLITS, DataSet
from lsep_ml.data.sources.csv_labels import read_csv
from lsep_ml.decisions import GlobalThreshold
from lsep_ml.files import atomic_write
from lsep_ml.losses import bce_loss, lsep_loss
from lsep_ml.metrics import LabelSetMetrics
from lsep_ml.metrics.functional import ranking_metrics
from lsep_ml.models import timm_backbone
from lsep_ml.models.heads import Csra, QueryHead, packed
from lsep_ml.models.pooling import Layout, Pooling
from lsep_ml.models.preprocessing import timm_preprocessing
from lsep_ml.training.solver import minimise

VIEWS = ("imagenet224", "squash-224", "center-224", "pad-224", "squash-320")
POOLS = ("mean", "max", "gem", "mean_max")
HEADS = ("linear", "csra", "ml_decoder")
LOSSES: dict[str, Callable[..., Tensor]] = {"lsep": lsep_loss, "bce": bce_loss}
DECAYS = (1.0, 0.3, 0.1, 0.03)
RECIPES = {
    "plain": (),
    "trivial": ("transform.augment=trivial",),
    "mixup": ("training.mixup=0.2",),
    "layer decay": ("training.layer_decay=0.75", "training.decay_all=false"),
}
COLUMNS = {
    "pools": ("view", "pool", "loss", "weight_decay", "map", "f1", "exact_match"),
    "heads": ("view", "head", "loss", "epoch", "map", "f1", "exact_match"),
    "tuned": ("recipe", "loss", "epoch", "val_map", "map", "f1", "exact_match"),
}
Targets = dict[str, Tensor]
Rows = Iterator[list[Any]]


def transform_of(view: str, name: str) -> Transform:
    """The transform of a view."""
    if view == "imagenet224":
        return Transform(resize=(256, 256), crop=224, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
    geometry, size = view.split("-")
    return Transform(geometry=geometry, **(timm_preprocessing(name).values() | {"crop": int(size)}))


@torch.inference_mode()
def write_maps(data: DataSet, model: Any, given: argparse.Namespace) -> None:
    """Maps of all images in all views, one array a view and split."""
    model = model.to(memory_format=torch.channels_last)
    for view, split in itertools.product(given.views, SPLITS):
        started = time.process_time()
        transform = transform_of(view, given.name)
        mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (transform.mean, transform.std))
        images = data.split(split).images
        array = None
        file = given.maps / f"{view}-{split}.npy"
        for start in range(0, len(images), 16):
            rows = range(start, min(start + 16, len(images)))
            batch = (torch.stack([transform(images[row]) for row in rows]) / 255 - mean) / std
            maps = model.forward_features(batch.contiguous(memory_format=torch.channels_last))
            if array is None:
                shape = (len(images), *maps.shape[1:])
                array = np.lib.format.open_memmap(file.with_suffix(".part"), "w+", np.float16, shape)
            array[start : rows.stop] = maps.numpy()
        file.with_suffix(".part").rename(file)
        print(f"{view} {split}: {time.process_time() - started:.0f} CPU seconds", flush=True)


def maps_of(view: str, given: argparse.Namespace) -> dict[str, np.ndarray]:
    """The maps of a view by split, memory-mapped."""
    return {
        split: np.load(given.maps / f"{view}-{split}.npy", mmap_mode="r", allow_pickle=False)
        for split in SPLITS
    }


def batches(maps: np.ndarray, order: Tensor | None = None, size: int = 64) -> Iterator[tuple[Tensor, Tensor]]:
    """Row numbers and maps, float32, in batches; in their order where none is given."""
    for rows in (torch.arange(len(maps)) if order is None else order).split(size):
        yield rows, torch.from_numpy(maps[rows.numpy()].astype(np.float32))


def measured(scores: dict[str, Tensor], targets: Targets) -> list[float]:
    """mAP, F1 and exact match on test, in percent, with one threshold from validation."""
    decision = GlobalThreshold().fit(scores["val"], targets["val"])
    metrics = LabelSetMetrics(targets["test"].shape[1])
    metrics.update(decision.predict(scores["test"]), targets["test"])
    sets = metrics.compute()
    values = (map_of(scores["test"], targets["test"]), sets["f1"], sets["exact_match"])
    return [round(100 * float(value), 1) for value in values]


def map_of(scores: Tensor, targets: Tensor) -> float:
    return float(ranking_metrics(scores.numpy(), targets.numpy())["map"])


def solved(loss: Callable[..., Tensor], features: dict[str, Tensor], targets: Targets) -> list[float]:
    """Weight decay, and mAP, F1 and exact match on test, of a score layer chosen by mAP on validation."""
    mean, std = features["train"].mean(0), features["train"].std(0) + 1e-6
    inputs = {split: (features[split] - mean) / std for split in SPLITS}
    layer = nn.Linear(inputs["train"].shape[1], targets["train"].shape[1])
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    tried = []
    for decay in DECAYS:  # each from the solution before

        def objective(decay: float = decay) -> Tensor:
            return loss(layer(inputs["train"]), targets["train"]) + decay * layer.weight.square().sum()

        minimise(list(layer.parameters()), objective, tolerance=0.02, max_iterations=40)
        with torch.inference_mode():
            scores = {split: layer(inputs[split]) for split in SPLITS}
        tried.append((map_of(scores["val"], targets["val"]), decay, scores))
    _, decay, scores = max(tried, key=lambda found: found[:2])
    return [decay, *measured(scores, targets)]


def pools(targets: Targets, model: Any, given: argparse.Namespace) -> Rows:
    """Each pooling of each view, by both losses."""
    for view in given.views:
        maps = maps_of(view, given)
        example = torch.from_numpy(maps["val"][:2].astype(np.float32))
        for pool in POOLS:
            pooling = Pooling(pool, model, example)
            with torch.inference_mode():
                features = {
                    split: torch.cat([pooling(model, batch) for _, batch in batches(of_split)])
                    for split, of_split in maps.items()
                }
            for name, loss in LOSSES.items():
                yield [view, pool, name, *solved(loss, {s: f.clone() for s, f in features.items()}, targets)]


def heads(targets: Targets, model: Any, given: argparse.Namespace) -> Rows:
    """Each head by both losses, trained by AdamW with a cosine schedule on the same batches."""
    for view, head, name in itertools.product(given.views, HEADS, LOSSES):
        maps = maps_of(view, given)
        layout = Layout(model, torch.from_numpy(maps["val"][:2].astype(np.float32)))
        width, labels = layout.width, targets["train"].shape[1]
        torch.manual_seed(0)
        if head == "linear":
            layer: nn.Module = nn.Linear(width, labels)
        else:
            layer = (Csra if head == "csra" else QueryHead)(width, width, labels)
        rate = 1e-3 if head != "ml_decoder" else 2e-4
        optimizer = torch.optim.AdamW(layer.parameters(), rate, weight_decay=0.01)
        steps = given.epochs * -(-len(maps["train"]) // 64)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)

        def scores_of(maps: Tensor, layer: Any = layer, head: str = head) -> Tensor:
            tokens = layout.tokens(maps)  # noqa: B023
            pooled = tokens.mean(dim=1)
            found: Tensor = layer(pooled if head == "linear" else packed(pooled, tokens))
            return found

        generator, tried = torch.Generator().manual_seed(0), []
        for epoch in range(1, given.epochs + 1):
            layer.train()
            for rows, batch in batches(
                maps["train"], torch.randperm(len(maps["train"]), generator=generator)
            ):
                optimizer.zero_grad()
                LOSSES[name](scores_of(batch), targets["train"][rows]).backward()
                optimizer.step()
                schedule.step()
            layer.eval()
            with torch.inference_mode():
                scores = {
                    split: torch.cat([scores_of(batch) for _, batch in batches(maps[split])])
                    for split in ("val", "test")
                }
            tried.append((map_of(scores["val"], targets["val"]), epoch, scores))
        _, epoch, scores = max(tried, key=lambda found: (found[0], -found[1]))
        yield [view, head, name, epoch, *measured(scores, targets)]


def tuned(given: argparse.Namespace) -> Rows:
    """The network fine-tuned by BCE from its weights on some of the photographs, with each recipe."""
    with tempfile.TemporaryDirectory() as folder, (given.root / "labels.csv").open() as file:
        rows = list(csv.DictReader(file))
        chosen = [row for row in rows if row["split"] == "train"][: given.train]
        labels, output = Path(folder) / "labels.csv", Path(folder) / "out"
        with labels.open("w") as out:
            writer = csv.DictWriter(out, rows[0].keys(), lineterminator="\n")
            writer.writeheader()
            writer.writerows([*chosen, *(row for row in rows if row["split"] != "train")])
        words = [
            *("data=csv", f"data.root={given.root}", f"data.labels={labels}", "data.twins=ignore"),
            *(
                "data.num_workers=0",
                "model=timm",
                f"model.name={given.name}",
                f"model.weights={given.weights}",
            ),
            *("loss=bce", "decision=threshold", "trainer=cpu", f"paths.output={output}", "pictures=false"),
            *("transform.crop=128", "optimizer=adamw", "optimizer.lr=0.0005", "training.score_layer_lr=5"),
            *(
                f"training.epochs={given.epochs}",
                "training.channels_last=true",
                "training.eval_batch_size=32",
            ),
        ]
        for recipe in given.recipes:
            before = {*output.glob("runs/*/*/result.json")}
            subprocess.run([sys.executable, "-m", "lsep_ml", "run", *words, *RECIPES[recipe]], check=True)
            [file_of_run] = {*output.glob("runs/*/*/result.json")} - before
            record = json.loads(file_of_run.read_text())
            test, val = record["metrics"]["test"], record["metrics"]["val"]
            values = (val["map"], test["map"], test["f1"], test["exact_match"])
            yield [recipe, "bce", record["choices"]["epoch"], *(round(100 * value, 1) for value in values)]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("part", choices=("maps", *COLUMNS))
    parser.add_argument("root", type=Path)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--name", default="tf_efficientnet_lite0")
    parser.add_argument("--maps", type=Path, help="the folder of the maps")
    parser.add_argument("--views", nargs="+", default=list(VIEWS))
    parser.add_argument("--epochs", type=int, default=8, help="of heads and tuned")
    parser.add_argument("--train", type=int, help="of tuned: so many training photographs")
    parser.add_argument("--recipes", nargs="+", choices=RECIPES, default=list(RECIPES))
    parser.add_argument("--out", type=Path, help="the table; its rows are added to")
    given = parser.parse_args()
    torch.set_num_threads(1)
    if given.part == "tuned":
        found = tuned(given)
    else:
        model = timm_backbone(given.name, weights=str(given.weights)).eval().model
        data = read_csv(given.root)
        if given.part == "maps":
            write_maps(data, model, given)
            return 0
        targets = {split: torch.from_numpy(data.split(split).targets).float() for split in SPLITS}
        found = (pools if given.part == "pools" else heads)(targets, model, given)
    for row in found:
        print(*row, flush=True)
        before = list(csv.reader(given.out.open())) if given.out.exists() else [COLUMNS[given.part]]
        with atomic_write(given.out) as file:
            csv.writer(file, lineterminator="\n").writerows([*before, row])
    return 0


if __name__ == "__main__":
    sys.exit(main())
