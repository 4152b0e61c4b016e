"""The figures made of test images: Figures 4 and 5, and the labels that the scores contradict."""

import numpy as np

from lsep_ml.reports.figures.captioned import Drawing
from lsep_ml.reports.figures.image_grids import Judged, Tile, plot_label_sets, plot_rows_of_images
from lsep_ml.reports.group_files import BenchFiles
from lsep_ml.reports.names import loss_name, method_name
from lsep_ml.reports.paper import OURS
from lsep_ml.reports.selection import spread_rows

_LABELS, _TILES, _IMAGES = 6, 8, 6


def draw_threshold_order(files: BenchFiles) -> Drawing | None:
    """Figure 4."""
    runs = files.usable(OURS)
    test = files.test_arrays(runs[0], "targets", "mask", "thresholds") if runs and files.thumbnails else None
    if test is None or "thresholds" not in test:
        return None
    rows: dict[str, list[Tile]] = {}
    for k in np.argsort(-files.frequency(), kind="stable").tolist():
        shown = np.array(
            [row for row in files.thumbnails if test["targets"][row, k] and test["mask"][row, k]], int
        )
        if len(shown) >= 3 and len(rows) < _LABELS:
            ordered = shown[np.argsort(test["thresholds"][shown, k], kind="stable")]
            rows[files.label_names[k]] = [
                Tile(files.thumbnails[row], f"θ = {test['thresholds'][row, k]:.2f}")
                for row in ordered[spread_rows(len(ordered), _TILES)].tolist()
            ]
    if not rows:
        return None
    caption = (
        "Test images that show the class, from the lowest to the highest threshold θ(x) estimated for it (seed "
        f"{runs[0].seed}). The paper reads a high threshold as a hard image."
    )
    figure = plot_rows_of_images(rows, "lower threshold  →  higher threshold")
    return Drawing("figure4_thresholds", "Figure 4. Images by estimated threshold", caption, figure, True)


def draw_label_sets(files: BenchFiles) -> Drawing | None:
    """Figure 5: half of the images are ones that the last method (ours) gets right and others do not."""
    rows = list(files.thumbnails)
    arrays = {}
    for method in files.methods() if rows else []:
        test = files.test_arrays(files.usable(method)[0], "predictions", "targets", "mask")
        if test is not None:
            arrays[method] = {
                name: test[name][rows].astype(bool) for name in ("predictions", "targets", "mask")
            }
    if not arrays:
        return None
    right = [~((a["predictions"] ^ a["targets"]) & a["mask"]).any(1) for a in arrays.values()]
    (last, ours), true = list(arrays.items())[-1], next(iter(arrays.values()))["targets"].sum(1)
    failing = np.sum([~flags for flags in right], axis=0)
    # Images of several labels that few methods get right say the most.
    order = np.lexsort((np.arange(len(rows)), -true, -failing))
    successes, failures = ([i for i in order if right[-1][i] == wanted] for wanted in (True, False))
    shown = min(len(successes), max(_IMAGES // 2, _IMAGES - len(failures)))
    chosen = successes[:shown] + failures[: _IMAGES - shown]
    judged = [
        Judged(
            files.thumbnails[rows[i]],
            {method_name(*method): own["predictions"][i] for method, own in arrays.items()},
            ours["targets"][i],
            ours["mask"][i],
        )
        for i in chosen
    ]
    caption = (
        f"The same test images under every method (seed {files.usable(last)[0].seed}): first images whose whole "
        f"label set {method_name(*last)} gets right, then images where it does not."
    )
    figure = plot_label_sets(judged, files.label_names)
    return Drawing("figure5_label_sets", "Figure 5. Label sets under every method", caption, figure, True)


def draw_suspects(files: BenchFiles) -> Drawing | None:
    """Per class the pictures whose annotation the scores contradict most."""
    loss = suspecting_loss(files)
    if loss is None or not files.thumbnails:
        return None
    rows: dict[str, list[Tile]] = {}
    for suspect in files.views[loss].suspects:
        if suspect.row in files.thumbnails:
            said = "labelled" if suspect.present else "not labelled"
            tile = Tile(files.thumbnails[suspect.row], f"{said}, {100 * suspect.belief:.0f}%")
            rows.setdefault(files.label_names[suspect.label], []).append(tile)
    frequent = [files.label_names[k] for k in np.argsort(-files.frequency(), kind="stable").tolist()]
    shown = {name: rows[name][:_TILES] for name in frequent if name in rows}
    if not shown:
        return None
    caption = (
        "Test images whose annotation is the least believed: the calibrated probability (Platt, fitted on validation) "
        f"of what the annotation says, by {loss_name(loss)}'s scores. Only images with a thumbnail; the whole list is "
        "in tables/suspects_*.csv."
    )
    names = list(shown)[:_LABELS]
    figure = plot_rows_of_images({name: shown[name] for name in names}, "less believed  →  more believed")
    return Drawing("suspects", "Labels to look at", caption, figure, True)


def suspecting_loss(files: BenchFiles) -> str | None:
    """Whose scores question the annotations: LSEP's, or the first loss's that has any."""
    losses = ["lsep", *files.views]
    return next((loss for loss in losses if loss in files.views and files.views[loss].suspects), None)
