"""CNN-RNN: an LSTM names an image's labels one after the other."""

import math
from collections.abc import Callable, Iterable
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.utils import get_total_norm
from torch.optim import Optimizer

from lsep_ml.predictors.base import Predicted, Predictor
from lsep_ml.predictors.label_paths import PADDING, LabelPaths

_BATCH = 1024  # images searched at a time


class CNNRNN(Predictor):
    """Predicts by CNN-RNN (Wang et al., CVPR 2016) on the features of a network that is trained already.

    In training an image's labels are a path, the most frequent label of the training images first (of equal ones the
    lower index), and END; `LabelPaths` learns its steps by cross entropy. A new image gets the labels of the most
    probable path, found by beam search of width `beam`. A label without a training image is never named; an image
    without labels is END alone. It trains on the CPU.

    size: of the joint space of labels and images; hidden: of the LSTM; optimizer: parameters -> Optimizer.
    """

    gives_scores: ClassVar[bool] = False
    entry_bytes: ClassVar[int] = 2  # the targets in two orders
    complete: ClassVar[str] = "a path that leaves a label out teaches that the image does not have it"

    def __init__(
        self,
        optimizer: Callable[[Iterable[Tensor]], Optimizer],
        *,
        size: int = 64,
        hidden: int = 512,
        dropout: float = 0.5,
        epochs: int = 50,
        batch_size: int = 64,
        beam: int = 4,
    ) -> None:
        super().__init__()
        for name, value in (("size", size), ("hidden", hidden), ("epochs", epochs), ("beam", beam)):
            if value < 1:
                raise ValueError(f"{name}={value}: expected at least 1")
        self.optimizer, self.size, self.hidden, self.dropout = optimizer, size, hidden, dropout
        self.epochs, self.batch_size, self.beam = epochs, batch_size, beam

    def fit(
        self,
        features: NDArray[Any],
        targets: NDArray[Any],
        mask: NDArray[Any] | None = None,
        *,
        seed: int = 0,
    ) -> Self:
        """Train as `Predictor.fit` says; raises FloatingPointError when the training loss is not finite."""
        self.check(targets, mask)
        positives = np.asarray(targets) != 0
        inputs, paths = _tensor(features), label_paths(positives)
        self.history = []
        with torch.random.fork_rng(devices=[]), torch.enable_grad():
            torch.manual_seed(seed)
            self.network = LabelPaths(inputs.shape[1], targets.shape[1], self.size, self.hidden, self.dropout)
            self.network.prepare(inputs, torch.from_numpy(positives))
            optimizer = self.optimizer(self.network.parameters())
            for epoch in range(1, self.epochs + 1):
                total = 0.0
                for rows in torch.randperm(len(inputs)).split(self.batch_size):
                    loss = self.network.loss(inputs[rows], paths[rows])
                    optimizer.zero_grad()
                    loss.backward()
                    optimizer.step()
                    total += loss.item() * len(rows)
                largest = get_total_norm([weight.detach() for weight in self.network.parameters()], math.inf)
                if not (math.isfinite(total) and largest.isfinite()):
                    raise FloatingPointError(
                        f"CNNRNN: the training loss or a weight is not finite in epoch {epoch}; "
                        "lower predictor.optimizer.lr"
                    )
                self.history.append({"epoch": epoch, "train_loss": total / len(inputs)})
        self.network.eval()
        return self

    def predict(self, features: NDArray[Any]) -> Predicted:
        found = [self.network.most_probable(batch, self.beam)[0] for batch in _tensor(features).split(_BATCH)]
        return Predicted(torch.cat(found).numpy(), None)


def label_paths(targets: NDArray[np.bool_]) -> Tensor:
    """Write each image's `targets` as labels by frequency, then END = K, then PADDING: int64 (N, longest + 1)."""
    num_labels = targets.shape[1]
    order = np.argsort(-targets.sum(0), kind="stable")
    paths = np.full((len(targets), targets.sum(1).max(initial=0) + 1), PADDING)
    for path, row in zip(paths, targets[:, order], strict=True):
        labels = order[row]
        path[: len(labels)], path[len(labels)] = labels, num_labels
    return torch.from_numpy(paths)


def _tensor(features: NDArray[Any]) -> Tensor:
    """Copy `features` to float32 in memory; a read-only memory map is never written."""
    return torch.from_numpy(np.array(features, dtype=np.float32))
