"""Batches with sparse targets hold what the dense matrix holds."""

import numpy as np
import pytest
import torch
from scipy.sparse import csr_array

from lsep_ml.losses import bce_loss, lsep_loss
from lsep_ml.training.sparse_rows import SparseRows, sparse_batches


def rows_of(targets: np.ndarray) -> SparseRows:
    features = np.arange(len(targets) * 2, dtype=np.float16).reshape(-1, 2)
    return SparseRows(features, csr_array(targets))


@pytest.mark.parametrize(
    "targets",
    [
        np.array([[0, 1, 1], [0, 0, 0], [1, 0, 1], [0, 1, 0]], np.uint8),
        np.zeros((3, 4), np.uint8),
        np.ones((2, 3), np.uint8),
    ],
)
def test_every_row_comes_once_with_its_labels(targets: np.ndarray) -> None:
    rows = rows_of(targets)
    seen = []
    for batch in sparse_batches(rows, 2, seed=1):
        indices, num_labels = batch.targets
        assert num_labels == targets.shape[1]
        assert indices.dtype == torch.int64
        assert indices.shape[1] >= 1
        for row, labels in zip(batch.rows.tolist(), indices.tolist(), strict=True):
            assert sorted(label for label in labels if label >= 0) == np.flatnonzero(targets[row]).tolist()
        assert batch.images.dtype == torch.float32
        assert torch.equal(batch.images, torch.from_numpy(rows.features).float()[batch.rows])
        seen += batch.rows.tolist()
    assert sorted(seen) == list(range(len(targets)))


@pytest.mark.parametrize("loss", [lsep_loss, bce_loss])
def test_a_loss_is_that_of_dense_targets(loss) -> None:  # type: ignore[no-untyped-def]
    targets = (np.random.default_rng(0).random((6, 9)) < 0.3).astype(np.uint8)
    scores = torch.randn(6, 9, generator=torch.Generator().manual_seed(0))
    sparse = rows_of(targets).label_indices(np.arange(6))
    torch.testing.assert_close(loss(scores, sparse), loss(scores, torch.from_numpy(targets)))
