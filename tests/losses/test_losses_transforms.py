"""The losses under torch.func, torch.compile and DistributedDataParallel."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from loss_cases import CASES, Case, case_name, draw, draw_mask, every_loss
from torch import Tensor, nn
from torch.func import grad, hessian, vmap
from torch.nn.parallel import DistributedDataParallel

from lsep_ml import losses


@every_loss
def test_vmap_over_rows(case: Case) -> None:
    scores, targets = draw(5, 7, 0.4, seed=1)
    targets[0], targets[1] = 0, 1
    mask = draw_mask(5, 7)

    def one(f: Tensor, y: Tensor, m: Tensor) -> Tensor:
        return case(f[None], y[None], mask=m[None])

    values, gradient = case.computed(scores, targets, mask=mask)
    torch.testing.assert_close(vmap(one)(scores, targets, mask), values)
    torch.testing.assert_close(vmap(grad(one))(scores, targets, mask), gradient)
    indices = losses.LabelIndices.of(targets).indices

    def sparse(f: Tensor, i: Tensor) -> Tensor:
        return case(f[None], losses.LabelIndices(i[None], 7))

    values, gradient = case.computed(scores, targets)
    torch.testing.assert_close(vmap(grad(sparse))(scores, indices), gradient)


@pytest.mark.parametrize("case", [case for case in CASES if case.smooth], ids=case_name)
@pytest.mark.filterwarnings("ignore:.*torch.jit.script:FutureWarning")
@pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning")
def test_hessian_of_torch_func_is_that_of_autograd(case: Case) -> None:
    scores, targets = draw(1, 5, 0.4, seed=1)
    targets[0, 0], targets[0, 1] = 0, 1
    expected = torch.autograd.functional.hessian(lambda f: case(f, targets), scores)
    assert (expected != 0).any()
    torch.testing.assert_close(hessian(lambda f: case(f, targets))(scores), expected)


@pytest.mark.parametrize("case", [case for case in CASES if not case.options], ids=case_name)
@pytest.mark.filterwarnings("ignore")  # of torch's own tracing
def test_traced_whole_by_torch_compile(case: Case) -> None:
    scores, targets = draw(4, 9, 0.4, seed=1)
    mask = draw_mask(4, 9)
    torch.compiler.reset()
    compiled = torch.compile(case.__call__, backend="aot_eager", fullgraph=True)
    for given in (targets, losses.LabelIndices.of(targets)):
        f = scores.clone().requires_grad_()
        values = compiled(f, given, mask=mask, reduction="none")
        computed = values.detach(), *torch.autograd.grad(values.sum(), f)
        torch.testing.assert_close(computed, case.computed(scores, given, mask=mask))


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
@pytest.mark.filterwarnings("ignore")
def test_a_compiled_model_trains_as_the_plain_one() -> None:
    layer, features, targets = problem()
    losses.lsep_loss(layer(features), targets).backward()
    expected, layer.weight.grad = layer.weight.grad, None
    torch.compiler.reset()
    step = torch.compile(lambda x, y: losses.lsep_loss(layer(x), y))
    step(features, targets).backward()
    torch.testing.assert_close(layer.weight.grad, expected)


@pytest.mark.filterwarnings("ignore")
def test_sampled_losses_under_torch_compile() -> None:
    scores, targets = draw(4, 9, 0.4)
    torch.compiler.reset()
    for name, options in {"lsep": {"max_pairs": 2}, "warp": {"sampled": True}}.items():
        loss: Callable[..., Tensor] = getattr(losses, f"{name}_loss")
        f = scores.clone().requires_grad_()
        torch.compile(loss, backend="aot_eager")(f, targets, **options).backward()
        assert f.grad is not None
        assert torch.isfinite(f.grad).all()


def problem() -> tuple[nn.Linear, Tensor, Tensor]:
    torch.manual_seed(0)
    features, targets = draw(6, 4, 0.5)[0], draw(6, 1100, 0.01)[1]
    return nn.Linear(4, 1100).double(), features, targets


def gradients_of_a_rank(rank: int, folder: Path) -> None:
    dist.init_process_group("gloo", f"file://{folder}/rendezvous", rank=rank, world_size=2)
    try:
        for loss in (losses.lsep_loss, losses.warp_loss):
            layer, features, targets = problem()
            model = DistributedDataParallel(layer)
            loss(model(features[rank::2]), targets[rank::2]).backward()
            torch.save(layer.weight.grad, folder / f"{loss.__name__}{rank}.pt")
            del model
        dist.barrier()  # a process that ends while the other still talks to it may take it down
    finally:
        dist.destroy_process_group()


@pytest.mark.filterwarnings("ignore")
def test_two_processes_have_the_gradient_of_one(tmp_path: Path) -> None:
    torch.multiprocessing.spawn(gradients_of_a_rank, (tmp_path,), nprocs=2)
    for loss in (losses.lsep_loss, losses.warp_loss):
        layer, features, targets = problem()
        loss(layer(features), targets).backward()
        for rank in range(2):
            gradient = torch.load(tmp_path / f"{loss.__name__}{rank}.pt", weights_only=True)
            torch.testing.assert_close(gradient, layer.weight.grad)
