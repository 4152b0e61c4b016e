"""torchmetrics metrics over the functional core: they collect batches, on any number of processes."""

import numpy as np
import torch
from torch import Tensor
from torchmetrics import Metric

from lsep_ml.metrics.functional import LabelCounts, count_label_sets, label_set_metrics, ranking_metrics


class LabelSetMetrics(Metric):
    """The label-set metrics of `label_set_metrics`: pc_p pc_r ov_p ov_r f1 exact_match cf1 of1.

    The state is integer counts, so batching, order and number of processes change nothing. `compute` returns
    float64 scalars on the CPU, fractions in [0, 1].
    """

    full_state_update = False
    correct: Tensor
    predicted: Tensor
    actual: Tensor
    exact: Tensor
    images: Tensor

    def __init__(self, num_labels: int) -> None:
        super().__init__()
        self.num_labels = num_labels
        for name in ("correct", "predicted", "actual"):
            self.add_state(name, torch.zeros(num_labels, dtype=torch.long), dist_reduce_fx="sum")
        for name in ("exact", "images"):
            self.add_state(name, torch.tensor(0), dist_reduce_fx="sum")

    def update(self, predictions: Tensor, targets: Tensor, mask: Tensor | None = None) -> None:
        """Add a batch: predictions and targets 0/1 of any dtype, (N, K); mask bool (N, K), True = known.

        Raises ValueError for other shapes and for known entries other than 0 and 1.
        """
        check_batch(predictions, targets, mask, self.num_labels)
        _check_binary("predictions", predictions, mask)
        _check_binary("targets", targets, mask)
        for name, count in count_label_sets(predictions, targets, mask)._asdict().items():
            getattr(self, name).add_(count)

    def compute(self) -> dict[str, Tensor]:
        """The eight metrics as float64 scalars."""
        counts = LabelCounts(self.correct, self.predicted, self.actual, self.exact, self.images)
        return {
            key: torch.tensor(float(value), dtype=torch.float64)
            for key, value in label_set_metrics(counts).items()
        }


class RankingMetrics(Metric):
    """Metrics on raw scores (`ranking_metrics`): map map_classes ranking_loss coverage one_error lrap.

    Scores are kept (they are needed together for map) and never squashed; half precision is kept as float32,
    exactly. `compute` returns float64 scalars on the CPU that do not depend on batching, order or number of
    processes.
    """

    full_state_update = False
    scores: list[Tensor]
    targets: list[Tensor]

    def __init__(self, num_labels: int) -> None:
        super().__init__()
        self.num_labels = num_labels
        self.add_state("scores", [], dist_reduce_fx="cat")
        self.add_state("targets", [], dist_reduce_fx="cat")

    def update(self, scores: Tensor, targets: Tensor, mask: Tensor | None = None) -> None:
        """Add a batch: scores float (N, K); targets 0/1 of any dtype (N, K); mask bool (N, K), True = known.

        Raises ValueError for other shapes, for known targets other than 0 and 1, and for NaN scores.
        """
        check_batch(scores, targets, mask, self.num_labels)
        _check_binary("targets", targets, mask)
        if torch.isnan(scores).any():
            raise ValueError("scores: NaN; ranking metrics need a number for every entry")
        self.scores.append(scores.detach().to(torch.promote_types(scores.dtype, torch.float32)))
        known = torch.ones_like(targets, dtype=torch.bool) if mask is None else mask.bool()
        self.targets.append(torch.where(known, (targets != 0).to(torch.int8), -1))  # -1: unknown

    def compute(self) -> dict[str, Tensor]:
        """The ranking metrics as float64 scalars."""
        scores, targets = (
            np.concatenate([part.cpu().numpy() for part in as_list(state)])
            for state in (self.scores, self.targets)
        )
        values = ranking_metrics(scores, targets == 1, targets >= 0)
        return {key: torch.tensor(value, dtype=torch.float64) for key, value in values.items()}


def as_list(state: list[Tensor] | Tensor) -> list[Tensor]:
    """A list state; torchmetrics hands it over as one tensor after a sync between processes."""
    return state if isinstance(state, list) else [state]


def check_batch(values: Tensor, targets: Tensor, mask: Tensor | None, num_labels: int) -> None:
    """Raise ValueError unless all have the shape (N, num_labels)."""
    for name, tensor in (("first argument", values), ("targets", targets), ("mask", mask)):
        if tensor is not None and tensor.shape != (len(targets), num_labels):
            raise ValueError(
                f"{name}: shape {tuple(tensor.shape)}, expected (N, {num_labels}) with N = {len(targets)}"
            )


def _check_binary(name: str, values: Tensor, mask: Tensor | None) -> None:
    other = (values != 0) & (values != 1)
    if mask is not None:
        other &= mask
    if other.any():
        raise ValueError(f"{name}: {values[other][0].item()} found, expected only 0 and 1")
