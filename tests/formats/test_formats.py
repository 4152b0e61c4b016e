"""What every format so far left is found and read: stores, runs and bundles, kept beside this file as they were.

formatN.zip is the folder that `python run.py -m decision=thresh_est,threshold` with OPTIONS and `bundle` left when
bundles were of format N; format 2 also has `padded`, a bundle of another run with PADDED, and what that run predicted.
"""

import shutil
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from jobs import compose_here

from lsep_ml.bundle import load, read_parts
from lsep_ml.bundle.files import FORMAT, READABLE
from lsep_ml.files import content_hash, read_json
from lsep_ml.runs.finished import read_run
from lsep_ml.stages.earlier import finished_record
from lsep_ml.stages.extraction import features_key
from lsep_ml.stages.job import build_job
from lsep_ml.store.entries import Store
from lsep_ml.store.keys import FEATURES, NETWORKS, SCORES, identity_of, scores_made_by, weights_hash

HERE = Path(__file__).parent
FORMATS = sorted(HERE.glob("format*.zip"))

OPTIONS = (
    "data.train=40",
    "data.val=20",
    "data.test=20",
    "data.canvas=24",
    "model.widths=[4,4]",
    "model.num_features=6",
    "transform.crop=20",
    "training.batch_size=16",
    "training.epochs=1",
    "fitting.epochs=2",
    "trainer=cpu",
)
PADDED = {"geometry": "pad", "crop_pct": 0.8, "interpolation": "bicubic", "antialias": False}
"""What a bundle of format 2 says of preprocessing."""


@pytest.fixture(params=FORMATS, ids=lambda path: path.stem)
def left(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """The folder in which an earlier version worked."""
    with zipfile.ZipFile(request.param) as archive:
        archive.extractall(tmp_path)
    return tmp_path


def the_run(left: Path, decision: str) -> Path:
    [folder] = (left / "outputs" / "runs" / "digits").glob(f"small_cnn-lsep-{decision}-*")
    return folder


@pytest.mark.parametrize("decision", ["thresh_est", "threshold"])
def test_a_finished_run_is_found_under_its_name_and_not_done_again(left: Path, decision: str) -> None:
    config, folder = compose_here(left / "outputs", f"decision={decision}", *OPTIONS)
    assert folder == the_run(left, decision)
    job = build_job(config)
    assert {key: job.made_by[key] for key in ("config", "split_hash")} == {
        key: stored(left, "predictions")["made_by"][key] for key in ("config", "split_hash")
    }
    record = read_json(folder / "result.json")
    # as found where the initial weights are drawn as they were then, which another processor may not do
    if job.made_by["initial_weights"] == stored(left, "predictions")["made_by"]["initial_weights"]:
        assert identity_of(job.made_by) == record["identity"]
        assert finished_record(job, folder) is not None


def test_stored_results_are_found_by_what_makes_them_today(left: Path) -> None:
    job = build_job(compose_here(left / "outputs", *OPTIONS)[0])
    job.network.load_state_dict(read_parts(the_run(left, "thresh_est")).state)
    features = features_key(job.made_by["config"], job.network, job.data, job.running)
    drawn = stored(left, NETWORKS)["made_by"]["initial_weights"]  # which another processor may draw otherwise
    today = {
        NETWORKS: job.made_by | {"initial_weights": drawn},
        FEATURES: features,
        SCORES: scores_made_by(identity_of(features), weights_hash(job.network.score_layer)),
    }
    for kind, made_by in today.items():
        found = Store(left / "outputs" / "store").find(kind, made_by)
        assert found is not None, kind
        assert content_hash(found.made_by) == content_hash(made_by)


def stored(left: Path, kind: str) -> dict[str, Any]:
    [seal] = (left / "outputs" / "store" / kind).glob("*/entry.json")
    seal_content: dict[str, Any] = read_json(seal)
    return seal_content


def test_every_format_that_is_read_is_kept_here() -> None:
    assert [path.stem for path in FORMATS] == [f"format{number}" for number in READABLE]
    assert READABLE[-1] == FORMAT


def test_a_bundle_of_every_format_predicts_what_it_predicted(left: Path) -> None:
    images = build_job(compose_here(left / "elsewhere", *OPTIONS)[0]).data.data_set.test.images
    written = {left / "bundle": the_run(left, "thresh_est") / "predictions.npz"}
    if (left / "padded").is_dir():
        written[left / "padded"] = left / "padded.npz"
    for bundle, file in written.items():
        found, expected = load(bundle, device="cpu").predict(images), np.load(file)
        assert found.label_names == tuple(expected["label_names"])
        np.testing.assert_allclose(found.scores, expected["scores"], rtol=0, atol=1e-5)
        np.testing.assert_allclose(found.thresholds, expected["thresholds"], rtol=0, atol=1e-5)
        np.testing.assert_array_equal(found.label_sets, expected["predictions"])


def test_what_format_1_does_not_say_of_preprocessing_is_as_it_was_then(left: Path) -> None:
    manifest = read_json(left / "bundle" / "bundle.json")
    settings = read_parts(left / "bundle").build_transform().settings
    assert manifest["transform"].keys().isdisjoint(PADDED)
    assert {key: settings[key] for key in PADDED} == {
        "geometry": None, "crop_pct": 1.0, "interpolation": "bilinear", "antialias": True
    }  # fmt: skip
    if manifest["format"] > 1:
        padded = read_parts(left / "padded").build_transform().settings
        assert {key: padded[key] for key in PADDED} == PADDED


def test_a_bundle_and_the_run_it_was_made_of_are_read_alike(left: Path) -> None:
    bundle, run = read_parts(left / "bundle"), read_parts(the_run(left, "thresh_est"))
    assert bundle.label_names == run.label_names
    assert bundle.measured["metrics"] == run.measured["metrics"]
    assert dict(bundle.model) == dict(run.model)
    for parts in (bundle, run):
        parts.build_network()
        parts.build_transform()


def test_a_run_enters_the_report_beside_runs_of_today(left: Path) -> None:
    config, _ = compose_here(left / "outputs", "decision=threshold", *OPTIONS)
    run, missing = read_run(the_run(left, "threshold") / "result.json")
    assert missing == []
    assert run.config["trainer"]["_target_"] == config.trainer["_target_"]
    assert run.config["data"]["reader"]["_target_"] == config.data.reader["_target_"]


def test_a_configuration_of_an_earlier_version_is_built(left: Path) -> None:
    record = read_json(the_run(left, "threshold") / "result.json")
    trainer = record["config"]["trainer"]
    overrides = [*OPTIONS, f"trainer._target_={trainer['_target_']}"]
    assert (
        build_job(compose_here(left / "outputs", "decision=threshold", *overrides)[0]).made_by["config"]
        == (stored(left, "predictions")["made_by"]["config"])
    )
    shutil.rmtree(left / "outputs")
