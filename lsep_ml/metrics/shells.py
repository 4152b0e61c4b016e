"""torchmetrics metrics over the functional core: they collect batches, on any number of processes."""

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchmetrics import Metric

from lsep_ml.metrics.counts import (
    IMAGE_SHARES,
    LabelCounts,
    as_numpy,
    binary,
    count_label_sets,
    image_numerators,
    sum_of_ratios,
)
from lsep_ml.metrics.functional import label_set_metrics, ranking_metrics
from lsep_ml.metrics.metric import Share


class LabelSetMetrics(Metric):
    """Computes the label-set metrics of the catalogue (`label_set_metrics`): pc_p pc_r ov_p ov_r f1 exact_match cf1 of1
    and on.

    The state is integer counts, so batching, order and number of processes change nothing. `compute` returns
    float64 scalars on the CPU, fractions in [0, 1].
    """

    full_state_update = False

    def __init__(self, num_labels: int) -> None:
        super().__init__()
        self.num_labels = num_labels
        for name in ("correct", "predicted", "actual", "known"):
            self.add_state(name, torch.zeros(num_labels, dtype=torch.long), dist_reduce_fx="sum")
        self.add_state("images", torch.tensor(0), dist_reduce_fx="sum")
        for share in IMAGE_SHARES:  # numerators summed by denominator: integers too
            zeros = torch.zeros(2 * num_labels + 1, dtype=torch.long)
            self.add_state(_state_of(share), zeros, dist_reduce_fx="sum")

    def update(self, predictions: Tensor, targets: Tensor, mask: Tensor | None = None) -> None:
        """Add a batch: predictions and targets 0/1 of any dtype, (N, K); mask bool (N, K), True = known.

        Raises ValueError for other shapes and for known entries other than 0 and 1.
        """
        check_batch(predictions, targets, mask, self.num_labels)
        known = None if mask is None else as_numpy(mask) != 0
        arrays = binary("predictions", predictions, known), binary("targets", targets, known)
        counts = count_label_sets(*arrays, known)
        for name in ("correct", "predicted", "actual", "known", "images"):
            self._add(name, getattr(counts, name))
        for share, numerators in image_numerators(*arrays, known).items():
            self._add(_state_of(share), numerators)

    def _add(self, name: str, count: Any) -> None:
        state = getattr(self, name)
        state += torch.as_tensor(np.array(count), device=state.device)

    def compute(self) -> dict[str, Tensor]:
        """Return every label-set metric as a float64 scalar."""
        sums = {share: sum_of_ratios(getattr(self, _state_of(share))) for share in IMAGE_SHARES}
        counts = LabelCounts(self.correct, self.predicted, self.actual, self.known, self.images, sums)
        return {
            key: torch.tensor(float(value), dtype=torch.float64)
            for key, value in label_set_metrics(counts).items()
        }


def _state_of(share: Share) -> str:
    return f"{share.__name__}_by_denominator"


class RankingMetrics(Metric):
    """Computes the ranking metrics of the catalogue on raw scores (`ranking_metrics`): map, ranking_loss and on.

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
        binary("targets", targets, None if mask is None else as_numpy(mask) != 0)
        if torch.isnan(scores).any():
            raise ValueError("scores: NaN; ranking metrics need a number for every entry")
        self.scores.append(scores.detach().to(torch.promote_types(scores.dtype, torch.float32)))
        known = torch.ones_like(targets, dtype=torch.bool) if mask is None else mask.bool()
        self.targets.append(torch.where(known, (targets != 0).to(torch.int8), -1))  # -1: unknown

    def compute(self) -> dict[str, Tensor]:
        """Return the ranking metrics as float64 scalars."""
        scores, targets = (
            np.concatenate([part.cpu().numpy() for part in as_list(state)])
            for state in (self.scores, self.targets)
        )
        values = ranking_metrics(scores, targets == 1, targets >= 0)
        return {key: torch.tensor(value, dtype=torch.float64) for key, value in values.items()}


def as_list(state: list[Tensor] | Tensor) -> list[Tensor]:
    """Return a list state; torchmetrics hands it over as one tensor after a sync between processes."""
    return state if isinstance(state, list) else [state]


def check_batch(values: Tensor, targets: Tensor, mask: Tensor | None, num_labels: int) -> None:
    """Raise ValueError unless all have the shape (N, num_labels)."""
    for name, tensor in (("first argument", values), ("targets", targets), ("mask", mask)):
        if isinstance(tensor, str) or (tensor is not None and not hasattr(tensor, "shape")):
            raise ValueError(f"{name}: a {type(tensor).__name__}, expected a tensor (N, {num_labels})")
        if tensor is not None and tensor.shape != (len(targets), num_labels):
            raise ValueError(
                f"{name}: shape {tuple(tensor.shape)}, expected (N, {num_labels}) with N = {len(targets)}"
            )
