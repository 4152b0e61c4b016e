"""Measure every pretrained network of timm, and write what `python -m lsep_ml backbones` tells of each.

Networks are built and run once on torch's meta device, at the size their weights were trained with: no memory, no
arithmetic, nothing downloaded. Five minutes on one core; run it again for a newer timm.

    python experiments/backbones.py lsep_ml/models/backbones.csv
"""

import argparse
import csv
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import timm
import torch
from timm.data import resolve_data_config
from timm.models import get_pretrained_cfg

from lsep_ml.files import atomic_write
from lsep_ml.models.catalogue import COLUMNS


def build(name: str) -> Any:
    """The network on the meta device, without its classifier."""
    with torch.device("meta"):
        return timm.create_model(name, pretrained=False, num_classes=0).eval()


@torch.inference_mode()
def widths(model: Any, size: tuple[int, int, int]) -> tuple[int | None, str]:
    """The width of its features and what is before pooling, from one image of `size` (channels, height, width).

    No width for a network that has no pooling of its own.
    """
    found = model.forward_features(torch.zeros(1, *size, device="meta"))
    kind = "map"
    if isinstance(found, torch.Tensor) and found.ndim == 3:
        kind = "class+patches" if getattr(model, "cls_token", None) is not None else "patches"
    try:
        return model.forward_head(found).shape[1], kind
    except NotImplementedError:  # an encoder for language models
        return None, kind


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    out = parser.parse_args().out
    alike = defaultdict(list)  # names that are one network
    for name in timm.list_pretrained():
        size = resolve_data_config(pretrained_cfg=get_pretrained_cfg(name).to_dict())["input_size"]
        alike[name.partition(".")[0], size].append(name)
    failures, rows = 0, []
    known: dict[str, tuple[int | None, str]] = {}  # of an architecture, at any size
    for (architecture, size), names in alike.items():
        try:
            model = build(names[0])
            if architecture not in known:
                known[architecture] = widths(model, size)
        except Exception as error:  # each architecture fails in its own way
            failures += 1
            print(f"{names[0]} at {size}: {type(error).__name__}: {error}", file=sys.stderr)
            continue
        tags = " ".join(name.partition(".")[2] for name in names)
        rows.append((architecture, tags, sum(p.numel() for p in model.parameters()), *known[architecture]))
    with atomic_write(out) as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows(rows)
    print(f"{out}: {sum(map(len, alike.values()))} names, {len(rows)} networks, {failures} not measured")
    return 3 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
