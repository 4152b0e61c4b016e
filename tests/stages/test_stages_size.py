"""What cannot work at the size of the data is said before anything is trained."""

import logging
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hydra.utils import instantiate
from jobs import compose_here

from lsep_ml.data.data_set import Split
from lsep_ml.decisions import (
    Calibrated,
    CappedThreshold,
    ConformalRisk,
    CountEstimation,
    Decision,
    ExpectedF1,
    GlobalThreshold,
    LabelSetSupport,
    LearnThenTest,
    LinearThresholds,
    PerClassThreshold,
    ThresholdEstimation,
    TopK,
)
from lsep_ml.metrics.indicator import SparseIndicator
from lsep_ml.stages import experiment, size
from lsep_ml.stages.job import build_job
from lsep_ml.stages.predictor import check_predictor


def data_of(labels: int, **targets: Any) -> Any:
    splits = {
        name: Split(np.zeros((len(of), 1), np.float32), of, None, np.arange(len(of)).astype(str))
        for name, of in targets.items()
    }
    return SimpleNamespace(label_names=range(labels), split=splits.__getitem__, **splits)


def empty(images: int, labels: int) -> SparseIndicator:
    return SparseIndicator(np.zeros(images + 1, np.int64), np.zeros(0, np.int32), labels)


@pytest.mark.parametrize(
    ("decision", "words"),
    [
        (PerClassThreshold(criterion="break_even"), "break_even, ranks all scores.*search=grid"),
        (GlobalThreshold("exact", criterion="break_even"), "break_even, ranks all scores.*search=grid"),
        (
            PerClassThreshold(criterion="exact_match"),
            "criterion=exact_match, ranks all scores of 3000 images x 2000",
        ),
        (PerClassThreshold(min_recall=0.5), "min_recall=0.5, ranks all scores"),
        (
            CappedThreshold(1, 500),
            "max_labels=500, ranks the highest scores of 3000.*a smaller decision.max_l",
        ),
        (
            LearnThenTest(calibration=0.5),
            "sorts a share of 0.5 of the scores of 3000 images x 2000.*decision=conformal",
        ),
        (ConformalRisk(shape="per_class", criterion="cf1"), "ConformalRisk, criterion=cf1, ranks all scores"),
        (LinearThresholds(4, 2000), "log odds of 12000 images.*decision=per_class"),
        (LabelSetSupport(4, 2000, fit_on="val"), "log odds of 3000 images"),
        (ThresholdEstimation(4, 2000, offset="one", criterion="exact_match"), "ranks all.*another criterion"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_what_takes_more_than_the_memory_is_refused(
    decision: Decision, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = data_of(2000, train=empty(9000, 2000), val=empty(3000, 2000))
    monkeypatch.setattr(size, "MANY", 10**6)
    size.check_size(decision, data, out_of_fold=True)
    monkeypatch.setattr(size, "memory", lambda: 10**7)
    with pytest.raises(ValueError, match=words):
        size.check_size(decision, data, out_of_fold=True)


def test_each_process_that_fits_without_folds_holds_the_scores(monkeypatch: pytest.MonkeyPatch) -> None:
    data = data_of(2000, train=empty(9000, 2000), val=empty(3000, 2000))
    monkeypatch.setattr(size, "MANY", 10**6)
    monkeypatch.setattr(size, "memory", lambda: 11 * 10**8)
    for fit_on, processes in (("val", 3), ("train", 4)):
        decision = PerClassThreshold(min_recall=0.5, fit_on=fit_on)
        size.check_size(decision, data, out_of_fold=False, processes=processes)
    with pytest.raises(ValueError, match="at least 1 GiB in 4 processes"):
        size.check_size(PerClassThreshold(min_recall=0.5), data, out_of_fold=False, processes=4)


@pytest.mark.parametrize(
    "decision",
    [
        GlobalThreshold(),
        GlobalThreshold("exact"),
        PerClassThreshold(),
        PerClassThreshold(search="grid", criterion="break_even"),
        TopK(criterion="exact_match"),
        GlobalThreshold(criterion="exact_match"),
        Calibrated(fit_on="train"),
        ConformalRisk(shape="per_class"),
        LabelSetSupport(4, 2000, log_odds="platt"),
        ThresholdEstimation(4, 2000),
        ThresholdEstimation(4, 2000, offset="class", fit_on="both"),
        CountEstimation(4, 2000, fit_on="crossfit"),
    ],
    ids=lambda decision: type(decision).__name__,
)
def test_what_is_read_by_blocks_is_not(decision: Decision, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(size, "memory", lambda: 1)
    data = data_of(2000, train=empty(9000, 2000), val=empty(3000, 2000))
    size.check_size(decision, data, out_of_fold=True)


def test_a_search_that_ranks_too_many_entries_is_refused_whatever_the_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(size, "memory", lambda: 2**60)
    data = data_of(2**16, val=empty(2**16, 2**16))
    with pytest.raises(ValueError, match="at most 2\\^32 entries"):
        size.check_size(PerClassThreshold(criterion="break_even"), data, out_of_fold=False)
    size.check_size(PerClassThreshold(), data, out_of_fold=False)
    with pytest.raises(ValueError, match=r"max_labels=65536, ranks.* at most 2\^32 entries.*max_labels"):
        size.check_size(CappedThreshold(max_labels=2**16), data, out_of_fold=False)
    size.check_size(CappedThreshold(max_labels=2**16 - 1), data, out_of_fold=False)


def test_what_takes_time_by_the_square_of_the_labels_is_refused() -> None:
    splits = {name: empty(60, 200) for name in ("train", "val", "test")}
    size.check_size(ExpectedF1(), data_of(200, **splits), out_of_fold=False)
    splits = {name: empty(12_000, 10_000) for name in ("train", "val", "test")}
    with pytest.raises(
        ValueError, match=r"expected_f1.* 0.8 CPU days for 24000 images x 10000.*decision=calibrated"
    ):
        size.check_size(ExpectedF1(), data_of(10_000, **splits), out_of_fold=False)


@pytest.mark.parametrize(("predictor", "gib"), [("br", 20), ("mlknn", 30), ("cnn_rnn", 2)])
def test_predictors_that_take_more_than_the_memory_are_refused(
    predictor: str, gib: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = compose_here(tmp_path, f"predictor={predictor}", "decision=none")[0]
    made, train = instantiate(config.predictor), data_of(2**10, train=empty(2**20, 2**10)).train
    monkeypatch.setattr(size, "memory", lambda: gib * 2**30)
    check_predictor(config, made, train)
    monkeypatch.setattr(size, "memory", lambda: gib * 2**30 - 1)
    with pytest.raises(ValueError, match=f"{predictor} holds.* at least {gib} GiB.*predictor=score_layer"):
        check_predictor(config, made, train)
    if made.complete:
        one = SparseIndicator.of(
            np.array([3]), np.array([5]), train.targets.shape, np.bool_, np.ones(2**20, bool)
        )
        with pytest.raises(ValueError, match="1 entries of the training targets are unknown"):
            made.check(train.targets, one)


def test_the_memory_is_that_of_the_machine_or_of_the_container(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "max").write_text("max\n")
    (tmp_path / "limit").write_text("12345\n")
    monkeypatch.setattr(size, "_LIMITS", (tmp_path / "max", tmp_path / "none"))
    assert size.memory() > 2**29
    monkeypatch.setattr(size, "_LIMITS", (tmp_path / "max", tmp_path / "limit"))
    assert size.memory() == 12345


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize(
    ("decision", "positives", "said"),
    [
        (PerClassThreshold(guard=False), 4, "12 of 20 labels have fewer than 5 positives"),
        (PerClassThreshold(guard=False), 5, None),
        (PerClassThreshold(min_precision=0.9), 9, "fewer than 10 positives.*by min_precision"),
        (PerClassThreshold(min_recall=0.5), 4, "fewer than 5 positives"),
        (PerClassThreshold(min_precision=0.9), 10, None),
        (PerClassThreshold(), 1, None),
        (GlobalThreshold(), 1, None),
    ],
)
def test_labels_with_too_few_positives_for_their_own_thresholds_are_said(
    decision: Decision,
    positives: int,
    said: str | None,
    sparse: bool,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    targets = np.zeros((30, 20), np.uint8)
    targets[:15, :8] = 1
    targets[:positives, 8:] = 1
    data = data_of(20, val=SparseIndicator.from_dense(targets) if sparse else targets)
    monkeypatch.setattr(size, "MANY", 20)
    with caplog.at_level(logging.WARNING):
        size.check_size(decision, data, out_of_fold=False)
    assert caplog.text == "" if said is None else re.search(said, caplog.text)


@pytest.mark.parametrize("sparse", [False, True])
def test_label_sets_that_are_hardly_seen_twice_are_said(
    sparse: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    val = np.eye(6, dtype=np.uint8)
    val[3] = 0  # an empty label set is one too
    train = np.vstack([val[:2], val[:2], np.zeros((1, 6), np.uint8)])
    held = SparseIndicator.from_dense(train) if sparse else train
    data = data_of(6, train=held, val=val)
    decision = LabelSetSupport(2, 6)
    monkeypatch.setattr(size, "MANY", 7)
    size.check_size(decision, data, out_of_fold=False)
    monkeypatch.setattr(size, "MANY", 6)
    size.check_size(decision, data, out_of_fold=False)
    assert caplog.text == ""
    data = data_of(6, train=held[:4], val=val)
    size.check_size(decision, data, out_of_fold=False)
    assert "2 of 6 validation images have one of these" in caplog.text


def test_a_job_says_it_before_its_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(size, "memory", lambda: 1000)
    sizes = ("data.train=8", "data.val=4", "data.test=4", "trainer=cpu", "decision=per_class")
    build_job(compose_here(tmp_path, *sizes)[0])
    with pytest.raises(ValueError, match="break_even"):
        build_job(compose_here(tmp_path, *sizes, "decision.criterion=break_even")[0])


def test_a_record_counts_the_positives_of_so_many_labels_as_it_has_numbers_of() -> None:
    counts = {"images": {"train": 2}, "dropped": {"few": 1}, "positives": {"train": {"cat": 1}}}
    few, many = (SimpleNamespace(counts=counts, label_names=range(labels)) for labels in (1000, 1001))
    assert experiment._counts(few, {}) == counts
    assert experiment._counts(many, {"a.jpg": "empty"}) == {
        "images": {"train": 2},
        "dropped": {"few": 1, "unreadable": 1},
    }
