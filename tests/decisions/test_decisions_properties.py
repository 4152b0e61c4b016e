"""What holds for every decision."""

import numpy as np
import pytest
import torch
from decisions_data import EVERY, fitted, fitted_to, learnable, name_of

from lsep_ml import decisions
from lsep_ml.decisions import (
    DECISIONS,
    CountEstimation,
    Decided,
    Decision,
    LabelSetSupport,
    LearnThenTest,
    ZeroThreshold,
)
from lsep_ml.decisions.abstention import confidence
from lsep_ml.decisions.constraints import Constraints
from lsep_ml.decisions.log_odds import LogOddsDecision

every = pytest.mark.parametrize("decision", EVERY, ids=name_of)


def test_every_decision_is_here():
    exported = (getattr(decisions, name) for name in decisions.__all__)
    kinds = [kind for kind in exported if isinstance(kind, type) and kind is not Decided]
    concrete = {kind for kind in kinds if not kind.__abstractmethods__}
    assert {type(decision) for decision in EVERY} == concrete
    assert all(issubclass(kind, Decision) for kind in concrete)


@every
def test_one_image_does_not_depend_on_the_others(decision):
    scores, _, features = learnable(rows=100, seed=1)
    predictions = fitted(decision).predict(scores, features)
    assert predictions.dtype == torch.bool
    assert predictions.shape == scores.shape
    alone = [decision.predict(scores[i : i + 1], features[i : i + 1]) for i in range(100)]
    assert torch.equal(predictions, torch.cat(alone))
    order = torch.randperm(100, generator=torch.Generator().manual_seed(0))
    assert torch.equal(decision.predict(scores[order], features[order]), predictions[order])
    assert decision.predict(scores[:0], features[:0]).shape == (0, 6)


@every
def test_arrays_and_tensors_of_any_float_dtype(decision):
    scores, _, features = (array.half().float() for array in learnable(rows=50, seed=1))
    predictions = fitted(decision).predict(scores, features)
    assert torch.equal(decision.predict(scores.numpy(), features.numpy()), predictions)
    assert torch.equal(decision.predict(scores.half(), features.half()), predictions)
    assert torch.equal(decision.predict(scores.double(), features.double()), predictions)


@every
def test_thresholds_are_strict_and_are_what_decides(decision):
    scores, _, features = learnable(rows=50, seed=1)
    predictions = fitted(decision).predict(scores, features)
    if hasattr(decision, "thresholds"):
        thresholds = decision.thresholds(features, 50)
        assert thresholds.dtype == torch.float32
        assert thresholds.shape == scores.shape
        assert torch.equal(scores > thresholds, predictions)
        assert not decision.predict(thresholds, features).any()
        above = torch.from_numpy(np.nextafter(thresholds.numpy(), np.float32(np.inf)))
        assert decision.predict(above, features).all()
    else:
        assert set(decision.decides_by) <= {"counts", "probabilities"}


@every
def test_what_is_decided_is_what_decides(decision):
    scores, _, features = (
        array.round() if array.is_floating_point() else array for array in learnable(seed=1)
    )
    decided = fitted(decision).decide(scores, features)
    given = {name: values for name, values in decided._asdict().items() if values is not None}
    assert tuple(given) == ("label_sets", *decision.decides_by)
    assert torch.equal(decided.label_sets, decision.predict(scores, features))
    assert decided.label_sets.dtype == torch.bool
    if decided.thresholds is not None:
        assert decided.thresholds.dtype == torch.float32
        assert torch.equal(decided.thresholds, decision.thresholds(features, len(scores)))
        assert torch.equal(decided.label_sets, scores > decided.thresholds)
    if decided.probabilities is not None:
        assert decided.probabilities.dtype == torch.float32
        assert decided.probabilities.shape == scores.shape
        assert ((decided.probabilities >= 0) & (decided.probabilities <= 1)).all()
    if isinstance(decision, LogOddsDecision):  # the probabilities are not what decides
        return
    values = scores if decided.probabilities is None else decided.probabilities
    if decided.counts is not None:
        assert decided.counts.dtype == torch.int64
        for row, count, chosen in zip(
            values.tolist(), decided.counts.tolist(), decided.label_sets, strict=True
        ):
            best = sorted(range(6), key=lambda label, row=row: (-row[label], label))[:count]
            assert set(chosen.nonzero()[:, 0].tolist()) == set(best)
    elif decided.probabilities is not None:
        assert torch.equal(decided.label_sets, values > 0.5)


@every
def test_arrays_are_decided_block_by_block(decision, monkeypatch):
    scores, _, features = (array.numpy() for array in learnable(rows=50, seed=1))
    whole = fitted(decision).decide(scores, features)
    monkeypatch.setattr("lsep_ml.decisions.checks.BLOCK", 7)
    blocks = decision.decide(scores, features)
    for one, other in zip(whole, blocks, strict=True):
        assert (one is None) == (other is None)
        if one is not None:
            torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-6)
    none = decision.decide(scores[:0], features[:0])
    assert [values.shape for values in none if values is not None] == [
        (0,) if name == "counts" else (0, 6) for name in ("label_sets", *decision.decides_by)
    ]


@every
@pytest.mark.parametrize("value", [0.0, 1e30, -1e30, 3e38, -3e38])
def test_tied_and_extreme_scores_are_decided(decision, value):
    scores, _, features = learnable(rows=6, seed=1)
    scores[0] = value
    scores[1, :3] = value
    scores[2] = torch.tensor([value, -value] * 3)
    decided = fitted(decision).decide(scores, features)
    assert decided.label_sets.shape == scores.shape
    for number in (decided.thresholds, decided.probabilities):
        assert number is None or not number.isnan().any()
    rest = decision.predict(scores[3:], features[3:])
    assert torch.equal(decided.label_sets[3:], rest)


@every
def test_fitting_again_changes_nothing(decision):
    scores, _, features = learnable(seed=1)
    predictions = fitted(decision).predict(scores, features)
    assert torch.equal(fitted(decision).predict(scores, features), predictions)


LABELS = {
    "of few": "rarer label sets than max_sets are left out, of equally rare ones those later by the order of labels"
}
IMAGES = {
    "drawn by place": "folds of a guard, parts of a calibration: which images are in one is drawn by their place"
}
SHIFT = {
    "zero": "its threshold is 0 whatever the scores; those of a loss that fixes the zero are not shifted"
}
FEW = {"promise": "a guarantee needs so many images, and the error says how many"}
"""Which decisions are exempt from a property, and why; all others of the catalogue have it."""


def why_not(decision, table):
    """Which reason of a table exempts the decision; None: none does."""
    drawn = isinstance(decision, LearnThenTest) or getattr(decision, "shape", "") == "per_class"
    holds = {
        "of few": isinstance(decision, LabelSetSupport) and decision.max_sets < 10_000,
        "drawn by place": drawn or getattr(decision, "guard", False),
        "zero": isinstance(decision, ZeroThreshold),
        "promise": decision.promises is not None,
    }
    return next((reason for name, reason in table.items() if holds.get(name)), None)


def state_of(decision):
    return {name: value.clone() for name, value in decision.state_dict().items()}


def expect_state(decision, expected, **tolerance):
    """Its numbers are those, as far as they are of labels or images alone."""
    found = state_of(decision)
    assert found.keys() == expected.keys()
    for name, value in found.items():
        torch.testing.assert_close(value, expected[name], **tolerance, equal_nan=False)


@every
def test_a_permutation_of_the_labels_permutes_the_label_sets(decision):
    """Without ties, of which the lower label comes first. Weights that are drawn for a label go with it."""
    reason = why_not(decision, LABELS)
    scores, targets, features = learnable(rows=150, seed=1)
    expected = fitted_to(decision, scores, targets, features).decide(scores, features)
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    fitted_to(decision, scores[:, order], targets[:, order], features, labels=order)
    found = decision.decide(scores[:, order], features)
    if reason is not None:
        assert found.label_sets.shape == expected.label_sets.shape, reason
        return
    assert torch.equal(found.label_sets, expected.label_sets[:, order])
    for name in ("thresholds", "probabilities"):
        one, other = getattr(found, name), getattr(expected, name)
        if one is not None:
            torch.testing.assert_close(one, other[:, order], rtol=1e-5, atol=1e-5)
    assert (found.counts is None) == (expected.counts is None)
    assert found.counts is None or torch.equal(found.counts, expected.counts)


@every
@pytest.mark.parametrize("masked", [False, True])
def test_unknown_entries_and_the_order_of_images_do_not_matter(decision, masked):
    scores, targets, features = learnable()
    mask = torch.ones_like(targets)
    if masked:
        mask = torch.rand(targets.shape, generator=torch.Generator().manual_seed(0)) < 0.95
        mask[7] = False
    folds = np.arange(len(scores)) % 5
    order = torch.randperm(len(scores), generator=torch.Generator().manual_seed(1))
    if why_not(decision, IMAGES) is not None:
        order = torch.arange(len(scores))
    fitted_to(decision, scores, targets, features, mask, folds=folds)
    expected, state = decision.decide(scores, features), state_of(decision)
    changed, of_rows = (targets ^ ~mask)[order], (scores[order], features[order])
    fitted_to(decision, of_rows[0], changed, of_rows[1], mask[order] if masked else None, folds=folds[order])
    expect_state(decision, state, rtol=1e-4, atol=1e-5)
    found = decision.decide(scores, features)
    assert torch.equal(found.label_sets, expected.label_sets)


@every
def test_a_shift_of_all_scores_moves_the_thresholds_along(decision):
    """By 8, which sums of 64ths take without rounding. Counts and probabilities stay."""
    scores, targets, features = learnable(rows=150, seed=1)
    scores = (scores * 64).round() / 64
    expected = fitted_to(decision, scores, targets, features).decide(scores, features)
    found = fitted_to(decision, scores + 8, targets, features).decide(scores + 8, features)
    if why_not(decision, SHIFT) is not None:
        assert torch.equal(found.label_sets, scores + 8 > 0)
        assert torch.equal(found.thresholds, expected.thresholds)
        return
    assert torch.equal(found.label_sets, expected.label_sets)
    if found.thresholds is not None:
        torch.testing.assert_close(found.thresholds, expected.thresholds + 8, rtol=0, atol=1e-4)
    if found.probabilities is not None:
        torch.testing.assert_close(found.probabilities, expected.probabilities, rtol=0, atol=1e-4)
    assert found.counts is None or torch.equal(found.counts, expected.counts)


@every
@pytest.mark.parametrize("constrained", [False, True])
def test_infinite_scores_are_above_and_below_all_others(decision, constrained):
    """A label of score inf is named before any other, one of -inf after all; other images are as they were."""
    scores, _, features = learnable(rows=8, seed=1)
    fitted(decision)
    if constrained and decision.promises is None:
        decision.constrain(Constraints(min_labels=1, max_labels=4, one_of=((1, 2, 4),)))
    try:
        before = decision.decide(scores, features)
        high = scores.clone()
        high[0, 2], high[1], high[2] = torch.inf, torch.inf, -torch.inf
        high[3] = torch.tensor([torch.inf, -torch.inf] * 3)
        found = decision.decide(high, features)
    finally:
        decision.constrain(Constraints())
    assert torch.equal(found.label_sets[4:], before.label_sets[4:])
    for numbers in (found.thresholds, found.probabilities):
        assert numbers is None or not numbers.isnan().any()
    if isinstance(decision, LabelSetSupport):  # of the label sets that there are, those with the label
        assert found.label_sets[0, 2]
        assert found.label_sets[3, ::2].sum() >= found.label_sets[3, 1::2].sum()
        return
    if constrained and decision.promises is None:
        assert (found.label_sets.sum(1) >= 1).all()
        assert (found.label_sets.sum(1) <= 4).all()
        assert (found.label_sets[:, [1, 2, 4]].sum(1) == 1).all()
        assert found.label_sets[0, 2]
        return
    named = found.label_sets.sum(1)
    if found.thresholds is not None:
        assert found.label_sets[1].all()
        assert named[2] == 0
        assert found.label_sets[3].tolist() == [True, False] * 3
    else:
        assert found.label_sets[0, 2] or named[0] == 0
        assert found.label_sets[3, ::2].sum() >= found.label_sets[3, 1::2].sum()
    certain = confidence(high, found)
    assert not certain.isnan().any()
    assert (certain >= 0).all()


@every
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_nan_scores_are_refused(decision, dtype):
    scores, targets, features = learnable(rows=40, seed=1)
    fitted(decision)
    scores[2, 1] = torch.nan
    for given in (scores.to(dtype), scores.to(dtype).numpy()):
        with pytest.raises(ValueError, match="NaN in row 2"):
            decision.predict(given, features)
        with pytest.raises(ValueError, match="NaN in row 2"):
            decision.decide(given, features)
        with pytest.raises(ValueError, match="NaN in row 2"):
            fitted_to(decision, given, targets, features)


@every
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_it_is_fitted_to_the_same_by_scores_of_any_float_dtype(decision, dtype):
    scores, targets, features = learnable(rows=150, seed=1)
    scores = scores.to(torch.bfloat16).to(torch.float16).float()  # numbers of all of them
    state = state_of(fitted_to(decision, scores, targets, features))
    fitted_to(decision, scores.to(dtype), targets.to(dtype), features)
    expect_state(decision, state, rtol=1e-6, atol=1e-6)
    if dtype != torch.bfloat16:
        fitted_to(decision, scores.to(dtype).numpy(), targets.numpy(), features.numpy())
        expect_state(decision, state, rtol=1e-6, atol=1e-6)


@every
@pytest.mark.parametrize("label", ["on no image", "on every image", "known of no image"])
def test_images_and_labels_of_one_kind(decision, label):
    """Images with all labels and with none, and a label that is on all images, on none, or known of none."""
    scores, targets, features = learnable(seed=1)
    targets[:3], targets[3:6] = True, False
    mask = torch.ones_like(targets)
    targets[:, 4] = label == "on every image"
    mask[:, 4] = label != "known of no image"
    if isinstance(decision, CountEstimation | LabelSetSupport):
        mask[10:, 4] = True  # these go by images of which all is known
    decided = fitted_to(decision, scores, targets, features, mask).decide(scores, features)
    for value in decision.state_dict().values():
        assert not value.isnan().any()
    for numbers in (decided.thresholds, decided.probabilities):
        assert numbers is None or not numbers.isnan().any()


@pytest.mark.parametrize("row", DECISIONS, ids=lambda row: row.key)
@pytest.mark.parametrize(("images", "labels"), [(1, 2), (1, 6), (2, 2), (40, 1)])
def test_one_image_and_one_label(row, images, labels):
    decision = row.build(num_features=20, num_labels=labels)
    scores, _, features = learnable(rows=images, labels=labels, seed=1)
    targets = scores > scores.median()
    assert targets.any()
    assert not targets.all()
    if why_not(decision, FEW) is not None and images < 10:
        with pytest.raises(ValueError, match="images"):
            fitted_to(decision, scores, targets, features)
        return
    decided = fitted_to(decision, scores, targets, features).decide(scores, features)
    assert decided.label_sets.shape == (images, labels)
    for value in decision.state_dict().values():
        assert not value.isnan().any()
