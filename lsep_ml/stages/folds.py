"""Cross-testing: every image predicted by a network that never saw it or its group, and one network for use."""

import dataclasses
import logging
from pathlib import Path
from typing import Any, cast

import numpy as np
from omegaconf import DictConfig, OmegaConf

from lsep_ml.metrics import BY_KEY
from lsep_ml.runs import top_scores
from lsep_ml.runs.arrays import read_arrays
from lsep_ml.runs.files import FOLDS, RESULT, TEST
from lsep_ml.runs.finished import Run, read_run
from lsep_ml.stages.evaluation import SplitOutcome, measure
from lsep_ml.stages.extraction import SplitArrays

log = logging.getLogger(__name__)


def fold_jobs(config: DictConfig, folder: Path) -> list[tuple[DictConfig, Path]]:
    """Give the configuration and the folder of each fold's job that a job with `data.folds` does before its own, which
    trains on all images; none of any other job."""
    folds = config.data.get("folds")
    if folds is None or config.data.fold is not None:
        return []
    return [
        (cast(DictConfig, OmegaConf.merge(config, {"data": {"fold": fold}})), folder / FOLDS / str(fold))
        for fold in range(folds)
    ]


def say_fold(record: dict[str, Any], fold: int, folds: int) -> None:
    """Log what the network of a fold reached on its test images."""
    told = ", ".join(
        BY_KEY[key].told(record["metrics"]["test"].get(key)) for key in ("f1", "exact_match", "map")
    )
    log.info("Fold %d of %d: %s", fold + 1, folds, told)


def joined(folder: Path, folds: int, arrays: SplitArrays) -> tuple[SplitOutcome, list[dict[str, Any]]]:
    """Put what the folds' networks say of their test images together.

    Args:
        folder: of the run, with those of its folds below.
        folds: their number.
        arrays: of the test split, all images: their order, targets and mask.

    Returns:
        The outcome on all images, without scores where a fold keeps the highest alone, and for the record where each
        fold's run lies and what it reached.

    Raises:
        ValueError: an image is in no fold, or in several.
    """
    runs = [read_run(folder / FOLDS / str(fold) / RESULT)[0] for fold in range(folds)]
    columns = ["predictions", "image_ids", *(["scores"] if all(run.has_scores for run in runs) else [])]
    found = [read_arrays(run, TEST, *columns, "thresholds") for run in runs]
    names = {*columns, *("thresholds" for one in found if "thresholds" in one)}
    if "scores" in names and any(one["predictions"].size >= top_scores.LARGE for one in found):
        log.warning("the folds keep the highest scores of each image alone: no ranking metrics of all images")
        names.remove("scores")
    together = {name: np.concatenate([one[name] for one in found]) for name in names}
    order = _places(together["image_ids"], arrays.image_ids)
    arrays = dataclasses.replace(arrays, scores=together["scores"][order] if "scores" in together else None)
    predictions = together["predictions"][order].astype(np.uint8)
    thresholds = together["thresholds"][order] if "thresholds" in together else None
    outcome = SplitOutcome(arrays, predictions, thresholds, measure(arrays, predictions))
    return outcome, [_of_record(run, folder) for run in runs]


def _places(found: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """For each of the `wanted` ids the row of `found` that has it, and no other."""
    order = np.argsort(found)
    place = order[np.searchsorted(found[order], wanted).clip(max=len(found) - 1)]
    if len(found) != len(wanted) or not np.array_equal(found[place], wanted):
        raise ValueError(
            f"the folds test {len(found)} images, and there are {len(wanted)}: they are of other data; force=true does "
            "them again"
        )
    return place


def _of_record(run: Run, folder: Path) -> dict[str, Any]:
    return {
        "folder": run.folder.relative_to(folder).as_posix(),
        "identity": run.identity,
        "split_hash": run.split_hash,
        "choices": dict(run.choices),
        "metrics": {"val": dict(run.val), "test": dict(run.test)},
    }
