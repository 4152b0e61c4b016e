"""training=probe: the end of a network trained on features that its backbone gave once."""

import csv
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from jobs import compose_here, run_job_here
from torch import Tensor

import lsep_ml
from lsep_ml.models import SmallCNN
from lsep_ml.stages.job import build_job
from lsep_ml.stages.plan import plan

TINY = (
    "data.train=100",
    "data.val=40",
    "data.test=30",
    "data.canvas=24",
    "model.widths=[4,8]",
    "model.num_features=6",
    "training.epochs=3",
    "fitting.epochs=1",
    "trainer=cpu",
)
Run = tuple[dict[str, Any], Path]


def history(folder: Path) -> list[dict[str, str]]:
    with (folder / "history.csv").open(newline="") as file:
        return [row for row in csv.DictReader(file) if row["stage"] == "prediction"]


def state(folder: Path) -> dict[str, Tensor]:
    found: dict[str, Tensor] = torch.load(folder / "checkpoint.ckpt", weights_only=True)["state_dict"]
    return found


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("probe")


@pytest.fixture(scope="module")
def probe(output: Path) -> Run:
    return run_job_here(output, *TINY, "training=probe", "solver=sgd", "training.epochs=3")


def test_it_is_finetuning_with_a_frozen_backbone(output: Path, probe: Run) -> None:
    # Without augmentation both see the same features in the same order; only the batches of the network differ.
    record, folder = run_job_here(output, *TINY, "training.frozen_epochs=3")
    for ours, theirs in zip(history(probe[1]), history(folder), strict=True):
        for key in ("train_loss", "val_loss", "val_map", "val_ranking_loss", "lr"):
            assert float(ours[key]) == pytest.approx(float(theirs[key]), abs=1e-4), key
    assert record["choices"]["epoch"] == probe[0]["choices"]["epoch"]
    assert record["identity"] != probe[0]["identity"]
    own, other = state(probe[1]), state(folder)
    assert list(own) == list(other)
    for name, value in own.items():
        torch.testing.assert_close(value, other[name], rtol=1e-3, atol=1e-4)


def test_it_leaves_what_every_run_leaves(probe: Run) -> None:
    record, folder = probe
    assert record["reused"] == {"prediction": False, "extraction": False}
    rows = history(folder)
    assert [int(row["epoch"]) for row in rows] == [1, 2, 3]
    best = max(range(3), key=lambda row: float(rows[row]["val_map"]))
    assert record["choices"]["epoch"] == best + 1
    assert record["metrics"]["val"]["map"] == pytest.approx(float(rows[best]["val_map"]))
    network = build_job(compose_here(folder.parents[2], *TINY, "training=probe", "solver=sgd")[0]).network
    for name, value in network.backbone.state_dict().items():  # as it was initialised
        assert torch.equal(state(folder)[f"network.backbone.{name}"], value)


def test_other_losses_seeds_and_decisions_run_no_network(
    output: Path, probe: Run, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(self: SmallCNN, images: Tensor) -> Tensor:
        raise AssertionError("the network ran")

    monkeypatch.setattr(SmallCNN, "forward", refuse)
    weights = output / "backbone.pt"
    prefix = "network.backbone."
    backbone = {
        name.removeprefix(prefix): value for name, value in state(probe[1]).items() if name.startswith(prefix)
    }
    torch.save(backbone, weights)
    identities = {probe[0]["identity"]}
    options = ("training=probe", "solver=sgd", "training.epochs=3", "decision=topk")
    for other in (("loss=warp",), ("loss=bce", "seed=1", f"model.weights={weights}")):
        record, _ = run_job_here(output, *TINY, *options, *other)
        assert record["reused"] == {"prediction": False, "extraction": True}
        assert record["stored"]["features"] == probe[0]["stored"]["features"]
        identities.add(record["identity"])
    assert len(identities) == 3
    with caplog.at_level(logging.INFO):
        record, _ = run_job_here(output, *TINY, *options)
    assert record["reused"] == {"prediction": True, "extraction": True}
    assert "no network is trained" in caplog.text


def test_its_classifier_labels_images(probe: Run, output: Path) -> None:
    _, folder = probe
    data = build_job(compose_here(output, *TINY, "training=probe", "solver=sgd")[0]).data.data_set
    with np.load(folder / "predictions.npz") as arrays:
        found = lsep_ml.load(folder).predict(list(data.test.images))
        np.testing.assert_allclose(found.scores, arrays["scores"], atol=1e-4)
        assert list(found.label_names) == list(arrays["label_names"])


def test_a_plan_tells_a_probe_and_whether_its_features_are_there(
    output: Path,
    probe: Run,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def said(place: Path, *overrides: str) -> str:
        caplog.clear()
        with caplog.at_level(logging.INFO):
            config, folder = compose_here(
                place, *TINY, "training=probe", "solver=sgd", "training.epochs=3", *overrides
            )
            plan(build_job(config), folder)
        return caplog.text

    assert "nothing to do" in said(output)
    assert "finds its features in the store and trains a score layer" in said(output, "loss=softmax")
    monkeypatch.setattr("lsep_ml.stages.plan._planned", set())
    assert "extracts its features and trains a score layer" in said(tmp_path, "loss=ranking")
    assert "shares features and trains a score layer" in said(tmp_path, "loss=warp")
    assert not list(tmp_path.rglob("*.ckpt"))
