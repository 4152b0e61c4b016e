"""The commands of docs/run-on-a-cluster.md: those that a launcher starts are run, the others composed."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from jobs import compose_here

ROOT = Path(__file__).parents[2]
LINES = [
    line
    for block in re.findall(
        r"```bash\n(.*?)```", (ROOT / "docs" / "run-on-a-cluster.md").read_text(), re.DOTALL
    )
    for line in block.splitlines()
]
SMALL = (
    "data.train=61",
    "data.val=40",
    "data.test=50",
    "data.canvas=24",
    "model.widths=[4,4]",
    "training.epochs=1",
    "decision=topk",
    "trainer.accelerator=cpu",
)


@pytest.mark.parametrize("line", LINES)
def test_a_command_of_the_page(line: str, tmp_path: Path) -> None:
    program, *words = [str(ROOT / "run.py") if word == "run.py" else word for word in shlex.split(line)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    if "hydra/launcher" not in line and program == "python":
        for loss in ("lsep", "warp") if "-m" in words else ("lsep",):
            overrides = [word for word in words if "=" in word and not word.startswith("loss=")]
            config, _ = compose_here(tmp_path, *overrides, f"loss={loss}")
            assert config.trainer.devices == 2
        return
    module = [sys.executable, "-m", "torch.distributed.run"] if program == "torchrun" else [sys.executable]
    command = [*module, *words, *SMALL, f"paths.output={tmp_path}"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stdout + done.stderr
    records = [json.loads(file.read_text()) for file in tmp_path.glob("runs/digits/*/result.json")]
    assert {record["loss"] for record in records} == ({"lsep"} if program == "torchrun" else {"lsep", "warp"})
    assert program != "torchrun" or list(tmp_path.glob("runs/digits/*/run.rank1.log"))


def test_jobs_side_by_side_take_gpus_in_turn(tmp_path: Path) -> None:
    for job, gpu in {0: 0, 3: 3, 5: 1}.items():
        config, _ = compose_here(tmp_path, f"hydra.job.num={job}", "trainer.devices=[${gpu:4}]")
        assert list(config.trainer.devices) == [gpu]
