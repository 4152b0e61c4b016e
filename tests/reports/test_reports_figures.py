"""Figures of one run: the curve against its definition, and pictures that can be drawn from awkward arrays."""

from pathlib import Path

import numpy as np
import pytest

from lsep_ml.metrics.curves import mean_precision_recall
from lsep_ml.reports.figures.of_run import (
    plot_class_f1,
    plot_gallery,
    plot_precision_recall,
)
from lsep_ml.reports.figures.saving import save_figure


def interpolated_precision(scores: np.ndarray, targets: np.ndarray, recall: float) -> float:
    """The definition: over every cut-off, the highest precision among those of at least this recall."""
    best = 0.0
    for cut in np.unique(scores):
        chosen = scores >= cut
        if targets[chosen].sum() / targets.sum() >= recall - 1e-12:
            best = max(best, targets[chosen].mean())
    return best


def test_mean_precision_recall_follows_its_definition() -> None:
    rng = np.random.default_rng(0)
    targets = (rng.random((60, 4)) < [0.5, 0.2, 0.05, 0.0]).astype(np.uint8)
    targets[0, 2] = 1
    scores = np.round(rng.normal(size=(60, 4)) + targets, 1)  # ties
    mask = np.ones_like(targets)
    mask[::7, 0] = 0
    curve = mean_precision_recall(scores, targets, mask)
    for position in (0, 13, 50, 100):
        expected = np.mean(
            [
                interpolated_precision(
                    scores[mask[:, k] == 1, k], targets[mask[:, k] == 1, k], position / 100
                )
                for k in range(3)  # the class without a positive is left out
            ]
        )
        assert curve[position] == pytest.approx(expected)


@pytest.mark.parametrize(("images", "labels"), [(1, 2), (7, 3), (24, 30)])
def test_every_figure_is_drawn(tmp_path: Path, images: int, labels: int) -> None:
    rng = np.random.default_rng(1)
    targets = (rng.random((images, labels)) < 0.4).astype(np.uint8)
    predictions = (rng.random((images, labels)) < 0.4).astype(np.uint8)
    mask = (rng.random((images, labels)) < 0.9).astype(np.uint8)
    scores = rng.normal(size=(images, labels)).astype(np.float32)
    names = [f"label {k}" for k in range(labels)]
    pictures = [
        rng.integers(0, 256, size=(20, 30, 3) if i % 2 else (20, 30), dtype=np.uint8) for i in range(images)
    ]
    figures = {
        "curve.png": plot_precision_recall(scores, targets, mask, "title"),
        "bars.svg": plot_class_f1(predictions, targets, mask, names, "title"),
        "gallery.png": plot_gallery(pictures, predictions, targets, mask, names, "title"),
    }
    for name, figure in figures.items():
        save_figure(figure, tmp_path / name)
        assert (tmp_path / name).stat().st_size > 1000


@pytest.mark.parametrize("kind", ["png", "svg"])
def test_the_same_figure_gives_the_same_file(tmp_path: Path, kind: str) -> None:
    rng = np.random.default_rng(0)
    targets = (rng.random((30, 3)) < 0.5).astype(np.uint8)
    files = [tmp_path / f"{name}.{kind}" for name in "ab"]
    for file in files:
        figure = plot_precision_recall(targets.astype(np.float32), targets, np.ones_like(targets), "x")
        save_figure(figure, file)
    assert files[0].read_bytes() == files[1].read_bytes()
