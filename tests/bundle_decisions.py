"""Every kind of decision, fitted on made-up scores with many ties."""

import warnings
from functools import partial

import numpy as np
import torch

import lsep_ml
from lsep_ml import decisions
from lsep_ml.decisions import Decision

D = 6


def made(name: str, labels: int) -> Decision:
    """An unfitted decision of every kind, and every option that changes its graph."""
    kinds = {
        **{row.key: partial(row.build, num_features=D, num_labels=labels) for row in decisions.DECISIONS},
        "conformal": lambda: decisions.ConformalRisk(0.2),
        "conformal_per_class": lambda: decisions.ConformalRisk(0.3, "per_class"),
        "platt": decisions.Calibrated,
        "isotonic": lambda: decisions.Calibrated("isotonic"),
        "expected_f1_isotonic": lambda: decisions.ExpectedF1("isotonic"),
        "count_est_zero": lambda: decisions.CountEstimation(D, labels, zero_class=True),
    }
    return kinds[name]()


DECISIONS = (
    *(row.key for row in decisions.DECISIONS),
    *("conformal_per_class", "platt", "isotonic", "expected_f1_isotonic", "count_est_zero"),
)


def fitted(name: str, scores: np.ndarray, features: np.ndarray, seed: int = 0) -> Decision:
    rng = np.random.default_rng(seed)
    spread = scores.std() or 1.0
    targets = scores + spread * rng.standard_normal(scores.shape) > scores.mean() + 0.5 * spread
    decision = made(name, scores.shape[1])
    options = {"epochs": 5, "optimizer": lambda parameters: torch.optim.SGD(parameters, lr=0.05)}
    with warnings.catch_warnings():  # five epochs may leave a head constant
        warnings.simplefilter("ignore")
        return lsep_ml.fit_decision(decision, scores, targets.astype(np.uint8), features, **options)


def ties(labels: int, rows: int = 500) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(labels)
    scores = rng.standard_normal((rows, labels)).astype(np.float32) * 2
    scores[: rows // 2] = np.round(scores[: rows // 2])  # many equal scores
    scores[0] = 1.0
    return scores, rng.standard_normal((rows, D)).astype(np.float32)
