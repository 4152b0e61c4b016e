"""Data sets: one file a source, one transform, one LightningDataModule."""

from lsep_ml.data.data_module import ImageDataModule
from lsep_ml.data.data_set import DataSet, Split
from lsep_ml.data.errors import DataError
from lsep_ml.data.loading import Batch
from lsep_ml.data.transform import Transform

__all__ = ["Batch", "DataError", "DataSet", "ImageDataModule", "Split", "Transform"]
