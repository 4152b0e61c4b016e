"""The knob of every decision: where it stands it changes nothing, moved it decides as another fitted value would."""

import numpy as np
import pytest
import torch
from bundle_decisions import DECISIONS, fitted, ties

from lsep_ml.bundle.classifier import decide, fixed_threshold, fixed_top
from lsep_ml.decisions import Decision, GlobalThreshold, TopK
from lsep_ml.demo.bars import render_bars
from lsep_ml.demo.knobs import ImageReading, knob_of, read_image_decision

NAMES = tuple(f"label {k}" for k in range(7))


def readings(decision: Decision) -> list[tuple[ImageReading, np.ndarray, np.ndarray]]:
    """A reading, the scores and the label set of each of some images."""
    scores, features = (torch.from_numpy(array) for array in ties(7, 60))
    found = decide(decision, NAMES, scores, features)
    return [
        (read_image_decision(decision, found[row : row + 1]), found.scores[row], found.label_sets[row])
        for row in range(len(found))
    ]


@pytest.mark.parametrize("name", DECISIONS)
def test_where_it_stands_it_changes_nothing_and_it_reaches_both_ends(name: str) -> None:
    for reading, _, label_set in readings(fitted(name, *ties(7))):
        assert np.array_equal(reading.label_set, label_set)
        assert np.array_equal(reading.moved(0.0).label_set, label_set)
        low, high = reading.reach
        fewer, more = (low, high) if reading.thresholds is None else (high, low)
        assert not reading.moved(fewer).label_set.any()
        # a threshold at a value is not below it
        assert reading.moved(more - (0 if reading.thresholds is None else 1e-9)).label_set.all()


@pytest.mark.parametrize("theta", [-1.0, 0.25, 2.0])
def test_one_threshold_is_moved_as_itself(theta: float) -> None:
    decision = fitted("threshold", *ties(7))
    assert isinstance(decision, GlobalThreshold)
    knob = knob_of(decision)
    assert knob.start == float(decision.theta)
    for reading, scores, _ in readings(decision):
        expected = fixed_threshold(theta, 7).predict(scores[None])[0].numpy()
        assert np.array_equal(reading.moved(theta - knob.start).label_set, expected)


@pytest.mark.parametrize("k", [0, 1, 4, 7])
def test_k_is_moved_as_itself(k: int) -> None:
    decision = fitted("topk", *ties(7))
    assert isinstance(decision, TopK)
    knob = knob_of(decision)
    assert (knob.start, knob.whole) == (int(decision.k), True)
    for reading, scores, _ in readings(decision):
        expected = np.zeros(7, bool) if k == 0 else fixed_top(k, 7).predict(scores[None])[0].numpy()
        assert np.array_equal(reading.moved(k - knob.start).label_set, expected)


@pytest.mark.parametrize("name", ["thresh_est", "threshold_class", "per_class", "conformal_per_class"])
def test_several_thresholds_are_moved_together(name: str) -> None:
    decision = fitted(name, *ties(7))
    assert knob_of(decision).start == 0
    for reading, scores, _ in readings(decision):
        assert reading.thresholds is not None
        expected = scores.astype(float) - reading.thresholds > 0.3
        assert np.array_equal(reading.moved(0.3).label_set, expected)


@pytest.mark.parametrize("name", ["count_est", "expected_f1"])
def test_an_estimated_count_is_moved_by_whole_labels(name: str) -> None:
    decision = fitted(name, *ties(7))
    assert knob_of(decision).whole
    for reading, _, label_set in readings(decision):
        assert reading.moved(1).label_set.sum() == min(label_set.sum() + 1, 7)
        assert (label_set & ~reading.moved(1).label_set).sum() == 0
        assert reading.moved(-99).label_set.sum() == 0


def test_names_are_text_in_the_page_and_changes_are_said() -> None:
    reading = ImageReading(np.array([0.0, 2.0, 1.0]), np.array([1.0, 1.0, 1.5]), 1)
    names = ("<b>a</b>", "b & c", "d")
    page = render_bars(names, reading, reading.moved(-0.75))
    assert "<b>" not in page
    assert "added d." in page
    page = render_bars(names, reading, reading.moved(1.5))
    assert "removed b &amp; c." in page
    assert ">No labels" in page.replace("\n", "")
    assert "As fitted." in render_bars(names, reading, reading)
    same = ImageReading(np.zeros(3), None, 1)
    assert "width: 50.00%" in render_bars(names, same, same)  # a scale of no width
