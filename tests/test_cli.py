"""The command line: every verb is there, files go in and come out, bad input ends with one message."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from report_runs import write_sweep
from typer.main import get_group as click_group
from typer.testing import CliRunner

import lsep_ml
from lsep_ml import cli
from lsep_ml.decisions import load

runner = CliRunner()
VERBS = (
    *(
        "check",
        "convert",
        "pack",
        "prepare",
        "tune",
        "apply",
        "report",
        "bundle",
        "predict",
        "export",
        "label-next",
        "demo",
    ),
    *("backbones", "list", "dashboard", "prune", "run"),
)


def test_help_names_every_verb_with_one_sentence_each() -> None:
    verbs = click_group(cli.app).commands
    assert tuple(verbs) == VERBS
    said = runner.invoke(cli.app, ["--help"]).output
    assert [verb for verb in VERBS if f" {verb} " not in said] == []
    for verb in VERBS:
        assert verbs[verb].help is not None
        assert re.fullmatch(r"[A-Z].*\.", verbs[verb].help or "", re.DOTALL), verb
        undescribed = [
            p.name for p in verbs[verb].params if p.name != "help" and not getattr(p, "help", None)
        ]
        assert undescribed == [], verb


def test_tune_saves_the_best_and_apply_runs_it(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    targets = (rng.random((200, 4)) < 0.3).astype(np.uint8)
    scores = (rng.normal(size=(200, 4)) + 3 * targets).astype(np.float32)
    np.savez(tmp_path / "scores.npz", scores=scores, targets=targets)
    out = tmp_path / "decision.json"
    call = [
        "tune",
        str(tmp_path / "scores.npz"),
        "--out",
        str(out),
        "--decisions",
        "topk,threshold",
        "--folds",
        "2",
    ]
    done = runner.invoke(cli.app, call)
    assert done.exit_code == 0, done.output
    assert "best by F1 out of fold: threshold" in " ".join(done.output.split())
    done = runner.invoke(
        cli.app, ["apply", str(out), str(tmp_path / "scores.npz"), "--out", str(tmp_path / "labels.csv")]
    )
    assert done.exit_code == 0, done.output
    assert "200 label sets" in done.output
    table = pl.read_csv(tmp_path / "labels.csv").select(pl.selectors.starts_with("predicted_"))
    assert (table.to_numpy().astype(bool) == load(out).predict(scores).numpy()).all()


def test_report_makes_a_page(tmp_path: Path) -> None:
    write_sweep(tmp_path, losses=["lsep"], seeds=[0, 1], images=60, labels=5, intervals=False)
    done = runner.invoke(cli.app, ["report", str(tmp_path), "--replicates", "100"])
    assert done.exit_code == 0, done.output
    assert (tmp_path / "report" / "report.html").stat().st_size > 10_000


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (["tune", "absent.npz"], "absent.npz: no such file"),
        (["check", "imagenet", "--root", "."], "imagenet"),
        (["report", "absent"], "absent"),
        (["list", "--output", "absent"], "--output=absent: no such folder"),
    ],
)
def test_bad_input_ends_with_one_message(
    call: list[str], message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["lsep_ml", *call])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    assert stopped.value.code == 1
    said = capsys.readouterr().err
    assert message in " ".join(said.split())
    assert "Traceback" not in said


@pytest.mark.parametrize(
    "call", [[], ["tune"], ["tune", "x.npz", "--folds", "two"], ["trian"], ["run", "--nope"]]
)
def test_a_command_that_is_none_has_done_nothing(
    call: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["lsep_ml", *call])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    assert stopped.value.code == 1
    said = capsys.readouterr()
    assert "Usage" in said.out + said.err or "usage" in said.err


@pytest.mark.parametrize(
    ("call", "target", "words"),
    [
        (["tune", "x.npz"], "lsep_ml.tuning.tune", "nothing is finished, and the same command begins anew"),
        (
            ["predict", "x", "x.png"],
            "lsep_ml.bundle.inputs.image_files",
            "kept beside the table, and the same command",
        ),
        (
            ["prepare", "coco", "--from", "x", "--root", "x"],
            "lsep_ml.data.prepare.prepare",
            "files that were unpacked are kept",
        ),
    ],
)
def test_ctrl_c_ends_a_verb_with_what_is_kept(
    call: list[str],
    target: str,
    words: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def interrupted(*arguments: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(target, interrupted)
    monkeypatch.setattr(sys, "argv", ["lsep_ml", *call])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    assert stopped.value.code == 130
    [said] = capsys.readouterr().err.splitlines()
    assert said.startswith("interrupted; ")
    assert words in said


def test_the_version_is_that_of_the_package() -> None:
    assert runner.invoke(cli.app, ["--version"]).output == f"lsep_ml {lsep_ml.__version__}\n"
    assert set(dir(lsep_ml)) == {"__version__", "fit_decision", "load"}


def test_run_is_the_main_job(tmp_path: Path) -> None:
    """With Hydra's own flags, from any folder: the configuration comes with the package."""
    command = [sys.executable, "-m", "lsep_ml", "run", "loss=warp", "--cfg", "job", "--package", "names"]
    environment = {**os.environ, "PYTHONPATH": str(Path(lsep_ml.__file__).parent.parent)}
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment, check=True)
    assert "loss: ${hydra:runtime.choices.loss}" in done.stdout
