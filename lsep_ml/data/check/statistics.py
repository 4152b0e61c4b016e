"""What the labels of a data set look like."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from lsep_ml.data.annotations import Annotations

if TYPE_CHECKING:
    from scipy.sparse import csr_array


@dataclass(frozen=True)
class LabelStatistics:
    """Counts over all listed images.

    Attributes:
        label_names: K names.
        images: split -> images; the split "all" where the source names none.
        unlabelled: split -> images without a label.
        labels_per_image: int (L,), the number of images with 0, 1, ... labels.
        positives: split -> int (K,), images that have each label.
        unknown: entries masked as unknown.
        together: sparse int (K, K), images that have both labels; the diagonal holds the positives.
    """

    label_names: tuple[str, ...]
    images: Mapping[str, int]
    unlabelled: Mapping[str, int]
    labels_per_image: NDArray[np.int64]
    positives: Mapping[str, NDArray[np.int64]]
    unknown: int
    together: "csr_array"

    @property
    def mean_labels(self) -> float:
        """Return the labels per image."""
        counts = self.labels_per_image
        return float((counts * np.arange(len(counts))).sum() / counts.sum())

    def most_together(self, number: int) -> list[tuple[str, str, int, float]]:
        """Return the pairs seen together most: both names, images, and lift (times as often as if independent)."""
        pairs = self.together.tocoo()
        above = pairs.row < pairs.col
        rows, columns, counts = pairs.row[above], pairs.col[above], pairs.data[above]
        alone, total = self.together.diagonal(), int(self.labels_per_image.sum())
        return [
            (
                self.label_names[rows[pair]],
                self.label_names[columns[pair]],
                int(counts[pair]),
                float(counts[pair] * total / (alone[rows[pair]] * alone[columns[pair]])),
            )
            for pair in np.lexsort((columns, rows, -counts))[:number]
        ]


def label_statistics(annotations: Annotations) -> LabelStatistics:
    """Count the labels of all listed images."""
    from scipy.sparse import csr_array  # here: a check that reads nothing does without

    shape = annotations.targets.shape
    rows, labels = annotations.targets.nonzero()
    per_image = np.bincount(rows, minlength=shape[0])
    rows_of = {
        split or "all": annotations.split_of == split
        for split in dict.fromkeys(annotations.split_of.tolist())
    }
    present = csr_array((np.ones(len(rows), np.int64), (rows, labels)), shape)
    return LabelStatistics(
        label_names=annotations.label_names,
        images={split: int(of.sum()) for split, of in rows_of.items()},
        unlabelled={split: int((per_image[of] == 0).sum()) for split, of in rows_of.items()},
        labels_per_image=np.bincount(per_image, minlength=2),
        positives={split: np.bincount(labels[of[rows]], minlength=shape[1]) for split, of in rows_of.items()},
        unknown=0 if annotations.mask is None else annotations.mask.size - int(annotations.mask.sum()),
        together=(present.T @ present).tocsr(),
    )
