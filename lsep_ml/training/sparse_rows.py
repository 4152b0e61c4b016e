"""Batches of stored features with sparse targets: what a score layer of very many labels is trained on."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset

from lsep_ml.data import Batch
from lsep_ml.data.order import BatchKey, TrainingOrder
from lsep_ml.losses import LabelIndices


class SparseRows(Dataset[Batch]):
    """Serves whole batches of rows whose targets are `LabelIndices`, so that no dense (B, K) targets are made.

    features: float (N, D), may be memory-mapped; targets: (N, K), a `SparseIndicator` without `rest` or a SciPy sparse
    matrix in compressed rows, its entries the positives.
    """

    def __init__(self, features: NDArray[Any], targets: Any) -> None:
        self.features, self.targets = features, targets

    def __len__(self) -> int:
        return len(self.features)

    def __getitem__(self, key: BatchKey) -> Batch:
        features = torch.from_numpy(self.features[key.rows].astype(np.float32))
        return Batch(features, self.label_indices(key.rows), None, torch.from_numpy(key.rows), key.weight)  # type: ignore[arg-type]

    def label_indices(self, rows: NDArray[np.int64]) -> LabelIndices:
        """Return the positives of `rows`, as the losses take them."""
        starts = self.targets.indptr[rows].astype(np.int64)
        lengths = self.targets.indptr[rows + 1] - starts
        places = starts[:, None] + np.arange(max(1, int(lengths.max(initial=0))))
        present = places < (starts + lengths)[:, None]
        labels = self.targets.indices[np.where(present, places, 0)] if present.any() else 0
        indices = np.where(present, labels, -1).astype(np.int64)
        return LabelIndices(torch.from_numpy(indices), self.targets.shape[1])


def sparse_batches(rows: SparseRows, batch_size: int, seed: int) -> DataLoader[Batch]:
    """Load `rows` in batches, in an order that is a function of (`seed`, epoch)."""
    return DataLoader(rows, batch_size=None, sampler=TrainingOrder(len(rows), batch_size, seed))
