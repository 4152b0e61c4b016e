"""experiments/gpu_check.py keeps running: its lines, what fails, and a sample of its parts on the CPU."""

import os
import signal
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "experiments"))

import gpu_check
from gpu_parts import jobs, networks
from gpu_parts import losses as loss_parts
from gpu_parts.parts import Judged, Setting, Skipped, judge, run_apart

from lsep_ml import losses

pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning", "ignore:.*LeafSpec.*")
NAMES = loss_parts.NAMES


def test_every_group_has_its_parts_and_every_loss_its_lines(tmp_path: Path) -> None:
    setting = Setting("cpu", tmp_path)
    groups = dict(group for module in (loss_parts, jobs, networks) for group in module.groups(setting))
    assert sorted(groups) == sorted(gpu_check.GROUPS)
    assert all(name.startswith(kind) for kind, parts in groups.items() for name in parts)
    for kind in ("loss", "half", "compile", "memory"):
        also = [f"{kind}-triton"] if kind in ("compile", "memory") else []
        assert list(groups[kind]) == [f"{kind}-{name}" for name in NAMES] + also


def test_a_sample_of_the_parts(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    before = dict(os.environ)
    table, plot = tmp_path / "kept.csv", tmp_path / "kept.png"
    only = "loss,half,memory,extraction,main-job"
    arguments = ["--cpu", "--only", only, "--csv", str(table), "--plot", str(plot)]
    code = gpu_check.main(arguments)
    printed = capfd.readouterr()
    lines = [line.split() for line in printed.out.splitlines() if not line.startswith("#")]
    assert code == 0, printed.out + printed.err
    assert {len(line) for line in lines} == {4}
    assert {line[-1] for line in lines if line[0] != "memory-triton"} == {"pass"}
    assert ["memory-triton", "cpu", "a-GPU", "skipped"] in lines
    assert {line[0].split("-")[0] for line in lines} == {"loss", "half", "memory", "extraction", "main"}
    assert len(lines) == 3 * len(NAMES) + 1 + 4 + 2
    assert {line.split(",")[4] for line in table.read_text().splitlines()} >= set(NAMES)
    assert plot.stat().st_size > 10_000
    assert dict(os.environ) == before


@pytest.mark.parametrize("part", [loss_parts.exact, loss_parts.half])
def test_a_wrong_loss_fails(part: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    right = losses.lsep_loss
    monkeypatch.setattr(losses, "lsep_loss", lambda *given, **options: 1.001 * right(*given, **options))
    assert not part(Setting("cpu", tmp_path), "lsep").good
    monkeypatch.setattr(losses, "new_loss", right, raising=False)
    assert judge("loss-new", lambda: loss_parts.exact(Setting("cpu", tmp_path), "new")).verdict == "fail"


def test_the_candidates_in_triton_compute_what_the_losses_do(tmp_path: Path) -> None:
    judged = loss_parts.triton_exact(Setting("cpu", tmp_path))
    assert judged.good
    assert 0 < float(judged.value) <= 1e-5


def test_wrong_steps_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def tiny(weights: None) -> object:
        return networks.timm_backbone("test_resnet", weights=weights)

    setting = Setting("cpu", tmp_path)
    assert networks.training(setting, tiny).good
    half_as_far = networks.optimizer

    def slower(parameters: object) -> object:
        found = half_as_far(parameters)
        found.param_groups[0]["momentum"] = 0.0 if slower.calls else 0.9
        slower.calls += 1
        return found

    slower.calls = 0
    monkeypatch.setattr(networks, "optimizer", slower)
    assert not networks.training(setting, tiny).good


@pytest.mark.parametrize("lanes", [1, 3])
def test_it_goes_on_after_a_part_that_fails_is_skipped_crashes_or_hangs(tmp_path: Path, lanes: int) -> None:
    def raises() -> Judged:
        raise ValueError("no")

    def skips() -> Judged:
        raise Skipped("1-GPU", "2-GPUs")

    def crashes() -> Judged:
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError

    def hangs() -> Judged:
        signal.pause()
        raise AssertionError

    group = {
        "bad": lambda: Judged("2", "<=1", False),
        "raises": raises,
        "crashes": crashes,
        "skips": skips,
        "hangs": hangs,
        "good": lambda: Judged("1", "<=1", True),
    }
    assert [" ".join(line) for line in run_apart(group, tmp_path / "log", 1, lanes)] == [
        "bad 2 <=1 fail",
        "raises ValueError no-error fail",
        "crashes signal-9 an-end fail",
        "skips 1-GPU 2-GPUs skipped",
        "hangs out-of-time an-end fail",
        "good 1 <=1 pass",
    ]
    assert "ValueError: no" in (tmp_path / "log").read_text()


def test_an_unknown_group_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        gpu_check.main(["--cpu", "--only", "loss,tpu"])
    assert "no group tpu" in capsys.readouterr().err
