"""Fitting on some rows and asking about others: folds, the weight decay, what an image's own targets do not reach."""

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
import torch

from lsep_ml.decisions import LabelSetSupport, LinearThresholds
from lsep_ml.training.cross_fitting import fit_log_odds_decision
from lsep_ml.training.folds import Rows, draw_folds
from lsep_ml.training.linear_fits import LinearFits, choose_weight_decay
from lsep_ml.training.linear_problem import LinearProblem
from lsep_ml.training.solver import minimise


def case(rows=120, features=8, labels=3, noise=1.0, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((rows, features)).astype(np.float32)
    signal = x @ rng.standard_normal((features, labels)) / 2
    targets = signal + noise * rng.standard_normal((rows, labels)) > 0
    scores = (targets + rng.standard_normal((rows, labels))).astype(np.float32)
    return Rows(scores, targets, np.ones((rows, labels), bool), x, draw_folds(rows, 0))


def test_folds_are_even_and_part_no_group():
    folds = draw_folds(23, 0)
    assert sorted(np.bincount(folds)) == [4, 4, 5, 5, 5]
    assert np.array_equal(folds, draw_folds(23, 0))
    assert not np.array_equal(folds, draw_folds(23, 1))
    groups = np.repeat(np.arange(10) + 100, 4)
    folds = draw_folds(40, 0, groups)
    assert np.bincount(folds).tolist() == [8] * 5
    assert all(len(set(folds[groups == group])) == 1 for group in groups)
    assert sorted(draw_folds(3, 0)) == [0, 1, 2]
    assert draw_folds(1, 0).tolist() == [0]


def test_a_fold_without_which_nothing_can_be_fitted_is_fitted_on_all():
    rows = case(rows=10)
    targets = np.zeros_like(rows.targets)
    targets[rows.folds == 2] = True
    for outside, inside in Rows(rows.scores, targets, rows.known, rows.features, rows.folds).splits():
        fold = rows.folds[inside][0]
        assert outside.all() == (fold == 2)
        assert (outside & inside).any() == (fold == 2)


@pytest.mark.parametrize("judged", [True, False])
@pytest.mark.parametrize(("noise", "features"), [(0.3, 4), (5.0, 60)])
def test_the_weight_decay_is_that_of_the_lowest_log_loss_of_a_widened_path(
    judged, noise, features, monkeypatch
):
    if noise == 5.0:
        monkeypatch.setattr("lsep_ml.training.linear_fits._STEPS", (-5, -6, -7))
    rows = case(noise=noise, features=features)
    judges = np.arange(120) % 4 == 0 if judged else None
    rows = Rows(
        *(getattr(rows, name) for name in ("scores", "targets", "known", "features", "folds")), judges
    )
    decision = LinearThresholds(features, 3)
    chosen = choose_weight_decay(LinearProblem(decision, rows))

    def log_loss(decay):
        total = 0.0
        for inside in [judges] if judged else [rows.folds == fold for fold in range(5)]:
            fitted, given = LinearThresholds(features, 3, weight_decay=decay), rows.take(~inside)
            fitted.reset(given.scores, given.targets, given.features)
            inputs = [torch.from_numpy(array) for array in (given.scores, given.targets, given.features)]
            minimise(
                list(fitted.parameters()),
                lambda fitted=fitted, inputs=inputs: fitted.loss(*inputs),
                tolerance=1e-3,
            )
            z = fitted.log_odds(rows.scores[inside], rows.features[inside]).numpy()
            total += np.logaddexp(0, np.where(rows.targets[inside], -z, z)).sum()
        return total

    beside = [log_loss(chosen * factor) for factor in (10**-0.5, 1.0, 10**0.5)]
    assert beside[1] <= min(beside) * 1.002, (chosen, beside)
    assert chosen < 0.09 if noise == 0.3 else chosen > 0.2  # beyond what is tried first


@pytest.mark.parametrize("kind", [LinearThresholds, LabelSetSupport])
def test_log_odds_of_a_fold_do_not_depend_on_its_targets(kind, monkeypatch):
    found = []
    monkeypatch.setattr(kind, "choose", lambda self, rows: found.append(rows.log_odds))
    rows = case()
    for targets in (rows.targets, rows.targets ^ (rows.folds == 1)[:, None]):
        decision = kind(8, 3)
        estimator = decision.estimator
        estimator.weight_decay = 0.1
        estimator.decay.fill_(0.1)
        changed = Rows(rows.scores, targets, rows.known, rows.features, rows.folds)
        fit_log_odds_decision(decision, changed)
    inside = rows.folds == 1
    assert np.array_equal(found[0][inside], found[1][inside])
    assert np.abs(found[0] - found[1])[~inside].max() > 0.2


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("weight_decay", [0.0, 1e-4, 0.1, 30.0])
@pytest.mark.parametrize("most_axes", [2, 2048])
def test_a_minimum_on_the_axes_is_one_of_the_loss(most_axes, weight_decay, masked, monkeypatch):
    monkeypatch.setattr("lsep_ml.training.principal_axes._MOST", most_axes)
    rows = case()
    rng = np.random.default_rng(0)
    features = (rows.features @ rng.normal(size=(8, 8)) * 50 + 20).astype(np.float32)  # correlated
    rows = replace(rows, features=features, scores=rows.scores * 30 - 400)
    if masked:
        rows = replace(rows, known=rng.random(rows.known.shape) < 0.7)
    chosen = rows.folds != 2
    problem = LinearProblem(LinearThresholds(8, 3), rows)
    [found] = problem.solve([chosen], weight_decay)
    [fitted], given = problem.decisions([found], weight_decay), rows.take(chosen)
    fitted = fitted.double()
    arrays = (given.scores, given.targets, given.features, given.known)
    inputs = [torch.from_numpy(array) for array in arrays]
    reached = float(fitted.loss(*inputs).detach())
    assert reached == pytest.approx(found.solution.value, rel=1e-5)
    minimise(list(fitted.parameters()), lambda: fitted.loss(*inputs), tolerance=1e-6)
    assert reached == pytest.approx(float(fitted.loss(*inputs).detach()), abs=2e-5)
    inside = rows.take(~chosen)
    z = fitted.float().log_odds(inside.scores, inside.features).numpy()[inside.known]
    losses = np.logaddexp(0, np.where(inside.targets[inside.known], -z, z))
    assert problem.log_loss(found, ~chosen) == pytest.approx(losses.sum(), rel=2e-2)


def test_each_fit_is_made_once_where_fits_are_kept():
    made, kept = [], {}

    def keep(name, make):
        if name not in kept:
            made.append(name)
            kept[name] = make()
        return kept[name]

    rows, thresholds = case(), LinearThresholds(8, 3)
    fits = LinearFits(thresholds, rows, keep)
    fit_log_odds_decision(thresholds, rows, fits)
    first = list(made)
    assert sorted(first) == ["weight_decay", "without-0"]
    support = LabelSetSupport(8, 3)
    fit_log_odds_decision(support, rows, fits)
    assert made == first
    assert torch.equal(support.estimator.weight, thresholds.weight)
    for fold in range(5):
        fit_log_odds_decision(LinearThresholds(8, 3), rows, fits, {fold})
    assert made[len(first) :] == ["without-0-1"]
    pairs = ["-".join(map(str, pair)) for pair in combinations(range(5), 2)]
    assert list(kept["without-0"]) == [*(f"without-{fold}" for fold in range(5)), "all"]
    assert list(kept["without-0-1"]) == [f"without-{pair}" for pair in pairs]
    assert list(fits.makes(twice=False)) == ["without-0"]
    assert list(fits.makes(twice=True)) == ["without-0", "without-0-1"]


def test_fits_of_more_labels_are_made_fewer_together_and_end_at_the_same_minima(monkeypatch):
    rows, thresholds, found = case(), LinearThresholds(8, 3, weight_decay=0.1), []
    for columns in (256, 6):
        monkeypatch.setattr("lsep_ml.training.linear_fits._COLUMNS", columns)
        makes = LinearFits(thresholds, rows).makes(twice=True)
        found.append({name: fit for make in makes.values() for name, fit in make().items()})
        assert len(makes) == (2 if columns == 256 else 3 + 5)
    assert found[0].keys() == found[1].keys()
    for name in found[0]:
        for weights in zip(*(fits[name]["state"]["head.0.weight"] for fits in found), strict=True):
            torch.testing.assert_close(*weights, rtol=0, atol=2 * 1e-3 / 0.2)
