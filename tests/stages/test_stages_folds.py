"""Cross-testing end to end: a run a fold, one table over all images, one network for use, all of it resumed."""

import json
import logging
import shutil

import numpy as np
import pytest
from data_trees import picture, write_lines
from jobs import compose_here, run_job_here
from sklearn.metrics import f1_score

from lsep_ml.bundle.files import read_parts
from lsep_ml.data.data_set import SPLITS
from lsep_ml.models import Network
from lsep_ml.reports.records import find_runs
from lsep_ml.runs import top_scores
from lsep_ml.runs.files import FOLDS, RESULT
from lsep_ml.stages import experiment, trained
from lsep_ml.stages.extraction import Extraction, extract_features
from lsep_ml.stages.job import build_job
from lsep_ml.stages.plan import plan
from lsep_ml.stages.trained import train_and_extract

FEW = ("data=csv", "data.folds=3", "data.num_workers=0", "transform=small", "trainer=cpu", "fitting.epochs=2")
FINETUNE = (*FEW, "training.epochs=1")
PROBE = (*FEW, "training=probe", "training.folds=2")


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    """36 pictures, in 18 pairs of near-duplicates, with three labels."""
    root = tmp_path_factory.mktemp("photographs")
    lines = ["image,labels"]
    for number in range(18):
        image = picture(number, 48, 48)
        for name, quality in ((f"{number}.jpg", 95), (f"{number}_copy.jpg", 60)):
            image.save(root / name, quality=quality)
            lines.append(f"{name},{['cat', 'dog', 'cat|dog', 'dog|fox', 'fox', ''][number % 6]}")
    write_lines(root / "labels.csv", lines)
    return root


def arguments(root, *more):
    return (f"data.root={root}", f"data.cache={root / 'cache'}", "data.twins=together", *more)


@pytest.mark.parametrize(
    "how",
    [(*FINETUNE, "decision=threshold"), (*PROBE, "decision=thresh_linear", "decision.fit_on=crossfit")],
    ids=["finetune", "probe"],
)
def test_every_image_is_tested_by_a_network_that_never_saw_it(photographs, tmp_path, how):
    record, folder = run_job_here(tmp_path, *arguments(photographs, *how))
    ids = {line.split(",")[0] for line in (photographs / "labels.csv").read_text().splitlines()[1:]}
    whole = np.load(folder / "predictions.npz", allow_pickle=False)
    assert len(whole["image_ids"]) == len(ids)
    assert set(whole["image_ids"].tolist()) == ids
    assert record["counts"]["images"]["test"] == 36
    tested = {}
    for fold, of_fold in enumerate(record["folds"]):
        assert of_fold["folder"] == f"{FOLDS}/{fold}"
        split = json.loads((folder / FOLDS / str(fold) / "split.json").read_text())
        seen = {name.removesuffix(".jpg").removesuffix("_copy") for name in (*split["train"], *split["val"])}
        arrays = np.load(folder / FOLDS / str(fold) / "predictions.npz", allow_pickle=False)
        for row, name in enumerate(arrays["image_ids"].tolist()):
            assert name.removesuffix(".jpg").removesuffix("_copy") not in seen
            assert name not in tested
            tested[name] = (arrays["scores"][row], arrays["predictions"][row], arrays["targets"][row])
        assert (
            of_fold["metrics"]["test"]
            == json.loads((folder / FOLDS / str(fold) / RESULT).read_text())["metrics"]["test"]
        )
    assert set(tested) == ids
    for row, name in enumerate(whole["image_ids"].tolist()):
        for key, value in zip(("scores", "predictions", "targets"), tested[name], strict=True):
            np.testing.assert_array_equal(whole[key][row], value)
    expected = f1_score(whole["targets"], whole["predictions"], average="macro", zero_division=0)
    assert record["metrics"]["test"]["f1"] == pytest.approx(expected)
    low, high = record["intervals"]["test"]["f1"]
    assert low <= expected <= high
    assert read_parts(folder).label_names == ("cat", "dog", "fox")
    assert [run.folder for run in find_runs(tmp_path / "runs").runs] == [folder]


def test_what_is_done_is_found_again(photographs, tmp_path, monkeypatch):
    how = arguments(photographs, *PROBE, "decision=threshold")
    first, folder = run_job_here(tmp_path, *how)
    built = []
    monkeypatch.setattr(trained, "solve_prediction", lambda *_: built.append("solved"))
    assert run_job_here(tmp_path, *how)[0] == first
    monkeypatch.undo()
    (folder / RESULT).unlink()  # as if it had been killed before its own end
    shutil.rmtree(folder / FOLDS / "1")
    again, _ = run_job_here(tmp_path, *how)
    assert again["metrics"] == first["metrics"]
    assert again["reused"]["prediction"]
    found = json.loads((folder / FOLDS / "1" / RESULT).read_text())
    assert found["reused"] == {"prediction": True, "extraction": True}


def test_the_network_of_a_probe_runs_once_for_all_folds(photographs, tmp_path, monkeypatch):
    shown, real = [], Network.extract

    def counted(network, images):
        shown.append(len(images))
        return real(network, images)

    monkeypatch.setattr(Network, "extract", counted)
    _, folder = run_job_here(tmp_path, *arguments(photographs, *PROBE, "decision=threshold"))
    assert sum(shown) == 36
    monkeypatch.undo()
    run_job_here(tmp_path / "alone", *arguments(photographs, *PROBE, "decision=threshold", "data.fold=2"))
    arrays = [
        np.load(where / "predictions.npz", allow_pickle=False)
        for where in (folder / FOLDS / "2", next((tmp_path / "alone").rglob(RESULT)).parent)
    ]
    np.testing.assert_array_equal(arrays[0]["scores"], arrays[1]["scores"])
    np.testing.assert_array_equal(arrays[0]["image_ids"], arrays[1]["image_ids"])


def test_taken_features_are_those_of_their_images(photographs, tmp_path):
    how = arguments(photographs, *PROBE, "decision=threshold")
    config, _ = compose_here(tmp_path, *how)
    job = build_job(config)
    assert job.divided_first is not None
    direct = extract_features(
        job.store, job.made_by["config"], job.network, job.data, job.device, job.running
    )
    taken = train_and_extract(job, lambda row: None, lambda in_use: None).extraction
    for split in SPLITS:
        expected, found = Extraction(direct, direct).split(split), taken.split(split)
        assert found.image_ids.tolist() == expected.image_ids.tolist()
        np.testing.assert_array_equal(found.targets, expected.targets)
        np.testing.assert_allclose(found.features, expected.features, rtol=1e-4, atol=1e-5)


def test_the_network_of_a_probe_runs_once_for_all_splits(photographs, tmp_path, monkeypatch):
    lines = (photographs / "labels.csv").read_text().splitlines()
    parts = ["split", *(("train", "train", "val", "test")[row % 4] for row in range(len(lines) - 1))]
    write_lines(
        photographs / "split.csv", [f"{line},{part}" for line, part in zip(lines, parts, strict=True)]
    )
    shown, real = [], Network.extract

    def counted(network, images):
        shown.append(len(images))
        return real(network, images)

    monkeypatch.setattr(Network, "extract", counted)
    how = (f"data.root={photographs}", "data.labels=split.csv", *PROBE[:1], *PROBE[2:], "decision=threshold")
    again = ("data.resplit=true", "data.seed=3")
    (own, _), (anew, folder) = run_job_here(tmp_path, *how), run_job_here(tmp_path, *how, *again)
    assert sum(shown) == 36
    assert own["split_hash"] != anew["split_hash"]
    config, _ = compose_here(tmp_path / "direct", *how, *again)
    job = build_job(config)
    direct = extract_features(
        job.store, job.made_by["config"], job.network, job.data, job.device, job.running
    )
    found = np.load(
        tmp_path / "store" / "features" / anew["stored"]["features"] / "test_features.npy", allow_pickle=False
    )
    expected = Extraction(direct, direct).split("test")
    assert np.load(folder / "predictions.npz")["image_ids"].tolist() == expected.image_ids.tolist()
    np.testing.assert_allclose(found, expected.features, rtol=1e-4, atol=1e-5)


def test_a_plan_says_that_folds_share_features(photographs, tmp_path, caplog):
    config, folder = compose_here(tmp_path, *arguments(photographs, *PROBE, "decision=threshold"))
    with caplog.at_level(logging.INFO):
        for of_job, below in (*experiment.fold_jobs(config, folder), (config, folder)):
            plan(build_job(of_job), below)
    assert caplog.text.count("extracts its features (the network alone about 1 min on cpu)") == 1
    assert caplog.text.count("shares features") == 3


def test_one_fold_alone_is_what_the_run_takes(photographs, tmp_path):
    how = arguments(photographs, *PROBE, "decision=threshold")
    alone, _ = run_job_here(tmp_path, *how, "data.fold=1")
    assert "folds" not in alone
    record, _ = run_job_here(tmp_path, *how)
    assert record["folds"][1]["identity"] == alone["identity"]
    assert record["folds"][1]["metrics"]["test"] == alone["metrics"]["test"]


def test_without_folds_nothing_is_done_before(photographs, tmp_path):
    config, folder = compose_here(tmp_path, f"data.root={photographs}", "data=csv")
    assert experiment.fold_jobs(config, folder) == []


def test_folds_that_keep_the_highest_scores_alone_give_no_ranking_metrics(
    photographs, tmp_path, monkeypatch, caplog
):
    monkeypatch.setattr(top_scores, "LARGE", 1)
    with caplog.at_level(logging.WARNING):
        result, _ = run_job_here(tmp_path, *arguments(photographs, *FINETUNE, "decision=threshold"))
    assert "no ranking metrics of all images" in caplog.text
    assert "map" not in result["metrics"]["test"]
    assert 0 <= result["metrics"]["test"]["f1"] <= 1
