"""Whether the ranking of `lsep-ml label-next` is better than chance: images are labelled by it, or at random.

On frozen features of a folder of photographs (arrays train_features, train_targets, val_*, test_*, as losses.py takes
them): some training images are labelled, more are added by the ranking and by chance, a probe is fitted on all of
them, and its mAP is measured on validation and test. Four CPU minutes for 600 + 200 photographs and five seeds:

    python experiments/photos/label_next.py FEATURES.npz --labelled 600 --add 200 --seeds 5
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from lsep_ml.losses import bce_loss
from lsep_ml.metrics.functional import average_precisions
from lsep_ml.training.learning_curve import LabelledRows, learning_curve, rank
from lsep_ml.training.linear_scores import StandardisedFeatures
from lsep_ml.training.probe import ProbeImages

RAREST = 6
DRAWS = 4  # of random images, a seed
COLUMNS = ("mAP val", "mAP test", f"AP of the {RAREST} rarest, test", "their positives added")
Arrays = dict[str, NDArray]


def measure(arrays: Arrays, rows: NDArray, added: int, decay: float, rarest: NDArray) -> tuple[float, ...]:
    """What a probe on the training images `rows` reaches, of which the last `added` are new; see COLUMNS."""
    features = torch.from_numpy(arrays["train_features"][rows])
    targets = arrays["train_targets"][rows].astype(np.uint8)
    images = ProbeImages(StandardisedFeatures(features), torch.from_numpy(targets), None)
    zero, tolerance = images.start(bce_loss)
    layer, _ = images.solve(bce_loss, decay, zero, images.blocks(), tolerance=tolerance)
    raw = images.features.standardisation.raw(layer)
    val, test = (
        average_precisions(
            (torch.from_numpy(arrays[f"{part}_features"]) @ raw.weight.T + raw.bias).numpy(),
            arrays[f"{part}_targets"].astype(np.uint8),
        )
        for part in ("val", "test")
    )
    found = targets[len(rows) - added :][:, rarest].sum()
    return float(np.nanmean(val)), float(np.nanmean(test)), float(np.nanmean(test[rarest])), float(found)


def main() -> None:
    """Print a line a way of choosing."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("features", type=Path)
    parser.add_argument("--labelled", type=int, default=600)
    parser.add_argument("--add", type=int, default=200)
    parser.add_argument("--seeds", type=int, default=5)
    options = parser.parse_args()
    with np.load(options.features, allow_pickle=False) as file:
        arrays = {key: file[key] for key in file.files}
    ways: dict[str, list[tuple[float, ...]]] = {"none": [], "ranked": [], "random": []}
    for seed in range(options.seeds):
        rng = np.random.default_rng(seed)
        order = rng.permutation(len(arrays["train_targets"]))
        first, rest = order[: options.labelled], order[options.labelled :]
        targets = arrays["train_targets"][first].astype(np.uint8)
        labelled = LabelledRows(torch.from_numpy(arrays["train_features"][first]), targets)
        [point] = learning_curve(labelled, shares=(1.0,), replicates=2, seed=seed)
        rarest = np.argsort(targets.sum(axis=0))[:RAREST]
        ranked = rank(labelled, point, torch.from_numpy(arrays["train_features"][rest]))
        ways["none"].append(measure(arrays, first, 0, point.weight_decay, rarest))
        chosen = {"ranked": [rest[ranked.order[: options.add]]]}
        chosen["random"] = [rng.permutation(rest)[: options.add] for _ in range(DRAWS)]
        for way, several in chosen.items():
            found = [
                measure(arrays, np.concatenate([first, new]), len(new), point.weight_decay, rarest)
                for new in several
            ]
            ways[way].append(tuple(np.mean(found, axis=0)))
    print(
        f"{options.labelled} labelled, {options.add} added, {options.seeds} seeds: mean (smallest to largest)"
    )
    for way, rows in ways.items():
        table = np.array(rows)
        shown = (
            f"{n} {v.mean():.4g} ({v.min():.4g} to {v.max():.4g})"
            for n, v in zip(COLUMNS, table.T, strict=True)
        )
        print(f"{way:7} {', '.join(shown)}")
    gain = np.array(ways["ranked"]) - np.array(ways["random"])
    print("ranked - random, test mAP by seed:", ", ".join(f"{100 * value:+.2f}" for value in gain[:, 1]))


if __name__ == "__main__":
    main()
