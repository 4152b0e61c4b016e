"""What the end of a training, by steps or by the solver, is warned of."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from lsep_ml.data.data_set import Split
from lsep_ml.metrics.functional import average_precisions, mean_of_defined


def constant_map(split: Split) -> float:
    """Compute the mAP of scores that are the same for all images of `split`."""
    scores = np.broadcast_to(np.float32(0), split.targets.shape)
    return mean_of_defined(average_precisions(scores, split.targets, split.mask))


def at_clamp(row: Mapping[str, Any]) -> list[str]:
    """Return a warning where the chosen row of a history counts images whose loss is held at its limit."""
    clamped = {split: round(float(row.get(f"{split}_clamped_rows", 0))) for split in ("train", "val")}
    if not any(clamped.values()):
        return []
    images = f"{clamped['train']} training and {clamped['val']} validation images"
    return [f"the loss sat at its clamp on {images} of the chosen epoch"]


def not_above_constant(val_map: float, constant: float) -> list[str]:
    """Return a warning where `val_map` is at most the mAP of a constant predictor, else nothing."""
    if val_map > constant:
        return []
    return [f"validation mAP {val_map:.1%} is not above the {constant:.1%} of a constant predictor"]
