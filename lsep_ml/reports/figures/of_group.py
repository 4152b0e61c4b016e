"""The figures of a group of runs, as far as its runs allow them: which runs, which images, and what is said of them."""

import matplotlib
import numpy as np

from lsep_ml.drawing import Tile, Word, label_words, lay_out, legend
from lsep_ml.reports.figures.method_plots import (
    plot_calibration,
    plot_frequent_classes,
    plot_label_counts,
    plot_mean_precision_recall,
    plot_searches,
    plot_training,
)
from lsep_ml.reports.figures.of_run import spread_rows
from lsep_ml.reports.figures.style import Drawing
from lsep_ml.reports.group_files import GroupFiles
from lsep_ml.reports.paper import OURS, loss_name, method_name

_LABELS, _TILES, _IMAGES = 6, 8, 6
_SMALL, _LARGE = (120, 120), (340, 215)  # pictures, in pixels


def draw_group(files: GroupFiles) -> list[Drawing]:
    """Draw Figures 2 to 5 of a group and what else helps to read its tables; a figure without runs is left out."""
    makers = (
        _frequent_classes,
        _precision_recall,
        _threshold_order,
        _label_sets,
        _training,
        _searches,
        _label_counts,
        _calibration,
        _suspects,
    )
    if not files.digests:
        return []
    with matplotlib.rc_context({"text.parse_math": False}):  # a class may be called "$5"
        return [drawing for make in makers if (drawing := make(files)) is not None]


def _frequent_classes(files: GroupFiles) -> Drawing | None:
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


def _precision_recall(files: GroupFiles) -> Drawing | None:
    if not files.views:
        return None
    figure = plot_mean_precision_recall({loss: view.curves for loss, view in files.views.items()})
    caption = (
        "Interpolated precision at each recall, averaged over the classes, before any label decision. Bands: from the "
        "lowest to the highest seed."
    )
    return Drawing("figure3_precision_recall", "Figure 3. Average precision-recall curves", caption, figure)


def _training(files: GroupFiles) -> Drawing | None:
    runs = files.network_runs()
    decisions = {decision: row.runs for (loss, decision), row in files.group.chosen.items() if loss == "lsep"}
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


def _searches(files: GroupFiles) -> Drawing | None:
    thetas = {loss: view.theta for loss, view in files.views.items() if view.theta is not None}
    ks = {loss: view.k for loss, view in files.views.items() if view.k is not None}
    if not thetas or not ks:
        return None
    caption = (
        "F1 on validation at every candidate of the paper's searches (50 thresholds, k = 1 to 10), lowest seed; the "
        "marker is what the run chose. Thin: the same on test, which chooses nothing."
    )
    return Drawing("threshold_search", "Search for θ and k", caption, plot_searches(thetas, ks))


def _label_counts(files: GroupFiles) -> Drawing | None:
    decisions = [method for method in files.group.chosen if method[0] == "lsep"] or files.methods()
    histograms = {method: files.sizes(method) for method in decisions if files.usable(method)}
    if not histograms:
        return None
    caption = (
        "Of the images with as many true labels as the column says, the share for which as many are predicted as the "
        "row says; dotted: as many as there are."
    )
    return Drawing("labels_per_image", "Labels per image", caption, plot_label_counts(histograms))


def _calibration(files: GroupFiles) -> Drawing | None:
    platt = {loss: view.platt for loss, view in files.views.items() if view.platt is not None}
    own = {loss: view.own for loss, view in files.views.items() if view.own is not None}
    if not platt:
        return None
    caption = (
        "How often labels of a given probability are there, on test, lowest seed; on the dotted line a probability can "
        "be believed. In brackets: expected calibration error in points, 15 bins."
    )
    return Drawing("calibration", "Calibration", caption, plot_calibration(platt, own))


def _threshold_order(files: GroupFiles) -> Drawing | None:
    """Draw Figure 4: images of a class by their estimated threshold."""
    runs = files.usable(OURS)
    test = files.pictured(runs[0], "targets", "mask", "thresholds") if runs and files.thumbnails else None
    if test is None or "thresholds" not in test:
        return None
    rows: dict[str, list[Tile]] = {}
    pictures = list(files.thumbnails.values())
    there = (test["targets"] != 0) & (test["mask"] != 0)
    shown = there.sum(0) >= 3
    frequent = [k for k in np.argsort(-files.frequency(), kind="stable").tolist() if shown[k]]
    for k in frequent[:_LABELS]:
        own = test["thresholds"][:, k]
        places = np.flatnonzero(there[:, k])
        ordered = places[np.argsort(own[places], kind="stable")]
        rows[files.label_names[k]] = [
            Tile(pictures[place], [[Word(f"θ = {own[place]:.2f}")]])
            for place in ordered[spread_rows(len(ordered), _TILES)].tolist()
        ]
    if not rows:
        return None
    caption = (
        "Test images that show the class, from the lowest to the highest threshold θ(x) estimated for it (seed "
        f"{runs[0].seed}). The paper reads a high threshold as a hard image."
    )
    figure = lay_out(rows, _TILES, _SMALL, [Word("lower threshold  →  higher threshold")])
    return Drawing("figure4_thresholds", "Figure 4. Images by estimated threshold", caption, figure)


def _label_sets(files: GroupFiles) -> Drawing | None:
    """Draw Figure 5; half of the images are ones that the last method (ours) gets right and others do not."""
    rows = list(files.thumbnails)
    arrays = {}
    for method in files.methods() if rows else []:
        test = files.pictured(files.usable(method)[0], "predictions", "targets", "mask")
        if test is not None:
            arrays[method] = {name: array != 0 for name, array in test.items()}
    if not arrays:
        return None
    right = [~((a["predictions"] ^ a["targets"]) & a["mask"]).any(1) for a in arrays.values()]
    last, true = list(arrays)[-1], next(iter(arrays.values()))["targets"].sum(1)
    failing = np.sum([~flags for flags in right], axis=0)
    # Images of several labels that few methods get right say the most.
    order = np.lexsort((np.arange(len(rows)), -true, -failing))
    successes, failures = ([i for i in order if right[-1][i] == wanted] for wanted in (True, False))
    shown = min(len(successes), max(_IMAGES // 2, _IMAGES - len(failures)))
    chosen = successes[:shown] + failures[: _IMAGES - shown]
    tiles = []
    for i in chosen:
        sets = {
            method: label_words(own["predictions"][i], own["targets"][i], own["mask"][i], files.label_names)
            for method, own in arrays.items()
        }
        lines = [[Word(f"{method_name(*method)}:"), *words] for method, words in sets.items()]
        tiles.append(Tile(files.thumbnails[rows[i]], lines))
    caption = (
        f"The same test images under every method (seed {files.usable(last)[0].seed}): first images whose whole "
        f"label set {method_name(*last)} gets right, then images where it does not."
    )
    figure = lay_out({"": tiles}, 3, _LARGE, legend())
    return Drawing("figure5_label_sets", "Figure 5. Label sets under every method", caption, figure)


def _suspects(files: GroupFiles) -> Drawing | None:
    """Draw per class the pictures whose annotation the scores contradict most."""
    loss = suspecting_loss(files)
    if loss is None or not files.thumbnails:
        return None
    rows: dict[str, list[Tile]] = {}
    for suspect in files.views[loss].suspects:
        if suspect.row in files.thumbnails:
            said = "labelled" if suspect.present else "not labelled"
            words = [Word(said), Word(f"{100 * suspect.belief:.0f}%")]
            rows.setdefault(files.label_names[suspect.label], []).append(
                Tile(files.thumbnails[suspect.row], [words])
            )
    frequent = [files.label_names[k] for k in np.argsort(-files.frequency(), kind="stable").tolist()]
    shown = {name: rows[name][:_TILES] for name in frequent if name in rows}
    if not shown:
        return None
    caption = (
        "Test images whose annotation is the least believed: the calibrated probability (Platt, fitted on validation) "
        f"of what the annotation says, by {loss_name(loss)}'s scores. Only images with a thumbnail; the whole list is "
        "in tables/suspects_*.csv."
    )
    some = {name: shown[name] for name in list(shown)[:_LABELS]}
    figure = lay_out(some, _TILES, _SMALL, [Word("less believed  →  more believed")])
    return Drawing("suspects", "Labels to look at", caption, figure)


def suspecting_loss(files: GroupFiles) -> str | None:
    """Name the loss whose scores question the annotations: LSEP, or the first with suspects."""
    losses = ["lsep", *files.views]
    return next((loss for loss in losses if loss in files.views and files.views[loss].suspects), None)
