"""What to label next: learning curves of a partly labelled set, and its images without labels, ranked."""

import csv
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import Tensor

from lsep_ml.bundle.classifier import Classifier
from lsep_ml.bundle.label_files import decoded
from lsep_ml.bundle.predictions import Predictions
from lsep_ml.data.annotations import Annotations
from lsep_ml.data.errors import DataError, ImageError
from lsep_ml.data.images.opened import check_images
from lsep_ml.data.twins import DISTANCE
from lsep_ml.files import atomic_write, inert
from lsep_ml.metrics import BY_KEY
from lsep_ml.terminal import console, say
from lsep_ml.training.learning_curve import LabelledRows, Point, learning_curve, rank

FEWEST = 20
"""Labelled images below which folds say nothing."""

SHOWN = 20


@dataclass(frozen=True)
class LabelNext:
    """Holds the curve, and the images that are worth labels, the first ones most, with what is predicted of them.

    positives: int (K,), known ones among the `labelled` images. twins: images left out as near-duplicates of labelled
    or of higher-ranked ones. problems: images that cannot be used, and why.
    """

    points: list[Point]
    positives: NDArray[np.int64]
    labelled: int
    images: list[str]
    predictions: Predictions
    twins: int
    problems: dict[str, str]


def label_next(
    classifier: Classifier,
    annotations: Annotations,
    others: Sequence[str] = (),
    *,
    count: int = 200,
    folds: int = 5,
    seed: int = 0,
    cache: str | Path | None = None,
) -> LabelNext:
    """Say what more labels would bring, and rank the images without any.

    Args:
        classifier: its network gives the features; its labels and decision play no part.
        annotations: the set; images of which nothing is known are among those to rank.
        others: further image files to rank; those of the set among them are left out.
        count: of images at the end.
        folds, seed: of the learning curve.
        cache: folder that remembers opened images.

    Raises:
        DataError: too few images with labels, or none without.
    """
    known = np.ones(annotations.targets.shape, bool) if annotations.mask is None else annotations.mask
    labelled_rows = np.flatnonzero(known.any(axis=1))
    if len(labelled_rows) < FEWEST:
        raise DataError(f"{len(labelled_rows)} images have labels; a learning curve needs {FEWEST}")
    paths = [str(annotations.root / image) for image in annotations.image_ids.tolist()]
    in_set = {os.path.realpath(path) for path in paths}
    unlabelled = [paths[row] for row in np.flatnonzero(~known.any(axis=1)).tolist()]
    unlabelled += [image for image in others if os.path.realpath(image) not in in_set]
    if not unlabelled:
        raise DataError(
            f"data.root={annotations.root}: no image without labels; name further images or folders"
        )
    problems: dict[str, str] = {}
    say(
        f"features of {len(labelled_rows):,} images with labels and of {len(unlabelled):,} without",
        on=console,
    )
    ours, features = features_of(classifier, [paths[row] for row in labelled_rows.tolist()], problems)
    theirs, further = features_of(classifier, unlabelled, problems)
    say(f"learning curve of {len(ours):,} images", on=console)
    row_of = {path: row for row, path in enumerate(paths)}
    rows = np.array([row_of[path] for path in ours])
    labelled = LabelledRows(
        features,
        annotations.targets[rows],
        None if known[rows].all() else known[rows],
        None if annotations.groups is None else annotations.groups[rows],
    )
    points = learning_curve(labelled, folds=folds, seed=seed)
    ranked = rank(labelled, points[-1], further)
    hashes = [_hashes(images, cache) for images in (ours, theirs)]
    chosen, twins = once(ranked.order, hashes[1], hashes[0], count)
    by = (ranked.scores, ranked.label_sets, ranked.thresholds, None, ranked.probabilities)
    arrays = (None if values is None else values[chosen] for values in by)
    return LabelNext(
        points,
        (labelled.targets.astype(bool) & labelled.known).sum(axis=0),
        len(rows),
        [theirs[row] for row in chosen],
        Predictions(annotations.label_names, *arrays),  # type: ignore[arg-type]
        twins,
        problems,
    )


def features_of(
    classifier: Classifier, images: Sequence[str], problems: dict[str, str]
) -> tuple[list[str], Tensor]:
    """Compute the features float32 (M, D) of those images that can be used, with their names; the others are
    `problems`."""
    names: list[str] = []
    found: list[Tensor] = []
    batches, hidden = -(-len(images) // classifier.batch_size), not console.is_terminal
    for batch, tensors, broken in track(
        decoded(classifier, images), "  features", batches, console=console, disable=hidden, transient=True
    ):
        problems |= broken
        parts = [(batch, tensors)]
        while parts:
            part, stacked = parts.pop(0)
            try:
                found += [classifier.outputs(stacked)[1]] if part else []
                names += part
            except ImageError as error:
                if len(part) == 1:
                    problems[part[0]] = str(error)
                else:  # one by one
                    parts = [([name], [tensor]) for name, tensor in zip(part, stacked, strict=True)]
    if not found:
        raise DataError(f"none of {len(images)} images can be used: {next(iter(problems.items()), '')}")
    return names, torch.cat(found)


def _hashes(images: Sequence[str], cache: str | Path | None) -> NDArray[np.uint64]:
    return check_images(Path(os.sep), np.array(list(map(os.path.abspath, images)), np.str_), cache).hashes


def once(
    order: NDArray[np.int64], hashes: NDArray[np.uint64], labelled: NDArray[np.uint64], count: int
) -> tuple[list[int], int]:
    """Take the first `count` rows of `order` without near-duplicates of labelled images or of rows taken before.

    hashes, labelled: perceptual hashes of the rows and of the labelled images; 0 is no one's twin. Returns also how
    many were passed over.
    """
    taken: list[int] = []
    seen = labelled[labelled != 0]
    passed = 0
    for row in order.tolist():
        if len(taken) == count:
            break
        own = hashes[row]
        if own and (np.bitwise_count(seen ^ own) <= DISTANCE).any():
            passed += 1
            continue
        taken.append(row)
        seen = np.append(seen, own) if own else seen
    return taken, passed


def write_curve(path: Path, found: LabelNext, label_names: Sequence[str]) -> None:
    """Write the learning curve as CSV: a row a label, and one of the means first."""
    with atomic_write(path) as file:
        writer = csv.writer(file, lineterminator="\n")
        ends = ("", "_low", "_high")
        shares = [f"{100 * point.share:.0f}" for point in found.points]
        heads = [f"{metric}_{share}{end}" for metric in ("ap", "f1") for share in shares for end in ends]
        writer.writerow(["label", "positives", *heads])
        means = [(point.map, *point.map_interval) for point in found.points]
        means += [(point.mean_f1, *point.mean_f1_interval) for point in found.points]
        writer.writerow(["(mean)", int(found.positives.sum()), *_written(means)])
        for label, name in enumerate(label_names):
            values = [(point.ap[label], *point.ap_interval[label]) for point in found.points]
            values += [(point.f1[label], *point.f1_interval[label]) for point in found.points]
            writer.writerow([inert(name), int(found.positives[label]), *_written(values)])


def _written(values: Sequence[tuple[float, ...]]) -> list[str]:
    return ["" if np.isnan(value) else f"{value:.4f}" for three in values for value in three]


def print_curve(found: LabelNext, label_names: Sequence[str], console: Console) -> None:
    """Print the means, and the rarest labels with what they reach."""
    table = Table(
        title=f"Out of fold on {found.labelled:,} labelled images, in % (95% intervals)", title_justify="left"
    )
    table.add_column("label")
    table.add_column("positives", justify="right")
    for metric in ("AP", BY_KEY["f1"].short_name):
        for point in found.points:
            table.add_column(f"{metric}, {point.images:,} images", justify="right")
    means = [(point.map, *point.map_interval) for point in found.points]
    means += [(point.mean_f1, *point.mean_f1_interval) for point in found.points]
    table.add_row("mean", "", *map(_shown, means), end_section=True)
    for label in np.argsort(found.positives, kind="stable")[:SHOWN].tolist():
        values = [(point.ap[label], *point.ap_interval[label]) for point in found.points]
        values += [(point.f1[label], *point.f1_interval[label]) for point in found.points]
        table.add_row(label_names[label], f"{found.positives[label]:,}", *map(_shown, values))
    console.print(table)


def _shown(value: tuple[float, ...]) -> str:
    if np.isnan(value[0]):
        return "-"
    return "{:.1f} [{:.1f}, {:.1f}]".format(*(100 * one for one in value))
