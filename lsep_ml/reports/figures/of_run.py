"""Figures of one run, from its arrays: the precision-recall curve, per-class F1, and test images with their labels."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lsep_ml.metrics.curves import RECALLS, mean_precision_recall
from lsep_ml.metrics.functional import count_label_sets, per_class_metrics
from lsep_ml.reports.figures.style import new_figure

TRUE_POSITIVE, FALSE_POSITIVE, FALSE_NEGATIVE = "#1f5fbf", "#c8281e", "#7a7a7a"
"""Blue, red and grey: told apart by colour-blind eyes too; the marks beside the names say the same."""


def plot_precision_recall(scores: np.ndarray, targets: np.ndarray, mask: np.ndarray, title: str) -> Figure:
    """The mean precision-recall curve over classes (Figure 3 of the paper, for one run)."""
    figure, axes = new_figure(5.2, 4.2)
    precision = mean_precision_recall(scores, targets, mask)
    axes.plot(100 * RECALLS, 100 * precision, color=TRUE_POSITIVE, linewidth=2)
    axes.set(xlim=(0, 100), ylim=(0, 102), xlabel="recall (%)", ylabel="mean precision (%)", title=title)
    axes.grid(alpha=0.3)
    return figure


def plot_class_f1(
    predictions: np.ndarray, targets: np.ndarray, mask: np.ndarray, label_names: Sequence[str], title: str
) -> Figure:
    """F1 of every class as bars, the most frequent class first."""
    counts = count_label_sets(predictions, targets, mask)
    f1 = per_class_metrics(counts.correct, counts.predicted, counts.actual)["f1"]
    positives = (targets * mask).sum(axis=0)
    order = np.argsort(-positives, kind="stable")
    figure, axes = new_figure(max(5.2, 0.26 * len(order)), 4.2)
    axes.bar(np.arange(len(order)), 100 * f1[order], color=TRUE_POSITIVE, width=0.75)
    axes.set_xticks(
        np.arange(len(order)), [label_names[int(k)] for k in order], rotation=90 if len(order) > 12 else 0
    )
    axes.axhline(100 * f1.mean(), color=FALSE_NEGATIVE, linewidth=1, linestyle="--")
    axes.annotate(f"mean {100 * f1.mean():.1f}", (len(order) - 0.5, 100 * f1.mean()), ha="right", va="bottom")
    axes.set(ylim=(0, 100), ylabel="F1 (%)", title=title, xlabel="classes, the most frequent first")
    axes.grid(alpha=0.3, axis="y")
    return figure


def plot_gallery(
    images: Sequence[np.ndarray],
    predictions: np.ndarray,
    targets: np.ndarray,
    mask: np.ndarray,
    label_names: Sequence[str],
    title: str,
    columns: int = 6,
) -> Figure:
    """Images with their labels: predicted and true in blue, predicted and false in red, missed in grey."""
    rows = -(-len(images) // columns)
    figure = Figure(figsize=(1.75 * columns, 2.3 * rows + 0.7), layout="constrained")
    figure.suptitle(title)
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes in grid.flat:
        axes.axis("off")
    for axes, image, predicted, true, known in zip(
        grid.flat, images, predictions, targets, mask, strict=False
    ):
        axes.imshow(
            image, cmap="gray", vmin=0, vmax=255, interpolation="nearest" if image.shape[0] < 64 else None
        )
        _write_labels(axes, predicted.astype(bool), true.astype(bool), known.astype(bool), label_names)
    figure.supxlabel("✓ found    ✗ predicted, not there    – missed", fontsize=10, color="#444444")
    return figure


def _write_labels(
    axes: Axes, predicted: np.ndarray, true: np.ndarray, known: np.ndarray, label_names: Sequence[str]
) -> None:
    kinds = (
        (predicted & true & known, "✓", TRUE_POSITIVE),
        (predicted & ~true & known, "✗", FALSE_POSITIVE),
        (~predicted & true & known, "–", FALSE_NEGATIVE),
    )
    words = [
        (f"{mark} {label_names[int(k)]}", colour)
        for chosen, mark, colour in kinds
        for k in np.flatnonzero(chosen)
    ]
    per_line = 3 if max((len(word) for word, _ in words), default=0) <= 5 else 1
    for position, (word, colour) in enumerate(words[:9]):
        line, column = divmod(position, per_line)
        axes.text(
            column / per_line,
            -0.04 - 0.13 * line,
            word,
            color=colour,
            fontsize=9,
            va="top",
            transform=axes.transAxes,
        )
