"""What batch and memory layout are worth to the extraction of a frozen network: images a CPU second, and peak memory.

Each setting runs in a process of its own, on one core, on images that are already decoded.

    python experiments/benchmarks/extraction.py --name tf_efficientnet_lite0 --images 256
"""

import argparse
import resource
import subprocess
import sys
import time

import torch

from lsep_ml.models import Network, timm_backbone

SETTINGS = ((128, False), (16, False), (16, True))
"""Batch, and whether channels_last; the first is what was done before, the last what is done on a CPU."""


def measure(name: str, images: int, batch: int, channels_last: bool) -> tuple[float, float]:
    """Images a CPU second, and the peak memory of this process in GiB."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    backbone = timm_backbone(name, weights=None)
    network = Network(backbone, 18, [0.5] * 3, [0.5] * 3).eval().to(memory_format=layout)
    given = torch.randint(0, 256, (batch, 3, 224, 224), dtype=torch.uint8)
    with torch.inference_mode():
        network.extract(given.contiguous(memory_format=layout))
        started = time.process_time()
        for _ in range(images // batch):
            network.extract(given.contiguous(memory_format=layout))
        seconds = time.process_time() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return images // batch * batch / seconds, peak


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--name", default="tf_efficientnet_lite0")
    parser.add_argument("--images", type=int, default=256)
    parser.add_argument("--setting", type=int, help="only this one, in this process")
    given = parser.parse_args()
    if given.setting is not None:
        batch, channels_last = SETTINGS[given.setting]
        rate, peak = measure(given.name, given.images, batch, channels_last)
        layout = "channels_last" if channels_last else "NCHW"
        print(
            f"{given.name}, batch {batch}, {layout}: {rate:.1f} images a CPU second, {peak:.1f} GiB at most"
        )
        return 0
    for setting in range(len(SETTINGS)):
        subprocess.run([sys.executable, __file__, *sys.argv[1:], "--setting", str(setting)], check=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
