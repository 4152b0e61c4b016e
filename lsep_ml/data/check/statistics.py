"""What the labels of a data set look like."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lsep_ml.data.annotations import Annotations


@dataclass(frozen=True)
class LabelStatistics:
    """Counts over all listed images.

    Attributes:
        label_names: K names.
        images: part -> images; the part "all" where the source names none.
        unlabelled: part -> images without a label.
        labels_per_image: int (L,), the number of images with 0, 1, ... labels.
        positives: part -> int (K,), images that have each label.
        unknown: entries masked as unknown.
        together: int (K, K), images that have both labels; the diagonal holds the positives.
    """

    label_names: tuple[str, ...]
    images: Mapping[str, int]
    unlabelled: Mapping[str, int]
    labels_per_image: NDArray[np.int64]
    positives: Mapping[str, NDArray[np.int64]]
    unknown: int
    together: NDArray[np.int64]

    @property
    def mean_labels(self) -> float:
        """Labels per image."""
        counts = self.labels_per_image
        return float((counts * np.arange(len(counts))).sum() / counts.sum())

    def most_together(self, number: int) -> list[tuple[str, str, int, float]]:
        """The pairs seen together most: both names, images, and lift (times as often as if independent)."""
        rows, columns = np.triu_indices(len(self.label_names), k=1)
        counts = self.together[rows, columns]
        alone, total = np.diagonal(self.together), int(self.labels_per_image.sum())
        return [
            (
                self.label_names[rows[pair]],
                self.label_names[columns[pair]],
                int(counts[pair]),
                float(counts[pair] * total / (alone[rows[pair]] * alone[columns[pair]])),
            )
            for pair in np.argsort(-counts, kind="stable")[:number]
            if counts[pair]
        ]


def label_statistics(annotations: Annotations) -> LabelStatistics:
    """Count the labels of all listed images."""
    targets = annotations.targets
    per_image = targets.sum(axis=1, dtype=np.int64)
    rows_of = {part or "all": annotations.parts == part for part in dict.fromkeys(annotations.parts.tolist())}
    images = targets.astype(np.float32)  # sums below 2^24 are exact, and float products are the fast ones
    return LabelStatistics(
        label_names=annotations.label_names,
        images={part: int(rows.sum()) for part, rows in rows_of.items()},
        unlabelled={part: int((per_image[rows] == 0).sum()) for part, rows in rows_of.items()},
        labels_per_image=np.bincount(per_image, minlength=2),
        positives={part: targets[rows].sum(axis=0, dtype=np.int64) for part, rows in rows_of.items()},
        unknown=0 if annotations.mask is None else int((~annotations.mask).sum()),
        together=np.rint(images.T @ images).astype(np.int64),
    )
