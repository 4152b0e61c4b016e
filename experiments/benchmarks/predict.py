"""Images per second of `predict`, from JPEG files to a finished table, against loops written by hand.

    OMP_WAIT_POLICY=PASSIVE python experiments/benchmarks/predict.py --network small_cnn --images 256 --repeats 5

The files are crops of scikit-learn's two sample photographs at about 500 x 375; the networks have random weights and 80
labels, with estimated thresholds, since only the time is of interest. Each round runs the four in turn, so that a busy
machine slows all of them; medians over the rounds. The variable is what the command line sets itself.

- predict: `label_files`, as the command line runs it, with a CSV of labels and scores
- batched loop: decode, transform, stack, network, decision, batch by batch; nothing is written
- batched, threads: the same, decoded by a pool of threads before each batch
- one at a time: the same for batches of one
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from data import write_photographs
from rich.console import Console
from rich.table import Table
from torch import nn

from lsep_ml.bundle import Classifier, Parts
from lsep_ml.bundle.label_files import fingerprint, label_files
from lsep_ml.bundle.label_table import LabelTable
from lsep_ml.data.cores import available_cores
from lsep_ml.data.images.decode import decode_image
from lsep_ml.decisions import ThresholdEstimation
from lsep_ml.models import Network, SmallCNN, timm_backbone

LABELS, BATCH = 80, 64
MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]

NETWORKS: dict[str, tuple[dict[str, object], Callable[[], nn.Module]]] = {
    "small_cnn": (
        {"backbone": "lsep_ml.models.SmallCNN", "options": {"in_channels": 3}},
        lambda: SmallCNN(in_channels=3),
    ),
    "resnet18": (
        {"backbone": "lsep_ml.models.timm_backbone", "options": {"name": "resnet18"}},
        lambda: timm_backbone("resnet18", weights=None),
    ),
}


def make_classifier(name: str) -> Classifier:
    """An untrained classifier on 224 x 224 images."""
    model, build = NETWORKS[name]
    network = Network(build(), LABELS, MEAN, STD)
    transform = {"resize": [224, 224], "crop": None, "channels": 3, "mean": MEAN, "std": STD}
    parts = Parts(
        label_names=tuple(f"label {k}" for k in range(LABELS)),
        model=model,
        transform=transform,
        state=network.state_dict(),
        decision=ThresholdEstimation(network.num_features, LABELS),
        measured={"config": {"training": {"eval_batch_size": BATCH}}},
        versions={},
        source=Path(name),
    )
    return Classifier(parts, device="cpu")


def predict(classifier: Classifier, images: list[str], out: Path) -> None:
    """The work of the command line."""
    with LabelTable(out, classifier.label_names, fingerprint(classifier), overwrite=True) as table:
        label_files(classifier, images, table)


@torch.inference_mode()
def loop(classifier: Classifier, images: list[str], batch: int, threads: int = 0) -> None:
    """What a person writes: everything in turn, or decoded by threads."""

    def read(image: str) -> torch.Tensor:
        return classifier.transform(decode_image(Path(image).read_bytes()))

    with ThreadPoolExecutor(threads or 1) as pool:
        for start in range(0, len(images), batch):
            names = images[start : start + batch]
            tensors = pool.map(read, names) if threads else map(read, names)
            scores, features = classifier.network(torch.stack(list(tensors)))
            classifier.decision.predict(scores, features)


def main() -> None:
    """Time the ways and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--network", choices=NETWORKS, default="small_cnn")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        images = [f"{folder}/{name}" for name in write_photographs(Path(folder), options.images)]
        classifier = make_classifier(options.network)
        ways: dict[str, Callable[[], None]] = {
            "predict": lambda: predict(classifier, images, Path(folder) / "labels.csv"),
            "batched loop": lambda: loop(classifier, images, BATCH),
            "batched, threads": lambda: loop(classifier, images, BATCH, available_cores()),
            "one at a time": lambda: loop(classifier, images, 1),
        }
        rates: dict[str, list[float]] = {way: [] for way in ways}
        for repeat in range(options.repeats + 1):
            for way, run in ways.items():
                started = time.perf_counter()
                run()
                if repeat:  # the first round warms up
                    rates[way].append(len(images) / (time.perf_counter() - started))
    table = Table("way", "images / s", "lowest - highest", "predict / this", title=options.network)
    for way, found in rates.items():
        ratio = statistics.median(ours / rate for ours, rate in zip(rates["predict"], found, strict=True))
        spread = f"{min(found):.0f} - {max(found):.0f}"
        table.add_row(way, f"{statistics.median(found):.0f}", spread, f"{ratio:.2f}")
    Console(width=110).print(table)


if __name__ == "__main__":
    main()
