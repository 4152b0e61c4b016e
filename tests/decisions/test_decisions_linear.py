"""Linear thresholds: the loss and the solution against the equation, the offset against every cut-off."""

import math
import warnings

import decisions_oracle as oracle
import numpy as np
import pytest
import torch
from decisions_data import honest, learnable
from scipy.optimize import minimize

from lsep_ml import fit_decision
from lsep_ml.decisions import LinearThresholds
from lsep_ml.decisions.learnt import NEVER
from lsep_ml.decisions.offset import FEW_POSITIVES


def started(**options):
    decision = LinearThresholds(20, 6, **options)
    scores, targets, features = learnable()
    decision.reset(scores, targets, features)
    with torch.no_grad():
        decision.weight.normal_(0, 0.2, generator=torch.Generator().manual_seed(0))
    return decision, scores, targets, features


def random_mask(targets, share=0.8):
    return torch.rand(targets.shape, generator=torch.Generator().manual_seed(0)) < share


def standard(features):
    values = np.asarray(features, np.float64)
    return (values - values.mean(0)) / values.std(0)


@pytest.mark.parametrize("masked", [False, True])
@torch.no_grad()
def test_the_loss_is_its_equation(masked):
    decision, scores, targets, features = started(weight_decay=0.7)
    mask = random_mask(targets) if masked else torch.ones_like(targets)
    x, scale = standard(features), math.exp(float(decision.log_scale))
    weight, bias = decision.weight.double().numpy(), decision.head[0].bias.double().numpy()
    total, known = 0.0, 0
    for i in range(len(scores)):
        for k in range(6):
            if mask[i, k]:
                z = scale * float(scores[i, k]) - bias[k] - float(weight[k] @ x[i])
                total += math.log1p(math.exp(-z if targets[i, k] else z))
                known += 1
    expected = 6 * total / known + 0.7 * float((weight**2).sum())
    loss = decision.loss(scores, targets, features, mask if masked else None)
    assert float(loss) == pytest.approx(expected, rel=1e-5)


def test_gradients():
    decision, scores, targets, features = started(weight_decay=0.1)
    decision = decision.double()
    inputs = [array[:6].double().requires_grad_() for array in (scores, features)]
    assert torch.autograd.gradcheck(lambda s, x: decision.loss(s, targets[:6], x), inputs)
    decision.loss(scores[:6], targets[:6], features[:6]).backward()
    assert all(parameter.grad is not None for parameter in decision.parameters())


@pytest.mark.parametrize("labels", [1, 3])
@pytest.mark.parametrize("masked", [False, True])
def test_it_is_fitted_to_the_minimum(labels, masked):
    scores, targets, features = learnable(rows=150, features=4, labels=labels, seed=2)
    targets = targets ^ (torch.rand(targets.shape, generator=torch.Generator().manual_seed(1)) < 0.2)
    mask = random_mask(targets) if masked else torch.ones_like(targets)
    f, y, known, x = (
        np.asarray(scores, float),
        np.asarray(targets, float),
        np.asarray(mask),
        standard(features),
    )

    def equation(parameters):
        scale, bias, weight = parameters[0], parameters[1 : 1 + labels], parameters[1 + labels :]
        z = scale * f - bias - x @ weight.reshape(labels, 4).T
        losses = np.logaddexp(0, np.where(y == 1, -z, z))
        return labels * losses[known].mean() + 0.05 * (weight**2).sum()

    best = minimize(equation, np.full(1 + 5 * labels, 0.1), tol=1e-12)
    decision = fit_decision(LinearThresholds(4, labels, weight_decay=0.05), scores, targets, features, mask)
    with torch.no_grad():
        reached = float(decision.double().loss(scores, targets, features, mask))
    assert best.fun <= reached + 1e-6
    assert reached == pytest.approx(best.fun, abs=1e-4)
    assert decision.choices()["scale"] == pytest.approx(best.x[0], rel=0.02)


@torch.no_grad()
def test_thresholds_and_probabilities_are_their_equations():
    decision, scores, _, features = started()
    decision.offsets = torch.linspace(-1, 1, 6)
    decided = decision.decide(scores, features)
    x, scale = torch.from_numpy(standard(features)).float(), decision.log_scale.exp()
    linear = decision.head[0].bias + x @ decision.weight.T
    torch.testing.assert_close(decided.thresholds, (linear + decision.offsets) / scale)
    torch.testing.assert_close(decided.probabilities, torch.sigmoid(scale * scores - linear))
    torch.testing.assert_close(decision.log_odds(scores, features), scale * scores - linear)
    assert torch.equal(decided.label_sets, scores > decided.thresholds)


@pytest.mark.parametrize("masked", [False, True])
def test_an_offset_a_class_is_the_best_of_all_cut_offs_of_each(masked):
    log_odds = np.round(np.random.default_rng(0).normal(size=(100, 3)), 1)
    targets = np.random.default_rng(1).random((100, 3)) < 1 / (1 + np.exp(-log_odds))
    mask = np.random.default_rng(2).random((100, 3)) < (0.7 if masked else 2)
    decision = LinearThresholds(5, 3)
    decision.choose(honest(log_odds, targets, mask))
    for k in range(3):
        rows = mask[:, k]
        z, y = log_odds[rows, k].astype(np.float32), targets[rows, k]

        def f1(cut, z=z, y=y):
            return 2 * ((z > cut) & y).sum() / max((z > cut).sum() + y.sum(), 1)

        best = max(f1(cut) for cut in [*z, -np.inf])
        assert f1(float(decision.offsets[k])) == pytest.approx(best)


@pytest.mark.parametrize("criterion", ["f1", "exact_match", "of1", "hamming_loss"])
def test_one_offset_is_the_best_of_all_cut_offs(criterion):
    log_odds = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32)
    targets = np.random.default_rng(1).random((40, 3)) < 1 / (1 + np.exp(-log_odds))
    mask = np.ones((40, 3), bool)
    decision = LinearThresholds(5, 3, criterion=criterion, offset="one" if criterion == "f1" else "class")
    decision.choose(honest(log_odds, targets))
    assert len(set(decision.offsets.tolist())) == 1
    values = [
        oracle.value(log_odds > cut, targets, mask, criterion) for cut in oracle.every_cutoff(log_odds, mask)
    ]
    chosen = oracle.value(log_odds > float(decision.offsets[0]), targets, mask, criterion)
    assert chosen == pytest.approx(max(values))


def test_a_label_of_few_positives_takes_the_offset_of_all_labels():
    random = np.random.default_rng(0)
    log_odds = random.normal(size=(300, 3)).astype(np.float32)
    targets = random.random((300, 3)) < 1 / (1 + np.exp(-log_odds))
    targets[:, 2] = False
    # one far down: the best cut-off of these names all but 3
    targets[log_odds[:, 2].argsort()[[3, 250]], 2] = True
    chosen = {}
    for offset in ("class", "one"):
        decision = LinearThresholds(5, 3, offset=offset)
        decision.choose(honest(log_odds, targets))
        chosen[offset] = decision.offsets
    assert chosen["class"][2] == chosen["one"][2]
    assert (log_odds[:, 2] > float(chosen["class"][2])).mean() < 0.9
    assert chosen["class"][0] != chosen["class"][1]
    targets[log_odds[:, 2].argsort()[-FEW_POSITIVES:], 2] = True  # enough for a cut-off of its own
    decision = LinearThresholds(5, 3)
    decision.choose(honest(log_odds, targets))
    assert (log_odds[:, 2] > float(decision.offsets[2])).sum() == FEW_POSITIVES


def test_without_an_offset_it_cuts_at_one_half():
    scores, targets, features = learnable()
    decision = fit_decision(
        LinearThresholds(20, 6, offset="none", weight_decay=0.1), scores, targets, features
    )
    assert not decision.offsets.any()
    decided = decision.decide(scores, features)
    clear = (decided.probabilities - 0.5).abs() > 1e-4
    assert torch.equal(decided.label_sets[clear], (decided.probabilities > 0.5)[clear])


def test_a_label_without_a_positive_is_never_named_and_that_is_said():
    scores, targets, features = learnable()
    targets[:, 2] = False
    targets[:, 4] = True
    decision = LinearThresholds(20, 6, weight_decay=0.1)
    decision.label_names = list("abcdef")
    with pytest.warns(UserWarning, match="never named, since no image it was fitted on has them: c$"):
        fit_decision(decision, scores, targets, features)
    decided = decision.decide(scores + 1e6, features)
    assert not decided.label_sets[:, 2].any()
    assert (decided.thresholds[:, 2] == NEVER).all()
    assert decision.decide(scores, features).probabilities[:, 2].max() < 0.1
    assert decision.predict(scores, features)[:, 4].all()


def test_an_unknown_positive_is_no_positive():
    scores, targets, features = learnable()
    mask = torch.ones_like(targets)
    mask[:, 2] = ~targets[:, 2]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        decision = fit_decision(LinearThresholds(20, 6, weight_decay=0.1), scores, targets, features, mask)
    assert not decision.predict(scores, features)[:, 2].any()


@pytest.mark.parametrize("rows", [1, 2, 6])
def test_few_images(rows):
    scores, _, features = learnable(rows=rows)
    targets = torch.zeros(rows, 6, dtype=torch.bool)
    targets[:, 0] = True
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        decision = fit_decision(LinearThresholds(20, 6), scores, targets, features)
    decided = decision.decide(scores, features)
    assert torch.equal(decided.label_sets, targets)
    assert all(torch.isfinite(values).all() for values in decided if values is not None)


def test_unknown_entries_do_not_matter():
    scores, targets, features = learnable()
    mask = random_mask(targets)
    options = {"weight_decay": 0.3, "criterion": "f1"}
    one = fit_decision(LinearThresholds(20, 6, **options), scores, targets, features, mask)
    other = fit_decision(LinearThresholds(20, 6, **options), scores, targets ^ ~mask, features, mask)
    assert torch.equal(one.predict(scores, features), other.predict(scores, features))


def test_options_are_checked():
    for options, message in [
        ({"criterion": "map"}, "criterion='map': expected one of"),
        ({"offset": "two"}, "offset='two': expected 'class', 'one' or 'none'"),
        ({"weight_decay": -1.0}, "weight_decay=-1.0: expected a number of at least 0"),
        ({"weight_decay": math.nan}, "weight_decay=nan"),
    ]:
        with pytest.raises(ValueError, match=message):
            LinearThresholds(4, 3, **options)
