"""What every source hands over: a data set, three splits of images with their 0/1 targets."""

import hashlib
import json
import logging
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from lsep_ml.data.errors import DataError, some
from lsep_ml.data.label_names import check_label_names
from lsep_ml.data.soft_targets import check_soft
from lsep_ml.files import atomic_write
from lsep_ml.metrics.indicator import Known, SparseIndicator, Targets, dense_blocks

if TYPE_CHECKING:
    from torch import Tensor

log = logging.getLogger(__name__)

SPLITS = ("train", "val", "test")


class Images(Protocol):
    """Is a sequence of images; a uint8 tensor (N, C, H, W) is one."""

    def __len__(self) -> int: ...

    def __getitem__(self, row: int, /) -> "Tensor":
        """Return the image of `row`, uint8 (C, H, W) with C = 1 (grey) or 3 (RGB)."""
        ...


@dataclass(frozen=True)
class Split:
    """Holds `images` with their labels, `targets`.

    Args:
        images: N images, each uint8 (C, H, W), C in {1, 3}; or, in their place, features float32 (N, D).
        targets: uint8 (N, K), 1 where the label is present; 0 where it is absent or not known. Sparse where it is large
            (`indicator.LARGE`).
        mask: bool (N, K), True where the entry is known; None when every entry is.
        image_ids: unicode (N,): POSIX paths relative to the data set's folder, or names for generated images.
        groups: int64 (N,), equal for images that belong together (a patient's, a burst's), over all splits of a data
            set; None where each image stands for itself.
        soft: float32 (N, K), targets in [0, 1] of training images, which the loss is trained with; `targets` are those
            of at least 1/2. 0 where nothing is known. None where all are 0 or 1.
    """

    images: Images
    targets: Targets
    mask: Known | None
    image_ids: NDArray[np.str_]
    groups: NDArray[np.int64] | None = None
    soft: NDArray[np.float32] | None = None

    def __len__(self) -> int:
        return len(self.targets)


@dataclass(frozen=True)
class DataSet:
    """Holds three splits over the same labels, checked here, once, where data enter.

    Args:
        name: what tables and folders call it.
        label_names: K >= 2 distinct names, in the order of the columns of every targets matrix.
        train, val, test: none of them empty; no image in two of them, unless `cross_tested`.
        dropped: reason -> number of listed images that were left out.
        images_hash: SHA-256 (hex) over the content of the image files, split by split; "" for generated images.
        twins: split -> number of its images that have a near-duplicate in training; None: nobody looked.
        cross_tested: whether test holds all images, those of train and val too: each is predicted by the network of a
            fold that never saw it, and none by the network that is trained here.

    Raises:
        DataError: labels that `check_label_names` refuses, an empty split, arrays that do not fit together,
            targets outside {0, 1}, an image listed twice.
    """

    name: str
    label_names: tuple[str, ...]
    train: Split
    val: Split
    test: Split
    dropped: Mapping[str, int] = field(default_factory=dict)
    images_hash: str = ""
    twins: Mapping[str, int] | None = None
    cross_tested: bool = False

    def __post_init__(self) -> None:
        check_label_names(self.name, self.label_names, separator=None)
        for split_name in SPLITS:
            _check_split(
                f"data {self.name}, {split_name} split", self.split(split_name), len(self.label_names)
            )
        if len({split.mask is None for split in self._splits}) > 1:
            raise DataError(
                f"data {self.name}: some splits have a mask and others have none; give all or none one"
            )
        if self.val.soft is not None or self.test.soft is not None:
            raise DataError(
                f"data {self.name}: soft targets of validation or test; metrics compare label sets"
            )
        separate = [[self.train, self.val], [self.test]] if self.cross_tested else [self._splits]
        for splits in separate:
            repeated = repeated_id(np.concatenate([split.image_ids for split in splits]))
            if repeated is not None:
                raise DataError(f"data {self.name}: image {repeated!r} is listed twice over the splits")
        missing = [
            n for n, count in zip(self.label_names, self.train.targets.sum(axis=0), strict=True) if count == 0
        ]
        if missing:
            log.warning("data %s: no positive in training for %s", self.name, some(missing, 12))

    def split(self, name: str) -> Split:
        """Return the split called `name`: train, val or test.

        Raises:
            DataError: there is no such split.
        """
        if name not in SPLITS:
            raise DataError(f"data {self.name}: no split {name!r}; there are {', '.join(SPLITS)}")
        split: Split = getattr(self, name)
        return split

    @property
    def feature_width(self) -> int | None:
        """Return the number of features that stand in the place of each image (data=features); None where there are
        images."""
        from torch import Tensor

        images = self.train.images
        return images.shape[1] if isinstance(images, Tensor) and images.ndim == 2 else None

    @property
    def _splits(self) -> tuple[Split, Split, Split]:
        return self.train, self.val, self.test

    @cached_property
    def counts(self) -> dict[str, Any]:
        """Count, as plain data, the images and positives of each split, and the dropped images by reason.

        Where images have groups, also these, with the shares of images and labels that the splits have reached; where
        near-duplicates were looked for, the images that have one in training.
        """
        positives = {
            name: dict(
                zip(self.label_names, self.split(name).targets.sum(axis=0, dtype=int).tolist(), strict=True)
            )
            for name in SPLITS
        }
        images = {name: len(self.split(name)) for name in SPLITS}
        groups = {}
        if self.train.groups is not None:
            numbers = [split.groups for split in self._splits if split.groups is not None]
            total = sum(images.values())
            groups = {
                "groups": {
                    name: len(np.unique(of_split)) for name, of_split in zip(SPLITS, numbers, strict=True)
                },
                "shares": {name: round(number / total, 4) for name, number in images.items()},
                "label_shares": _shares(positives),
            }
        twins = {} if self.twins is None else {"twins": dict(self.twins)}
        return {"images": images, "dropped": dict(self.dropped), "positives": positives, **groups, **twins}

    @cached_property
    def split_hash(self) -> str:
        """Hash the label names and each split's image ids, targets, mask, groups and soft targets: SHA-256 in hex."""
        digest = hashlib.sha256(json.dumps(self.label_names).encode())
        for split in self._splits:
            digest.update(json.dumps(split.image_ids.tolist()).encode())
            _hash_rows(digest, split.targets)
            if split.mask is None:
                digest.update(b"known")
            else:
                _hash_rows(digest, split.mask)
            if split.groups is not None:
                digest.update(b"groups" + np.ascontiguousarray(split.groups).tobytes())
            if split.soft is not None:
                digest.update(b"soft" + np.ascontiguousarray(split.soft).tobytes())
        return digest.hexdigest()

    @property
    def content(self) -> dict[str, str]:
        """Return what identities hold of these data: the hash of labels and splits and, of image files, theirs."""
        return {"split_hash": self.split_hash, **({"images": self.images_hash} if self.images_hash else {})}

    def write_split(self, path: Path) -> None:
        """Write each split's image ids, the label names and the hash to `path`, as JSON."""
        lists = {name: self.split(name).image_ids.tolist() for name in SPLITS}
        content = {"data": self.name, "split_hash": self.split_hash, "label_names": self.label_names, **lists}
        with atomic_write(path) as file:
            json.dump(content, file, indent=0)


def _hash_rows(digest: Any, matrix: Targets | Known) -> None:
    """Add the bytes of a dense matrix, whichever way it is held."""
    for (block,) in dense_blocks(matrix):
        digest.update(np.ascontiguousarray(block).data)


def _shares(positives: Mapping[str, Mapping[str, int]]) -> dict[str, dict[str, float]]:
    """Return the share of each label's positives that each split has; 0 where there are none."""
    totals = {label: sum(of_split[label] for of_split in positives.values()) for label in positives["train"]}
    return {
        name: {label: round(count / max(totals[label], 1), 4) for label, count in of_split.items()}
        for name, of_split in positives.items()
    }


def _check_split(where: str, split: Split, num_labels: int) -> None:
    shape = (len(split.images), num_labels)
    if shape[0] == 0:
        raise DataError(f"{where}: empty; check the split's size, list or share, and what was dropped")
    if split.targets.shape != shape or split.targets.dtype != np.uint8:
        raise DataError(
            f"{where}: targets are {split.targets.dtype} {split.targets.shape}, not uint8 {shape}"
        )
    if not isinstance(split.targets, SparseIndicator) and split.targets.max() > 1:
        row, column = np.argwhere(split.targets > 1)[0]
        raise DataError(
            f"{where}: target of image {str(split.image_ids[row])!r}, label {column} is "
            f"{split.targets[row, column]}; targets are 0 or 1"
        )
    if split.image_ids.shape != shape[:1] or split.image_ids.dtype.kind != "U":
        raise DataError(
            f"{where}: image_ids are {split.image_ids.dtype} {split.image_ids.shape}, not ({shape[0]},)"
        )
    groups = split.groups
    if groups is not None and (groups.shape != shape[:1] or groups.dtype != np.int64):
        raise DataError(f"{where}: groups are {groups.dtype} {groups.shape}, not int64 ({shape[0]},)")
    if split.soft is not None:
        check_soft(where, split.soft, split.targets)
    if split.mask is None:
        return
    if split.mask.shape != shape or split.mask.dtype != np.bool_:
        raise DataError(f"{where}: mask is {split.mask.dtype} {split.mask.shape}, not bool {shape}")
    if any(targets[~known].any() for targets, known in dense_blocks(split.targets, split.mask)):
        raise DataError(f"{where}: an entry is positive and masked as unknown at once")


def repeated_id(image_ids: NDArray[np.str_]) -> str | None:
    """Find an id that is more than once in `image_ids`, the most frequent; None where there is none."""
    letters = np.ascontiguousarray(image_ids).view(np.uint32).reshape(len(image_ids), image_ids.itemsize // 4)
    sums = np.zeros(len(image_ids), np.uint64)
    for column in letters.T:  # equal ids have equal sums; where all differ, no id has to be looked at
        sums = (sums + column) * np.uint64(0x9E3779B97F4A7C15)
        sums ^= sums >> np.uint64(29)
    sums.sort()
    if not (sums[1:] == sums[:-1]).any():
        return None
    listed = image_ids.tolist()
    if len(set(listed)) == len(listed):
        return None
    return Counter(listed).most_common(1)[0][0]
