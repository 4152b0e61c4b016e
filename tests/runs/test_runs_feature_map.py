"""The map of the test images: scikit-learn's principal components, degenerate features, and files that are damaged."""

from pathlib import Path

import numpy as np
import pytest
from report_runs import write_run
from sklearn.decomposition import PCA

from lsep_ml.runs.feature_map import (
    AXES,
    POINTS,
    FeatureMap,
    map_features,
    read_feature_map,
    write_feature_map,
)
from lsep_ml.runs.finished import Run, read_run
from lsep_ml.runs.record import RecordError


@pytest.mark.parametrize(
    ("images", "width", "kind"), [(90, 7, "f4"), (30, 200, "f2"), (POINTS + 333, 20, "f4")]
)
def test_the_points_are_the_first_principal_components(images: int, width: int, kind: str) -> None:
    random = np.random.default_rng(0)
    features = (random.normal(size=(images, width)) * np.linspace(3, 0.2, width)).astype(kind)
    found = map_features(features)
    assert len(found.rows) == min(images, POINTS)
    assert (found.rows[0], found.rows[-1]) == (0, images - 1)
    axes = min(images, width, AXES)
    assert found.points.shape == (len(found.rows), min(len(found.rows), AXES))
    pca = PCA(axes, svd_solver="full").fit(features[found.rows].astype(np.float64))
    expected = pca.transform(features[found.rows].astype(np.float64))
    expected *= np.sign(
        expected[np.abs(expected).argmax(0), range(axes)]
    )  # an axis has no direction of its own
    np.testing.assert_allclose(found.points[:, :axes], expected, atol=1e-4)
    np.testing.assert_allclose(found.share[:axes], pca.explained_variance_ratio_, atol=1e-6)
    assert not found.points[:, axes:].any()


@pytest.mark.parametrize(
    "features",
    [np.ones((5, 3)), np.zeros((1, 4)), np.full((6, 2), np.nan), np.full((6, 2), np.inf), np.zeros((4, 0))],
)
def test_features_that_say_nothing_give_one_point(features: np.ndarray) -> None:
    found = map_features(features)
    assert found.points.shape == (len(features), max(2, len(features)))
    assert not found.points.any()
    assert not found.share.any()


def test_one_axis_is_enough() -> None:
    found = map_features(np.array([[0.0, 1], [2, 1], [4, 1]]))
    np.testing.assert_allclose(np.abs(found.points), [[2, 0, 0], [0, 0, 0], [2, 0, 0]], atol=1e-6)
    np.testing.assert_allclose(found.share, [1, 0, 0])


def a_run(folder: Path) -> Run:
    return read_run(write_run(folder, images=60) / "result.json")[0]


def test_a_map_is_read_as_it_was_written(tmp_path: Path) -> None:
    run = a_run(tmp_path)
    assert read_feature_map(run, 60) is None  # runs of earlier versions have none
    found = map_features(np.random.default_rng(0).normal(size=(60, 5)))
    write_feature_map(run.folder / "feature_map.npz", found)
    read = read_feature_map(run, 60)
    assert read is not None
    for one, other in zip(found, read, strict=True):
        np.testing.assert_array_equal(one, other)
    with pytest.raises(RecordError, match="no map of 50 images"):
        read_feature_map(run, 50)


def test_a_damaged_map_is_said(tmp_path: Path) -> None:
    run = a_run(tmp_path)
    path = run.folder / "feature_map.npz"
    found = map_features(np.eye(60))
    for wrong in (
        FeatureMap(found.rows, found.points[:-1], found.share),
        FeatureMap(found.rows, np.full_like(found.points, np.nan), found.share),
        FeatureMap(found.rows, found.points, found.share[:1]),
    ):
        write_feature_map(path, wrong)
        with pytest.raises(RecordError, match="no map of 60 images"):
            read_feature_map(run, 60)
    for content in (b"", b"PK\x03\x04 cut", path.read_bytes()[:-40]):
        path.write_bytes(content)
        with pytest.raises(RecordError, match=r"feature_map\.npz: damaged"):
            read_feature_map(run, 60)
