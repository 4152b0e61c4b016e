"""Start-up and reading of many image files, loose and packed: seconds and memory, side by side.

    python experiments/benchmarks/packs.py --images 200000

writes that many small images (a few different ones, linked), packs them, and measures in fresh processes: reading the
labels and knowing every image, with nothing remembered, with everything remembered, and packed; then 2,000 images
at random.
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

DIFFERENT = 20


def write(root: Path, num_images: int) -> None:
    """Write a CSV data set of `num_images` images in folders of 1,000."""
    levels = np.random.default_rng(0).integers(0, 255, (DIFFERENT, 64, 64, 3), dtype=np.uint8)
    (root / "different").mkdir(parents=True)
    for number in range(DIFFERENT):
        Image.fromarray(levels[number]).save(root / f"different/{number}.jpg")
    contents = [(root / f"different/{number}.jpg").read_bytes() for number in range(DIFFERENT)]
    lines = ["image,labels,split"]
    for number in range(num_images):
        path = root / f"images/{number // 1000}/{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(contents[number % DIFFERENT])
        split = ("train", "val", "test")[min(number % 10, 2)]
        lines.append(f"{path.relative_to(root)},{'cat|dog' if number % 2 else 'dog'},{split}")
    (root / "labels.csv").write_text("\n".join(lines) + "\n")


def measure(root: Path, cache: str) -> None:
    """Print seconds to read the labels and know each image, seconds for 2,000 images, and the peak memory in MiB."""
    from lsep_ml.data.sources.csv_labels import read_csv

    start = time.perf_counter()
    data_set = read_csv(root, cache=cache or None)
    started = time.perf_counter() - start
    images = data_set.train.images
    images[0]  # loads what decodes
    start = time.perf_counter()
    for row in np.random.default_rng(0).integers(0, len(images), 2000).tolist():
        images[row]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{started:8.2f} s start, {time.perf_counter() - start:6.2f} s for 2,000 images, {peak:6.0f} MiB")


def main() -> None:
    """Measure all three, each in a process of its own."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--measure", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        measure(Path(options.measure[0]), options.measure[1])
        return
    with tempfile.TemporaryDirectory() as scratch:
        root, packed = Path(scratch, "files"), Path(scratch, "packed")
        write(root, options.images)
        start = time.perf_counter()
        subprocess.run([sys.executable, "-m", "lsep_ml", "pack", str(root), "--out", str(packed)], check=True)
        print(f"{time.perf_counter() - start:8.2f} s packing")
        for what, folder, cache in (
            ("files, nothing remembered", root, "cache"),
            ("files, all remembered", root, "cache"),
            ("packed", packed, "other"),
            ("packed, labels remembered", packed, "other"),
        ):
            command = [sys.executable, __file__, "--measure", str(folder), os.path.join(scratch, cache)]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            print(f"{what:28} {done.stdout.strip()}", flush=True)


if __name__ == "__main__":
    main()
