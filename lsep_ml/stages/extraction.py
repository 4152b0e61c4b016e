"""Between the stages: the frozen network runs once, and everything after works on the arrays it leaves."""

import logging
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.progress import track

from lsep_ml.data import ImageDataModule
from lsep_ml.data.data_set import SPLITS
from lsep_ml.models import Network
from lsep_ml.models.preprocessing import preprocessing_of
from lsep_ml.processes.group import Processes
from lsep_ml.stages.running import Running
from lsep_ml.stages.sealed_rows import (
    Rows,
    SealedRows,
    open_matrix,
    save_array,
    write_features,
    write_labels,
)
from lsep_ml.store.entries import Entry, Store
from lsep_ml.store.keys import FEATURES, features_made_by, taken_made_by, weights_hash
from lsep_ml.terminal import console

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class SplitArrays:
    """One split as the later stages see it; the arrays are memory-mapped and read-only, targets and mask sparse where
    those of the data set are."""

    features: np.ndarray  # float32 (N, D), or float16
    scores: np.ndarray | None  # float32 (N, K), or float16; None for a predictor that has none
    label_sets: np.ndarray | None  # bool (N, K), a predictor's own; None for the score layer
    targets: Any  # uint8 (N, K)
    mask: Any  # bool (N, K), True = known; None when all entries are
    image_ids: np.ndarray  # unicode (N,)


UNREAD = "unread"
"""Fact of stored features: images that could not be read, with why; none of their labels is known."""

OUT_OF_FOLD, FOLDS = "out_of_fold_scores", "folds"
"""Arrays that a solved probe leaves with its checkpoint."""


@dataclass(frozen=True)
class OutOfFold:
    """Holds the training images' scores by score layers that were fitted without them; memory-mapped and read-only.

    What is fitted on these is fitted on scores as new images have them, which the training images' own are not.
    """

    scores: np.ndarray  # float32 (N_train, K), in the order of the training split's rows
    folds: np.ndarray  # int64 (N_train,): row i is scored by the layer fitted without fold folds[i]


@dataclass(frozen=True)
class Extraction:
    """Holds the arrays of all splits and the store entries they lie in.

    prediction: the trained network's entry, where the scores are its score layer's; None: they are a predictor's.
    """

    features: Entry
    scores: Entry
    prediction: Entry | None = None

    def out_of_fold(self) -> OutOfFold | None:
        """Return the out-of-fold scores of "train", which a probe by the solver has; None: there are none."""
        found = None if self.prediction is None else _open_if_there(self.prediction, OUT_OF_FOLD)
        if self.prediction is None or found is None:
            return None
        return OutOfFold(found, open_array(self.prediction, FOLDS))

    def split(self, name: str) -> SplitArrays:
        """Return the arrays of "train", "val" or "test"."""
        return SplitArrays(
            features=open_array(self.features, f"{name}_features")[:, : self.features.facts.get("width")],
            scores=_open_if_there(self.scores, f"{name}_scores"),
            label_sets=_open_if_there(self.scores, f"{name}_label_sets"),
            targets=open_matrix(self.features.folder, f"{name}_targets", np.uint8),
            mask=open_matrix(self.features.folder, f"{name}_mask", np.bool_),
            image_ids=open_array(self.features, f"{name}_image_ids"),
        )


def open_array(entry: Entry, name: str) -> np.ndarray:
    """Return an array of an entry, memory-mapped and read-only."""
    array: np.ndarray = np.load(entry.folder / f"{name}.npy", mmap_mode="r", allow_pickle=False)
    return array


def _open_if_there(entry: Entry, name: str) -> np.ndarray | None:
    return open_array(entry, name) if (entry.folder / f"{name}.npy").exists() else None


def features_key(
    config: dict[str, Any], network: Network, data: ImageDataModule, running: Running
) -> dict[str, Any]:
    """Return what the features of `data` by `network`'s backbone are made by; `config` holds the sections of
    the images.

    What the geometries squash and pad do in training alone, `crop_pct`, counts as the backbone's own.
    """
    if config["transform"].get("geometry") in ("squash", "pad"):
        own = preprocessing_of(config["model"])
        config = {**config, "transform": {**config["transform"], "crop_pct": own.crop_pct if own else 1.0}}
    return features_made_by(
        config,
        data.data_set.content,
        weights_hash(network.backbone),
        running.batch_size,
        channels_last=running.channels_last,
        computed_in=running.precision,
        stored_in=running.store,
        scores_by=weights_hash(network.score_layer) if running.beside == "scores" else None,
    )


def extract_features(
    store: Store,
    config: dict[str, Any],
    network: Network,
    data: ImageDataModule,
    device: torch.device,
    running: Running,
) -> Entry:
    """Return the features by the backbone, found again by what made them.

    Nothing is augmented, and whatever precision the network was trained in, it runs in that of `running`: float32, as
    it will wherever it is used, unless asked for. Several processes share out the batches; the arrays are the same to
    the last bit. What is done is sealed every few seconds: an extraction that was killed goes on there, on any number
    of processes.
    """
    network = network.eval().to(device)
    made_by = features_key(config, network, data, running)
    width = running.row_width(network)

    def build(folder: Path) -> dict[str, Any]:
        started = time.perf_counter()
        images = " + ".join(str(len(data.data_set.split(split))) for split in SPLITS)
        log.info("Extracting features: %s images, %d wide", images, network.num_features)
        if running.channels_last:
            network.to(memory_format=torch.channels_last)
        extracted, unread = {}, dict[str, str]()
        for split in SPLITS:
            source = data.data_set.split(split)
            kept = None
            if store.processes.first:
                shape = (len(source), width)
                kept = SealedRows(
                    store.kept(FEATURES, made_by) / f"{split}_features.npy", np.dtype(running.store), shape
                )
            done = store.processes.share(0 if kept is None else kept.done)
            if done > 0:
                log.info("  features of %s: %d of %d images were done before", split, done, len(source))
            rounds = _feature_rounds(split, network, data, device, store.processes, running, done=done)
            if kept is None:
                deque(rounds, maxlen=0)
            else:
                unread |= write_features(split, source, kept, rounds)
                extracted[f"{split}_features.npy"] = kept
        if store.processes.first:
            write_labels(folder, data.data_set, unread)
        for name, array in extracted.items():  # only now: a build that starts again finds its folder empty
            array.finish(folder / name)
        network.to(memory_format=torch.contiguous_format)
        facts = {"width": network.num_features, "scores": running.beside == "scores"}
        seconds = round(time.perf_counter() - started, 3)
        return {"seconds": seconds, **facts, **({UNREAD: unread} if unread else {})}

    features = store.get_or_build(FEATURES, made_by, build)
    if features.reused:
        log.info("Features %s were extracted before: the network does not run.", features.identity)
    return features


def take_features(store: Store, stored: Entry, data: ImageDataModule) -> Entry:
    """Return the features of `data`, whose images the `stored` ones are of in other splits; found again by both."""

    def build(folder: Path) -> dict[str, Any]:
        if not store.processes.first:
            return {}
        started = time.perf_counter()
        ids = np.concatenate([open_array(stored, f"{split}_image_ids") for split in SPLITS])
        features = np.concatenate([open_array(stored, f"{split}_features") for split in SPLITS])
        ids, first = np.unique(ids, return_index=True)
        unread = stored.facts.get(UNREAD, {})
        write_labels(folder, data.data_set, unread)
        for split in SPLITS:
            rows = first[np.searchsorted(ids, data.data_set.split(split).image_ids)]
            save_array(folder / f"{split}_features.npy", features[rows])
        facts = {"seconds": round(time.perf_counter() - started, 3), "width": stored.facts["width"]}
        return {**facts, **({UNREAD: unread} if unread else {})}

    return store.get_or_build(FEATURES, taken_made_by(stored.identity, data.data_set.content), build)


def feature_tensors(folder: Path) -> dict[str, torch.Tensor]:
    """Return each split's features (N, D) in an entry's folder, memory-mapped, in the type that they are stored in."""
    # Copy on write: torch knows no read-only memory.
    found = {
        split: np.load(folder / f"{split}_features.npy", mmap_mode="c", allow_pickle=False)
        for split in SPLITS
    }
    return {split: torch.from_numpy(array) for split, array in found.items()}


def _feature_rounds(
    split: str,
    network: Network,
    data: ImageDataModule,
    device: torch.device,
    processes: Processes,
    running: Running,
    *,
    done: int,
) -> Iterator[list[Rows]]:
    """Compute the features of a split from row `done` on, round by round: in each, every process computes one batch.

    The first process is given the rows of all batches of a round, the others an empty list.
    """
    if done == len(data.data_set.split(split)):
        return
    loader = data.evaluation_dataloader(split, running.batch_size, done // running.batch_size)
    own = iter(loader)
    half = torch.autocast(device.type, torch.bfloat16, enabled=running.precision == "bf16")
    rounds, hidden = range(max(processes.gather(len(loader)))), not console.is_terminal
    for _ in track(rounds, f"  features of {split}", console=console, disable=hidden, transient=True):
        batch, computed = next(own, None), None
        if batch is not None:
            images = batch.images.to(device)
            if running.channels_last:
                images = images.contiguous(memory_format=torch.channels_last)
            with torch.inference_mode():
                with half:
                    row = network.extract(images).float()
                if running.beside == "scores":
                    row = torch.cat([row[:, : network.num_features], network.score_layer(row)], dim=1)
            computed = batch.rows.numpy(), row.cpu().numpy(), batch.unread
        yield [rows for rows in processes.collect(computed) if rows is not None]
