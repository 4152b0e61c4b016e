"""The decision explorer's data: runs as counts at every step of a slider, small enough to sit inside the page.

The page never sees a score matrix. For each step it has every label-set metric and the counts of `count_label_sets`
class by class; scores themselves are there for the few images that it shows, label sets for those on the map.
"""

import base64
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lsep_ml.metrics import LABEL_SET_KEYS, LABELS_PER_IMAGE, LabelCounts, label_set_metrics, labels_per_image
from lsep_ml.metrics.operating_points import Ranked, Thresholded, slider_grid
from lsep_ml.reports.errors import MOST_LABELS, bits, confusions, label_ap, map_places
from lsep_ml.reports.figures.of_run import spread_rows
from lsep_ml.reports.figures.style import picture_uri
from lsep_ml.reports.group_files import GroupFiles
from lsep_ml.reports.paper import method_name
from lsep_ml.reports.records import LeftOut
from lsep_ml.runs.arrays import Arrays, read_arrays
from lsep_ml.runs.feature_map import FeatureMap, read_feature_map
from lsep_ml.runs.files import TEST
from lsep_ml.runs.finished import Run
from lsep_ml.runs.heat_maps import HeatMaps, read_heat_maps
from lsep_ml.runs.record import RecordError

HIGHEST_K = 10
PICTURES = 60
"""The page shows at most so many test images of a data set."""

HEAT_MAP_BYTES = 2**19
"""The page has at most about so many bytes of heat maps of a data set, those of its first networks."""

Json = dict[str, Any]
Cuts = dict[str, Thresholded | Ranked]


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
    room = HEAT_MAP_BYTES
    for sharing in by_scores.values():
        try:
            test = read_arrays(sharing[0], TEST, "scores", "targets", "mask", "image_ids")
        except RecordError as error:
            problems += [
                LeftOut(run.folder, f"{error}; left out of the decision explorer") for run in sharing
            ]
            continue
        model, cuts = _model(test, sharing, shown)
        found = _feature_map(sharing, test, problems)
        if found is not None and group["map"] is None:
            group["map"] = _mapped_images(test, found)
        if found is not None and group["map"]["rows"] != found.rows.tolist():
            found = None
        model["map"] = None if found is None else map_places(found)
        model["heat"] = heat = _heat_maps(sharing, test, shown, room, problems)
        room -= 0 if heat is None else len(heat["maps"])
        if "images" not in group:
            group |= _test_split(files, test, shown)
        for run in sharing:
            try:
                own = read_arrays(run, TEST, "predictions", "thresholds")
            except RecordError as error:
                problems.append(LeftOut(run.folder, f"{error}; left out of the decision explorer"))
                continue
            place = {"model": len(group["models"]), "variant": variants.get(run, "")}
            group["runs"].append(place | _run(run, own, test, cuts, shown, found))
        group["models"].append(model)
    return group, problems


def _model(test: Arrays, sharing: list[Run], shown: NDArray[np.intp]) -> tuple[Json, Cuts]:
    """Count what all runs on the scores of `test` share, and where these stand at the sliders' steps."""
    scores, targets, mask = test["scores"], test["targets"], test["mask"]
    chosen = [run.choices.get("theta") for run in sharing]
    thetas = slider_grid(
        scores, targets, [float(theta) for theta in chosen if isinstance(theta, int | float)]
    )
    highest = min(HIGHEST_K, scores.shape[1])
    cuts: Cuts = {"theta": Thresholded(scores, mask, thetas), "k": Ranked(scores, mask, highest)}
    model = {
        "scores": _pack(scores[shown], np.float32),
        "ap": label_ap(test),
        "theta": _steps(thetas, cuts["theta"].counts(targets)),
        "k": _steps(np.arange(1, highest + 1), cuts["k"].counts(targets)),
    }
    return model, cuts


def _feature_map(sharing: list[Run], test: Arrays, problems: list[LeftOut]) -> FeatureMap | None:
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


def _heat_maps(
    sharing: list[Run], test: Arrays, shown: NDArray[np.intp], room: int, problems: list[LeftOut]
) -> Json | None:
    """Pack the heat maps of the pictures that all `sharing` runs left, one of each label in a picture; None where there
    are none or they take more than `room` bytes.
    """
    found: list[HeatMaps] = []
    for run in sharing:
        try:
            own = read_heat_maps(run, len(test["targets"]))
        except RecordError as error:
            problems.append(LeftOut(run.folder, f"{error}; its heat maps are left out"))
            continue
        if own is not None and (not found or own.maps.shape[1:] == found[0].maps.shape[1:]):
            found.append(own)
    if not found:
        return None
    every = HeatMaps(*(np.concatenate(arrays) for arrays in zip(*found, strict=True)))
    pictures = {int(row): place for place, row in enumerate(shown)}
    labels = test["targets"].shape[1]
    places = np.array([pictures.get(int(row), -1) for row in every.rows])
    at, first = np.unique(np.where(places < 0, -1, places * labels + every.labels), return_index=True)
    at, first = at[at >= 0], first[at >= 0]
    maps = _pack(every.maps[first], np.uint8)
    if not len(at) or len(maps) > room:
        return None
    seen = np.zeros((len(shown), 4), np.float32)
    seen[places[first]] = every.seen[first]
    return {
        "size": list(every.maps.shape[1:]),
        "at": _pack(at, np.uint32),
        "maps": maps,
        "limits": _pack(every.limits[first], np.float32),
        "seen": _pack(seen, np.float32),
    }


def _mapped_images(test: Arrays, found: FeatureMap) -> Json:
    """Pack what is known of the images of a map, which all maps of a split share."""
    rows = found.rows
    return {
        "rows": rows.tolist(),
        "ids": [str(name) for name in test["image_ids"][rows]],
        "true": _pack(bits(test["targets"][rows]), np.uint8),
        "known": _pack(bits(test["mask"][rows]), np.uint8),
    }


def _run(
    run: Run,
    own: Arrays,
    test: Arrays,
    cuts: Cuts,
    shown: NDArray[np.intp],
    found: FeatureMap | None,
) -> Json:
    """Pack a run's own label sets and errors, and how many images keep them, or stay right, at each step of `cuts`."""
    targets, known = test["targets"], test["mask"] != 0
    right = ~((own["predictions"] != targets) & known).any(1) & known.any(1)
    packed: Json = {
        "label": f"{method_name(*run.method)}, seed {run.seed}",
        "reported": {key: float(run.test[key]) for key in LABEL_SET_KEYS if key in run.test},
        "right": int(right.sum()),
        "predictions": _pack(own["predictions"][shown], np.uint8),
        "confusions": confusions(own["predictions"], targets, test["mask"]),
        "onMap": None if found is None else _pack(bits(own["predictions"][found.rows]), np.uint8),
    }
    steps = {}
    if "thresholds" in own and np.ptp(own["thresholds"], axis=0).any():
        margins = test["scores"] - own["thresholds"]
        shifts = slider_grid(margins, targets, [0.0])
        cuts = {**cuts, "shift": Thresholded(margins, test["mask"], shifts)}
        steps["shift"] = _steps(shifts, cuts["shift"].counts(targets))
        packed["thresholds"] = _pack(own["thresholds"][shown], np.float32)
    every = np.ones(len(targets), bool)
    for mode, cut in cuts.items():
        same, still_right = cut.exact(own["predictions"], every), cut.exact(targets, right)
        packed[mode] = steps.get(mode, {}) | {"same": same.tolist(), "stillRight": still_right.tolist()}
    return packed


def _steps(values: NDArray[Any], counts: LabelCounts) -> Json:
    """Pack a slider's `values`, the `counts` at each, flattened from (T, K), and the metrics (T,)."""
    metrics = {**label_set_metrics(counts), LABELS_PER_IMAGE.key: labels_per_image(counts)}
    kind = np.uint16 if int(counts.images) < 2**16 else np.uint32
    return {
        "values": [float(value) for value in values],
        "bytes": np.dtype(kind).itemsize,
        "correct": _pack(counts.correct, kind),
        "predicted": _pack(counts.predicted, kind),
        "exact": counts.exact.tolist(),
        "metrics": {key: _pack(found, np.float64) for key, found in metrics.items()},
    }


def _test_split(files: GroupFiles, test: Arrays, shown: NDArray[np.intp]) -> Json:
    known = test["mask"] != 0
    return {
        "labels": list(files.label_names),
        "images": int(known.any(1).sum()),
        "actual": ((test["targets"] != 0) & known).sum(0).tolist(),
        "shown": [
            {
                "row": row,
                "id": str(test["image_ids"][row]),
                "picture": picture_uri(files.thumbnails[row]),
                "true": np.flatnonzero(test["targets"][row] & test["mask"][row]).tolist(),
                "unknown": np.flatnonzero(~known[row]).tolist(),
            }
            for row in shown.tolist()
        ],
    }


def _pack(array: NDArray[Any], kind: type[np.generic]) -> str:
    """Write `array` as little-endian bytes of `kind` in base64."""
    little = np.ascontiguousarray(array, dtype=np.dtype(kind).newbyteorder("<"))
    return base64.b64encode(little.tobytes()).decode("ascii")
