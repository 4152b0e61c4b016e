"""Layers that do what torch's do, bit for bit, in less time on a CPU: by loops where numba is installed."""

import importlib
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from lsep_ml.loops import installed

LARGE = 2**16
"""Entries of a batch's maps from which arithmetic takes more time than calls."""
FEW = 4
"""Threads of torch up to which a loop, which has one, is faster than they are."""


class BatchNorm(nn.BatchNorm2d):
    """Does what `nn.BatchNorm2d` does, in training in less than half its time: (N, C, H, W) -> the same shape.

    torch adds a channel's values one after the other, and each addition waits for the one before; a loop over several
    channels at once gives the same sums.
    """

    def forward(self, input: Tensor) -> Tensor:
        mean, variance, momentum = self.running_mean, self.running_var, self.momentum
        if not self.training or mean is None or variance is None or momentum is None or not _looped(input):
            return super().forward(input)
        if not self.affine or input.shape[1] % _loops().TOGETHER:
            return super().forward(input)
        assert self.num_batches_tracked is not None
        self.num_batches_tracked.add_(1)
        normalised, means, squares = _Normalised.apply(input, self.weight, self.bias, self.eps)
        share = mean.new_tensor(momentum)  # in float32, as torch has it
        mean.copy_(share * means + (1 - share) * mean)
        unbiased = squares / (input.numel() // input.shape[1] - 1)
        variance.copy_(share.double() * unbiased.double() + ((1 - share) * variance).double())
        return torch.as_tensor(normalised)


class _Normalised(torch.autograd.Function):
    """Normalises `maps` by their own moments, which it returns too: means, and sums of squared deviations."""

    @staticmethod
    def forward(ctx: Any, maps: Tensor, weight: Tensor, bias: Tensor, eps: float) -> tuple[Tensor, ...]:
        channels = maps.shape[1]
        means, squares = maps.new_empty(2, channels)
        _loops().moments(maps.flatten(2).numpy(), means.numpy(), squares.numpy())
        scale = 1 / ((squares / (maps.numel() // channels)).double() + eps).sqrt()
        scale = scale.to(maps.dtype)
        # As if in evaluation, where torch rounds the scale otherwise: it is in the weight.
        normalised = F.batch_norm(maps, means, torch.ones_like(means), weight * scale, bias, eps=0.0)
        ctx.save_for_backward(maps, weight, means, scale)
        ctx.eps = eps
        ctx.mark_non_differentiable(means, squares)
        return normalised, means, squares

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor | None, ...]:
        maps, weight, means, scale = ctx.saved_tensors
        needed = list(ctx.needs_input_grad[:3])
        gradients = torch.ops.aten.native_batch_norm_backward(
            outer[0].contiguous(), maps, weight, None, None, means, scale, True, ctx.eps, needed
        )
        return (*gradients, None)


class MaximumOfPairs(nn.Module):
    """Does what `nn.MaxPool2d(2)` does, in a fraction of its time: (N, C, H, W) -> (N, C, H/2, W/2).

    torch looks at one window after the other. Without numba, two maxima of strided halves take whole vectors at a time.
    """

    def forward(self, maps: Tensor) -> Tensor:
        if not _eager(maps) or maps.shape[2] % 2 or maps.shape[3] % 2:
            return F.max_pool2d(maps, 2)
        if maps.requires_grad and torch.is_grad_enabled():
            how = _LoopedMaxima if _looped(maps) else _MaximumOfPairs
            pooled: Tensor = how.apply(maps)
            return pooled
        return _looped_maxima(maps)[0] if _looped(maps) else _maxima(maps)[1]


def _looped_maxima(maps: Tensor) -> tuple[Tensor, Tensor]:
    """Compute the maxima of 2 x 2 windows, (N, C, H/2, W/2), and their places in them, uint8."""
    images, channels, height, width = maps.shape
    pooled = maps.new_empty(images, channels, height // 2, width // 2)
    places = torch.empty_like(pooled, dtype=torch.uint8)
    _over_maps(_loops().maxima, maps, pooled, places)
    return pooled, places


class _LoopedMaxima(torch.autograd.Function):
    """Gives the gradient to the first of equal ones in reading order, as torch does."""

    @staticmethod
    def forward(ctx: Any, maps: Tensor) -> Tensor:
        pooled, places = _looped_maxima(maps)
        ctx.save_for_backward(places)
        ctx.shape = maps.shape
        return pooled

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *outer: Tensor) -> Tensor:
        gradient = outer[0].new_empty(ctx.shape)
        _over_maps(_loops().unpool, outer[0].contiguous(), ctx.saved_tensors[0], gradient)
        return gradient


def _over_maps(loop: Any, *maps: Tensor) -> None:
    """Call `loop` with the maps (N * C, H, W) of each tensor (N, C, H, W)."""
    loop(*(tensor.detach().flatten(0, 1).numpy() for tensor in maps))


def _maxima(maps: Tensor) -> tuple[Tensor, Tensor]:
    """Compute the maxima of neighbours in a line, (N, C, H, W/2), and those of two lines of them, (N, C, H/2, W/2)."""
    of_columns = torch.maximum(maps[..., ::2], maps[..., 1::2])
    return of_columns, torch.maximum(of_columns[:, :, ::2], of_columns[:, :, 1::2])


class _MaximumOfPairs(torch.autograd.Function):
    """Gives the gradient to the first of equal ones in reading order, as torch does."""

    @staticmethod
    def forward(ctx: Any, maps: Tensor) -> Tensor:
        of_columns, pooled = _maxima(maps)
        ctx.save_for_backward(maps, of_columns)
        return pooled

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *outer: Tensor) -> Tensor:
        maps, of_columns = ctx.saved_tensors
        inner, gradient = torch.empty_like(of_columns), torch.empty_like(maps)
        _part(outer[0], of_columns[:, :, ::2], of_columns[:, :, 1::2], inner[:, :, ::2], inner[:, :, 1::2])
        _part(inner, maps[..., ::2], maps[..., 1::2], gradient[..., ::2], gradient[..., 1::2])
        return gradient


def _part(outer: Tensor, first: Tensor, second: Tensor, to_first: Tensor, to_second: Tensor) -> None:
    """Write `outer` to where the maximum of `first` and `second` is, and 0 to where it is not."""
    torch.mul(outer, first >= second, out=to_first)  # several times faster than torch.where
    torch.sub(outer, to_first, out=to_second)


def _eager(maps: Tensor) -> bool:
    """Return whether `maps` are numbers in a CPU's memory, in the order of their dimensions."""
    traced = torch.compiler.is_compiling() or torch.jit.is_tracing()
    return maps.device.type == "cpu" and not traced and maps.is_contiguous()


def _looped(maps: Tensor) -> bool:
    """Return whether loops are there for `maps`, and faster."""
    large = maps.numel() >= LARGE and torch.get_num_threads() <= FEW
    return large and maps.dtype == torch.float32 and _eager(maps) and installed()


@cache
def _loops() -> Any:
    return importlib.import_module("lsep_ml.models.map_loops")
