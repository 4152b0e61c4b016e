"""Per-class thresholds against brute force, and the guard."""

import decisions_oracle as oracle
import numpy as np
import pytest
import torch
from metrics_oracle import label_sets

from lsep_ml.decisions import GlobalThreshold, PerClassThreshold
from lsep_ml.decisions.per_class import PRIORS
from lsep_ml.metrics import LABEL_SET_KEYS


def random_case(seed, rows=24, labels=4, levels=6, masked=True):
    generator = np.random.default_rng(seed)
    targets = generator.random((rows, labels)) < generator.uniform(0.1, 0.6, labels)
    scores = (generator.integers(-levels, levels, (rows, labels)) / 4 + targets).astype(np.float32)
    mask = generator.random((rows, labels)) < 0.8 if masked else np.ones((rows, labels), bool)
    targets[0], mask[0] = [True, *[False] * (labels - 1)], True
    return scores, targets, mask


def counts(scores, positive, theta):
    predicted = scores > theta
    return (predicted & positive).sum(), predicted.sum(), positive.sum()


def f_beta(scores, positive, theta, beta):
    correct, predicted, actual = counts(scores, positive, theta)
    return (1 + beta**2) * correct / (predicted + beta**2 * actual) if predicted + actual else 0.0


def expect_predictions(decision, scores, mask, thetas):
    """The decision predicts, on known entries, what these thresholds predict."""
    assert ((scores > np.array(thetas)) == decision.predict(scores).numpy())[mask].all()


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("beta", [1.0, 0.5, 2.0])
@pytest.mark.filterwarnings("ignore:beta=.* is F-beta by its first name")
def test_each_label_gets_its_best_f_beta(seed, beta):
    scores, targets, mask = random_case(seed)
    best = []
    for label in range(4):
        column, positive = scores[mask[:, label], label], targets[mask[:, label], label]
        candidates = oracle.every_cutoff(column, np.ones_like(positive))
        best.append(candidates[oracle.best([f_beta(column, positive, theta, beta) for theta in candidates])])
    decision = PerClassThreshold(beta=beta, guard=False).fit(scores, targets, mask)
    expect_predictions(decision, scores, mask, best)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("goal", ["min_precision", "min_recall"])
@pytest.mark.parametrize("share", [0.5, 0.8, 1.0])
def test_demanded_precision_and_recall(seed, goal, share):
    scores, targets, mask = random_case(seed)
    best = []
    for label in range(4):
        column, positive = scores[mask[:, label], label], targets[mask[:, label], label]
        candidates, values = oracle.every_cutoff(column, np.ones_like(positive)), []
        for theta in candidates:
            correct, predicted, actual = counts(column, positive, theta)
            precision, recall = correct / max(predicted, 1), correct / max(actual, 1)
            if goal == "min_precision":  # the precise ones by recall, else the most precise
                values.append(1 + recall if precision >= share - 1e-9 else precision - 1)
            else:
                values.append(float(recall >= share - 1e-9 or not actual))
        best.append(candidates[oracle.best(values)])
    decision = PerClassThreshold(**{goal: share}, guard=False).fit(scores, targets, mask)
    expect_predictions(decision, scores, mask, best)


@pytest.mark.parametrize("criterion", LABEL_SET_KEYS)
@pytest.mark.parametrize("seed", range(3))
def test_no_single_threshold_can_be_moved_for_the_better(criterion, seed):
    scores, targets, mask = random_case(seed)
    decision = PerClassThreshold(criterion=criterion, guard=False).fit(scores, targets, mask)
    theta = decision.theta.numpy()
    reached = oracle.value(scores > theta, targets, mask, criterion)
    together = GlobalThreshold("exact", criterion=criterion).fit(scores, targets, mask)
    assert reached >= oracle.value(together.predict(scores).numpy(), targets, mask, criterion) - 1e-9
    for label in range(4):
        for moved in oracle.every_cutoff(scores[:, label], mask[:, label]):
            other = np.where(np.arange(4) == label, moved, theta)
            assert oracle.value(scores > other, targets, mask, criterion) <= reached + 1e-9


@pytest.mark.parametrize("criterion", LABEL_SET_KEYS)
def test_one_label_is_the_global_search(criterion):
    scores, targets, mask = random_case(1, labels=1, masked=False)
    decision = PerClassThreshold(criterion=criterion, guard=False).fit(scores, targets, mask)
    together = GlobalThreshold("exact", criterion=criterion).fit(scores, targets, mask)
    assert torch.equal(decision.predict(scores), together.predict(scores))


@pytest.mark.filterwarnings("ignore:beta=.* is F-beta by its first name")
@pytest.mark.parametrize(
    "options", [{"beta": 2.0}, *({"criterion": criterion} for criterion in LABEL_SET_KEYS)]
)
def test_the_guard_takes_the_prior_that_does_best_out_of_fold(options):
    scores, targets, mask = random_case(5, rows=40, labels=5)
    mask[3] = False  # an image of which nothing is known takes no part
    decision = PerClassThreshold(**options, seed=9).fit(scores, targets, mask)
    rows = np.random.default_rng(9).permutation([row for row in range(40) if row != 3])
    predictions = np.zeros((len(PRIORS), *scores.shape), bool)
    for held_out in np.array_split(rows, 5):
        fitted = sorted(set(rows) - set(held_out))
        part = scores[fitted], targets[fitted], mask[fitted]
        own = PerClassThreshold(**options, guard=False).fit(*part).theta.numpy()
        if "beta" in options:
            candidates = oracle.every_cutoff(part[0], part[2])
            values = [f_beta(part[0][part[2]], part[1][part[2]], theta, 2.0) for theta in candidates]
            above = part[0][part[2]][part[0][part[2]] > candidates[oracle.best(values)]].min()
            below = candidates[oracle.best(values)]
            together = np.float32((np.float64(above) + below) / 2)
        else:
            together = (
                GlobalThreshold("exact", criterion=options.get("criterion", "f1")).fit(*part).theta.item()
            )
        positives = (part[1] & part[2]).sum(0)
        for index, prior in enumerate(PRIORS):
            weight = np.where(positives > 0, positives / np.maximum(positives + prior, 1), 0)
            weight = positives / (positives + prior) if prior else (positives > 0).astype(float)
            theta = (weight * own + (1 - weight) * together).astype(np.float32)
            predictions[index, held_out] = scores[held_out] > theta
    if "beta" in options:
        values = [
            np.mean([f_beta_of(p[:, k], targets[:, k], mask[:, k], 2.0) for k in range(5)])
            for p in predictions
        ]
    else:
        criterion = options.get("criterion", "f1")
        values = [oracle.value(p, targets, mask, criterion) for p in predictions]
    assert decision.choices()["shrinkage"] == PRIORS[oracle.best(values)]


def f_beta_of(predicted, positive, known, beta):
    correct = (predicted & positive & known).sum()
    below = (predicted & known).sum() + beta**2 * (positive & known).sum()
    return (1 + beta**2) * correct / below if below else 0.0


def test_a_label_without_positives_or_without_known_entries_takes_the_global_threshold():
    scores, targets, mask = random_case(2, rows=60, labels=5)
    targets[:, 3], mask[:, 4] = False, False
    decision = PerClassThreshold().fit(scores, targets, mask)
    together = GlobalThreshold("exact").fit(scores, targets, mask)
    assert decision.theta[3:].tolist() == [together.theta.item()] * 2
    own = PerClassThreshold(guard=False).fit(scores, targets, mask)
    assert own.theta[4] == together.theta
    assert not own.predict(scores)[:, 3].any()


def test_the_guard_narrows_the_gap_between_validation_and_test():
    gaps = {True: [], False: []}
    reached = {True: [], False: []}
    for seed in range(5):
        generator = np.random.default_rng(seed)
        prevalence = np.geomspace(0.3, 0.01, 12)
        targets = generator.random((4200, 12)) < prevalence
        scores = (generator.standard_normal((4200, 12)) + 2 * targets).astype(np.float32)
        val, test = slice(0, 200), slice(200, None)
        for guard in (True, False):
            decision = PerClassThreshold(guard=guard, seed=seed).fit(scores[val], targets[val])
            f1 = [
                label_sets(
                    decision.predict(scores[part]).numpy(), targets[part], np.ones_like(targets[part])
                )["f1"]
                for part in (val, test)
            ]
            gaps[guard].append(f1[0] - f1[1])
            reached[guard].append(f1[1])
    assert np.mean(gaps[True]) < np.mean(gaps[False])
    assert np.mean(reached[True]) > np.mean(reached[False])


def test_f1_with_a_beta_is_what_it_was_and_says_what_to_write():
    scores, targets, mask = random_case(2)
    decision = PerClassThreshold(beta=2.0)
    with pytest.warns(UserWarning, match=r"beta=2\.0 with criterion='f1' .* criterion='fbeta'"):
        decision.fit(scores, targets, mask)
    PerClassThreshold(beta=2.0, criterion="fbeta").fit(scores, targets, mask)


def test_a_single_image_is_fitted_without_folds():
    scores, targets = np.array([[1.0, 0.0]]), np.array([[1, 0]])
    assert PerClassThreshold().fit(scores, targets).predict(scores).tolist() == [[True, False]]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"beta": 2.0, "criterion": "of1"}, "beta=2.0"),
        ({"beta": 0.0}, "beta=0.0"),
        ({"min_precision": 0.9, "min_recall": 0.9}, "give one of the two"),
        ({"min_recall": 90.0}, r"min_recall=90.0: expected a share in \(0, 1\]"),
        ({"folds": 1}, "folds=1"),
    ],
)
def test_options_are_checked(options, message):
    with pytest.raises(ValueError, match=message):
        PerClassThreshold(**options)
