"""Heads that read places, from training to the bundle and the graph; stage 2 reads the pooled features."""

from pathlib import Path
from typing import Any

import data_trees
import numpy as np
import pytest
import torch
from jobs import compose_here, run_job_here

import lsep_ml
from lsep_ml.bundle import read_parts, write_bundle
from lsep_ml.bundle.export import export
from lsep_ml.models import Network
from lsep_ml.stages.job import build_job
from lsep_ml.store.keys import identity_of

NET = ("model=timm", "model.name=test_resnet", "model.weights=null", "transform.crop=64")
SMALL = ("training.epochs=1", "fitting.epochs=1", "trainer=cpu", "training.batch_size=8", "optimizer=adamw")
DECISION = ("decision=thresh_est", "decision.fit_on=train")


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return data_trees.write_csv(tmp_path_factory.mktemp("own") / "csv")


def place(tree: Path) -> tuple[str, ...]:
    return ("data=csv", f"data.root={tree}", f"paths.data={tree.parent}", "data.num_workers=0", *SMALL)


@pytest.mark.parametrize("training", ["finetune", "probe"])
@pytest.mark.parametrize("head", ["csra", "ml_decoder"])
def test_a_head_is_trained_bundled_and_exported(tree: Path, tmp_path: Path, head: str, training: str) -> None:
    import onnxruntime

    probe = ("training=probe", "training.solver=sgd") if training == "probe" else ()
    options = (*place(tree), *NET, *DECISION, f"model.head={head}", *probe)
    record, folder = run_job_here(tmp_path / "out", *options)
    again, _ = run_job_here(tmp_path / "out", *options, "force=true")
    assert again["metrics"] == record["metrics"]
    assert again["reused"]["prediction"]

    width = record["config"]["sizes"]["features"]
    kept = np.load(next((tmp_path / "out/store/features").glob("*/test_features.npy")))
    close = 1e-3 if probe else 1e-4  # places in half precision
    beside = 4 * width if probe else len(record["label_names"])  # a map of 2 x 2, or the scores
    assert (kept.dtype, kept.shape[1]) == (np.float16 if probe else np.float32, width + beside)
    write_bundle(read_parts(folder), tmp_path / "bundle")
    classifier = lsep_ml.load(tmp_path / "bundle", device="cpu")
    assert classifier.decision.num_features == classifier.network.num_features == width
    with np.load(folder / "predictions.npz") as arrays:
        found = classifier.predict([tree / name for name in arrays["image_ids"]])
        np.testing.assert_allclose(found.scores, arrays["scores"], atol=close)
        np.testing.assert_allclose(found.thresholds, arrays["thresholds"], atol=close)
    assert_heat_maps(folder, record, 0.1 if head == "csra" else None)
    images = torch.stack([classifier.prepare(tree / name) for name in image_ids(folder)])
    export(classifier, tmp_path / "model.onnx", images=images)
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    scores = session.run(["scores"], {"images": images.numpy()})[0]
    np.testing.assert_allclose(scores, found.scores, atol=1e-4)


def assert_heat_maps(folder: Path, record: dict[str, Any], attention: float | None) -> None:
    """The maps of the pictures recombine to the scores of their labels, as far as a byte goes."""
    assert (folder / "heat_maps.npz").exists() == ("places" in record["stored"]) == (attention is not None)
    if attention is None:
        return
    with np.load(folder / "predictions.npz") as arrays, np.load(folder / "heat_maps.npz") as found:
        rows, labels, limits = found["rows"], found["labels"], found["limits"]
        with np.load(folder / "thumbnails.npz") as pictures:
            assert sorted(set(rows)) == sorted(map(int, pictures))
        of_sets = {
            (row, label)
            for row, label in np.argwhere(
                arrays["predictions"] | (arrays["targets"] & arrays["mask"])
            ).tolist()
            if row in rows
        }
        assert of_sets <= set(zip(rows.tolist(), labels.tolist(), strict=True))
        assert found["maps"].shape == (len(rows), 2, 2)
        low, high = limits[:, 0, None], limits[:, 1, None]
        places = low + (high - low) * found["maps"].reshape(len(rows), -1) / 255.0
        weights = np.exp(places) / np.exp(places).sum(1, keepdims=True)
        scores = places.mean(1) + attention * (weights * places).sum(1)
        np.testing.assert_allclose(
            scores, arrays["scores"][rows, labels], atol=5e-3 + (high - low).max() / 255
        )
        np.testing.assert_array_equal(found["seen"], np.tile([0, 0, 1, 1], (len(rows), 1)))


def test_a_linear_head_on_a_mean_leaves_heat_maps_once(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = (*place(tree), *NET, "training=probe", "loss=bce")
    record, folder = run_job_here(tmp_path, *options, "decision=threshold")
    assert_heat_maps(folder, record, 0.0)
    monkeypatch.setattr(Network, "places", None)  # the network does not run again
    again, other = run_job_here(tmp_path, *options, "decision=topk")
    assert_heat_maps(other, again, 0.0)
    assert again["stored"]["places"] == record["stored"]["places"]
    without, folder = run_job_here(tmp_path, *options, "decision=topk", "pictures=false", "force=true")
    assert "places" not in without["stored"]


def image_ids(folder: Path) -> list[str]:
    with np.load(folder / "predictions.npz") as arrays:
        ids: list[str] = arrays["image_ids"].tolist()
        return ids


def test_places_that_do_not_fit_are_computed_in_every_epoch(
    tree: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    probe = ("training=probe", "training.solver=sgd", "training.epochs=2", "model.head=csra")
    options = (*place(tree), *NET, *probe, "transform.augment=trivial", "decision=threshold")
    kept, kept_folder = run_job_here(tmp_path, *options)
    assert "in every epoch" not in caplog.text
    assert next((tmp_path / "store/features").glob("*/")) == tmp_path / "store/features" / stored(kept)
    computed, folder = run_job_here(tmp_path, *options, "extraction.max_gib=0")
    assert "extraction.max_gib=0: the frozen network runs in every epoch" in caplog.text
    # Beside f'(x) there are the scores.
    rows = np.load(rows_of(tmp_path, computed))
    width, labels = computed["config"]["sizes"]["features"], len(computed["label_names"])
    assert (rows.dtype, rows.shape[1]) == (np.float32, width + labels)
    with np.load(folder / "predictions.npz") as arrays:
        np.testing.assert_array_equal(arrays["scores"], rows[:, width:])
        scores = arrays["scores"]
    # Images are as they are, in the same batches: only rounding differs, and that is another result.
    assert computed["identity"] != kept["identity"]
    with np.load(kept_folder / "predictions.npz") as arrays:
        np.testing.assert_allclose(scores, arrays["scores"], atol=2e-4)
    again, _ = run_job_here(tmp_path, *options, "extraction.max_gib=0", "force=true")
    assert all(again["reused"].values())
    assert again["metrics"] == computed["metrics"]
    # Two processes share out the batches of both the epochs and the extraction.
    two = ("trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2")
    shared, other = run_job_here(tmp_path / "two", *options, "extraction.max_gib=0", *two)
    assert shared["identity"] == computed["identity"]
    np.testing.assert_array_equal(np.load(rows_of(tmp_path / "two", shared))[:, :width], rows[:, :width])
    with np.load(other / "predictions.npz") as arrays:
        np.testing.assert_array_equal(arrays["scores"], np.load(rows_of(tmp_path / "two", shared))[:, width:])
        np.testing.assert_allclose(arrays["scores"], scores, atol=2e-4)
    assert (other / "heat_maps.npz").exists()


def rows_of(output: Path, record: dict[str, Any]) -> Path:
    return output / "store/features" / stored(record) / "test_features.npy"


def stored(record: dict[str, Any]) -> str:
    identity: str = record["stored"]["features"]
    return identity


def test_the_head_is_part_of_the_identity(tree: Path, tmp_path: Path) -> None:
    def made_by(*options: str) -> dict[str, Any]:
        return build_job(compose_here(tmp_path, *place(tree), *NET, *options)[0]).made_by

    plain = made_by()
    assert {"head", "head_lambda"}.isdisjoint(plain["config"]["model"])
    others = [("model.head=csra",), ("model.head=csra", "model.head_lambda=0.2"), ("model.head=ml_decoder",)]
    assert len({identity_of(made) for made in (plain, *(made_by(*other) for other in others))}) == 4


def test_a_solver_fits_linear_heads_only(tree: Path, tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"model\.head=csra: a solver fits a linear layer; take training\.solver=sgd"
    ):
        build_job(compose_here(tmp_path, *place(tree), *NET, "training=probe", "model.head=csra")[0])
