"""What extracting once saves: 50 epochs of threshold estimation on cached features, against running the frozen network
again in every epoch.

    python experiments/benchmarks/stage2.py

The second way is timed for one epoch and multiplied by 50. Both are measured in one run, one after the other; random
weights and images, since only the time is of interest. One thread runs and its own time is counted, so that other
programs disturb little: about four minutes, most of them VGG16's.
"""

import argparse
import time
from collections.abc import Callable

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from lsep_ml import fit_decision
from lsep_ml.decisions import ThresholdEstimation
from lsep_ml.models import Network, Prediction, SmallCNN, vgg16

EPOCHS, BATCH = 50, 64


def seconds(work: Callable[[], object]) -> float:
    """The processor time that `work` takes."""
    started = time.process_time()
    work()
    return time.process_time() - started


@torch.inference_mode()
def run_network(network: Network, images: Tensor) -> Prediction:
    """Scores and features of all images, as extraction makes them."""
    return Prediction(*map(torch.cat, zip(*[network(batch) for batch in images.split(BATCH)], strict=True)))


def measure(backbone: nn.Module, images: Tensor, num_labels: int) -> tuple[float, float, float]:
    """Seconds of one extraction, of 50 epochs on its arrays, and of one epoch that runs the network again."""
    network = Network(backbone, num_labels, [0.5] * images.shape[1], [0.5] * images.shape[1]).eval()
    targets = (torch.rand(len(images), num_labels) < 0.2).long()
    run_network(network, images[:2])  # warms up
    extracted: list[Prediction] = []
    extraction = seconds(lambda: extracted.append(run_network(network, images)))
    scores, features = extracted[0]
    decision = ThresholdEstimation(network.num_features, num_labels)
    cached = seconds(
        lambda: fit_decision(decision, scores, targets, features, epochs=EPOCHS, batch_size=BATCH)
    )
    optimizer = torch.optim.SGD(decision.parameters(), lr=0.001, momentum=0.9)

    def epoch_with_the_network() -> None:
        for batch, labels in zip(images.split(BATCH), targets.split(BATCH), strict=True):
            with torch.no_grad():
                scores, features = network(batch)
            optimizer.zero_grad()
            decision.loss(scores, labels, features).backward()
            optimizer.step()

    return extraction, cached, seconds(epoch_with_the_network)


def main() -> None:
    """Measure both networks and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--digits", type=int, default=6000, help="digit scenes, 48 x 48, through the small network"
    )
    parser.add_argument("--vgg", type=int, default=128, help="images, 224 x 224, through VGG16")
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    cases = {
        f"small_cnn, {options.digits} x 1 x 48 x 48": (SmallCNN(), (options.digits, 1, 48, 48), 10),
        f"vgg16, {options.vgg} x 3 x 224 x 224": (vgg16(weights=None), (options.vgg, 3, 224, 224), 20),
    }
    table = Table(
        "network and images", "extract once", "50 epochs cached", "50 epochs with the network", "ratio"
    )
    for name, (backbone, shape, num_labels) in cases.items():
        images = torch.randint(0, 256, shape, dtype=torch.uint8)
        extraction, cached, epoch = measure(backbone, images, num_labels)
        ratio = EPOCHS * epoch / (extraction + cached)
        cells = [f"{extraction:.2f} s", f"{cached:.2f} s", f"{EPOCHS * epoch:.1f} s", f"{ratio:.1f}"]
        table.add_row(name, *cells)
    Console(width=110).print(table)


if __name__ == "__main__":
    main()
