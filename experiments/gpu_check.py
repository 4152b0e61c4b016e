"""One command that proves on a GPU what can only be proved there; with --cpu the same in small, for correctness alone.

    python experiments/gpu_check.py
    python experiments/gpu_check.py --cpu
    python experiments/gpu_check.py --only loss,half

A line a part: its name, what was found, the goal, and pass, fail or skipped (what it needs is not here); lines that
begin with # say what it ran on. It goes on after a failure, whose traceback it prints to stderr at the end, and ends
with exit code 1 if a part failed. On a GPU, under 8 minutes, it leaves the table of the losses' time and memory and
its plot, benchmarks/losses_cuda.csv and .png; with --cpu, a minute or two, nothing but what --csv and --plot name.
"""

import argparse
import os
import platform
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

HERE = Path(__file__).parent
GROUPS = (
    "loss",
    "half",
    "compile",
    "memory",
    "main-job",
    "deterministic",
    "resume",
    "extraction",
    "vgg16",
    "resnet50",
    "nccl",
    "onnx",
)
SECONDS = 240
"""The most that a part may take."""
LANES = {"compile": 4}
"""Groups that only a CPU works on for long, and how many of their parts run at a time on a machine with a GPU."""
PACKAGES = ("torch", "torchvision", "pytorch-lightning", "timm", "triton", "onnxruntime-gpu", "onnxruntime")
CACHES = ("TMPDIR", "TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR", "MPLCONFIGDIR", "LSEP_ML_DATA")
"""The environment variables by which others are told where to write."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the parts and print their lines; returns the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cpu", action="store_true", help="in small, on the CPU")
    parser.add_argument("--only", default=",".join(GROUPS), help="some of the groups, separated by commas")
    parser.add_argument("--csv", type=Path, help="where the table of the losses goes")
    parser.add_argument("--plot", type=Path, help="where its plot goes")
    options = parser.parse_args(arguments)
    only = options.only.split(",")
    if unknown := set(only) - set(GROUPS):
        parser.error(f"--only: no group {', '.join(sorted(unknown))}; there are {', '.join(GROUPS)}")
    with tempfile.TemporaryDirectory(prefix="gpu_check.") as folder, writing_below(Path(folder)):
        failed = check("cpu" if options.cpu else "cuda", Path(folder), only, options.csv, options.plot)
    return int(failed)


class writing_below:
    """Lets caches be written below a folder, and puts the environment back."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __enter__(self) -> None:
        self.before = dict(os.environ)
        for name in CACHES:
            place = self.folder / name.lower()
            place.mkdir()
            os.environ[name] = str(place)
        tempfile.tempdir = None  # read again from TMPDIR
        os.environ["PYTORCH_NVML_BASED_CUDA_CHECK"] = (
            "1"  # asking for GPUs leaves this process without a context
        )
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

    def __exit__(self, *error: object) -> None:
        os.environ.clear()
        os.environ.update(self.before)
        tempfile.tempdir = None


def check(device: str, folder: Path, only: Sequence[str], csv: Path | None, plot: Path | None) -> bool:
    """Print a line a part; returns whether one failed."""
    if device == "cpu":
        os.environ["OMP_NUM_THREADS"] = "1"
    import torch

    if device == "cuda" and not torch.cuda.is_available():
        raise SystemExit(
            "no GPU that torch can use: python experiments/gpu_check.py --cpu checks without one"
        )
    if device == "cpu" and torch.get_num_threads() > 1:
        # Where torch was loaded before. After it threads that begin at once, as those that compile, may end a process.
        torch.set_num_threads(1)
    sys.path.insert(0, str(HERE))
    from gpu_parts import jobs, losses, networks
    from gpu_parts.parts import FAIL, Setting, run_apart

    started = time.monotonic()
    setting = Setting(device, folder)
    for line in environment(device):
        print(f"# {line}", flush=True)
    groups = {kind: parts for module in (losses, jobs, networks) for kind, parts in module.groups(setting)}
    failed = False
    for kind in (kind for kind in GROUPS if kind in only):
        lanes = 1 if setting.small else LANES.get(kind, 1)
        for line in run_apart(groups[kind], folder / f"{kind}.log", SECONDS, lanes):
            print(*line, flush=True)
            failed |= line.verdict == FAIL
    print(f"# {time.monotonic() - started:.0f} seconds")
    if failed:
        for log in sorted(folder.glob("*.log")):
            print(f"== {log.name}\n{log.read_text()[-6000:]}", file=sys.stderr)
    keep(losses.table(setting), device, csv, plot)
    return failed


def environment(device: str) -> Iterator[str]:
    """The device and the versions."""
    import torch

    yield f"{platform.platform()}, Python {platform.python_version()}, {os.cpu_count()} cores"
    yield ", ".join(f"{name} {found}" for name in PACKAGES if (found := version_of(name)))
    if device == "cuda":
        count = torch.cuda.device_count()
        yield f"{count} GPUs, CUDA {torch.version.cuda}, cuDNN {torch.backends.cudnn.version()}"


def version_of(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def keep(table: Path, device: str, csv: Path | None, plot: Path | None) -> None:
    """Copy the table of the losses, and its plot, to where they were asked for; on a GPU, beside the CPU's."""
    if not table.exists():
        return
    if device == "cuda":
        csv = csv or HERE / "benchmarks" / table.name
        plot = plot or csv.with_suffix(".png")
    if csv is not None:
        shutil.copyfile(table, csv)
    if plot is not None:
        from benchmarks import losses_plot

        losses_plot.draw(table)
        shutil.copyfile(table.with_suffix(".png"), plot)


if __name__ == "__main__":
    sys.exit(main())
