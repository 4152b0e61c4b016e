"""What a training says of itself."""

import csv
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from jobs import compose_here, run_job_here

from lsep_ml.decisions import ZeroThreshold
from lsep_ml.metrics.indicator import SparseIndicator
from lsep_ml.stages.evaluation import _problems
from lsep_ml.stages.network import training_warnings
from lsep_ml.training.final_warnings import constant_map


def test_the_map_of_a_constant_predictor_makes_no_sparse_targets_dense(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rows, labels = np.arange(3000), np.arange(3000) % 2000
    sparse = SparseIndicator.of(rows, labels, (3000, 2000))
    made, dense = list[int](), SparseIndicator.__array__
    monkeypatch.setattr(
        SparseIndicator, "__array__", lambda of, *how: made.append(of.size) or dense(of, *how)
    )
    found: Any = SimpleNamespace(targets=sparse, mask=None)
    share = [(1 + (k < 1000)) / 3000 for k in range(2000)]
    assert constant_map(found) == pytest.approx(np.mean(share))
    assert max(made, default=0) < 3000 * 2000


def rows(*maps: float, clamped: float = 0, **more: float) -> list[dict[str, Any]]:
    return [
        {"epoch": number + 1, "val_map": value, "train_clamped_rows": clamped, **more}
        for number, value in enumerate(maps)
    ]


@pytest.mark.parametrize(
    ("history", "said"),
    [
        (rows(0.5, 0.6, 0.55), []),
        (rows(0.5), []),
        (rows(0.6, 0.5), ["best epoch is the first of 2"]),
        (rows(0.5, 0.6), ["best epoch is the last of 2"]),
        (rows(0.05, 0.1, 0.05), ["mAP 10.0% is not above the 10.0% of a constant predictor"]),
        (rows(0.5, 0.6, 0.55, clamped=7), ["at its clamp on 7 training and 0 validation images"]),
        (rows(0.5, 0.6, 0.55, val_clamped_rows=3), ["at its clamp on 0 training and 3 validation images"]),
    ],
)
def test_a_suspicious_training_is_said(history: list[dict[str, Any]], said: list[str]) -> None:
    found = training_warnings(history, constant=0.1)
    assert len(found) == len(said)
    assert all(part in warning for part, warning in zip(said, found, strict=True))


def test_a_training_whose_validation_loss_is_at_the_clamp_says_so(tmp_path: Any) -> None:
    record, folder = run_job_here(
        tmp_path,
        *("loss=bpmll", "rates.sgd=100", "training.epochs=2", "training.batch_size=32", "trainer=cpu"),
        *("data.train=64", "data.val=32", "data.test=32", "decision=topk", "pictures=false"),
    )
    with (folder / "history.csv").open() as history:
        counted = [float(row["val_clamped_rows"]) for row in csv.DictReader(history)]
    assert counted[0] > 0
    assert f"and {counted[0]:.0f} validation images of the chosen epoch" in record["warnings"][0]


def test_bpmll_has_a_bounded_gradient_with_every_data_set(tmp_path: Any) -> None:
    for overrides in ([], ["data=voc2007"], ["data=csv", "model=timm"]):
        config, _ = compose_here(tmp_path, "loss=bpmll", *overrides)
        assert config.trainer.gradient_clip_val == 1
        assert compose_here(tmp_path, *overrides)[0].trainer.gradient_clip_val is None
    assert (
        compose_here(tmp_path, "loss=bpmll", "trainer.gradient_clip_val=3")[0].trainer.gradient_clip_val == 3
    )


@pytest.mark.parametrize(
    ("last", "said"),
    [
        ([1.0, -1, 1, -1], ["2 of 4 classes are named for no image"]),
        ([1.0, 1, 1, -1], []),
        ([-1.0, -1, -1, -1], ["every predicted label set is empty"]),
    ],
)
def test_labels_that_a_decision_names_for_no_image_are_said(last: list[float], said: list[str]) -> None:
    scores = np.array([[-1.0, -1, -1, -1], last], np.float32)
    arrays: Any = SimpleNamespace(scores=scores, features=None)
    val: Any = SimpleNamespace(arrays=arrays, predictions=(scores > 0).astype(np.uint8))
    assert _problems(ZeroThreshold(), val) == said
