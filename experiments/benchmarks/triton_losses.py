"""Candidates for CUDA, written in Triton: LSEP in three passes over the scores, and the hinges of ranking and WARP.

They are measured against the library's own losses, eager and compiled, by `losses.py` and `gpu_check.py` where there is
a GPU; the library does not use them. Their oracle are the library's losses:

    TRITON_INTERPRET=1 python experiments/benchmarks/triton_losses.py

prints, on a machine without a GPU, the largest difference of each from its oracle, and `--target 90` compiles them for
GPUs of that compute capability.
"""

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from lsep_ml import losses
from lsep_ml.losses.kernels.violations import harmonic

BLOCK = 1024
"""Labels that a program of Triton holds at a time."""
PAIRS = 16_384
"""Pairs of a bound and a score that a program compares at a time."""


@triton.jit
def _lsep_rows(scores, targets, values, statistics, num_labels, BLOCK: tl.constexpr):
    """log(1 + sum_u sum_v exp(f_v - f_u)) of a row, by the largest f_v and -f_u so far and sums relative to them."""
    row = tl.program_id(0).to(tl.int64)
    largest_v = -1e30
    largest_u = -1e30
    sum_v = 0.0
    sum_u = 0.0
    for start in range(0, num_labels, BLOCK):
        label = start + tl.arange(0, BLOCK)
        inside = label < num_labels
        f = tl.load(scores + row * num_labels + label, mask=inside, other=0.0).to(tl.float32)
        y = tl.load(targets + row * num_labels + label, mask=inside, other=0) != 0
        v = tl.where(inside & ~y, f, -float("inf"))
        u = tl.where(inside & y, -f, -float("inf"))
        next_v = tl.maximum(largest_v, tl.max(v, 0))
        next_u = tl.maximum(largest_u, tl.max(u, 0))
        sum_v = sum_v * tl.exp(largest_v - next_v) + tl.sum(tl.exp(v - next_v), 0)
        sum_u = sum_u * tl.exp(largest_u - next_u) + tl.sum(tl.exp(u - next_u), 0)
        largest_v = next_v
        largest_u = next_u
    pairs = (sum_v > 0) & (sum_u > 0)
    sum_v = tl.where(pairs, sum_v, 1.0)
    sum_u = tl.where(pairs, sum_u, 1.0)
    z = largest_v + largest_u + tl.log(sum_v) + tl.log(sum_u)
    far = tl.exp(-tl.abs(z))
    value = tl.maximum(z, 0.0) + tl.where(far > 1e-4, tl.log(1 + far), far - 0.5 * far * far)
    slope = tl.where(z >= 0, 1.0, far) / (1 + far)
    tl.store(values + row, tl.where(pairs, value, 0.0))
    tl.store(statistics + 4 * row, largest_v)
    tl.store(statistics + 4 * row + 1, tl.where(pairs, slope / sum_v, 0.0))
    tl.store(statistics + 4 * row + 2, largest_u)
    tl.store(statistics + 4 * row + 3, tl.where(pairs, slope / sum_u, 0.0))


@triton.jit
def _lsep_gradient(scores, targets, statistics, outer, gradient, num_labels, BLOCK: tl.constexpr):
    """The row's slope, shared out among its negatives by exp(f_v) and among its positives by exp(-f_u)."""
    row = tl.program_id(0).to(tl.int64)
    label = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = label < num_labels
    largest_v = tl.load(statistics + 4 * row)
    share_v = tl.load(statistics + 4 * row + 1)
    largest_u = tl.load(statistics + 4 * row + 2)
    share_u = tl.load(statistics + 4 * row + 3)
    f = tl.load(scores + row * num_labels + label, mask=inside, other=0.0).to(tl.float32)
    y = tl.load(targets + row * num_labels + label, mask=inside, other=0) != 0
    relative = tl.where(y, -f - largest_u, f - largest_v)  # above 0 only in a row that has no pair
    slope = tl.exp(tl.minimum(relative, 0.0)) * tl.where(y, -share_u, share_v) * tl.load(outer + row)
    tl.store(gradient + row * num_labels + label, slope.to(gradient.dtype.element_ty), mask=inside)


@triton.jit
def _hinge_ranks(scores, indices, ranks, num_labels, width, margin, WIDTH: tl.constexpr, BLOCK: tl.constexpr):
    """r_u of each positive of a row: how many negatives have f_v > f_u - a."""
    row = tl.program_id(0).to(tl.int64)
    place = tl.arange(0, WIDTH)
    index = tl.load(indices + row * width + place, mask=place < width, other=-1)
    bound = tl.load(scores + row * num_labels + index, mask=index >= 0, other=1e30).to(tl.float32) - margin
    rank = tl.zeros([WIDTH], tl.float32)
    for start in range(0, num_labels, BLOCK):
        label = start + tl.arange(0, BLOCK)
        f = tl.load(scores + row * num_labels + label, mask=label < num_labels, other=-1e30).to(tl.float32)
        positive = tl.sum((index[:, None] == label[None, :]).to(tl.int32), 0) > 0
        negative = tl.where(positive, -1e30, f)
        rank += tl.sum((negative[None, :] > bound[:, None]).to(tl.float32), 1)
    tl.store(ranks + row * width + place, tl.where(index >= 0, rank, 0.0), mask=place < width)


@triton.jit
def _hinge_slopes(
    scores,
    indices,
    ranks,
    weights,
    parts,
    gradient,
    num_labels,
    width,
    margin,
    WIDTH: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Of a block of a row's labels, the sum of w_u max(0, f_v - f_u + a) over all u, and its gradient."""
    row = tl.program_id(0).to(tl.int64)
    label = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = label < num_labels
    place = tl.arange(0, WIDTH)
    index = tl.load(indices + row * width + place, mask=place < width, other=-1)
    bound = tl.load(scores + row * num_labels + index, mask=index >= 0, other=1e30).to(tl.float32) - margin
    rank = tl.load(ranks + row * width + place, mask=place < width, other=0.0)
    weight = tl.load(weights + rank.to(tl.int32))
    f = tl.load(scores + row * num_labels + label, mask=inside, other=-1e30).to(tl.float32)
    same = index[:, None] == label[None, :]
    negative = tl.where(tl.sum(same.to(tl.int32), 0) > 0, -1e30, f)
    violates = negative[None, :] > bound[:, None]
    hinges = tl.where(violates, weight[:, None] * (negative[None, :] - bound[:, None]), 0.0)
    slopes = tl.where(violates, weight[:, None], 0.0) - tl.where(same, (weight * rank)[:, None], 0.0)
    tl.store(parts + row * tl.num_programs(1) + tl.program_id(1), tl.sum(tl.sum(hinges, 1), 0))
    slope = tl.sum(slopes, 0).to(gradient.dtype.element_ty)
    tl.store(gradient + row * num_labels + label, slope, mask=inside)


class _LSEP(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, scores: Tensor, targets: Tensor) -> Tensor:
        num_rows, num_labels = scores.shape
        values = torch.empty(num_rows, device=scores.device)
        statistics = torch.empty(num_rows, 4, device=scores.device)
        block = min(BLOCK, triton.next_power_of_2(num_labels))
        _lsep_rows[(num_rows,)](scores, targets, values, statistics, num_labels, BLOCK=block)
        ctx.save_for_backward(scores, targets, statistics)
        return values

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor, None]:
        scores, targets, statistics = ctx.saved_tensors
        gradient = torch.empty_like(scores)
        num_rows, num_labels = scores.shape
        block = min(BLOCK, triton.next_power_of_2(num_labels))
        grid = num_rows, triton.cdiv(num_labels, block)
        _lsep_gradient[grid](
            scores, targets, statistics, outer[0].contiguous(), gradient, num_labels, BLOCK=block
        )
        return gradient, None


class _Hinges(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, scores: Tensor, indices: Tensor, weights: Tensor, margin: float) -> Tensor:
        (num_rows, num_labels), width = scores.shape, indices.shape[1]
        padded = triton.next_power_of_2(width)
        block = min(max(32, PAIRS // padded), BLOCK, triton.next_power_of_2(num_labels))
        ranks = torch.empty(num_rows, width, device=scores.device)
        given = scores, indices, ranks
        sizes = {"WIDTH": padded, "BLOCK": block}
        _hinge_ranks[(num_rows,)](*given, num_labels, width, margin, **sizes)
        grid = num_rows, triton.cdiv(num_labels, block)
        parts, gradient = torch.empty(grid, device=scores.device), torch.empty_like(scores)
        _hinge_slopes[grid](*given, weights, parts, gradient, num_labels, width, margin, **sizes)
        ctx.save_for_backward(gradient)
        return parts.sum(1)

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor, None, None, None]:
        [gradient] = ctx.saved_tensors
        return gradient * outer[0][:, None].to(gradient.dtype), None, None, None


def lsep(scores: Tensor, targets: Tensor) -> Tensor:
    """The mean of LSEP over the rows: scores (N, K) of 16 or 32 bits, contiguous; targets uint8 or bool (N, K)."""
    value: Tensor = _LSEP.apply(scores, targets).mean()
    return value


def hinges(name: str, scores: Tensor, targets: losses.LabelIndices) -> Tensor:
    """The mean of ranking or WARP, `name`, over the rows, at the margin 1."""
    ranks = torch.arange(targets.num_labels + 1, device=scores.device, dtype=torch.float32)
    weights = harmonic(ranks) if name == "warp" else torch.ones_like(ranks)
    value: Tensor = _Hinges.apply(scores, targets.indices, weights, 1.0).mean()
    return value


def candidates(
    targets: Tensor, indices: losses.LabelIndices
) -> dict[str, tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]]:
    """By the loss's name the candidate and the library's own, functions of the scores."""
    return {
        "lsep": (lambda f: lsep(f, targets), lambda f: losses.lsep_loss(f, targets)),
        "ranking": (lambda f: hinges("ranking", f, indices), lambda f: losses.ranking_loss(f, indices)),
        "warp": (lambda f: hinges("warp", f, indices), lambda f: losses.warp_loss(f, indices)),
    }


def differences(device: str) -> dict[str, float]:
    """The largest difference of each from the library's, of values and gradients, over small batches of all kinds."""
    worst: dict[str, float] = {}
    generator = torch.Generator().manual_seed(0)
    for num_rows, num_labels, scale in ((5, 20, 1.0), (3, 1100, 1.0), (3, 40, 300.0), (3, 1, 1.0)):
        scores = scale * torch.randn(num_rows, num_labels, generator=generator)
        targets = (torch.rand(num_rows, num_labels, generator=generator) < 3 / num_labels).byte()
        targets[0], targets[1] = 0, 1  # rows without a pair
        scores[2] = scores[2].round()  # ties
        for dtype in (torch.float32, torch.bfloat16):
            f, y = scores.to(device, dtype), targets.to(device)
            for name, pair in candidates(y, losses.LabelIndices.of(y)).items():
                found, wanted = (value_and_gradient(loss, f) for loss in pair)
                # Relative to the largest, and in half precision in units of its rounding.
                errors = [
                    (a.double() - b.double()).abs().max() / (1 + b.double().abs().max())
                    for a, b in zip(found, wanted, strict=True)
                ]
                if dtype != torch.float32:
                    errors[1] = errors[1] * 1e-5 / torch.finfo(dtype).eps
                worst[name] = max(worst.get(name, 0.0), *(float(e.nan_to_num(nan=torch.inf)) for e in errors))
    return worst


def value_and_gradient(loss: Callable[[Tensor], Tensor], scores: Tensor) -> tuple[Tensor, Tensor]:
    f = scores.clone().requires_grad_()
    value = loss(f)
    [gradient] = torch.autograd.grad(value, f)
    return value.detach(), gradient


def compile_for(capability: int) -> list[str]:
    """Compile the kernels for a GPU of this compute capability, which need not be here; their names."""
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    pointers = {"targets": "*u8", "indices": "*i64"}
    kernels = (_lsep_rows, _lsep_gradient, _hinge_ranks, _hinge_slopes)
    for kernel in kernels:
        constants = {"BLOCK": BLOCK} | ({"WIDTH": 16} if "WIDTH" in kernel.arg_names else {})
        numbers = {"num_labels": "i32", "width": "i32", "margin": "fp32"} | dict.fromkeys(
            constants, "constexpr"
        )
        signature = {name: numbers.get(name, pointers.get(name, "*fp32")) for name in kernel.arg_names}
        source = ASTSource(kernel, signature, constexprs=constants)
        assert triton.compile(source, target=GPUTarget("cuda", capability, 32)).asm["ptx"]
    return [kernel.__name__ for kernel in kernels]


def main() -> None:
    parser = argparse.ArgumentParser(description=Path(__file__).name)
    parser.add_argument("--target", type=int, help="compile for this compute capability, such as 90")
    parser.add_argument("--device", default="cpu", help="where they are compared")
    options = parser.parse_args()
    print(json.dumps(compile_for(options.target) if options.target else differences(options.device)))


if __name__ == "__main__":
    main()
