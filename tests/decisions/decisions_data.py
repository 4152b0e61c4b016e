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
from lsep_ml.metrics.functional import as_numpy

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
    return fitted_to(decision, *learnable())


def fitted_to(decision, scores, targets, features, mask=None, *, labels=None, folds=None):
    """The decision fitted to these data as `fitted` does; weights that are drawn for labels are in the order `labels`.

    folds: of the rows, by which honest log odds are told.
    """
    if isinstance(decision, LogOddsDecision):
        estimator = decision.estimator
        if isinstance(estimator, LinearThresholds):
            estimator.reset(scores, targets, features, mask)
            weight = torch.empty_like(estimator.weight).normal_(
                0, 0.3, generator=torch.Generator().manual_seed(3)
            )
            with torch.no_grad():
                estimator.weight.copy_(weight if labels is None else weight[labels])
        else:
            estimator.fit(scores, targets, mask)
        decision.choose(honest(estimator.log_odds(scores, features), targets, mask, of_rows=folds))
    elif decision.needs_features:
        decision.reset(scores, targets, features, mask, seed=3)
        if labels is not None and decision.head[-1].out_features == len(labels):
            with torch.no_grad():
                decision.head[-1].weight.copy_(decision.head[-1].weight[labels])
        if isinstance(decision, MovedThresholds) and decision.offset != "none":
            log_odds = decision.log_odds(scores, features)
            decision.choose_offsets(*honest(log_odds, targets, mask)[:3])
    else:
        decision.fit(scores, targets, mask)
    return decision


def honest(log_odds, targets, mask=None, folds=5, of_rows=None):
    """Rows as decisions by log odds choose on them, every fifth one of the same fold, or in these folds."""
    targets = as_numpy(targets) != 0
    known = np.ones(targets.shape, bool) if mask is None else np.asarray(mask) != 0
    of_rows = np.arange(len(targets)) % folds if of_rows is None else of_rows
    return HonestRows(np.asarray(log_odds, np.float32), targets, known, of_rows)


def name_of(decision):
    """For the names of tests."""
    return type(decision).__name__
