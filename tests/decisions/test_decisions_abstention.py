"""Which images are left to a person: confidence by loops for every decision, the cut by every cut tried."""

import numpy as np
import pytest
import torch
from decisions_data import EVERY, fitted, learnable, name_of

from lsep_ml.bundle.classifier import decide
from lsep_ml.decisions import Decided, GlobalThreshold, load
from lsep_ml.decisions.abstention import Abstention, answered, choose_abstention, confidence


def closest(scores, decided):
    """How far each image's closest label is from being decided otherwise."""
    found = []
    for row, score in enumerate(scores.tolist()):
        chosen = decided.label_sets[row].tolist()
        if decided.thresholds is not None:
            found.append(
                min(abs(s - t) for s, t in zip(score, decided.thresholds[row].tolist(), strict=True))
            )
            continue
        values = score if decided.probabilities is None else decided.probabilities[row].tolist()
        if decided.counts is None:
            found.append(min(abs(value - 0.5) for value in values))
            continue
        inside = [v for v, c in zip(values, chosen, strict=True) if c]
        outside = [v for v, c in zip(values, chosen, strict=True) if not c]
        found.append(max(min(inside) - max(outside), 0) if inside and outside else np.inf)
    return found


@pytest.mark.parametrize("decision", EVERY, ids=name_of)
def test_confidence_of_every_decision(decision):
    scores, _, features = learnable(rows=80, seed=1)
    decided = fitted(decision).decide(scores, features)
    found = confidence(scores, decided)
    assert found.tolist() == pytest.approx(closest(scores, decided), rel=1e-5, abs=1e-6)
    assert torch.equal(confidence(scores.numpy(), decided), found)


@pytest.mark.parametrize("wanted", [0.3, 0.6, 0.9])
@pytest.mark.parametrize("levels", [None, 1])
@pytest.mark.parametrize("masked", [False, True])
def test_as_many_are_answered_as_can_be(wanted, levels, masked):
    scores, targets, _ = learnable(rows=150)
    scores = scores if levels is None else (scores * levels).round()
    mask = torch.rand(targets.shape, generator=torch.Generator().manual_seed(0)) < (0.7 if masked else 2)
    mask[3] = not masked
    decided = GlobalThreshold("exact").fit(scores, targets, mask).decide(scores)
    certain, right = confidence(scores, decided), []
    for chosen, true, known in zip(decided.label_sets, targets, mask, strict=True):
        right.append(bool((chosen == true)[known].all()))
    tried = {}
    for least in sorted(set(certain.tolist())):
        answered = [
            r for r, c, k in zip(right, certain.tolist(), mask, strict=True) if c >= least and k.any()
        ]
        if answered and sum(answered) / len(answered) >= wanted:
            tried[least] = answered
    if not tried:
        with pytest.raises(ValueError, match="no part of the images reaches it"):
            choose_abstention(scores, decided, targets, mask, exact_match=wanted)
        return
    chosen = choose_abstention(scores, decided, targets, mask, exact_match=wanted)
    best = tried[min(tried)]
    assert chosen.coverage == pytest.approx(len(best) / int(mask.any(1).sum()))
    assert chosen.exact_match == pytest.approx(sum(best) / len(best))
    assert torch.equal(chosen.asks(scores, decided), certain < chosen.least)
    assert int((~chosen.asks(scores, decided) & mask.any(1)).sum()) == len(best)


def test_what_cannot_be_chosen_is_refused():
    scores, targets, _ = learnable(rows=20)
    decided = Decided(~targets, torch.zeros(20, 6))
    for share in (0.0, 1.1, float("nan")):
        with pytest.raises(ValueError, match=r"exact_match=.*expected a share"):
            choose_abstention(scores, decided, targets, exact_match=share)
    with pytest.raises(ValueError, match=r"no part of the images reaches it; the most is 0\.000"):
        choose_abstention(scores, decided, targets, exact_match=0.5)
    with pytest.raises(ValueError, match="no image has a known label"):
        choose_abstention(scores, decided, targets, targets & False, exact_match=0.5)
    with pytest.raises(ValueError, match=r"targets: 0\.5 found in row 0, column 0"):
        choose_abstention(scores, decided, targets * 0 + 0.5, exact_match=0.5)


@pytest.mark.parametrize("chosen", [Abstention(0.4, 0.5, 0.8), Abstention(0.0, 0.0, 0.0)])
def test_it_is_saved_with_the_decision_and_says_what_is_answered(chosen, tmp_path):
    scores, targets, _ = learnable(rows=60)
    decision = GlobalThreshold("exact").fit(scores, targets)
    decision.abstention = chosen
    decision.save(tmp_path / "decision.json")
    loaded = load(tmp_path / "decision.json")
    assert loaded.abstention == chosen
    found = decide(loaded, list("abcdef"), scores, None)
    assert found.ask is not None
    certain = closest(scores, decision.decide(scores))
    asked = [chosen.coverage == 0 or value < chosen.least for value in certain]
    assert found.ask.tolist() == asked
    assert [one.ask for one in found] == asked
    mask = torch.rand(targets.shape, generator=torch.Generator().manual_seed(0)) < 0.5
    mask[:2] = False
    right = [
        all(a == b for a, b, k in zip(*row, strict=True) if k)
        for row in zip(found.label_sets.tolist(), targets.tolist(), mask.tolist(), strict=True)
    ]
    kept = [row for row in range(60) if mask[row].any() and not asked[row]]
    expected = len(kept) / int(mask.any(1).sum()), sum(right[row] for row in kept) / max(len(kept), 1)
    shares = answered(
        chosen, confidence(scores, decision.decide(scores)).numpy(), found.label_sets, targets, mask
    )
    assert tuple(shares.values()) == pytest.approx(expected)


@pytest.mark.parametrize(
    "plain", [[1, 2, 3], {"least": 0.1}, {"least": "a", "coverage": 1, "exact_match": 1}]
)
def test_an_edited_abstention_is_refused(plain):
    with pytest.raises(ValueError, match=r"abstention = .*: expected least, coverage, exact_match"):
        Abstention.of_plain(plain)
