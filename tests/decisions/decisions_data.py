"""Synthetic scores with features that tell where their thresholds lie, and every decision fitted to them."""

import numpy as np
import torch

from lsep_ml.decisions import (
    DECISIONS,
    Calibrated,
    ConformalRisk,
    CountEstimation,
    ExpectedF1,
    GlobalThreshold,
    LabelSetSupport,
    LinearThresholds,
    PerClassThreshold,
    ThresholdClass,
    ThresholdEstimation,
    TopK,
    ZeroThreshold,
)
from lsep_ml.decisions.log_odds import HonestRows, LogOddsDecision
from lsep_ml.decisions.offset import MovedThresholds

SHIPPED = [row.build(num_features=20, num_labels=6) for row in DECISIONS]
"""Every row of the catalogue, not fitted."""

EVERY = [
    *SHIPPED,
    TopK(2, 5, criterion="exact_match"),
    GlobalThreshold("exact", fit_on="both"),
    GlobalThreshold(steps=20),
    PerClassThreshold(),
    PerClassThreshold(min_precision=0.9, guard=False),
    ZeroThreshold("bce"),
    Calibrated(),
    Calibrated("isotonic"),
    ExpectedF1("isotonic"),
    ConformalRisk(),
    ConformalRisk(0.3, "per_class"),
    CountEstimation(20, 6, 3, (8, 4), zero_class=True),
    ThresholdClass(20, 6, (8,)),
    LinearThresholds(20, 6, offset="one", weight_decay=0.1),
    LinearThresholds(20, 6, criterion="exact_match"),
    LabelSetSupport(20, 6, log_odds="isotonic", criterion="f1", max_sets=9),
    ThresholdEstimation(20, 6, hidden=[5], standardize=False),
    ThresholdEstimation(20, 6, offset="one", criterion="exact_match"),
]
"""And with other options, not fitted."""


def learnable(rows=400, features=20, labels=6, seed=0, scale=1.0):
    """Scores (N, K), targets (N, K) and features (N, D): scores are shifted by a part the features reveal."""
    generator = torch.Generator().manual_seed(seed)
    latent = torch.randn(rows, 4, generator=generator)
    mixed = latent @ torch.randn(4, features, generator=generator)
    clean = latent @ torch.randn(4, labels, generator=generator) - 0.5
    shift = 3 * latent[:, :1]
    noise = 0.2 * torch.randn(rows, labels, generator=generator)
    return clean + shift + noise, clean > 0, scale * torch.relu(mixed)


def fitted(decision):
    """The decision, fitted in closed form, or a learnt one as it starts; what goes by log odds with some weights."""
    scores, targets, features = learnable()
    if isinstance(decision, LogOddsDecision):
        estimator = decision.estimator
        if isinstance(estimator, LinearThresholds):
            estimator.reset(scores, targets, features)
            with torch.no_grad():
                estimator.weight.normal_(0, 0.3, generator=torch.Generator().manual_seed(3))
        else:
            estimator.fit(scores, targets)
        decision.choose(honest(estimator.log_odds(scores, features), targets))
    elif decision.needs_features:
        decision.reset(scores, targets, features, seed=3)
        if isinstance(decision, MovedThresholds) and decision.offset != "none":
            log_odds = decision.log_odds(scores, features)
            decision.choose_offsets(*honest(log_odds, targets)[:3])
    else:
        decision.fit(scores, targets)
    return decision


def honest(log_odds, targets, mask=None, folds=5):
    """Rows as decisions by log odds choose on them, every fifth one of the same fold."""
    targets = np.asarray(targets) != 0
    known = np.ones(targets.shape, bool) if mask is None else np.asarray(mask) != 0
    return HonestRows(np.asarray(log_odds, np.float32), targets, known, np.arange(len(targets)) % folds)


def name_of(decision):
    """For the names of tests."""
    return type(decision).__name__
