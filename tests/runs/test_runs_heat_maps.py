"""Heat maps: scores as bytes and back, and files that are damaged."""

from pathlib import Path

import numpy as np
import pytest
from report_runs import write_run

from lsep_ml.runs.finished import read_run
from lsep_ml.runs.heat_maps import HeatMaps, as_bytes, read_heat_maps, write_heat_maps
from lsep_ml.runs.record import RecordError


def some_maps(rows: list[int], labels: list[int]) -> HeatMaps:
    scores = np.random.default_rng(0).normal(size=(len(rows), 3, 2)).astype(np.float32)
    seen = np.tile([0, 0, 1, 1], (len(rows), 1)).astype(np.float32)
    return HeatMaps(np.array(rows, np.int32), np.array(labels, np.int32), *as_bytes(scores), seen)


def test_a_byte_is_a_255th_of_the_scores() -> None:
    scores = np.random.default_rng(1).normal(size=(4, 3, 5)).astype(np.float32)
    scores[3] = 2.5  # the same everywhere
    maps, limits = as_bytes(scores)
    assert maps.dtype == np.uint8
    for found, (low, high), expected in zip(maps, limits, scores, strict=True):
        assert (low, high) == (expected.min(), expected.max())
        np.testing.assert_allclose(
            low + (high - low) * (found / 255.0), expected, atol=(high - low) / 509 + 1e-6
        )


def test_heat_maps_are_read_as_they_were_written(tmp_path: Path) -> None:
    run = read_run(write_run(tmp_path, images=60) / "result.json")[0]
    assert read_heat_maps(run, 60) is None  # most networks have none
    path, found = run.folder / "heat_maps.npz", some_maps([3, 3, 59], [0, 9, 1])
    write_heat_maps(path, found)
    read = read_heat_maps(run, 60)
    assert read is not None
    for one, other in zip(found, read, strict=True):
        np.testing.assert_array_equal(one, other, strict=True)
    wrong = [
        found._replace(labels=found.labels + 1),
        found._replace(rows=found.rows - 4),
        found._replace(maps=found.maps[:2]),
        found._replace(maps=found.maps.astype(np.float32)),
        found._replace(maps=np.zeros((3, 15, 3), np.uint8)),
        found._replace(limits=found.limits * np.nan),
        found._replace(seen=found.seen[:, :3]),
        some_maps([0], [0])._replace(maps=np.zeros((0, 3, 2), np.uint8), rows=np.zeros(0, np.int32)),
    ]
    for other in wrong:
        write_heat_maps(path, other)
        with pytest.raises(RecordError, match=r"heat_maps\.npz: no heat maps of 60 images and 10 labels"):
            read_heat_maps(run, 60)
    write_heat_maps(path, found)
    with pytest.raises(RecordError, match="of 59 images"):
        read_heat_maps(run, 59)
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(RecordError, match=r"heat_maps\.npz: damaged"):
        read_heat_maps(run, 60)
