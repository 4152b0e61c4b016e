"""The decision explorer's data: runs as counts at every step of a slider, small enough to sit inside the page.

The page never sees a score matrix. For each step it has every label-set metric and the counts of `count_label_sets`
class by class; scores themselves are there for the few images that it shows, label sets for those on the map. Of very
many labels it has some; the metrics are of all.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lsep_ml.metrics import LABEL_SET_KEYS, LABELS_PER_IMAGE, LabelCounts, label_set_metrics, labels_per_image
from lsep_ml.metrics.counts import row_slices, true_entries
from lsep_ml.metrics.functional import average_precisions
from lsep_ml.metrics.operating_points import Ranked, Thresholded, slider_grid, thinned
from lsep_ml.reports.errors import (
    HEAT_MAP_BYTES,
    MOST_LABELS,
    Held,
    Json,
    Labels,
    bits,
    confusions,
    in_base64,
    label_ap,
    map_places,
    packed_heat_maps,
    places_of,
)
from lsep_ml.reports.figures.of_run import spread_rows
from lsep_ml.reports.figures.style import picture_uri
from lsep_ml.reports.group_files import GroupFiles
from lsep_ml.reports.label_figures import label_figures, packed_names
from lsep_ml.reports.paper import method_name
from lsep_ml.reports.records import LeftOut
from lsep_ml.runs.arrays import read_held
from lsep_ml.runs.feature_map import FeatureMap, read_feature_map
from lsep_ml.runs.files import TEST
from lsep_ml.runs.finished import Run
from lsep_ml.runs.record import RecordError

HIGHEST_K = 10
PICTURES = 60
"""The page shows at most so many test images of a data set."""

OFTEN, RARE, WORST = 400, 200, 400
"""Of more than MOST_LABELS labels the page has the most frequent ones, the rarest that an image has, and of the more
frequent half those of the lowest average precision."""

Cuts = dict[str, Thresholded | Ranked]

NOTE = (
    "Of {1:,} labels the page has {0:,}: the most frequent, the rarest, and of the more frequent half the worst. "
    "Metrics and numbers of images are of all labels, pictures and classes of these; every label is found by its name."
)


def choose_runs(files: GroupFiles, limit: int) -> list[Run]:
    """Choose at most `limit` usable runs with scores, the lowest seed of every row before a second seed of any."""
    by_round: dict[int, list[Run]] = {}
    for row in files.group.rows:
        for position, run in enumerate(run for run in row.runs if run in files.digests and run.has_scores):
            by_round.setdefault(position, []).append(run)
    return [run for position in sorted(by_round) for run in by_round[position]][:limit]


def explore(
    files: GroupFiles, runs: Iterable[Run], variants: Mapping[Run, str]
) -> tuple[Json, list[LeftOut]]:
    """Gather what the page needs to explore `runs` of one group, as plain data; returns which could not be read, too.

    Runs with the same scores (several decisions on them) share their counts. variants: a remark on a run's settings,
    where rows differ in them.
    """
    by_scores: dict[tuple[str, int], list[Run]] = {}
    for run in runs:
        by_scores.setdefault((run.scores, run.seed), []).append(run)
    shown = np.array(list(files.thumbnails), np.intp)
    shown = shown[spread_rows(len(shown), PICTURES)]
    group: Json = {"name": files.group.name, "models": [], "runs": [], "map": None}
    problems: list[LeftOut] = []
    for sharing in by_scores.values():
        problems += _add(group, files, sharing, variants, shown)
    return group, problems


def _add(
    group: Json,
    files: GroupFiles,
    sharing: list[Run],
    variants: Mapping[Run, str],
    shown: NDArray[np.intp],
) -> list[LeftOut]:
    """Add to `group` runs that share their scores; returns which could not be read. Nothing of their files stays in
    memory."""
    problems: list[LeftOut] = []
    try:
        test = read_held(sharing[0], TEST, "scores", "targets", "mask", "image_ids")
    except RecordError as error:
        return [LeftOut(run.folder, f"{error}; left out of the decision explorer") for run in sharing]
    if "images" not in group:
        labels = shown_labels(test)
        group |= _test_split(files, test, shown, labels)
    labels = np.array(group["places"])
    model, cuts = _model(test, sharing, shown, labels)
    found = _feature_map(sharing, test, problems)
    if found is not None and group["map"] is None:
        group["map"] = _mapped_images(test, found)
    if found is not None and group["map"]["rows"] != found.rows.tolist():
        found = None
    model["map"] = None if found is None else map_places(found)
    room = HEAT_MAP_BYTES - sum(len(other["heat"]["maps"]) for other in group["models"] if other["heat"])
    model["heat"] = packed_heat_maps(sharing, test, shown, labels, room, problems)
    for run in sharing:
        try:
            own = read_held(run, TEST, "predictions", "thresholds")
        except RecordError as error:
            problems.append(LeftOut(run.folder, f"{error}; left out of the decision explorer"))
            continue
        place = {"model": len(group["models"]), "variant": variants.get(run, "")}
        group["runs"].append(place | _run(run, own, test, cuts, shown, labels, found))
        own = {}  # not beside the next run's
    group["models"].append(model)
    return problems


def shown_labels(test: Held) -> Labels:
    """Choose the labels of the `test` split that the page has, ascending: all, or OFTEN, RARE and WORST of many."""
    number = test["targets"].shape[1]
    if number <= MOST_LABELS:
        return np.arange(number)
    actual = true_entries("targets", test["targets"], test["mask"] != 0).sum(0)
    often = np.argsort(-actual, kind="stable")[: np.count_nonzero(actual)]
    frequent = often[: (len(often) + 1) // 2]
    some = row_slices(len(frequent), len(test["scores"]))
    precision = [average_precisions(*_of_labels(test, frequent[of]).values()) for of in some]
    worst = frequent[np.argsort(np.concatenate(precision), kind="stable")]
    return np.unique(np.concatenate([often[:OFTEN], often[len(often) - RARE :], worst[:WORST]]))


def _of_labels(
    split: Held, labels: Labels, names: Iterable[str] = ("scores", "targets", "mask")
) -> dict[str, NDArray[Any]]:
    """Return `labels` of all images, (N, L), dense, of the arrays `names` of a split."""
    return {
        name: np.concatenate(
            [np.asarray(split[name][rows])[:, labels] for rows in row_slices(*split[name].shape)]
        )
        for name in names
    }


def _model(test: Held, sharing: list[Run], shown: NDArray[np.intp], labels: Labels) -> tuple[Json, Cuts]:
    """Count what all runs on the scores of `test` share, and where these stand at the sliders' steps."""
    scores, targets, mask = test["scores"], test["targets"], test["mask"]
    chosen = [run.choices.get("theta") for run in sharing]
    thetas = slider_grid(
        scores, targets, [float(theta) for theta in chosen if isinstance(theta, int | float)]
    )
    highest = min(HIGHEST_K, scores.shape[1])
    ranked = Ranked(scores, mask, highest)
    cuts: Cuts = {"theta": Thresholded(scores, mask, thetas), "k": ranked}
    model = {
        "scores": in_base64(scores[shown][:, labels], np.float32),
        "top": [places_of(labels, ranked.order[row]) for row in shown],
        "ap": label_ap(_of_labels(test, labels)),
        "theta": _steps(thetas, cuts["theta"].counts(targets), labels),
        "k": _steps(np.arange(1, highest + 1), cuts["k"].counts(targets), labels),
    }
    return model, cuts


def _feature_map(sharing: list[Run], test: Held, problems: list[LeftOut]) -> FeatureMap | None:
    """Read the map of the first run that left one, where there are not too many labels to show on it."""
    if test["targets"].shape[1] > MOST_LABELS:
        return None
    for run in sharing:
        try:
            found = read_feature_map(run, len(test["targets"]))
        except RecordError as error:
            problems.append(LeftOut(run.folder, f"{error}; left out of the map"))
        else:
            if found is not None:
                return found
    return None


def _mapped_images(test: Held, found: FeatureMap) -> Json:
    """Pack what is known of the images of a map, which all maps of a split share."""
    rows = found.rows
    return {
        "rows": rows.tolist(),
        "ids": [str(name) for name in test["image_ids"][rows]],
        "true": in_base64(bits(np.asarray(test["targets"][rows])), np.uint8),
        "known": in_base64(bits(np.asarray(test["mask"][rows])), np.uint8),
    }


def _run(
    run: Run,
    own: dict[str, Any],
    test: Held,
    cuts: Cuts,
    shown: NDArray[np.intp],
    labels: Labels,
    found: FeatureMap | None,
) -> Json:
    """Pack a run's own label sets and errors, and how many images keep them, or stay right, at each step of `cuts`;
    takes the thresholds out of `own`."""
    scores, targets, thresholds = test["scores"], test["targets"], own.pop("thresholds", None)
    right = _entirely_right(own["predictions"], targets, test["mask"])
    compared = _of_labels({**test, **own}, labels, ("predictions", "targets", "mask"))
    packed: Json = {
        "label": f"{method_name(*run.method)}, seed {run.seed}",
        "reported": {key: float(run.test[key]) for key in LABEL_SET_KEYS if key in run.test},
        "right": int(right.sum()),
        "predictions": in_base64(compared["predictions"][shown], np.uint8),
        "confusions": confusions(compared["predictions"], compared["targets"], compared["mask"]),
        "onMap": None
        if found is None
        else in_base64(bits(np.asarray(own["predictions"][found.rows])), np.uint8),
    }
    steps, of_all = {}, None if thresholds is None else thresholds[0]
    if thresholds is not None and np.ptp(thresholds, axis=0).any():
        shifts = slider_grid(thinned(scores) - thinned(thresholds), targets, [0.0])
        cuts = {**cuts, "shift": Thresholded(scores, test["mask"], shifts, thresholds)}
        packed["thresholds"] = in_base64(thresholds[shown][:, labels], np.float32)
        thresholds = of_all = None  # as many bytes as the scores
        steps["shift"] = _steps(shifts, cuts["shift"].counts(targets), labels)
    every = np.ones(len(targets), bool)
    for mode, cut in cuts.items():
        same, still_right = cut.exact(own["predictions"], every), cut.exact(targets, right)
        packed[mode] = steps.get(mode, {}) | {"same": same.tolist(), "stillRight": still_right.tolist()}
    packed["figures"] = label_figures(run, len(targets), of_all)
    return packed


def _entirely_right(predictions: Any, targets: Any, mask: Any) -> NDArray[np.bool_]:
    """Say of each image whether its label set is right on every known entry, and one is known, (N,)."""
    parts = []
    for rows in row_slices(*targets.shape):
        predicted, true, known = (np.asarray(of[rows]) != 0 for of in (predictions, targets, mask))
        parts.append(~((predicted != true) & known).any(1) & known.any(1))
    return np.concatenate(parts)


def _steps(values: NDArray[Any], counts: LabelCounts, labels: Labels) -> Json:
    """Pack a slider's `values`, the `counts` at each of the page's labels, flattened, and the metrics (T,)."""
    metrics = {**label_set_metrics(counts), LABELS_PER_IMAGE.key: labels_per_image(counts)}
    kind = np.uint16 if int(counts.images) < 2**16 else np.uint32
    return {
        "values": [float(value) for value in values],
        "bytes": np.dtype(kind).itemsize,
        "correct": in_base64(counts.correct[:, labels], kind),
        "predicted": in_base64(counts.predicted[:, labels], kind),
        "exact": counts.exact.tolist(),
        "metrics": {key: in_base64(found, np.float64) for key, found in metrics.items()},
    }


def _test_split(files: GroupFiles, test: Held, shown: NDArray[np.intp], labels: Labels) -> Json:
    images, number = int(test["mask"].any(1).sum()), test["mask"].shape[1]
    targets, mask = _of_labels(test, labels, ("targets", "mask")).values()
    known = mask != 0
    present = (targets != 0) & known
    return {
        "names": packed_names(files.label_names),
        "number": number,
        "places": labels.tolist(),
        "labels": [files.label_names[label] for label in labels],
        "note": "" if len(labels) == number else NOTE.format(len(labels), number),
        "images": images,
        "actual": present.sum(0).tolist(),
        "shown": [
            {
                "row": row,
                "id": str(test["image_ids"][row]),
                "picture": picture_uri(files.thumbnails[row]),
                "true": np.flatnonzero(present[row]).tolist(),
                "unknown": np.flatnonzero(~known[row]).tolist(),
            }
            for row in shown.tolist()
        ],
    }
