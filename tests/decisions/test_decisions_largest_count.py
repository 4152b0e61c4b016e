"""What count estimation counts to where nobody says it: the label counts of nearly all training images."""

from pathlib import Path

import numpy as np
import pytest
import torch
from jobs import compose_here, run_job_here

from lsep_ml.decisions import CountEstimation
from lsep_ml.decisions.estimation import largest_count
from lsep_ml.metrics.indicator import SparseIndicator


def with_counts(counts: list[int], labels: int = 12) -> np.ndarray:
    return np.arange(labels) < np.array(counts)[:, None]


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ([0, 0, 0], 1),
        ([1, 2, 3], 3),
        (99 * [2] + [9], 2),
        (98 * [2] + 2 * [9], 9),
        (197 * [3] + [4, 5, 6], 4),
        (200 * [12], 12),
    ],
)
def test_the_smallest_count_that_covers_99_percent(counts: list[int], expected: int) -> None:
    targets = with_counts(counts)
    assert largest_count(targets) == expected
    assert largest_count(torch.from_numpy(targets).to(torch.uint8)) == expected
    assert sum(count <= expected for count in counts) >= 0.99 * len(counts)
    assert expected == 1 or sum(count <= expected - 1 for count in counts) < 0.99 * len(counts)


def test_only_what_is_known_counts() -> None:
    targets, mask = with_counts([5, 5, 5]), np.ones((3, 12), bool)
    mask[:, 3:] = False
    assert largest_count(targets, mask) == 3
    mask[1:] = False
    assert largest_count(targets, mask) == 3
    assert largest_count(targets, mask & False) == 1
    assert largest_count(*map(SparseIndicator.from_dense, (targets, mask))) == largest_count(targets, mask)
    assert largest_count(np.where(mask, targets, -1), mask) == 3
    with pytest.raises(ValueError, match="targets: -1 found in row 0, column 3"):
        largest_count(np.where(mask, targets, -1))


def test_a_count_is_needed_by_the_class_itself() -> None:
    with pytest.raises(ValueError, match=r"max_count=None: expected at least 1, such as largest_count"):
        CountEstimation(3, 4, None)  # type: ignore[arg-type]


SMALL = (
    "data.train=60",
    "data.val=20",
    "data.test=20",
    "training.epochs=1",
    "fitting.epochs=1",
    "trainer=cpu",
)


def test_a_run_says_what_it_counts_to(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for data, count in (("digits", 4), ("voc2007", 4), ("csv", None)):  # the recorded and the paper's; others
        assert compose_here(tmp_path, "decision=count_est", f"data={data}")[0].decision.max_count == count
    table = compose_here(tmp_path, "decision=count_est", "experiment=table2_photos")[0]
    assert table.decision.max_count == 4
    options = (*SMALL, "decision=count_est")
    caplog.set_level("INFO")
    record, _ = run_job_here(tmp_path, *options, "max_count=null", "data.density=6")
    found = record["config"]["decision"]["max_count"]
    assert found > 4
    assert f"decision.max_count = {found}: it covers the labels of 99% of the training images" in caplog.text
