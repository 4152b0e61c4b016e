"""The names that configurations, bundles and identities know our functions by, wherever these functions live now.

A dotted name stands in a `_target_`, in a bundle's backbone, and in what an identity is hashed from. When a function
moves, its old name is added here; nothing that people have made is lost, and nothing is trained again.
"""

from typing import Any

_SOURCES = {
    "coco.read_coco",
    "coco_json.read_coco_json",
    "csv_labels.read_csv",
    "digits.read_digits",
    "nuswide.read_nuswide",
    "voc2007.read_voc2007",
}
_SCHEDULES = {"constant", "cosine", "step"}

MOVED = {
    **{f"lsep_ml.data.{name}": f"lsep_ml.data.sources.{name}" for name in _SOURCES},
    **{f"lsep_ml.modules.schedules.{name}": f"lsep_ml.training.schedules.{name}" for name in _SCHEDULES},
    "lsep_ml.stages.finite.build_trainer": "lsep_ml.training.trainer.build_trainer",
    "lsep_ml.tracking.WandbTracker": "lsep_ml.trackers.WandbTracker",
}
"""Every name that moved, and what is there in its place; a name that moved twice has two rows, both to the newest.

`TensorBoardTracker` has none: it ended, and Lightning's logger, which takes its place, has options that it had not.
"""

_FIRST = {new: old for old, new in reversed(MOVED.items())}


def current_names(value: Any) -> Any:
    """Rename in `value`, plain data, every function to its name now: what an earlier configuration is built by."""
    return _renamed(value, MOVED)


def first_names(value: Any) -> Any:
    """Rename in `value`, plain data, every function to its first name: what an identity is hashed from."""
    return _renamed(value, _FIRST)


def _renamed(value: Any, names: dict[str, str]) -> Any:
    if isinstance(value, dict):
        return {key: _renamed(item, names) for key, item in value.items()}
    if isinstance(value, list):
        return [_renamed(item, names) for item in value]
    return names.get(value, value) if isinstance(value, str) else value
