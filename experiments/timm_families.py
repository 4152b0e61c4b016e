"""Run one small network of each of timm's families, with random weights, as a training of ours builds and feeds it.

Of each family (a module of timm.models with published weights) the network with the fewest parameters is built, given
two images at the size its weights were trained with, and its scores, features and their width are looked at. Nothing is
downloaded. Five minutes on one core:

    python experiments/timm_families.py experiments/timm_families.csv
"""

import argparse
import csv
import sys
import time
from pathlib import Path

import timm
import torch

from lsep_ml.files import atomic_write
from lsep_ml.models import Network, timm_backbone
from lsep_ml.models.catalogue import Known, known_backbones
from lsep_ml.models.preprocessing import timm_preprocessing

COLUMNS = ("family", "name", "parameters", "size", "pool", "features", "seconds", "problem")


def smallest_of_each_family() -> dict[str, Known]:
    """Family -> its pretrained network with the fewest parameters; of equal ones that for the smallest image."""
    networks = {known.name: known for known in known_backbones("*")}
    found = {}
    for family in timm.list_modules():
        members = [networks[name] for name in timm.list_models(module=family, pretrained=True)]
        measured = [known for known in members if known.parameters is not None]
        if measured:
            found[family] = min(measured, key=lambda known: (known.parameters, known.wants.crop, known.name))
    return found


def run(known: Known) -> tuple[str, int]:
    """Give `model.pool` and the width of the features of two images.

    Raises:
        ValueError: scores or features that are not finite or of another shape than the catalogue says.
    """
    torch.manual_seed(0)
    pool = "trained" if known.features is not None else "mean"
    wants = timm_preprocessing(known.name)
    options = {} if known.channels == 3 else {"in_chans": known.channels}
    backbone = timm_backbone(known.name, weights=None, image_size=wants.crop, pool=pool, **options)
    network = Network(backbone, 5, wants.mean, wants.std).eval()
    images = torch.randint(0, 256, (2, known.channels, *wants.crop), dtype=torch.uint8)
    with torch.inference_mode():
        scores, features = network(images)
    if not (torch.isfinite(scores).all() and torch.isfinite(features).all()):
        raise ValueError("not finite")
    if scores.shape != (2, 5) or features.shape != (2, network.num_features):
        raise ValueError(f"scores {tuple(scores.shape)}, features {tuple(features.shape)}")
    if known.features not in (None, network.num_features):
        raise ValueError(f"{network.num_features} features, the catalogue says {known.features}")
    return pool, network.num_features


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--most", type=float, default=60e6, help="parameters; larger networks are left out")
    given = parser.parse_args()
    torch.set_num_threads(1)
    rows, failed = [], 0
    for family, known in smallest_of_each_family().items():
        pool, width, problem, started = "", "", "", time.process_time()
        if known.parameters > given.most:
            problem = "left out: too large"
        else:
            try:
                pool, width = run(known)
            except Exception as error:  # each network fails in its own way
                problem = f"{type(error).__name__}: {error}".splitlines()[0]
                failed += 1
        seconds = f"{time.process_time() - started:.1f}"
        size = "x".join(map(str, (known.channels, *known.wants.crop)))
        rows.append((family, known.name, known.parameters, size, pool, width, seconds, problem))
        print(*rows[-1], flush=True)
        with atomic_write(given.out) as file:
            csv.writer(file, lineterminator="\n").writerows([COLUMNS, *rows])
    large = sum(row[-1].startswith("left out") for row in rows)
    print(f"{len(rows)} families, {len(rows) - large - failed} run, {failed} fail, {large} left out")
    return 3 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
