"""Figures of one run: the curve against its definition, and pictures that can be drawn from awkward arrays."""

from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from lsep_ml.metrics.functional import (
    count_label_sets,
    label_set_metrics,
    mean_precision_recall,
    per_class_metrics,
    ranking_metrics,
)
from lsep_ml.reports.figures.of_run import (
    draw_run,
    lay_out_gallery,
    plot_class_f1,
    plot_precision_recall,
    spread_rows,
)
from lsep_ml.reports.figures.style import dark_too, save_figure


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


def run_arrays(images: int, labels: int, seed: int = 1) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    targets, predictions = (rng.random((2, images, labels)) < 0.4).astype(np.uint8)
    return {
        "targets": targets,
        "predictions": predictions,
        "mask": (rng.random((images, labels)) < 0.9).astype(np.uint8),
        "scores": rng.normal(size=(images, labels)).astype(np.float32),
        "label_names": np.array([f"a label ${k}" for k in range(labels)]),
    }


def thumbnails(images: int) -> dict[int, np.ndarray]:
    rng = np.random.default_rng(0)
    return {
        int(row): rng.integers(0, 256, (20, 30, 3) if row % 2 else (20, 30), np.uint8)
        for row in spread_rows(images)
    }


@pytest.mark.parametrize(("images", "labels"), [(1, 2), (7, 3), (40, 130)])
def test_a_run_s_figures_are_drawn(tmp_path: Path, images: int, labels: int) -> None:
    test = run_arrays(images, labels)
    draw_run(tmp_path, test, thumbnails(images), "title")
    for name in ("class_f1.png", "gallery.png", "precision_recall.png"):
        with Image.open(tmp_path / name) as picture:
            assert min(picture.size) > 100
    del test["scores"]
    draw_run(tmp_path / "without", test, thumbnails(images), "title")
    assert sorted(path.name for path in (tmp_path / "without").iterdir()) == ["class_f1.png", "gallery.png"]


def boxes_of(texts: list[Any], figure: Figure) -> list[Any]:
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return [text.get_window_extent(canvas.get_renderer()) for text in texts if text.get_text()]


@pytest.mark.parametrize("labels", [2, 5, 40])
def test_class_names_do_not_overlap_and_the_mean_stands_clear_of_bars(labels: int) -> None:
    test = run_arrays(30, labels)
    test["label_names"] = np.array([f"two words {k}" for k in range(labels)])
    figure = plot_class_f1(test, "a title")
    [axes] = figure.axes
    names = boxes_of(list(axes.get_yticklabels()), figure)
    assert len(names) == labels
    assert not any(first.overlaps(second) for first, second in combinations(names, 2))
    [mean] = [text for text in axes.texts if text.get_text().startswith("mean ")]
    [place] = boxes_of([mean], figure)
    assert not any(place.overlaps(bar.get_window_extent()) for bar in axes.patches)
    assert not place.overlaps(boxes_of([axes.title], figure)[0])
    counts = count_label_sets(test["predictions"], test["targets"], test["mask"])
    f1 = 100 * per_class_metrics(counts.correct, counts.predicted, counts.actual)["f1"]
    assert mean.get_text() == f"mean {f1.mean():.1f}"
    frequent = np.argsort(-counts.actual, kind="stable")
    assert [bar.get_width() for bar in axes.patches] == pytest.approx(f1[frequent])


def test_the_curve_says_map_and_where_the_decision_stands() -> None:
    test = run_arrays(50, 4)
    [axes] = plot_precision_recall(test, "title").axes
    curve, point = axes.get_lines()
    expected = ranking_metrics(test["scores"], test["targets"], test["mask"])["map"]
    assert curve.get_label() == f"scores, mAP {100 * expected:.1f}"
    chosen = label_set_metrics(count_label_sets(test["predictions"], test["targets"], test["mask"]))
    assert float(point.get_xdata()[0]) == pytest.approx(100 * float(chosen["pc_r"]))
    assert float(point.get_ydata()[0]) == pytest.approx(100 * float(chosen["pc_p"]))


def test_the_gallery_shows_errors_first() -> None:
    test = run_arrays(60, 5)
    test["predictions"][:40] = test["targets"][:40]
    test["targets"][0] = test["predictions"][0] = 0
    sheet = lay_out_gallery(test, thumbnails(60), "title")
    rows = spread_rows(60)
    errors = ((test["predictions"] != test["targets"]) & (test["mask"] == 1))[rows].sum(1)
    shown = [picture for _, picture in sheet.pictures]
    assert len(shown) == 24
    pictures = thumbnails(60)
    found = [next(int(row) for row in rows if np.array_equal(pictures[int(row)], one)) for one in shown]
    counted = [int(errors[list(rows).index(row)]) for row in found]
    assert counted == sorted(counted, reverse=True)
    texts = [text.text for text in sheet.texts]
    assert "none" in texts
    assert f"{(errors == 0).sum()} of these 24 test images are entirely right" in " ".join(texts)


def test_colours_of_a_dark_page_are_those_of_the_table() -> None:
    svg = '<svg width="1"><rect style="fill: #ffffff"/><path style="stroke: #0072b2"/></svg>'
    found = dark_too(svg)
    assert found.startswith('<svg width="1"><style>@media (prefers-color-scheme: dark) {')
    assert '[style*="stroke: #0072b2"] { stroke: #58b4ea !important }' in found
    assert found.endswith(svg.partition(">")[2])


@pytest.mark.parametrize("kind", ["png", "svg"])
def test_the_same_figure_gives_the_same_file(tmp_path: Path, kind: str) -> None:
    files = [tmp_path / f"{name}.{kind}" for name in "abcd"]
    for number, file in enumerate(files):
        test = run_arrays(30, 3)
        gallery = number % 2
        save_figure(
            lay_out_gallery(test, thumbnails(30), "x") if gallery else plot_precision_recall(test, "x"), file
        )
    first, second, third, fourth = (file.read_bytes() for file in files)
    assert first == third
    assert second == fourth
