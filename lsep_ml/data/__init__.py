"""Data sets: one file a source, one transform, one LightningDataModule (loaded when it is asked for: Lightning takes
seconds, and neither `check` nor a bundle needs it)."""

from typing import TYPE_CHECKING, Any

from lsep_ml.data.data_set import DataSet, Split
from lsep_ml.data.errors import DataError
from lsep_ml.data.loading import Batch
from lsep_ml.data.transform import Transform

if TYPE_CHECKING:
    from lsep_ml.data.data_module import ImageDataModule

__all__ = ["Batch", "DataError", "DataSet", "ImageDataModule", "Split", "Transform"]


def __getattr__(name: str) -> Any:
    if name == "ImageDataModule":
        from lsep_ml.data.data_module import ImageDataModule

        return ImageDataModule
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
