"""Multi-label learning by ordinary classifiers: binary relevance, classifier chains, label powerset.

Each asks scikit-learn's classifiers, on features standardised over the training images.
"""

from abc import abstractmethod
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import ClassifierMixin, clone
from sklearn.multioutput import ClassifierChain
from sklearn.preprocessing import StandardScaler

from lsep_ml.metrics.functional import known_entries
from lsep_ml.predictors.base import Bools, Floats, Predicted, Predictor, log_odds

Doubles = NDArray[np.float64]


class ProblemTransformation(Predictor):
    """Standardises the features for binary relevance, chains and powerset, and predicts labels that never vary.

    A label whose known training entries are all 0, or all 1, teaches a classifier nothing: it is predicted for no
    image, or for every image, with the smoothed log-odds log (n1 + 1/2) / (n0 + 1/2) as its score.

    estimator: a scikit-learn classifier with predict_proba; it is cloned, never changed.
    """

    def __init__(self, estimator: ClassifierMixin) -> None:
        super().__init__()
        self.estimator = estimator

    def fit(
        self,
        features: NDArray[Any],
        targets: NDArray[Any],
        mask: NDArray[Any] | None = None,
        *,
        seed: int = 0,
    ) -> Self:
        self.check(targets, mask)
        known = known_entries(targets, mask)
        positives = np.asarray(targets) != 0
        ones, zeros = (positives & known).sum(0), (~positives & known).sum(0)
        self._constant = np.log((ones + 0.5) / (zeros + 0.5)).astype(np.float32)
        self._varied = (ones > 0) & (zeros > 0)
        self._scaler = StandardScaler().fit(_plain(features))
        if self._varied.any():
            self._fit(self._standardised(features), positives[:, self._varied], known[:, self._varied], seed)
        return self

    def predict(self, features: NDArray[Any]) -> Predicted:
        scores = np.tile(self._constant, (len(features), 1))
        label_sets = scores > 0
        if self._varied.any():
            found = self._predict(self._standardised(features))
            label_sets[:, self._varied], scores[:, self._varied] = found
        return Predicted(label_sets, scores)

    def _standardised(self, features: NDArray[Any]) -> Doubles:
        scaled: Doubles = self._scaler.transform(_plain(features))
        return scaled

    @abstractmethod
    def _fit(self, features: Doubles, targets: Bools, known: Bools, seed: int) -> None:
        """Train on labels that all have a known 0 and a known 1."""

    @abstractmethod
    def _predict(self, features: Doubles) -> tuple[Bools, Floats]:
        """Predict label sets and log-odds of the labels that `_fit` was given."""


class BinaryRelevance(ProblemTransformation):
    """Trains one classifier a label, each where its label is known."""

    def _fit(self, features: Doubles, targets: Bools, known: Bools, seed: int) -> None:
        self._classifiers = [
            clone(self.estimator).fit(features[rows], labels[rows])
            for labels, rows in zip(targets.T, known.T, strict=True)
        ]

    def _predict(self, features: Doubles) -> tuple[Bools, Floats]:
        probabilities = np.stack(
            [classifier.predict_proba(features) for classifier in self._classifiers], axis=1
        )
        scores = log_odds(probabilities[:, :, 1], probabilities[:, :, 0])
        return scores > 0, scores


class ClassifierChains(ProblemTransformation):
    """Trains scikit-learn's classifier chains (Read et al., Machine Learning 85, 2011), each in an order from `seed`.

    Each classifier of a chain sees the features and the labels before its own: the true ones in training, the
    predicted ones after. chains: how many; the probability of a label is the mean over the chains of its probability
    given each chain's earlier predictions (the paper's ensemble takes the mean of the votes, and trains each chain on
    a sample of the images).
    """

    complete: ClassVar[str] = "a chain reads every label of an image before the last as an input"

    def __init__(self, estimator: ClassifierMixin, chains: int = 1) -> None:
        super().__init__(estimator)
        if chains < 1:
            raise ValueError(f"chains={chains}: expected at least 1")
        self.chains = chains

    def _fit(self, features: Doubles, targets: Bools, known: Bools, seed: int) -> None:
        states = np.random.SeedSequence(seed).generate_state(self.chains)
        self._fitted = [
            ClassifierChain(clone(self.estimator), order="random", random_state=int(state)).fit(
                features, targets.astype(np.int64)
            )
            for state in states
        ]

    def _predict(self, features: Doubles) -> tuple[Bools, Floats]:
        probability = np.mean([chain.predict_proba(features) for chain in self._fitted], axis=0)
        return probability > 0.5, log_odds(probability, 1 - probability)


class LabelPowerset(ProblemTransformation):
    """Has one class for each label set that occurs in training (Boutell et al., Pattern Recognition 37, 2004).

    Its own label set is the most probable one, so always one seen in training; the score of a label is the log-odds
    of all sets that hold it, together.
    """

    complete: ClassVar[str] = "an image of which a label is unknown belongs to no one label set"

    def _fit(self, features: Doubles, targets: Bools, known: Bools, seed: int) -> None:
        self._sets, classes = np.unique(targets, axis=0, return_inverse=True)
        self._classifier = clone(self.estimator).fit(features, classes.reshape(-1))

    def _predict(self, features: Doubles) -> tuple[Bools, Floats]:
        probability = self._classifier.predict_proba(features)
        scores = log_odds(probability @ self._sets, probability @ ~self._sets)
        return self._sets[probability.argmax(1)], scores


def _plain(features: NDArray[Any]) -> Doubles:
    """Convert `features` to float64 in memory, in which a probability may come as near to 1 as to 0."""
    return np.asarray(features, dtype=np.float64)
