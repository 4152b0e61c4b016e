"""Batch norm over the whole batch of several processes, on any device."""

from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.nn.modules.batchnorm import _BatchNorm


def sync_batch_norm(module: nn.Module, device: torch.device) -> nn.Module:
    """Return the module, every batch norm in it replaced by a synced one for this device: same state, under the same
    names."""
    if device.type != "cpu":
        from timm.layers import convert_sync_batchnorm

        on_gpu: nn.Module = convert_sync_batchnorm(module)  # PyTorch's, which has no CPU version
        return on_gpu
    if isinstance(module, _BatchNorm):
        synced = SyncedBatchNorm(
            module.num_features, module.eps, module.momentum, module.affine, module.track_running_stats
        )
        synced.load_state_dict(module.state_dict())
        for name, layer in module.named_children():
            synced.add_module(name, layer)
        return synced.train(module.training)
    for name, child in module.named_children():
        setattr(module, name, sync_batch_norm(child, device))
    return module


class SyncedBatchNorm(_BatchNorm):
    """Computes (x - E[x]) / sqrt(Var[x] + eps) * weight + bias, input (n, C, ...) -> the same shape.

    In training, E and Var are over the rows of all processes, which may have different numbers of them, and are
    differentiated through. Layers inside come after it, as in timm's norms, which have an activation in them.
    """

    def _check_input_dim(self, input: Tensor) -> None:
        """Accept any number of dimensions."""

    def forward(self, input: Tensor) -> Tensor:
        normalised = self._by_batch(input) if self.training else super().forward(input)
        for layer in self.children():
            normalised = layer(normalised)
        return normalised

    def _by_batch(self, input: Tensor) -> Tensor:
        dims, shape = [0, *range(2, input.ndim)], [1, -1, *[1] * (input.ndim - 2)]
        own_count = input.new_tensor([input.numel() / input.shape[1]])
        total: Tensor = _Sum.apply(torch.cat([input.sum(dims), own_count]))
        count, mean = total[-1], total[:-1] / total[-1]
        centred = input - mean.view(shape)
        squares: Tensor = _Sum.apply(centred.square().sum(dims))
        self._track(mean.detach(), (squares / (count - 1)).detach())
        scale = (squares / count + self.eps).rsqrt()
        if self.affine:
            return centred * (scale * self.weight).view(shape) + self.bias.view(shape)
        return centred * scale.view(shape)

    def _track(self, mean: Tensor, variance: Tensor) -> None:
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        self.num_batches_tracked.add_(1)
        share = 1 / self.num_batches_tracked.item() if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean, share)
        self.running_var.lerp_(variance, share)


class _Sum(torch.autograd.Function):
    """Takes the sum over the processes; on the way back, of the gradients."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        total = values.clone()
        distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        total = gradients[0].clone()
        distributed.all_reduce(total)
        return total
