"""What the verbs load, and what a job loads of a package of which it needs little."""

import subprocess
import sys
from pathlib import Path

import pytest
from data_trees import write_csv

HEAVY = {
    "torch",
    "torchvision",
    "timm",
    "pytorch_lightning",
    "torchmetrics",
    "sklearn",
    "scipy",
    "pandas",
    "hydra",
}


def loaded(code: str) -> set[str]:
    """Which of the heavy packages are loaded when `code` has run."""
    script = f"{code}\nimport sys\nprint(*sorted({HEAVY!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(done.stdout.splitlines()[-1].split())


def verb(*words: str, code: int = 0) -> set[str]:
    """Which of them `lsep-ml WORDS`, which ends with exit code `code`, has loaded."""
    ran = "from typer.testing import CliRunner; from lsep_ml.cli import app"
    return loaded(
        f"{ran}; ended = CliRunner().invoke(app, {words!r}); assert ended.exit_code == {code}, ended.output"
    )


@pytest.mark.parametrize(
    "words", [("--help",), ("report", "--help"), ("check", "--help"), ("tune", "--help")]
)
def test_help_loads_nothing(words: tuple[str, ...]) -> None:
    assert verb(*words) == set()


def test_the_list_of_runs_loads_nothing(tmp_path: Path) -> None:
    assert verb("list", "--output", str(tmp_path), code=1) == set()  # there are none


def test_a_check_loads_torch_only_to_open_images(tmp_path: Path) -> None:
    root = write_csv(tmp_path / "data")
    words = ("check", "csv", "--root", str(root), "--cache", str(tmp_path / "cache"))
    assert "torch" in verb(*words)
    assert verb(*words) <= {"scipy"}  # which counts the labels that stand together


def test_torchmetrics_is_whole_for_whoever_asks_for_more() -> None:
    code = """
import lsep_ml.stages, sys, torchmetrics
from torchmetrics import Metric, MetricCollection
assert "torchmetrics.functional" not in sys.modules
assert torchmetrics.__version__ and not hasattr(torchmetrics, "__no_such_name__")
assert issubclass(torchmetrics.MeanMetric, Metric) and torchmetrics.Metric is Metric
assert torchmetrics.MetricCollection is MetricCollection
assert torchmetrics.functional.accuracy and not hasattr(torchmetrics, "no_such_name")
"""
    assert "torchmetrics" in loaded(code)


def test_a_job_starts_without_the_compiler_and_steps_without_it() -> None:
    code = """
import gc, sys
from lsep_ml.stages import load_job
load_job()
kept = gc.get_freeze_count()
load_job()
assert gc.isenabled() and kept > 100_000 and gc.get_freeze_count() == kept
from lsep_ml.decisions import ThresholdEstimation
from lightning_fabric.wrappers import OptimizedModule
import torch, pytorch_lightning
absent = {"torch._dynamo", "torch._inductor", "torchvision", "timm", "matplotlib", "sympy", "pandas", "sklearn"}
absent |= {"scipy", "triton", "torch.distributed.launcher"}
assert not absent & set(sys.modules), absent & set(sys.modules)

def trained(kind, steps=3):
    torch.manual_seed(0)
    decision = ThresholdEstimation(3, 2)
    optimizer = getattr(torch.optim, kind)(decision.parameters(), lr=0.1)
    scores, features = torch.randn(8, 2), torch.randn(8, 3)
    for _ in range(steps):
        optimizer.zero_grad()
        decision.loss(scores, scores > 0, features).backward()
        optimizer.step()
    assert "differentiable" not in optimizer.state_dict()["state"]
    return torch.cat([weight.detach().flatten() for weight in decision.parameters()])

kinds = ("SGD", "AdamW", "RMSprop")
light = [trained(kind) for kind in kinds]
assert not isinstance(torch.nn.Linear(1, 1), OptimizedModule)
assert not absent & set(sys.modules), absent & set(sys.modules)

from lsep_ml.models import timm_backbone
from torchvision.transforms.v2 import functional
absent = {"torch._dynamo", "torch._inductor", "wandb", "pandas", "sklearn"}
assert not absent & set(sys.modules), absent & set(sys.modules)
roi_align = sys.modules["torchvision.ops.roi_align"]

compiled = torch.compile(torch.nn.Linear(1, 1), backend="eager")
assert isinstance(compiled, OptimizedModule) and isinstance(compiled, torch._dynamo.OptimizedModule)
assert compiled(torch.ones(2, 1)).shape == (2, 1)
supported = torch._dynamo.utils.is_compile_supported
assert [roi_align.is_compile_supported(kind) for kind in ("cpu", "mps")] == [supported("cpu"), supported("mps")]
assert timm_backbone("resnet10t", weights=None, image_size=32).num_features == 512
for kind, before in zip(kinds, light, strict=True):
    assert torch.equal(before, trained(kind))
"""
    assert {"torch", "pytorch_lightning", "timm"} <= loaded(code)


def test_packages_of_another_build_are_loaded_whole(tmp_path: Path) -> None:
    tmp_path.joinpath("timm.py").write_text("import mentioned\nfrom mentioned import more")
    tmp_path.joinpath("mentioned.py").write_text("more = 1")
    code = """
import contextlib, sys, types
from lsep_ml import light_packages

standing_in = ["mentioned", "torch._dynamo"]

@contextlib.contextmanager
def nothing_that_is_asked_for():
    empty = {name: types.ModuleType(name) for name in standing_in}
    sys.modules.update(empty)
    try:
        yield
    finally:
        for name in empty:
            del sys.modules[name]

light_packages._HOMES["Metric"] = "moved_elsewhere"
light_packages._standing_in = nothing_that_is_asked_for
from lsep_ml.stages import run_job
from lightning_fabric.wrappers import OptimizedModule
from torchmetrics import Metric, MeanMetric
import torch._dynamo
assert OptimizedModule is torch._dynamo.OptimizedModule
assert issubclass(MeanMetric, Metric)

standing_in.remove("torch._dynamo")
import lsep_ml.models
import timm
assert timm.more == 1
"""
    wanted = {"torchmetrics", "pytorch_lightning", "timm"}
    assert wanted <= loaded(f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n{code}")
