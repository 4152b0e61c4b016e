"""The one LightningDataModule: any source's data set as batches for training and for evaluation."""

import os
import signal
import threading
from collections.abc import Callable, Collection, Mapping
from copy import copy
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, Self

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from lsep_ml.data.cores import available_cores
from lsep_ml.data.data_set import SPLITS, DataSet
from lsep_ml.data.errors import DataError
from lsep_ml.data.images.content import MAX_BYTES, at_most, decoded_down_to
from lsep_ml.data.images.opened import Check, images_checked
from lsep_ml.data.known import without_unread
from lsep_ml.data.label_groups import LabelGroups, read_label_groups
from lsep_ml.data.loading import Batch, BatchedSplit, TrainingLoader
from lsep_ml.data.mixing import UNMIXED, Mixing
from lsep_ml.data.order import WHOLE, FixedOrder, ProcessShare, TrainingOrder, repeat_factors
from lsep_ml.data.transform import Transform
from lsep_ml.data.withheld import DroppedAs, SinglePositive, Withheld


class ImageDataModule(pl.LightningDataModule):
    """Loaders over the data set that `reader` gives; batches are `Batch`.

    The training order is a function of (training_seed, epoch), a row's augmentation of (training_seed, epoch,
    row): neither depends on the number of workers, and no global random state is touched.

    Args:
        reader: `read_<source>`; called once, here, with `options`.
        transform: applied to each image; its random part in training only.
        batch_size: rows of a training batch, over all processes.
        eval_batch_size: rows of an evaluation batch; these batches never change.
        training_seed: of order and augmentation. (Scenes, splits and hold-outs are the reader's own `seed`.)
        sampler: "plain", each training image once an epoch; "balanced", images with rare labels more often
            (`repeat_factors`).
        repeat_threshold: for "balanced", the share of images below which a label is rare.
        num_workers: processes that load and decode; no more are started than there are cores. 0: none.
        persistent_workers: whether they live on from epoch to epoch.
        pin_memory: whether batches are put where a GPU copies from at once; None: where there is a GPU.
        max_bytes: the largest image file that is read; a larger one is as one that cannot be decoded.
        check: which images are opened before the first epoch, see `images_checked`; where not all are, bad ones that
            are met are left out, see `BatchedSplit`.
        groups_of_labels: a JSON file of label groups, relative to the reader's `root`, see `read_label_groups`.
        drop_labels, dropped_as, long_tail: what is withheld of training and validation, see `Withheld`; by the reader's
            `seed`.
        mixing: how training images are mixed with each other.
        process: which of several processes this is, and of how many; each is fed its share of the same batches.
        options: what the reader takes.

    Raises:
        DataError: from the reader or `Withheld`; an unknown sampler; a transform that leaves images at sizes of their
            own; a training batch of fewer rows than processes.
    """

    def __init__(
        self,
        reader: Callable[..., DataSet],
        *,
        transform: Transform,
        batch_size: int,
        eval_batch_size: int,
        training_seed: int,
        sampler: Literal["plain", "balanced"] = "plain",
        repeat_threshold: float = 0.1,
        num_workers: int = 0,
        persistent_workers: bool = True,
        pin_memory: bool | None = None,
        max_bytes: int = MAX_BYTES,
        check: Check = "full",
        drop_labels: float | SinglePositive = 0.0,
        dropped_as: DroppedAs = "unknown",
        long_tail: float | None = None,
        groups_of_labels: str | None = None,
        mixing: Mixing = UNMIXED,
        process: ProcessShare = WHOLE,
        **options: Any,
    ) -> None:
        super().__init__()
        if sampler not in ("plain", "balanced"):
            raise DataError(f"data.sampler={sampler}: plain or balanced")
        withheld = Withheld(drop_labels, dropped_as, long_tail)
        self.transform: Transform | None = transform
        self.eval_batch_size = eval_batch_size
        self.training_seed: int | None = training_seed  # of the augmentation; None: there is none
        self.num_workers = min(num_workers, available_cores())
        self.persistent_workers = persistent_workers
        self.pin_memory = torch.cuda.is_available() if pin_memory is None else pin_memory
        with at_most(max_bytes), images_checked(check), decoded_down_to(transform.least_side):
            self.data_set = withheld.of(reader(**options), options.get("seed", 0))
        groups = None if groups_of_labels is None else Path(options.get("root", "")) / groups_of_labels
        self.label_groups = (
            LabelGroups() if groups is None else read_label_groups(groups, self.data_set.label_names)
        )
        if self.data_set.feature_width is not None:
            self.transform, self.num_workers = None, 0
            if mixing:
                raise DataError(
                    "training.mixup, training.cutmix: images are mixed, and these data have features in their place"
                )
        elif not transform.fixed_size and not isinstance(self.data_set.train.images, Tensor):
            raise DataError(
                f"data {self.data_set.name}: image files differ in size, and this transform leaves them so; "
                "choose transform=small or transform=imagenet224, or set transform.resize=[H,W]"
            )
        train = self.data_set.train
        repeats = repeat_factors(train.targets, repeat_threshold) if sampler == "balanced" else None
        self._order = TrainingOrder(len(train), batch_size, training_seed, repeats, process, mixing)
        self._fixed_orders = {
            s: FixedOrder(len(self.data_set.split(s)), eval_batch_size, process) for s in SPLITS
        }
        self._training: TrainingLoader | None = None
        self._place: dict[str, Any] = {"batches": 0}

    def on_features(self, features: Mapping[str, Tensor], unread: Collection[str] = ()) -> Self:
        """Return the same rows, targets and orders, with each split's features (N, D) in the place of its images.

        Features are not augmented: they stand for the images as evaluation sees them. Of the images `unread`, which
        could not be, no label is known.
        """
        twin = copy(self)
        twin.transform, twin.num_workers = None, 0
        known = without_unread(self.data_set, unread)
        train, val, test = (replace(known.split(name), images=features[name]) for name in SPLITS)
        twin.data_set = replace(known, train=train, val=val, test=test)
        return twin

    def unaugmented(self) -> Self:
        """Return the same rows in the same orders, without augmentation: training sees images as evaluation does."""
        twin = copy(self)
        twin.training_seed = None
        return twin

    def train_dataloader(self) -> TrainingLoader:
        """Return augmented batches in the order of the epoch that was set on its sampler; Lightning sets it."""
        batches = BatchedSplit(self.data_set.train, self.transform, self.training_seed)
        self._training = TrainingLoader(batches, sampler=self._order, **self._loading)
        self._training.load_state_dict(self._place)
        self._place = {"batches": 0}
        return self._training

    def state_dict(self) -> dict[str, Any]:
        """Return the place in the epoch of the training loader. (Lightning saves it with the loader too, but does not
        give it back when it has asked for the loader before, to count its batches.)
        """
        return self._place if self._training is None else self._training.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Make the next training loader begin at that place."""
        self._place = state_dict

    def evaluation_dataloader(
        self, split: str, batch_size: int | None = None, first: int = 0
    ) -> DataLoader[Batch]:
        """Return batches of "train", "val" or "test" without augmentation, in fixed order and fixed batches.

        Args:
            split: its name.
            batch_size: rows of a batch; None: `eval_batch_size`.
            first: the batch to begin with.
        """
        batches = BatchedSplit(self.data_set.split(split), self.transform)
        order = self._fixed_orders[split]
        if batch_size is not None or first:
            order = FixedOrder(order.num_rows, batch_size or order.batch_size, order.process, first)
        return DataLoader(batches, sampler=order, **self._loading)

    def val_dataloader(self) -> DataLoader[Batch]:
        """Return the validation split, fixed."""
        return self.evaluation_dataloader("val")

    def test_dataloader(self) -> DataLoader[Batch]:
        """Return the test split, fixed."""
        return self.evaluation_dataloader("test")

    def transfer_batch_to_device(self, batch: Batch, device: torch.device, dataloader_idx: int) -> Batch:
        """Return the batch on `device`; on the CPU, where batches are made, as it is."""
        if device.type == "cpu":  # to look at each of its parts takes longer than a small one
            return batch
        moved: Batch = super().transfer_batch_to_device(batch, device, dataloader_idx)
        return moved

    @property
    def _loading(self) -> dict[str, Any]:
        return {
            "batch_size": None,
            "num_workers": self.num_workers,
            "persistent_workers": self.persistent_workers and self.num_workers > 0,
            "worker_init_fn": _outlive_a_warning,
            "pin_memory": self.pin_memory,
            "generator": torch.Generator(),  # else each pass draws from the global one
        }


def _outlive_a_warning(worker: int) -> None:
    """A scheduler sends SIGTERM to all processes of a job, and the main one still saves: workers obey only it."""
    if not hasattr(signal, "sigwaitinfo"):  # macOS
        return
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes too
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})

    def end_with_the_main_process() -> None:
        while signal.sigwaitinfo({signal.SIGTERM}).si_pid != os.getppid():
            pass
        os._exit(0)

    threading.Thread(target=end_with_the_main_process, daemon=True).start()
