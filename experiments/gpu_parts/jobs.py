"""The main job on the device: its numbers, the same bits twice, killed and resumed, on two devices, and as ONNX."""

import copy
import json
import time
from collections.abc import Iterator
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gpu_parts.parts import Group, Judged, Setting, Skipped, Worker, call_apart
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from kill_test import left
from omegaconf import OmegaConf

import lsep_ml
from lsep_ml.bundle.export import export, random_images
from lsep_ml.stages import run
from lsep_ml.stages.resolvers import register_resolvers

CONF = Path(__file__).parents[2] / "conf"
TINY = (
    "data.train=320",
    "data.val=100",
    "data.test=200",
    "data.canvas=32",
    "model.widths=[8,8]",
    "training.epochs=2",
    "fitting.epochs=3",
)
RANDOM = ("model.dropout=0.3", "transform.crop=28", "checkpoint.every_n_steps=3", "deterministic=true")
"""All that a continued training must not mix up, and a state to continue from every third step."""
KEYS = ("map", "f1")
NEAR = {"32-true": 0.02, "bf16-mixed": 0.06}
"""By how much mAP and F1 may differ from those of the CPU in float32; training makes much of a last bit."""
SAME_SCORES = 1e-3


def groups(setting: Setting) -> Iterator[tuple[str, Group]]:
    """The groups of these parts."""
    yield "main-job", {f"main-job-{precision}": partial(main_job, setting, precision) for precision in NEAR}
    losses = ("lsep", "warp", "two_way")
    yield "deterministic", {f"deterministic-{loss}": partial(deterministic, setting, loss) for loss in losses}
    yield "resume", {"resume": partial(resume, setting)}
    yield "nccl", {"nccl": partial(two_devices, setting)}
    yield "onnx", {"onnx": partial(onnx, setting)}


def main_job(setting: Setting, precision: str) -> Judged:
    """Metrics of `trainer=gpu` on the test split less those of `trainer=cpu`."""
    reference = on_cpu(setting)
    found = done(setting, f"main-{precision}", *fast(setting), f"trainer.precision={precision}")
    return judged_metrics(found, reference, NEAR[precision])


def judged_metrics(found: dict[str, Any], reference: dict[str, Any], near: float) -> Judged:
    gaps = {key: found["metrics"]["test"][key] - reference["metrics"]["test"][key] for key in KEYS}
    value = ",".join(f"{key}:{gap:+.4f}" for key, gap in gaps.items())
    return Judged(value, f"<={near:g}", max(map(abs, gaps.values())) <= near)


def deterministic(setting: Setting, loss: str) -> Judged:
    """How many of a job's numbers (weights, scores, metrics, history, ...) differ between two runs of it."""
    outputs = [setting.folder / f"deterministic-{loss}-{number}" for number in range(2)]
    for output in outputs:
        options = (*TINY, *device(setting), f"loss={loss}", "deterministic=true")
        call_apart(job, output, *options, log=log_of(setting))
    return judged_bits(*map(left, outputs))


def judged_bits(found: dict[str, Any], wanted: dict[str, Any]) -> Judged:
    differing = [key for key in wanted if found.get(key) != wanted[key]]
    print("differing:", *differing)
    return Judged(f"{len(differing)}-of-{len(wanted)}-differ", "0-differ", not differing)


def resume(setting: Setting) -> Judged:
    """The same of a job that was killed in its first stage and started again, and one that was not."""
    whole, killed = setting.folder / "resume-whole", setting.folder / "resume-killed"
    # Where a step takes a millisecond, more of them, so that there is one to be killed in.
    options = (*TINY, *device(setting), *RANDOM, *(() if setting.small else ("training.epochs=20",)))
    call_apart(job, whole, *options, log=log_of(setting))
    worker = Worker(_job_of_worker, killed, *options, log=log_of(setting))
    end = time.monotonic() + 120
    while not list(killed.glob("store/predictions/*.kept/state-*.ckpt")) and time.monotonic() < end:
        time.sleep(0.002)
    worker.kill()
    if list(killed.glob("store/predictions/*/entry.json")):
        raise RuntimeError("the first stage was over before it could be killed")
    call_apart(job, killed, *options, log=log_of(setting))
    return judged_bits(left(killed), left(whole))


def _job_of_worker(send: Any, output: Path, *overrides: str) -> None:
    job(output, *overrides)


def two_devices(setting: Setting) -> Judged:
    """The main job on two processes, connected by NCCL on two GPUs and by gloo on a CPU, against one."""
    if not setting.small and torch.cuda.device_count() < 2:
        raise Skipped(f"{torch.cuda.device_count()}-GPU", "2-GPUs")
    accelerator = () if setting.small else ("trainer.accelerator=gpu",)
    several = ("trainer=ddp", "trainer.devices=2", "trainer.accelerator=cpu", *accelerator)
    options = TINY if setting.small else ()
    found = done(setting, "two-devices", *options, *several)
    return judged_metrics(found, on_cpu(setting), NEAR["32-true"])


def onnx(setting: Setting) -> Judged:
    """The largest difference of a score between onnxruntime and torch, of a trained classifier on the device."""
    try:
        import onnx  # noqa: F401
        import onnxruntime
    except ImportError as error:
        raise Skipped(f"no-{error.name}", "pip-install-lsep-ml[onnx]") from None
    provider = "CPUExecutionProvider" if setting.small else "CUDAExecutionProvider"
    if provider not in onnxruntime.get_available_providers():
        raise Skipped("-".join(onnxruntime.get_available_providers()), provider)
    record = done(setting, "onnx", *TINY, *device(setting))
    classifier = lsep_ml.load(record["folder"], device=setting.device)
    file = setting.folder / "classifier.onnx"
    print(export(classifier, file))
    images = random_images(classifier)
    options = {} if setting.small else {"use_tf32": 0}
    session = onnxruntime.InferenceSession(file, providers=[(provider, options)])
    if session.get_providers()[0] != provider:  # it falls back to the CPU where its libraries are missing
        raise Skipped(session.get_providers()[0], provider)
    [scores] = session.run(["scores"], {"images": images.numpy()})
    worst = float(np.abs(scores - classifier.predict_prepared(list(images)).scores).max())
    return Judged(f"{worst:.1e}", f"<={SAME_SCORES:g}", worst <= SAME_SCORES)


@cache
def on_cpu(setting: Setting) -> dict[str, Any]:
    """The record of the job on a CPU, in float32."""
    return done(setting, "main-cpu", *(TINY if setting.small else ()), "trainer=cpu")


def done(setting: Setting, name: str, *overrides: str) -> dict[str, Any]:
    """The record of a job, run in a process of its own, and the `folder` it is in."""
    output = setting.folder / name
    folder = call_apart(job, output, *overrides, log=log_of(setting))
    record: dict[str, Any] = json.loads((folder / "result.json").read_text())
    return {**record, "folder": folder}


def device(setting: Setting) -> tuple[str, ...]:
    """The device, in float32."""
    return ("trainer=cpu",) if setting.small else ("trainer=gpu", "trainer.precision=32-true")


def fast(setting: Setting) -> tuple[str, ...]:
    """`trainer=gpu`, and on a CPU what it sets beside the device."""
    return (
        (*TINY, "trainer=cpu", "training.channels_last=true", "optimizer.fused=true")
        if setting.small
        else ("trainer=gpu",)
    )


def log_of(setting: Setting) -> Path:
    return setting.folder / "jobs.log"


def job(output: Path, *overrides: str) -> Path:
    """Run `python run.py paths.output=<output> <overrides>` in this process; the folder of its files."""
    register_resolvers()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("config", [f"paths.output={output}", *overrides], return_hydra_config=True)
    HydraConfig.instance().set_config(config)
    folder = Path(config.hydra.run.dir)
    OmegaConf.set_readonly(config.hydra, False)
    config.hydra.runtime.output_dir = str(folder)
    HydraConfig.instance().set_config(config)
    folder.mkdir(parents=True, exist_ok=True)
    config = copy.deepcopy(config)  # Hydra's own interpolations go by the whole
    OmegaConf.set_struct(config, False)
    del config["hydra"]
    run(config, folder, list(overrides))
    return folder
