"""Between extraction and decision: a predictor that takes the score layer's place, fitted once and found again."""

import logging
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import DictConfig

from lsep_ml.data import Split
from lsep_ml.data.data_set import SPLITS
from lsep_ml.predictors import Predictor
from lsep_ml.stages.extraction import Extraction
from lsep_ml.stages.sealed_rows import save_array
from lsep_ml.stages.size import check_memory
from lsep_ml.store.entries import Store
from lsep_ml.store.keys import SCORES, predictor_made_by
from lsep_ml.training.path import OnRow

log = logging.getLogger(__name__)


def check_predictor(config: DictConfig, predictor: Predictor | None, train: Split) -> None:
    """Raise ValueError for a predictor (None: the score layer) that does not go with decision, training or data."""
    name, decision = config.names.predictor, config.names.decision
    if predictor is None:
        if not config.decision:
            raise ValueError(
                f"decision=none: predictor={name} gives scores and no label sets; take decision=thresh_est, topk, ..., "
                "or a predictor with label sets of its own, such as predictor=br"
            )
        return
    if config.decision and not predictor.gives_scores:
        raise ValueError(
            f"decision={decision}: predictor={name} emits label sets and no scores to decide on; take decision=none"
        )
    if config.training.joint:
        raise ValueError(
            f"training=joint trains a decision on the network's own scores, not on those of predictor={name}; take "
            "training=finetune"
        )
    predictor.check(train.targets, train.mask)
    rows, labels = train.targets.shape
    told = (
        f"predictor={name} holds the targets, and what it makes of them, of {rows} images x {labels} labels"
    )
    check_memory(predictor.entry_bytes * rows * labels, told, "predictor=score_layer")


def fit_predictor(
    store: Store,
    extraction: Extraction,
    predictor: Predictor,
    config: dict[str, Any],
    seed: int,
    on_row: OnRow,
) -> Extraction:
    """Return the same extraction with a predictor's label sets and scores, where it has any, in place of the score
    layer's.

    The predictor is fitted on the training split, by the first of the processes of a job. Its result is found again by
    the features, its part of the configuration, and the seed. `on_row` is shown every row of its training, when it is
    made or when it is found.

    Raises:
        ValueError: training data that the predictor cannot learn from.
        FloatingPointError: its training diverges.
    """

    def build(folder: Path) -> dict[str, Any]:
        if not store.processes.first:
            return {}
        started = time.perf_counter()
        train = extraction.split("train")
        log.info("Fitting predictor %s on %d images", type(predictor).__name__, len(train.features))
        targets, known = np.asarray(train.targets), None if train.mask is None else np.asarray(train.mask)
        found = {"train": predictor.fit_predict(_float32(train.features), targets, known, seed=seed)}
        for split in SPLITS:
            label_sets, scores = found.get(split) or predictor.predict(
                _float32(extraction.split(split).features)
            )
            save_array(folder / f"{split}_label_sets.npy", label_sets)
            if scores is not None:
                save_array(folder / f"{split}_scores.npy", scores)
        return {"seconds": round(time.perf_counter() - started, 3), "history": predictor.history}

    made_by = predictor_made_by(extraction.features.identity, config, seed)
    scores = store.get_or_build(SCORES, made_by, build)
    if scores.reused:
        log.info("Predictor %s was fitted before: nothing is fitted.", scores.identity)
    for row in scores.facts["history"]:
        on_row({"stage": "predictor", **row})
    return replace(extraction, scores=scores, prediction=None)


def _float32(features: np.ndarray) -> np.ndarray:
    return features.astype(np.float32, copy=False)
