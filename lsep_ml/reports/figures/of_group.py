"""The figures of a bench, as far as its runs allow them."""

import matplotlib

from lsep_ml.reports.figures.captioned import Drawing
from lsep_ml.reports.figures.methods import (
    plot_calibration,
    plot_frequent_classes,
    plot_label_counts,
    plot_mean_precision_recall,
    plot_searches,
    plot_training,
)
from lsep_ml.reports.figures.of_images import draw_label_sets, draw_suspects, draw_threshold_order
from lsep_ml.reports.group_files import BenchFiles


def draw(files: BenchFiles) -> list[Drawing]:
    """Figures 2 to 5 and what else helps to read the tables; a figure without runs is left out."""
    makers = (
        _frequent_classes,
        _precision_recall,
        draw_threshold_order,
        draw_label_sets,
        _training,
        _searches,
        _label_counts,
        _calibration,
        draw_suspects,
    )
    if not files.digests:
        return []
    with matplotlib.rc_context({"text.parse_math": False}):  # a class may be called "$5"
        return [drawing for make in makers if (drawing := make(files)) is not None]


def _frequent_classes(files: BenchFiles) -> Drawing | None:
    methods = files.methods()
    if not methods:
        return None
    figure = plot_frequent_classes(
        {method: files.class_f1(method) for method in methods}, files.frequency(), files.label_names
    )
    caption = (
        "F1 of the most frequent classes of the test split: LSEP with threshold estimation, the other losses with "
        "thresholding, as in the paper. Bars: mean over seeds; whiskers: standard deviation."
    )
    return Drawing("figure2_class_f1", "Figure 2. F1 of the most frequent classes", caption, figure)


def _precision_recall(files: BenchFiles) -> Drawing | None:
    if not files.views:
        return None
    figure = plot_mean_precision_recall({loss: view.curves for loss, view in files.views.items()})
    caption = (
        "Interpolated precision at each recall, averaged over the classes, before any label decision. Bands: from the "
        "lowest to the highest seed."
    )
    return Drawing("figure3_precision_recall", "Figure 3. Average precision-recall curves", caption, figure)


def _training(files: BenchFiles) -> Drawing | None:
    runs = files.network_runs()
    decisions = {decision: row.runs for (loss, decision), row in files.bench.chosen.items() if loss == "lsep"}
    panels = []
    for named, stage, column in (
        (runs, "prediction", "train_loss"),
        (runs, "prediction", "val_map"),
        (decisions, "decision", "train_loss"),
    ):
        curves = {name: files.training_curve(own, stage, column) for name, own in named.items()}
        panels.append({name: curve for name, curve in curves.items() if curve is not None})
    if not any(panels):
        return None
    caption = "Each stage's training, epoch by epoch. Lines: mean over seeds; bands: from the lowest to the highest."
    return Drawing("training", "Training curves", caption, plot_training(*panels))


def _searches(files: BenchFiles) -> Drawing | None:
    thetas = {loss: view.theta for loss, view in files.views.items() if view.theta is not None}
    ks = {loss: view.k for loss, view in files.views.items() if view.k is not None}
    if not thetas or not ks:
        return None
    caption = (
        "F1 on validation at every candidate of the paper's searches (50 thresholds, k = 1 to 10), lowest seed; the "
        "marker is what the run chose. Thin: the same on test, which chooses nothing."
    )
    return Drawing("threshold_search", "Search for θ and k", caption, plot_searches(thetas, ks))


def _label_counts(files: BenchFiles) -> Drawing | None:
    decisions = [method for method in files.bench.chosen if method[0] == "lsep"] or files.methods()
    histograms = {method: files.sizes(method) for method in decisions if files.usable(method)}
    if not histograms:
        return None
    caption = (
        "Of the images with as many true labels as the column says, the share for which as many are predicted as the "
        "row says; dotted: as many as there are."
    )
    return Drawing("labels_per_image", "Labels per image", caption, plot_label_counts(histograms))


def _calibration(files: BenchFiles) -> Drawing | None:
    platt = {loss: view.platt for loss, view in files.views.items() if view.platt is not None}
    own = {loss: view.own for loss, view in files.views.items() if view.own is not None}
    if not platt:
        return None
    caption = (
        "How often labels of a given probability are there, on test, lowest seed; on the dotted line a probability can "
        "be believed. In brackets: expected calibration error in points, 15 bins."
    )
    return Drawing("calibration", "Calibration", caption, plot_calibration(platt, own))
