"""Damage to any file of a run is refused wherever the run is used as a classifier; nothing of it is interpolated."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import data_trees
import pytest
import torch
from jobs import compose_here
from typer.testing import CliRunner

import lsep_ml
from lsep_ml import cli
from lsep_ml.bundle import read_parts
from lsep_ml.files import content_hash
from lsep_ml.stages.job import build_job


@pytest.fixture
def run(photo_run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(photo_run, tmp_path / "run"))


def flip_a_bit_of_a_weight(run: Path) -> None:
    """The lowest bit of the first weight of the score layer, in the file as torch wrote it."""
    file = run / "checkpoint.ckpt"
    state = torch.load(file, map_location="cpu", weights_only=True)["state_dict"]
    weight = state["network.score_layer.weight"].numpy().tobytes()
    content = bytearray(file.read_bytes())
    content[content.index(weight)] ^= 1
    file.write_bytes(content)


def edit_the_mean(run: Path) -> None:
    file = run / "result.json"
    record = json.loads(file.read_text())
    record["config"]["transform"]["mean"][0] += 0.25
    file.write_text(json.dumps(record))


def edit_the_decision(run: Path) -> None:
    file = run / "decision.json"
    record = json.loads(file.read_text())
    file.write_text(json.dumps(record, indent=4))  # the same decision in other bytes


def change_the_decisions_weights(run: Path) -> None:
    file = run / "decision.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)


def take_the_seal_off(run: Path) -> None:
    file = run / "result.json"
    record = json.loads(file.read_text())
    del record["checksum"]
    file.write_text(json.dumps(record))


DAMAGE = {
    "checkpoint.ckpt": flip_a_bit_of_a_weight,
    "result.json": edit_the_mean,
    "decision.json": edit_the_decision,
    "decision.safetensors": change_the_decisions_weights,
}


@pytest.mark.parametrize("name", DAMAGE)
def test_a_damaged_file_of_a_run_is_refused_by_every_verb(
    run: Path, name: str, photo_tree: Path, tmp_path: Path
) -> None:
    lsep_ml.load(run, device="cpu")
    DAMAGE[name](run)
    photo = next((photo_tree / "photos").iterdir())
    verbs: tuple[tuple[Any, ...], ...] = (
        ("bundle", run, "--out", tmp_path / "made"),
        ("predict", run, photo, "--out", tmp_path / "made.csv"),
        ("export", run, tmp_path / "made.pt2"),
        ("demo", run, "--port", 1),
    )
    for words in verbs:
        result = CliRunner().invoke(cli.app, [str(word) for word in words])
        assert isinstance(result.exception, ValueError), (words, result.exception, result.output)
        assert f"{run / name}: damaged" in str(result.exception), words
    assert not list(tmp_path.glob("made*"))
    with pytest.raises(ValueError, match=f"{name}: damaged"):
        lsep_ml.load(run)


@pytest.mark.parametrize("name", DAMAGE)
def test_no_training_starts_from_a_damaged_run(run: Path, name: str, tmp_path: Path) -> None:
    tree = data_trees.write_csv(tmp_path / "csv")
    data = ("data=csv", f"data.root={tree}", f"paths.data={tmp_path}", "data.num_workers=0", "trainer=cpu")
    sizes = ("model.widths=[4,4]", "model.num_features=6", "transform.resize=[24,24]")
    config, _ = compose_here(tmp_path / "outputs", *data, *sizes, f"model.weights={run}")
    build_job(config)
    DAMAGE[name](run)
    with pytest.raises(ValueError, match=f"{name}: damaged"):
        build_job(config)


def test_a_record_without_its_checksum_is_refused(run: Path) -> None:
    take_the_seal_off(run)
    with pytest.raises(ValueError, match=r"result\.json: not the record of a finished run"):
        read_parts(run)


def sealed_again(run: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change the record and make its checksum right again, as an attacker would."""
    record = json.loads((run / "result.json").read_text())
    del record["checksum"]
    change(record)
    (run / "result.json").write_text(json.dumps(record | {"checksum": content_hash(record)}))


def test_nothing_read_from_a_run_is_interpolated(run: Path, tmp_path: Path) -> None:
    secret, cause = "s3cret", "${oc.env:LSEP_ML_SECRET}"

    def plant(record: dict[str, Any]) -> None:
        record["config"]["data"]["note"] = cause
        record["config"]["optimizer"]["note"] = [{"deep": cause}]
        record["config"]["decision"]["note"] = cause

    sealed_again(run, plant)
    os.environ["LSEP_ML_SECRET"] = secret
    try:
        result = CliRunner().invoke(cli.app, ["bundle", str(run), "--out", str(tmp_path / "made")])
    finally:
        del os.environ["LSEP_ML_SECRET"]
    assert result.exit_code == 0, result.output
    text = "".join(file.read_text(errors="replace") for file in (tmp_path / "made").iterdir())
    assert secret not in text
    assert cause in text
