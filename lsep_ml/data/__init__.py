"""Data sets: one file a source, one transform, one LightningDataModule.

All is loaded on first use: torch and Lightning take seconds, and `check` needs neither.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from lsep_ml.light_packages import keep_vision_light

if TYPE_CHECKING:
    from lsep_ml.data.data_module import ImageDataModule
    from lsep_ml.data.data_set import DataSet, Split
    from lsep_ml.data.errors import DataError
    from lsep_ml.data.loading import Batch
    from lsep_ml.data.transform import Transform

__all__ = ["Batch", "DataError", "DataSet", "ImageDataModule", "Split", "Transform"]

_HOMES = {
    "Batch": "loading",
    "DataError": "errors",
    "DataSet": "data_set",
    "ImageDataModule": "data_module",
    "Split": "data_set",
    "Transform": "transform",
}

keep_vision_light()


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"lsep_ml.data.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
