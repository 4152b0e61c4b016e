"""Figures that set methods side by side: the paper's Figures 2 and 3, training, searches, label counts, calibration."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from lsep_ml.metrics import BY_KEY
from lsep_ml.metrics.functional import RECALLS
from lsep_ml.reports.figures.style import FAINT, WIDTH, Look, decision_looks, loss_looks, new_figure
from lsep_ml.reports.paper import decision_name, loss_name, method_name
from lsep_ml.runs.finished import Method

Floats = NDArray[np.float64]
CLASSES, PANELS = 10, 4
INK = "#333333"
F1, MAP = BY_KEY["f1"].short_name, BY_KEY["map"].short_name


def plot_frequent_classes(
    class_f1: Mapping[Method, Floats], frequency: NDArray[np.int64], label_names: Sequence[str]
) -> Figure:
    """Plot Figure 2: per-class F1 of the ten most frequent classes, one bar a method; whiskers: std over seeds.

    class_f1: (loss, decision) -> (seeds, K) fractions. frequency (K,): test images that show the class.
    """
    order = np.argsort(-frequency, kind="stable")[:CLASSES]
    figure, axes = new_figure(WIDTH, 3.8)
    looks = loss_looks(loss for loss, _ in class_f1)
    width = 0.84 / len(class_f1)
    for position, ((loss, decision), values) in enumerate(class_f1.items()):
        chosen = 100 * values[:, order]
        axes.bar(
            np.arange(len(order)) + (position - (len(class_f1) - 1) / 2) * width,
            chosen.mean(0),
            width,
            yerr=chosen.std(0, ddof=1) if len(chosen) > 1 else None,
            error_kw={"elinewidth": 0.8, "ecolor": INK},
            color=looks[loss].colour,
            hatch=looks[loss].hatch,
            edgecolor="white",
            linewidth=0.4,
            label=method_name(loss, decision),
        )
    long_names = max(len(label_names[int(k)]) for k in order) > 9
    axes.set_xticks(
        np.arange(len(order)),
        [label_names[int(k)] for k in order],
        rotation=30 if long_names else 0,
        ha="right" if long_names else "center",
    )
    axes.set(ylim=(0, 100), ylabel=f"{F1} (%)", xlabel="classes, the most frequent first")
    axes.grid(alpha=0.3, axis="y")
    axes.set_axisbelow(True)
    columns = len(class_f1) if len(class_f1) < 6 else -(-len(class_f1) // 2)
    figure.legend(loc="outside upper center", ncols=columns, frameon=False, fontsize=9)
    return figure


def plot_mean_precision_recall(curves: Mapping[str, Floats]) -> Figure:
    """Plot Figure 3: the mean precision-recall curve of each loss's scores; bands: lowest to highest seed.

    curves: loss -> (seeds, 101) mean precision at RECALLS.
    """
    figure, axes = new_figure(WIDTH, 4.4)
    for loss, look in loss_looks(curves).items():
        _line(axes, 100 * RECALLS, 100 * curves[loss], look, loss_name(loss))
    axes.set(xlim=(0, 100), ylim=(0, 102), xlabel="recall (%)", ylabel="mean precision (%)")
    axes.grid(alpha=0.3)
    axes.legend(frameon=False, fontsize=9, handlelength=3.2)
    return figure


def plot_training(
    train_loss: Mapping[str, Floats], val_map: Mapping[str, Floats], decision_loss: Mapping[str, Floats]
) -> Figure:
    """Plot training curves: loss and validation mAP of each loss, and the loss of each learnt decision on LSEP scores.

    Each maps a name to (seeds, epochs). The losses have scales of their own, so each is drawn relative to its first
    epoch.
    """
    figure = Figure(figsize=(WIDTH, 3.4), layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    for axes, curves, looks in (
        (left, train_loss, loss_looks(train_loss)),
        (middle, {loss: 100 * values for loss, values in val_map.items()}, loss_looks(val_map)),
        (right, decision_loss, decision_looks(decision_loss)),
    ):
        for name, values in curves.items():
            relative = axes is not middle
            values = values / values[:, :1] if relative else values
            label = decision_name(name) if axes is right else loss_name(name)
            _line(axes, np.arange(1, values.shape[1] + 1), values, looks[name], label)
        axes.spines[["top", "right"]].set_visible(False)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
        axes.set_xlabel("epoch")
        if curves:
            axes.legend(frameon=False, fontsize=8, handlelength=3)
        else:
            axes.text(0.5, 0.5, "no run", ha="center", color=FAINT, transform=axes.transAxes)
    left.set(title="label prediction", ylabel="training loss / that of epoch 1")
    middle.set(title="label prediction", ylabel=f"validation {MAP} (%)")
    right.set(title="label decision on LSEP", ylabel="training loss / that of epoch 1")
    for axes in (left, right):
        axes.set_ylim(bottom=0)
    return figure


class Search(NamedTuple):
    """Holds F1 (fractions) on validation and test at each of `candidates`, and the one that a run chose, if any."""

    candidates: Floats
    val: Floats
    test: Floats
    chosen: float | None


def plot_searches(thetas: Mapping[str, Search], ks: Mapping[str, Search]) -> Figure:
    """Plot the searches for theta, each loss on the scale of its own scores, and for k: F1 at every candidate.

    A marker shows what was chosen; thin is the test split. The last panel is k, for all losses.
    """
    columns = min(PANELS, len(thetas) + 1)
    rows = -(-(len(thetas) + 1) // columns)
    figure = Figure(figsize=(WIDTH, 2.5 * rows + 0.4), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False, sharey=True)
    looks = loss_looks([*thetas, *ks])
    *panels, last = grid.flat[: len(thetas) + 1]
    for axes, (loss, search) in zip(panels, thetas.items(), strict=True):
        _search(axes, search, looks[loss], loss_name(loss))
        axes.set_title(loss_name(loss), fontsize=9)
        axes.set_xlabel("θ", fontsize=9)
    for loss, search in ks.items():
        _search(last, search, looks[loss], loss_name(loss))
    last.set_title("top-k", fontsize=9)
    last.set_xlabel("k", fontsize=9)
    last.xaxis.set_major_locator(MaxNLocator(integer=True))
    last.legend(frameon=False, fontsize=7, handlelength=3.2)
    for axes in grid.flat[len(thetas) + 1 :]:
        axes.axis("off")
    figure.supylabel(f"{F1} (%)", fontsize=9)
    return figure


def _search(axes: Axes, search: Search, look: Look, label: str) -> None:
    x, val = search.candidates, 100 * search.val
    axes.plot(x, val, color=look.colour, ls=look.dash, lw=look.width, label=label)
    axes.plot(x, 100 * search.test, color=look.colour, lw=0.8, alpha=0.6)
    if search.chosen is not None:
        at = int(np.abs(x - search.chosen).argmin())
        axes.plot(x[at], val[at], look.marker, color=look.colour, ms=7, mec="white", clip_on=False)
    axes.set_ylim(bottom=0)
    axes.tick_params(labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.3)


def plot_label_counts(histograms: Mapping[Method, NDArray[np.int64]]) -> Figure:
    """Plot labels per image, predicted against true: of the images with i true labels, the share with j predicted.

    histograms: (loss, decision) -> (S, S) numbers of images, row i true, column j predicted; the last bin is open.
    """
    columns, rows = PANELS, -(-len(histograms) // PANELS)
    figure = Figure(figsize=(WIDTH, 2.6 * rows + 0.3), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
    image = None
    for axes in grid.flat[len(histograms) :]:
        axes.axis("off")
    for axes in grid.flat[max(0, len(histograms) - columns) : len(histograms)]:
        axes.tick_params(labelbottom=True)  # the last of its column
    for axes, ((loss, decision), counts) in zip(grid.flat, histograms.items(), strict=False):
        share = counts / np.maximum(counts.sum(1, keepdims=True), 1)
        image = axes.imshow(100 * share.T, origin="lower", cmap="Blues", vmin=0, vmax=100)
        axes.plot([-0.5, len(counts) - 0.5], [-0.5, len(counts) - 0.5], color=FAINT, lw=0.8, ls=":")
        axes.set_title(method_name(loss, decision), fontsize=9)
        ticks = np.arange(len(counts))
        names = [*map(str, ticks[:-1]), f"{ticks[-1]}+"]
        axes.set_xticks(ticks, names, fontsize=8)
        axes.set_yticks(ticks, names, fontsize=8)
    figure.supxlabel("true labels of an image", fontsize=9)
    figure.supylabel("predicted labels", fontsize=9)
    if image is not None:
        figure.colorbar(image, ax=grid, label="% of the images of a column", shrink=0.9, pad=0.02)
    return figure


class Reliability(NamedTuple):
    """Holds mean `probability`, observed `frequency` and `entries` of each bin, and the calibration `error`."""

    probability: Floats
    frequency: Floats
    entries: NDArray[np.int64]
    error: float


def plot_calibration(reliabilities: Mapping[str, Reliability], own: Mapping[str, Reliability]) -> Figure:
    """Plot the reliability of each loss on the test split.

    Left, `own`: sigmoid(f - theta(x)) of threshold estimation as it stands; right, `reliabilities`: Platt's scaling of
    each label's score, fitted on validation.
    """
    figure = Figure(figsize=(WIDTH, 4.4), layout="constrained")
    titles = ("sigmoid(f − θ(x)), threshold estimation", "scores after Platt scaling on validation")
    for axes, curves, title in zip(figure.subplots(1, 2), (own, reliabilities), titles, strict=True):
        axes.plot([0, 100], [0, 100], color=FAINT, lw=0.8, ls=":")
        for loss, look in loss_looks(curves).items():
            curve = curves[loss]
            filled = curve.entries > 0
            axes.plot(
                100 * curve.probability[filled],
                100 * curve.frequency[filled],
                color=look.colour,
                ls=look.dash,
                lw=look.width,
                marker=look.marker,
                ms=4,
                label=f"{loss_name(loss)} (error {100 * curve.error:.1f})",
            )
        axes.set(
            xlim=(0, 100), ylim=(0, 100), xlabel="probability (%)", ylabel="labels present (%)", title=title
        )
        axes.title.set_fontsize(10)
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.3)
        if curves:
            axes.legend(frameon=False, fontsize=8, handlelength=3.2)
    return figure


def _line(axes: Axes, x: Floats, values: Floats, look: Look, label: str) -> None:
    """Draw the mean of `values` over the first axis, and a band from the lowest to the highest."""
    axes.plot(x, values.mean(0), color=look.colour, ls=look.dash, lw=look.width, label=label)
    if len(values) > 1:
        axes.fill_between(x, values.min(0), values.max(0), color=look.colour, alpha=0.15, lw=0)
