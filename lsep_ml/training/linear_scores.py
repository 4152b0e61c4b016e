"""Linear scores of standardised features, a block of rows at a time: all of them, or the mean loss without them."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cached_property
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lsep_ml.processes.group import ALONE, Processes
from lsep_ml.training.principal_axes import ROWS, PrincipalAxes
from lsep_ml.training.recipe import Loss
from lsep_ml.training.standardisation import ScoreLayer, Standardisation

_BLOCK = 1024  # rows; larger ones are slower on a CPU in float64

KEPT = 2**30
"""Bytes of standardised features that stay in memory; what alone is larger is made anew at each pass."""

_ENTRIES = 2**22  # of scores made at a time in `Blocks.loss`
_SHARES = 8  # of the blocks, each added up for itself in `Blocks.loss`: what as many processes can take apart


RowLabels = Callable[[slice], tuple[Tensor, Tensor | None]]
"""Returns the targets and the mask of some rows."""


class Blocks:
    """Holds standardised rows (N, D) a block at a time, in one type on one device.

    block: gives the block of a number, at each pass. sizes: their rows. kind: type and device.
    """

    def __init__(
        self, block: Callable[[int], Tensor], sizes: list[int], kind: tuple[torch.dtype, torch.device]
    ) -> None:
        self._block, self.sizes = block, sizes
        self.dtype, self.device = kind

    def __iter__(self) -> Iterator[Tensor]:
        return map(self._block, range(len(self.sizes)))

    def scores(self, layer: ScoreLayer) -> Tensor:
        """Compute (N, K) on the blocks' device, differentiable in the layer's weight and bias."""
        scores: Tensor = _Scores.apply(*(part.to(self.device) for part in layer), self)
        return scores

    def parts(self, labels: int, numbers: range | None = None) -> Iterator[tuple[slice, Tensor]]:
        """Yield some rows at a time, few enough for their scores of so many labels, and where they stand.

        numbers: of the blocks whose rows these are; None: all.
        """
        numbers = range(len(self.sizes)) if numbers is None else numbers
        start = sum(self.sizes[: numbers.start])
        for number in numbers:
            for x in self._block(number).split(max(1, _ENTRIES // labels)):
                yield slice(start, start + len(x)), x
                start += len(x)

    def shares(self) -> list[range]:
        """Return the numbers of the blocks in at most _SHARES runs of about as many each."""
        number = min(_SHARES, len(self.sizes))
        ends = [len(self.sizes) * share // number for share in range(number + 1)]
        return list(map(range, ends, ends[1:]))

    def loss(self, loss: Loss, layer: ScoreLayer, labels: RowLabels, processes: Processes = ALONE) -> Tensor:
        """Compute the mean loss, differentiable in the layer's weight and bias; no more than some rows' scores are
        there at a time.

        Several `processes`, all of which call this, each take shares of the rows; the result is the same to the last
        bit however many there are.
        """
        given = (self, loss, labels, processes)
        value: Tensor = _MeanLoss.apply(*(part.to(self.device) for part in layer), *given)
        return value


class _Scores(torch.autograd.Function):
    """Linear scores of blocks of rows; the gradient is added up in the order of the blocks.

    What a block gives is written into one tensor: small ones kept between large ones that go would part the memory into
    pieces too small for the next block, until all features stand in it.
    """

    @staticmethod
    def forward(ctx: Any, weight: Tensor, bias: Tensor, blocks: Blocks) -> Tensor:
        ctx.blocks, ctx.width = blocks, weight.shape[1]
        # Transposed: thin products are faster on a CPU this way round, twice in float64.
        scores = weight.new_empty(len(weight), sum(blocks.sizes))
        for part, block in zip(scores.split(blocks.sizes, 1), blocks, strict=True):
            part.copy_(weight @ block.T)
        return scores.T.contiguous() + bias

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None]:
        (gradient,) = gradients
        parts = zip(gradient.split(ctx.blocks.sizes), ctx.blocks, strict=True)
        weight = gradient.new_zeros(gradient.shape[1], ctx.width)
        for part, block in parts:
            weight += part.T @ block
        return weight, gradient.sum(0), None


class _MeanLoss(torch.autograd.Function):
    """Mean loss of linear scores that are made, used and left again, some rows at a time.

    Rows are added up in their order within a share of the blocks, and the shares in theirs, whichever process has them.
    """

    @staticmethod
    def forward(
        ctx: Any,
        weight: Tensor,
        bias: Tensor,
        blocks: Blocks,
        loss: Loss,
        labels: RowLabels,
        processes: Processes,
    ) -> Tensor:
        def apart(flat: Tensor) -> tuple[Tensor, Tensor]:
            return flat[: weight.numel()].view_as(weight), flat[weight.numel() :]

        def of_share(numbers: range) -> tuple[Tensor, Tensor]:
            total = weight.new_zeros((), dtype=torch.float64)
            flat = weight.new_zeros(weight.numel() + bias.numel())
            of_weight, of_bias = apart(flat)
            for rows, x in blocks.parts(len(weight), numbers):
                value, slope = slopes_of(loss, torch.addmm(bias, x, weight.T), *labels(rows))
                total += value
                of_weight.addmm_(slope.T, x)
                of_bias += slope.sum(0)
            return total, flat

        shares = blocks.shares()
        owners = [share * processes.count // len(shares) for share in range(len(shares))]
        mine = [share for share, owner in zip(shares, owners, strict=True) if owner == processes.rank]
        own: Iterator[tuple[Tensor, Tensor]] = map(of_share, mine)
        if processes.count > 1:  # all are at work, before they wait for each other
            own = iter(list(own))
        sums = of_share(range(0))
        for owner in owners:
            part = next(own) if owner == processes.rank else sums
            for total, values in zip(sums, part, strict=True):
                total += processes.broadcast(values, owner)
        images = sum(blocks.sizes)
        value, gradients = sums
        ctx.save_for_backward(*apart(gradients / images))
        return (value / images).to(weight.dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None, None, None, None]:
        of_weight, of_bias = ctx.saved_tensors
        return gradients[0] * of_weight, gradients[0] * of_bias, None, None, None, None


def slopes_of(loss: Loss, scores: Tensor, targets: Any, mask: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return the summed loss of these rows and its gradient in the scores."""
    with torch.enable_grad():
        scores = scores.detach().requires_grad_()
        value = loss(scores, targets, mask=mask, reduction="sum")
        (slopes,) = torch.autograd.grad(value, scores)
    return value.detach(), slopes


class StandardisedFeatures:
    """Holds features (N, D), standardised, for all that is fitted on them: losses, weight decays, folds.

    They are standardised and put on their principal axes once. What was made of them stays in memory, at most KEPT
    bytes of it, the oldest going first; what alone is larger is made anew at each pass, so that features that are
    memory-mapped need not fit in memory.

    standardisation: of other images, by which these are standardised; None: their own. axes: their principal axes;
    None: not known.

    Raises:
        FloatingPointError: features that are not finite, where the standardisation is their own; names the first row.
    """

    def __init__(
        self,
        features: Tensor,
        standardisation: Standardisation | None = None,
        axes: PrincipalAxes | None = None,
    ) -> None:
        self.raw = features
        self.standardisation = Standardisation.of(features) if standardisation is None else standardisation
        self._axes = axes
        self._kept: dict[tuple[torch.dtype, torch.device], Tensor] = {}

    def __len__(self) -> int:
        return len(self.raw)

    @property
    def width(self) -> int:
        """Return D."""
        return self.raw.shape[1]

    @cached_property
    def axes(self) -> PrincipalAxes:
        """Return their principal axes."""
        if self._axes is not None:
            return self._axes
        step = max(1, -(-len(self) // ROWS))
        return PrincipalAxes.of(
            self.blocks(None if step == 1 else torch.arange(0, len(self), step)), self.width
        )

    def turned(self) -> "StandardisedFeatures":
        """Return them turned to their principal axes, where they stay in memory in both types; else as they are.

        Layers are solved for on the axes: each evaluation of a loss is spared the way there and back.
        """
        directions, variances = self.axes
        if directions is None or len(self) * self.width * (4 + 8) > KEPT:
            return self
        by = replace(self.standardisation, directions=directions)
        turned = StandardisedFeatures(self.raw, by, PrincipalAxes(None, variances))
        for kind, whole in self._kept.items():
            turned._kept[kind] = whole @ directions.to(whole)
        return turned

    def blocks(
        self,
        rows: Tensor | None = None,
        *,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> Blocks:
        """Return all rows, or those of these numbers, in the type and on the device asked for."""
        kind = dtype, torch.device(device)
        if rows is not None and self.standardisation.directions is not None:
            self.blocks(dtype=dtype, device=device)  # rows are turned all together
        parts = torch.arange(len(self)).split(_BLOCK) if rows is None else rows.split(_BLOCK)
        sizes = [len(part) for part in parts]
        if rows is None and kind in self._kept:
            self._kept[kind] = self._kept.pop(kind)  # the newest
        elif not self._make_room(sum(sizes) * self.width * dtype.itemsize):
            return Blocks(lambda number: self._rows(parts[number], *kind), sizes, kind)
        elif rows is None:
            whole = torch.empty(self.raw.shape, dtype=dtype, device=device)
            for part, block in zip(parts, whole.split(_BLOCK), strict=True):
                block.copy_(self._rows(part, *kind))
            self._kept[kind] = whole
        if rows is None:
            return Blocks(self._kept[kind].split(_BLOCK).__getitem__, sizes, kind)
        return Blocks([self._rows(part, *kind) for part in parts].__getitem__, sizes, kind)

    def _rows(self, numbers: Tensor, dtype: torch.dtype, device: torch.device) -> Tensor:
        """Return some rows, from memory where they are there."""
        whole = self._kept.get((dtype, device))
        if whole is not None:
            return whole[numbers.to(device)]
        return self.standardisation.take(self.raw[numbers], dtype, device)

    def _make_room(self, size: int) -> bool:
        """Let the oldest go until so many bytes more make KEPT at most; say whether they ever do."""
        if size > KEPT:
            return False
        while sum(whole.nbytes for whole in self._kept.values()) + size > KEPT:
            del self._kept[next(iter(self._kept))]
        return True


class ProbeFeatures(NamedTuple):
    """Features of the training and of the validation images, both standardised, and turned, as the training images
    are."""

    train: StandardisedFeatures
    val: StandardisedFeatures

    @classmethod
    def of(cls, train: Tensor, val: Tensor) -> "ProbeFeatures":
        """Standardise float (N, D) of each.

        Raises:
            FloatingPointError: training features that are not finite.
        """
        of_train = StandardisedFeatures(train).turned()
        return cls(of_train, StandardisedFeatures(val, of_train.standardisation))
