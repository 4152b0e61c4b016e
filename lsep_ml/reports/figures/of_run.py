"""What a run leaves to look at: its own figures, and which test images a report may show."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from lsep_ml.drawing import KINDS, Sheet, Tile, Word, label_words, lay_out, legend
from lsep_ml.metrics import BY_KEY
from lsep_ml.metrics.counts import true_entries
from lsep_ml.metrics.functional import (
    RECALLS,
    average_precisions,
    compare_label_sets,
    count_label_sets,
    label_set_metrics,
    mean_precision_recall,
    per_class_metrics,
)
from lsep_ml.reports.figures.style import new_figure, save_figure
from lsep_ml.runs.files import CLASS_F1, GALLERY, PRECISION_RECALL

Arrays = Mapping[str, Any]
SPREAD = 24
_LABELS, _ORDERED, _SUSPECT = 6, 6, 2
_CLASSES = 100
_BLUE, _RED, _GREY = (kind.light for kind in KINDS.values())


def draw_run(folder: Path, test: Arrays, thumbnails: Mapping[int, NDArray[np.uint8]], title: str) -> None:
    """Write a run's own figures: class_f1.png, gallery.png and, where it has scores, precision_recall.png.

    test: arrays by name, as predictions.npz holds them. thumbnails: test row -> small image, with those of
    `spread_rows` among them.
    """
    with matplotlib.rc_context({"text.parse_math": False}):  # a class may be called "$5"
        save_figure(plot_class_f1(test, title), folder / CLASS_F1)
        if "scores" in test:
            save_figure(plot_precision_recall(test, title), folder / PRECISION_RECALL)
    save_figure(lay_out_gallery(test, thumbnails, title), folder / GALLERY)


def plot_precision_recall(test: Arrays, title: str) -> Figure:
    """Plot the mean precision-recall curve of `test` over classes (the paper's Figure 3), and its label sets' point.

    The point is the per-class recall and precision of the label sets that the decision chose.
    """
    scores, targets, mask = test["scores"], test["targets"], test["mask"]
    figure, axes = new_figure(5.2, 4.2)
    precisions = average_precisions(scores, targets, mask)
    mean = (
        ""
        if np.isnan(precisions).all()
        else f", {BY_KEY['map'].short_name} {100 * np.nanmean(precisions):.1f}"
    )
    curve = 100 * mean_precision_recall(scores, targets, mask)
    axes.plot(100 * RECALLS, curve, color=_BLUE, linewidth=2, label=f"scores{mean}")
    chosen = label_set_metrics(count_label_sets(test["predictions"], targets, mask))
    recall, precision = (100 * float(chosen[key]) for key in ("pc_r", "pc_p"))
    label = f"label sets: recall {recall:.1f}, precision {precision:.1f}"
    axes.plot(recall, precision, "o", color=_RED, markersize=8, clip_on=False, label=label)
    axes.set(xlim=(0, 100), ylim=(0, 102), xlabel="recall (%)", ylabel="mean precision (%)", title=title)
    axes.grid(alpha=0.3)
    axes.legend(frameon=False, fontsize=9, loc="lower left")
    return figure


def plot_class_f1(test: Arrays, title: str) -> Figure:
    """Plot F1 of every class as bars, the most frequent on top, and their mean; of many classes the first 100."""
    counts = count_label_sets(test["predictions"], test["targets"], test["mask"])
    f1 = 100 * per_class_metrics(counts.correct, counts.predicted, counts.actual)["f1"]
    order = np.argsort(-counts.actual, kind="stable")[:_CLASSES]
    names = [str(name) for name in test["label_names"][order]]
    figure, axes = new_figure(6.4, 1.5 + 0.24 * len(order))
    axes.barh(np.arange(len(order)), f1[order], color=_BLUE, height=0.75)
    axes.set_yticks(np.arange(len(order)), names)
    axes.axvline(f1.mean(), color=_GREY, linewidth=1, linestyle="--")
    axes.annotate(
        f"mean {f1.mean():.1f}",
        (f1.mean(), 1),
        (0, 3),
        xycoords=("data", "axes fraction"),
        textcoords="offset points",
        ha="center",
    )
    some = f", the {len(order)} most frequent of {len(f1)}" if len(order) < len(f1) else ""
    axes.set(
        xlim=(0, 100),
        ylim=(len(order) - 0.4, -0.6),
        xlabel=f"{BY_KEY['f1'].short_name} (%) of each class{some}",
    )
    axes.set_title(title, pad=20)
    axes.grid(alpha=0.3, axis="x")
    axes.set_axisbelow(True)
    return figure


def lay_out_gallery(test: Arrays, thumbnails: Mapping[int, NDArray[np.uint8]], title: str) -> Sheet:
    """Lay out test images, evenly spaced, with labels found, wrong and missed; those with the most errors first."""
    rows = spread_rows(len(test["targets"]))
    sets = [np.asarray(test[name][rows]) for name in ("predictions", "targets", "mask")]
    compared = compare_label_sets(*sets)
    errors = (compared.wrong | compared.missed).sum(1)
    tiles = []
    for i in np.argsort(-errors, kind="stable").tolist():
        predicted, true, known = (array[i] for array in sets)
        words = label_words(predicted, true, known, test["label_names"].tolist())
        tiles.append(Tile(thumbnails[int(rows[i])], [words]))
    right = Word(f"{(errors == 0).sum()} of these {len(rows)} test images are entirely right")
    return lay_out({"": tiles}, 6, (200, 160), [right, *legend()], title)


def rows_to_show(
    scores: NDArray[np.float32] | None,
    targets: Any,
    mask: Any,
    thresholds: Any = None,
) -> NDArray[np.intp]:
    """Choose test rows, ascending, at most 84: evenly spaced ones, the same in every run on a split, and more by label.

    For each of the six most frequent labels: the lowest scored positives and the highest scored negatives (likely
    mislabelled), and positives evenly spaced by their estimated threshold (Figure 4) where `thresholds` differ
    between images. All arrays (N, K); targets and mask 0/1; without scores there are only the evenly spaced ones.
    """
    rows = [spread_rows(len(targets))]
    if scores is None:
        return rows[0]
    known = mask != 0
    positive = true_entries("targets", targets, known)
    for k in np.argsort(-positive.sum(0), kind="stable")[:_LABELS]:
        present, absent = np.flatnonzero(positive[:, k]), np.flatnonzero(known[:, k] & ~positive[:, k])
        rows.append(present[np.argsort(scores[present, k], kind="stable")[:_SUSPECT]])
        rows.append(absent[np.argsort(-scores[absent, k], kind="stable")[:_SUSPECT]])
        if thresholds is not None and np.ptp(thresholds[:, k]) > 0:
            ordered = present[np.argsort(thresholds[present, k], kind="stable")]
            rows.append(ordered[spread_rows(len(ordered), _ORDERED)])
    return np.unique(np.concatenate(rows))


def spread_rows(images: int, number: int = SPREAD) -> NDArray[np.intp]:
    """Choose at most `number` evenly spaced rows of `images`, ascending, the first and the last among them."""
    if images == 0:
        return np.empty(0, np.intp)
    return np.unique(np.linspace(0, images - 1, number).round().astype(np.intp))
