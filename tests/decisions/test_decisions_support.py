"""The label set as a whole: by enumeration of all label sets, over the whole grid, out of fold."""

import itertools
import math
import warnings

import decisions_oracle as oracle
import numpy as np
import pytest
import torch
from decisions_data import honest, learnable

from lsep_ml import fit_decision
from lsep_ml.decisions import Calibrated, LabelSetSupport, TopK
from lsep_ml.decisions.support import ALPHAS, BETAS, _SetTable

K = 4
SETS = [[1, 0, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 1, 0, 1], [0, 0, 1, 1]]


def case(rows=60, labels=K, seed=0, masked=False):
    """Log odds with ties, targets drawn from few label sets, and a mask."""
    rng = np.random.default_rng(seed)
    sets = rng.random((5, labels)) < 0.5 if labels != K else np.array(SETS, bool)
    targets = sets[rng.choice(5, rows, p=[0.4, 0.3, 0.15, 0.1, 0.05])]
    log_odds = np.round(rng.normal(size=(rows, labels)) + 2 * targets - 1, 1)
    mask = rng.random((rows, labels)) < (0.95 if masked else 2)
    return log_odds, targets, mask


def enumerated(log_odds, targets, mask, alpha, beta):
    """The best of all 2^K label sets for each image, by loops: those that no row has are worth minus infinity."""
    rows = [tuple(row) for row, known in zip(targets.tolist(), mask, strict=True) if known.all()]
    labels = targets.shape[1]
    shares = [min(max(sum(row[k] for row in rows) / len(rows), 1e-4), 1 - 1e-4) for k in range(labels)]
    best = []
    for z in log_odds:
        values = []
        for candidate in itertools.product((False, True), repeat=labels):
            if candidate not in rows:
                continue
            share = rows.count(candidate) / len(rows)
            independent = sum(math.log(p if y else 1 - p) for y, p in zip(candidate, shares, strict=True))
            value = sum(zk for zk, y in zip(z, candidate, strict=True) if y)
            value += alpha * (math.log(share) - independent) + beta * sum(candidate)
            values.append((round(value, 9), share, candidate))
        top = max(value for value, _, _ in values)
        tied = [(share, candidate) for value, share, candidate in values if value == top]
        most = max(share for share, _ in tied)
        best.append([candidate for share, candidate in tied if share == most])
    return best


def chosen_on(log_odds, targets, mask, **options):
    decision = LabelSetSupport(3, targets.shape[1], log_odds="platt", **options)
    decision.of_labels.fit(log_odds, targets, mask)
    decision.choose(honest(log_odds, targets, mask))
    return decision


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("labels", [1, 4, 10])
def test_it_is_the_best_of_all_label_sets(labels, masked):
    log_odds, targets, mask = case(labels=labels, masked=masked)
    decision = chosen_on(log_odds, targets, mask)
    alpha, beta = decision.choices()["alpha"], decision.choices()["beta"]
    z = decision.of_labels.log_odds(log_odds).numpy()
    expected = enumerated(z, targets, mask, alpha, beta)
    for row, candidates in zip(decision.predict(log_odds).tolist(), expected, strict=True):
        assert tuple(row) in candidates


@pytest.mark.parametrize("criterion", ["exact_match", "f1", "jaccard", "hamming_loss"])
def test_alpha_and_beta_are_the_best_out_of_fold(criterion):
    log_odds, targets, mask = case(masked=True)
    decision = chosen_on(log_odds, targets, mask, criterion=criterion)
    rows, values = honest(log_odds, targets, mask), []
    for alpha, beta in itertools.product(ALPHAS, BETAS):
        sets = np.zeros_like(targets)
        for fold in range(5):
            inside = rows.folds == fold
            known = mask.copy()
            known[inside] = False  # what is not known is not counted
            table = _SetTable.of(honest(log_odds, targets, known))
            candidates = table.candidates(10_000)
            value = log_odds[inside].astype(np.float32) @ candidates.sets.T + candidates.bonus(alpha, beta)
            sets[inside] = candidates.sets[value.argmax(1)]
        values.append(oracle.value(sets, targets, mask, criterion))
    best = oracle.best(values)
    alpha, beta = list(itertools.product(ALPHAS, BETAS))[best]
    assert (decision.choices()["alpha"], decision.choices()["beta"]) == (alpha, beta)


def test_ties_go_to_the_more_frequent_set():
    targets = np.array([[1, 0, 0]] * 3 + [[0, 1, 0]] * 5 + [[0, 0, 1]] * 4, bool)
    decision = chosen_on(np.tile([0.0, 0.1, 0.2], (12, 1)), targets, np.ones((12, 3), bool))
    assert decision.sets.tolist() == [[False, True, False], [False, False, True], [True, False, False]]
    decision.bonus.zero_()
    decision.of_labels.curves.fill_(0.0)
    assert decision.predict(np.array([[5.0, 1.0, 3.0]] * 2)).tolist() == [[False, True, False]] * 2


def test_further_images_count_in_every_fold_and_the_empty_set_is_one_where_it_is_there():
    log_odds, targets, mask = case()
    assert targets.any(1).all()
    more, known = np.zeros((7, K), bool), np.ones((7, K), bool)
    known[0, 0] = False
    decision = LabelSetSupport(3, K, log_odds="platt")
    fit_decision(decision, log_odds, targets, mask=mask, further=(more, known))
    assert (~decision.sets).all(1).any()
    rows = honest(log_odds, targets)._replace(further=(more, known))
    table = _SetTable.of(rows)
    assert table.counts.sum() == 66
    empty = int(np.flatnonzero(~table.sets(slice(None)).any(1))[0])
    assert table.without(0).counts[empty] == 6
    assert table.without(0).counts.sum() == 66 - 12
    assert not (~chosen_on(log_odds, targets, mask).sets).all(1).any()
    for value in (-1.0, 0.5, np.nan):
        with pytest.raises(ValueError, match=rf"further: {value} found in row 0, column 1"):
            fit_decision(decision, log_odds, targets, mask=mask, further=(np.where(known, value, 0), known))


def test_only_so_many_sets_and_that_is_said():
    log_odds, targets, mask = case()
    full, cut = (chosen_on(log_odds, targets, mask, max_sets=size) for size in (100, 2))
    assert torch.equal(cut.sets, full.sets[:2])
    frequency = [(targets == row).all(1).sum() for row in full.sets.numpy()]
    assert frequency == sorted(frequency, reverse=True)
    assert (
        cut.problems(log_odds)[0] == f"{len(full.sets) - 2} rarer label sets are no candidates (max_sets=2)"
    )
    assert full.problems(log_odds) == []
    seen = cut.seen(targets)
    assert seen.tolist() == [any((row == kept).all() for kept in cut.sets.numpy()) for row in targets]
    assert cut.unseen(targets) == sum(not one for one in seen) > 0
    assert TopK().unseen(targets) is None


def test_a_label_that_no_complete_image_has_is_never_named_and_that_is_said():
    log_odds, targets, mask = case()
    mask[targets[:, 1], 0] = False
    decision = chosen_on(log_odds, targets, mask)
    decision.label_names = list("abcd")
    assert not decision.predict(log_odds + 9).numpy()[:, 1].any()
    assert decision.problems(log_odds) == [
        "never named, since no image whose labels are all known has them: b"
    ]


def test_an_image_whose_labels_are_all_known_is_needed():
    log_odds, targets, mask = case()
    mask[:, 0] = False
    with pytest.raises(ValueError, match="mask: no image has all its labels known"):
        fit_decision(LabelSetSupport(3, K, log_odds="platt"), log_odds, targets, mask=mask)


@pytest.mark.parametrize("rows", [1, 2, 400])
@pytest.mark.parametrize("log_odds", ["thresh_linear", "platt", "isotonic"])
def test_it_is_fitted_from_few_and_many_images(rows, log_odds):
    scores, targets, features = learnable(rows=rows)
    targets[0, 0], targets[0, 1] = True, False
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        decision = fit_decision(LabelSetSupport(20, 6, log_odds=log_odds), scores, targets, features)
    label_sets = decision.predict(scores, features)
    assert decision.seen(label_sets.numpy()).all()
    if rows == 400:
        labelwise = Calibrated().fit(scores, targets).predict(scores)
        assert (label_sets == targets).all(1).float().mean() > (labelwise == targets).all(1).float().mean()


def test_blocks_of_images_change_nothing(monkeypatch):
    log_odds, targets, mask = case(masked=True)
    whole = chosen_on(log_odds, targets, mask)
    monkeypatch.setattr("lsep_ml.decisions.support._CELLS", 12)
    blocks = chosen_on(log_odds, targets, mask)
    assert blocks.choices() == whole.choices()
    assert torch.equal(blocks.predict(log_odds), whole.predict(log_odds))


def test_options_are_checked_and_it_must_be_fitted():
    for options, message in [
        ({"log_odds": "topk"}, "log_odds='topk': expected one of thresh_linear, platt, isotonic"),
        ({"criterion": "map"}, "criterion='map': expected one of"),
        ({"max_sets": 0}, "max_sets=0: expected at least 1"),
    ]:
        with pytest.raises(ValueError, match=message):
            LabelSetSupport(4, 3, **options)
    with pytest.raises(ValueError, match="LabelSetSupport is not fitted"):
        LabelSetSupport(4, 3).predict(np.zeros((1, 3)), np.zeros((1, 4)))
    with pytest.raises(ValueError, match="LabelSetSupport decides from features, got none"):
        fit_decision(LabelSetSupport(4, 3), np.eye(3), np.eye(3))
