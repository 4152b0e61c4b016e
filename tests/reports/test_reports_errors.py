"""What label sets get wrong: confusions against plain loops, and what the page unpacks of the map."""

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from report_runs import write_run
from sklearn.metrics import average_precision_score
from test_reports_explorer import files_below, unpack

from lsep_ml.reports.errors import _umap, bits, confusions, map_places
from lsep_ml.reports.explorer import choose_runs, explore
from lsep_ml.runs.feature_map import map_features, write_feature_map
from lsep_ml.runs.heat_maps import HeatMaps, as_bytes, write_heat_maps


def counted(
    predictions: np.ndarray, targets: np.ndarray, mask: np.ndarray
) -> dict[tuple[int, int], list[int]]:
    images, labels = targets.shape
    found = {}
    for j in range(labels):
        for k in range(labels):
            both = misses = 0
            for i in range(images):
                wrong = mask[i, j] and predictions[i, j] and not targets[i, j]
                missed = mask[i, k] and targets[i, k] and not predictions[i, k]
                both += bool(wrong and missed)
                misses += bool(missed)
            if both:
                found[j, k] = [both, misses]
    return found


@pytest.mark.parametrize("unknown", [0.0, 0.4])
def test_confusions_are_counted_image_by_image(unknown: float) -> None:
    random = np.random.default_rng(1)
    predictions, targets = (random.integers(0, 2, (40, 6)).astype(np.uint8) for _ in range(2))
    mask = (random.random((40, 6)) >= unknown).astype(np.uint8)
    expected = counted(predictions, targets, mask)
    found = confusions(predictions, targets, mask, most=100)
    assert {(j, k): rest for j, k, *rest in found} == expected
    assert found == sorted(found, key=lambda pair: (-pair[2], pair[0], pair[1]))
    assert confusions(predictions, targets, mask, most=3) == found[:3]


def test_label_sets_without_errors_confuse_nothing() -> None:
    targets = np.eye(4, dtype=np.uint8)
    for predictions in (targets, np.zeros_like(targets), np.ones_like(targets)):
        assert confusions(predictions, targets, np.ones_like(targets)) == []


def test_the_map_keeps_distances() -> None:
    found = map_features(np.array([[0.0, 0], [4, 0], [0, 2], [1, 1]]))
    places = np.array(map_places(found)["places"]).reshape(-1, 2)
    assert places.min() >= 0
    assert places.max() <= 1

    def distances(points: np.ndarray) -> Any:
        return np.linalg.norm(points[:, None] - points[None], axis=-1)

    ratio = distances(places)[0, 1] / distances(found.points)[0, 1]
    np.testing.assert_allclose(distances(places), ratio * distances(found.points[:, :2]), atol=2e-4)
    one = map_places(map_features(np.ones((1, 3))))
    assert one == {"places": [0.5, 0.5], "share": 0.0}


def test_the_map_is_umaps_where_it_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A module in its place says what it was asked for; without one, the first two components are the map."""
    asked: list[tuple[dict[str, Any], np.ndarray]] = []

    class Umap:
        def __init__(self, **options: Any) -> None:
            self.options = options

        def fit_transform(self, points: np.ndarray) -> np.ndarray:
            asked.append((self.options, points))
            return points[:, 4:6]

    found = map_features(np.random.default_rng(0).normal(size=(40, 50)))
    monkeypatch.setitem(sys.modules, "umap", None)  # as if not installed
    _umap.cache_clear()
    plain = map_places(found)
    assert plain["share"] == pytest.approx(found.share[:2].sum(), abs=1e-4)
    module = ModuleType("umap")
    module.UMAP = Umap  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "umap", module)
    _umap.cache_clear()
    by_umap, again = map_places(found), map_places(found)
    _umap.cache_clear()
    assert by_umap == again
    assert by_umap["share"] is None
    assert by_umap["places"] == map_places(found._replace(points=found.points[:, 4:6]))["places"]
    [(options, points)] = asked  # once for the same features
    assert options == {"n_neighbors": 15, "random_state": 0, "n_jobs": 1}
    np.testing.assert_array_equal(points, found.points)
    for few in (map_features(np.eye(15)), found._replace(points=found.points[:, :2], share=found.share[:2])):
        assert map_places(few)["share"] is not None  # too few images; a map of an earlier version
    assert len(asked) == 1


def test_the_page_gets_errors_and_a_map_of_every_run(tmp_path: Path) -> None:
    folders = [
        write_run(tmp_path, decision=name, images=90, labels=11, unknown=0.1)
        for name in ("topk", "threshold")
    ]
    features = np.random.default_rng(0).normal(size=(90, 6))
    write_feature_map(folders[0] / "feature_map.npz", map_features(features))  # the other shares its network
    files = files_below(tmp_path)
    group, problems = explore(files, choose_runs(files, 9), {})
    assert problems == []
    [model] = group["models"]
    assert group["map"]["rows"] == list(range(90))
    arrays = [dict(np.load(folder / "predictions.npz")) for folder in folders]

    def label_sets(packed: str) -> np.ndarray:
        return np.unpackbits(unpack(packed, "u1").reshape(90, 2), axis=1, count=11, bitorder="little")

    np.testing.assert_array_equal(label_sets(group["map"]["true"]), arrays[0]["targets"])
    np.testing.assert_array_equal(label_sets(group["map"]["known"]), arrays[0]["mask"])
    for run in group["runs"]:
        [own] = [a for a, decision in zip(arrays, ("(K)", "(θ)"), strict=True) if decision in run["label"]]
        np.testing.assert_array_equal(label_sets(run["onMap"]), own["predictions"])
        assert run["confusions"] == confusions(own["predictions"], own["targets"], own["mask"])
    for k, ap in enumerate(model["ap"]):
        known = arrays[0]["mask"][:, k] == 1
        expected = average_precision_score(arrays[0]["targets"][known, k], arrays[0]["scores"][known, k])
        assert ap == pytest.approx(expected, abs=1e-6)


def test_the_page_gets_heat_maps_of_every_run_on_the_same_scores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders = [write_run(tmp_path, decision=name, images=90) for name in ("topk", "threshold")]
    shown = sorted(int(row) for row in np.load(folders[0] / "thumbnails.npz"))
    scores = np.random.default_rng(0).normal(size=(4, 3, 2)).astype(np.float32)
    seen = np.array([[0, 0, 1, 1], [0, -0.25, 1, 1.5], [0, 0, 1, 1], [0, 0, 1, 1]], np.float32)
    rows = np.array([shown[0], shown[5], shown[5], shown[1] - 1], np.int32)  # the last has no picture
    all_maps = HeatMaps(rows, np.array([3, 0, 9, 2], np.int32), *as_bytes(scores), seen[[0, 1, 1, 0]])
    halves = np.array([0, 1]), np.array([1, 2, 3])
    for folder, half in zip(folders, halves, strict=True):
        write_heat_maps(folder / "heat_maps.npz", HeatMaps(*(array[half] for array in all_maps)))
    files = files_below(tmp_path)
    group, problems = explore(files, choose_runs(files, 9), {})
    assert problems == []
    heat = group["models"][0]["heat"]
    assert heat["size"] == [3, 2]
    assert unpack(heat["at"], "<u4").tolist() == [3, 50, 59]
    np.testing.assert_array_equal(unpack(heat["maps"], "u1").reshape(-1, 3, 2), all_maps.maps[:3])
    np.testing.assert_array_equal(unpack(heat["limits"], "<f4").reshape(-1, 2), all_maps.limits[:3])
    of_pictures = unpack(heat["seen"], "<f4").reshape(-1, 4)
    np.testing.assert_array_equal(of_pictures[[0, 5]], seen[:2])
    monkeypatch.setattr("lsep_ml.reports.explorer.HEAT_MAP_BYTES", 10)
    assert explore(files, choose_runs(files, 9), {})[0]["models"][0]["heat"] is None
    (folders[0] / "heat_maps.npz").write_bytes(b"nothing")
    [problem] = explore(files, choose_runs(files, 9), {})[1]
    assert "its heat maps are left out" in problem.message


def test_a_damaged_map_leaves_the_rest(tmp_path: Path) -> None:
    folder = write_run(tmp_path, decision="topk")
    (folder / "feature_map.npz").write_bytes(b"nothing")
    files = files_below(tmp_path)
    group, [problem] = explore(files, choose_runs(files, 1), {})
    assert "left out of the map" in problem.message
    assert (group["map"], group["models"][0]["map"], group["runs"][0]["onMap"]) == (None, None, None)


def test_bits_begin_with_the_lowest_label() -> None:
    np.testing.assert_array_equal(bits(np.array([[1, 0, 0, 0, 0, 0, 0, 0, 1, 1]])), [[1, 3]])
