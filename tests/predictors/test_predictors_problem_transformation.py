"""Binary relevance, chains and label powerset against scikit-learn called by hand."""

import numpy as np
import pytest
from predictors_data import images
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.multiclass import OneVsRestClassifier
from sklearn.multioutput import ClassifierChain
from sklearn.preprocessing import StandardScaler

from lsep_ml.predictors import BinaryRelevance, ClassifierChains, LabelPowerset, Predictor

ESTIMATOR = LogisticRegression(C=2.0, max_iter=500)
FEATURES, TARGETS = images(0, 300)
NEW, _ = images(1, 120)
SCALER = StandardScaler().fit(FEATURES)
SCALED, SCALED_NEW = SCALER.transform(FEATURES), SCALER.transform(NEW)

PREDICTORS = {
    "br": lambda: BinaryRelevance(ESTIMATOR),
    "chain": lambda: ClassifierChains(ESTIMATOR),
    "chain_ensemble": lambda: ClassifierChains(ESTIMATOR, chains=3),
    "powerset": lambda: LabelPowerset(ESTIMATOR),
}


@pytest.fixture(params=PREDICTORS)
def predictor(request: pytest.FixtureRequest) -> Predictor:
    return PREDICTORS[request.param]()


def test_binary_relevance_is_one_vs_rest() -> None:
    ours = PREDICTORS["br"]().fit(FEATURES, TARGETS).predict(NEW)
    theirs = OneVsRestClassifier(clone(ESTIMATOR)).fit(SCALED, TARGETS)
    np.testing.assert_array_equal(ours.label_sets, theirs.predict(SCALED_NEW) == 1)
    np.testing.assert_allclose(ours.scores, theirs.decision_function(SCALED_NEW), rtol=1e-5, atol=1e-5)


def test_binary_relevance_leaves_unknown_entries_out() -> None:
    mask = np.random.default_rng(2).random(TARGETS.shape) < 0.7
    other = np.where(mask, TARGETS, 1 - TARGETS)  # what an unknown entry says means nothing
    ours = PREDICTORS["br"]().fit(FEATURES, other, mask).predict(NEW)
    for label, known in enumerate(mask.T):
        theirs = clone(ESTIMATOR).fit(SCALED[known], TARGETS[known, label])
        np.testing.assert_array_equal(ours.label_sets[:, label], theirs.predict(SCALED_NEW) == 1)


def test_a_chain_is_scikit_learn_s() -> None:
    ours = PREDICTORS["chain"]().fit(FEATURES, TARGETS, seed=3).predict(NEW)
    state = int(np.random.SeedSequence(3).generate_state(1)[0])
    theirs = ClassifierChain(clone(ESTIMATOR), order="random", random_state=state).fit(SCALED, TARGETS)
    np.testing.assert_array_equal(ours.label_sets, theirs.predict(SCALED_NEW) == 1)
    np.testing.assert_allclose(
        1 / (1 + np.exp(-ours.scores)), theirs.predict_proba(SCALED_NEW), rtol=1e-3, atol=1e-5
    )


def test_an_ensemble_is_the_mean_of_its_chains() -> None:
    ours = PREDICTORS["chain_ensemble"]().fit(FEATURES, TARGETS, seed=3).predict(NEW)
    chains = [
        ClassifierChain(clone(ESTIMATOR), order="random", random_state=int(state)).fit(SCALED, TARGETS)
        for state in np.random.SeedSequence(3).generate_state(3)
    ]
    assert len({tuple(chain.order_) for chain in chains}) > 1
    mean = sum(chain.predict_proba(SCALED_NEW) for chain in chains) / 3
    np.testing.assert_array_equal(ours.label_sets, mean > 0.5)
    np.testing.assert_allclose(1 / (1 + np.exp(-ours.scores)), mean, rtol=1e-3, atol=1e-5)


def test_powerset_is_one_classifier_of_label_sets() -> None:
    ours = PREDICTORS["powerset"]().fit(FEATURES, TARGETS).predict(NEW)
    names = np.array(["".join(map(str, row)) for row in TARGETS])
    theirs = clone(ESTIMATOR).fit(SCALED, names)
    predicted = [[int(letter) for letter in name] for name in theirs.predict(SCALED_NEW)]
    np.testing.assert_array_equal(ours.label_sets, np.array(predicted) == 1)
    seen = {tuple(row) for row in TARGETS}
    assert {tuple(row) for row in ours.label_sets.astype(int)} <= seen
    probability = theirs.predict_proba(SCALED_NEW)
    for label in range(TARGETS.shape[1]):
        holding = [name[label] == "1" for name in theirs.classes_]
        marginal = probability[:, holding].sum(1)
        np.testing.assert_allclose(1 / (1 + np.exp(-ours.scores[:, label])), marginal, rtol=1e-3, atol=1e-5)


def test_labels_that_never_vary_are_constant(predictor: Predictor) -> None:
    targets = np.hstack([TARGETS, np.zeros((300, 1)), np.ones((300, 1))])[:, [5, 0, 1, 6, 2, 3, 4]]
    with_them = predictor.fit(FEATURES, targets).predict(NEW)
    alone = predictor.fit(FEATURES, TARGETS).predict(NEW)
    assert not with_them.label_sets[:, 0].any()
    assert with_them.label_sets[:, 3].all()
    np.testing.assert_allclose(with_them.scores[:, 0], np.log(0.5 / 300.5))
    np.testing.assert_allclose(with_them.scores[:, 3], np.log(300.5 / 0.5))
    np.testing.assert_array_equal(with_them.label_sets[:, [1, 2, 4, 5, 6]], alone.label_sets)
    np.testing.assert_array_equal(with_them.scores[:, [1, 2, 4, 5, 6]], alone.scores)


def test_no_label_varies(predictor: Predictor) -> None:
    label_sets, scores = predictor.fit(FEATURES, np.zeros_like(TARGETS)).predict(NEW)
    assert not label_sets.any()
    assert (scores < 0).all()


def test_the_result_is_determined_by_the_seed(predictor: Predictor) -> None:
    first, again, other = (
        predictor.fit(FEATURES, TARGETS, seed=seed).predict(NEW).scores for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(first, again)
    assert first.dtype == np.float32
    assert np.array_equal(first, other) == (not isinstance(predictor, ClassifierChains))


@pytest.mark.parametrize("name", ["chain", "chain_ensemble", "powerset"])
def test_unknown_entries_are_refused_with_the_reason(name: str) -> None:
    mask = np.ones_like(TARGETS)
    mask[3, 2] = mask[8, 0] = 0
    with pytest.raises(
        ValueError, match=r"2 entries of the training targets are unknown, and .*predictor=br"
    ):
        PREDICTORS[name]().fit(FEATURES, TARGETS, mask)


def test_no_images_and_no_chains() -> None:
    with pytest.raises(ValueError, match="no training images"):
        PREDICTORS["br"]().fit(FEATURES[:0], TARGETS[:0])
    with pytest.raises(ValueError, match="chains=0"):
        ClassifierChains(ESTIMATOR, chains=0)
