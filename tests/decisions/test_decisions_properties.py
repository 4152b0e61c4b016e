"""What holds for every decision."""

import numpy as np
import pytest
import torch
from decisions_data import EVERY, fitted, learnable, name_of

from lsep_ml import decisions
from lsep_ml.decisions import Decided, Decision, LearnThenTest, Rule
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


@pytest.mark.parametrize("decision", [d for d in EVERY if isinstance(d, Rule)], ids=name_of)
def test_unknown_entries_and_the_order_of_images_do_not_matter(decision):
    scores, targets, _ = learnable()
    mask = torch.rand(targets.shape, generator=torch.Generator().manual_seed(0)) < 0.7
    mask[7] = False
    by_place = getattr(decision, "guard", False) or getattr(decision, "shape", "") == "per_class"
    if by_place or isinstance(decision, LearnThenTest):
        order = torch.arange(len(scores))  # folds and parts are drawn by place
    else:
        order = torch.randperm(len(scores), generator=torch.Generator().manual_seed(1))
    predictions = decision.fit(scores, targets, mask).predict(scores)
    changed = (targets ^ ~mask)[order]
    assert torch.equal(decision.fit(scores[order], changed, mask[order]).predict(scores), predictions)
