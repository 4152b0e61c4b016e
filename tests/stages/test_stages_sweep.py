"""A sweep on the terminal: a line a job, a table, the best run, what failed, and the exit code that says it."""

import copy
import os
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hydra.core.override_parser.overrides_parser import OverridesParser
from jobs import compose_here
from omegaconf import DictConfig, OmegaConf

from lsep_ml.metrics import bootstrap_ranking, ranking_metrics
from lsep_ml.metrics.functional import count_label_sets, label_set_metrics
from lsep_ml.runs.arrays import write_predictions
from lsep_ml.runs.record import read_record, write_record
from lsep_ml.stages.composing import compose_once
from lsep_ml.stages.evaluation import _RANKED, _once
from lsep_ml.stages.job import build_job
from lsep_ml.stages.job_data import build_data
from lsep_ml.stages.results import _Thumbnails
from lsep_ml.stages.sweep import FAILED, FOLDER, NAME, PROBLEMS, Sweep, outdone, tell
from lsep_ml.store.keys import weights_hash

METRICS = {
    "decision=topk": {"val": {"f1": 0.5, "exact_match": 0.2, "map": 0.7}, "test": {"f1": 0.61, "map": 0.7}},
    "decision=threshold": {"val": {"f1": 0.6, "exact_match": 0.1}, "test": {"f1": 0.52, "exact_match": 0.3}},
}


GIVEN = ["data.train=64", "decision=topk,threshold", "seed=1", "pictures=false"]
LAST = "the best epoch is the last of 2"


def done(called: str, found: bool = False, warnings: tuple[str, ...] = ()) -> dict[str, Any]:
    ended = {"metrics": METRICS[called], "found": found, "warnings": list(warnings)}
    return {"called": called, "folder": f"runs/{called}", **ended}


def failed(called: str) -> dict[str, Any]:
    return {"called": called, "folder": f"runs/{called}", "error": "ValueError: decision.max_k=[0]"}


def told(number: int, job: dict[str, Any]) -> None:
    """The job ends as it does in a sweep, which is called with what all of its jobs are too."""
    tell(
        number,
        ["data.train=64", job["called"], "seed=1", "pictures=False"],
        {k: v for k, v in job.items() if k != "called"},
    )


def composed(output: Path, experiment: str | None = None) -> DictConfig:
    hydra = {"runtime": {"choices": {"experiment": experiment}}, "overrides": {"hydra": [], "task": GIVEN}}
    return OmegaConf.create(
        {"paths": {"output": str(output)}, "objective": "f1", "plan": False, "hydra": hydra}
    )


def test_every_job_knows_its_sweep_wherever_it_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in (FOLDER, NAME):
        monkeypatch.delenv(variable, raising=False)
    for experiment in ("table1_digits", None):
        config = composed(tmp_path / "it's a folder", experiment)
        Sweep().on_multirun_start(config)
        parsed = OverridesParser.create().parse_overrides(list(config.hydra.overrides.hydra))
        given = {
            override.key_or_group: override.value() for override in parsed
        }  # what a launcher's job composes
        folder, name = (given[f"hydra.job.env_set.{variable}"] for variable in (FOLDER, NAME))
        assert (folder, name) == (os.environ[FOLDER], os.environ[NAME])
        assert Path(folder).parent == tmp_path / "it's a folder/sweeps"
        assert name == experiment or datetime.strptime(name, "%Y-%m-%d_%H-%M-%S")


@pytest.mark.parametrize(
    ("jobs", "code"),
    [
        ([done("decision=topk"), done("decision=threshold", found=True)], 0),
        ([done("decision=topk"), failed("decision.max_k=0")], PROBLEMS),
        ([failed("decision.max_k=0")], FAILED),
    ],
)
def test_the_end_of_a_sweep(
    jobs: list[dict[str, Any]], code: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = composed(tmp_path)
    sweep = Sweep()
    sweep.on_multirun_start(config)
    for number, job in enumerate(jobs):
        told(number, job)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(jobs)
    for number, (job, line) in enumerate(zip(jobs, lines, strict=True)):
        assert line.startswith(f"#{number}  {job['called']}: ")
        assert line.endswith("found finished") == job.get("found", False)
    if code:
        with pytest.raises(SystemExit) as ended:
            sweep.on_multirun_end(config)
        assert ended.value.code == code
    else:
        sweep.on_multirun_end(config)
    said = capsys.readouterr()
    finished = [job for job in jobs if "error" not in job]
    if finished:
        best = "decision=threshold" if len(finished) == 2 else "decision=topk"
        assert f"best by validation F1: {best}" in said.out
        assert f"python -m lsep_ml report {tmp_path}" in said.out
        assert "61.0" in said.out
        assert "all called with data.train=64 seed=1 pictures=False\n" in said.out
    for job in jobs:
        if "error" in job:
            assert f"{job['called']}: {job['error']} ({job['folder']})" in said.err
    assert not list(tmp_path.rglob("*.json"))


def test_a_warning_is_said_once_with_the_jobs_that_have_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep, config = Sweep(), composed(tmp_path)
    sweep.on_multirun_start(config)
    for number, called in enumerate(("decision=topk", "decision=threshold") * 2 + ("decision=topk",)):
        told(number, done(called, warnings=(LAST,) if number else ("constant", LAST)))
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 5
    assert all(" (!): F1 " in line for line in lines)
    sweep.on_multirun_end(config)
    said = capsys.readouterr().out
    assert said.count(LAST) == 1
    topk, threshold = "decision=topk", "decision=threshold"
    assert f"(!) {LAST}: {topk}; {threshold}; {topk} and 2 more\n" in said
    assert f"(!) constant: {topk}\n" in said


def test_a_job_without_a_sweep_of_its_own_is_told_with_all_it_was_called_with(
    capsys: pytest.CaptureFixture[str],
) -> None:
    told(3, done("decision=topk"))
    assert capsys.readouterr().out.startswith("#3  data.train=64 decision=topk seed=1 pictures=False: F1 ")


def test_decisions_that_validation_tells_apart_from_the_best_are_named(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    targets = (rng.random((300, 4)) < 0.4).astype(np.uint8)
    folders = []
    of_run = {"data": "d", "split_hash": "s", "model": "m", "loss": "lsep", "identity": "a", "seed": 0}
    of_run["label_names"] = list("abcd")
    for number, (decision, wrong) in enumerate((("topk", 0.4), ("support", 0.1), ("per_class", 0.101))):
        flipped = np.random.default_rng(1).random(targets.shape) < wrong
        label_sets = (targets ^ flipped).astype(np.uint8)
        folders.append(tmp_path / str(number))
        folders[-1].mkdir()
        metrics = label_set_metrics(count_label_sets(label_sets, targets))
        val = {key: float(value) for key, value in metrics.items()}
        arrays = {"predictions": label_sets, "targets": targets}
        write_predictions(folders[-1] / "validation.npz", arrays, list("abcd"))
        # of a test split without a known label
        record = {
            **of_run,
            "decision": decision,
            "metrics": {"val": val, "test": {}},
            "intervals": {"test": {}},
        }
        write_record(folders[-1], record)
    said = ["on lsep's scores, by validation F1: support is better than topk"]
    assert outdone(folders, "f1") == said
    assert outdone(folders, "hamming_loss") == [said[0].replace("F1", "Hamming loss")]
    assert outdone([*folders[1:], tmp_path / "nowhere"], "f1") == []
    assert outdone(folders[:1], "f1") == []
    write_record(
        folders[2], read_record(folders[2] / "result.json") | {"decision": "topk"}
    )  # with other options
    assert outdone([folders[1], folders[0], folders[2]], "f1") == said
    assert outdone([folders[1], folders[2], folders[0]], "f1") == [f"{said[0]} (0)"]
    assert outdone(folders, "map") == []
    content = bytearray((folders[2] / "validation.npz").read_bytes())
    content[-1] ^= 1  # of the archive's closing record: NumPy reads on
    (folders[2] / "validation.npz").write_bytes(content)
    why = "validation.npz: damaged (not the checksum it was written with); run the job again with force=true"
    assert outdone(folders, "f1") == [f"not compared: {folders[2]}/{why}", *said]
    (folders[2] / "result.json").write_text("{}")
    [problem, *others] = outdone(folders, "f1")
    assert problem.startswith(f"not compared: {folders[2]}/result.json: data is absent")
    assert others == said


def test_a_sweeps_jobs_are_composed_once_each_and_each_has_a_configuration_of_its_own() -> None:
    composed: list[tuple[str, ...]] = []
    read: list[str] = []

    class Source:
        def load_config(self, config_path: str) -> DictConfig:
            read.append(config_path)
            return OmegaConf.create({"path": config_path})

    class Loader:
        repository = SimpleNamespace(sources=[Source()])

        def load_sweep_config(self, master_config: DictConfig, sweep_overrides: list[str]) -> DictConfig:
            composed.append(tuple(sweep_overrides))
            return OmegaConf.create({"called": list(sweep_overrides)})

    loader, master, jobs = Loader(), OmegaConf.create({}), [["seed=1"], ["seed=2"]]
    compose_once(loader)
    for path in ("loss/lsep", "loss/bce", "loss/lsep"):
        given = loader.repository.sources[0].load_config(config_path=path)
        assert given == {"path": path}
        given.path = "as a job has changed it"
    assert read == ["loss/lsep", "loss/bce"]
    checked = [loader.load_sweep_config(master, job) for job in jobs]
    launched = [loader.load_sweep_config(master_config=master, sweep_overrides=job) for job in jobs]
    assert composed == [("seed=1",), ("seed=2",)]
    assert [config.called for config in launched] == jobs
    assert all(one is other for one, other in zip(checked, launched, strict=True))
    assert loader.load_sweep_config(master, jobs[0]) is not launched[0]  # which a job has


def test_jobs_of_one_sweep_share_the_data_that_they_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def images(*overrides: str) -> Any:
        small = ("data.train=20", "data.val=10", "data.test=10", "trainer=cpu")
        return build_data(compose_here(tmp_path, *small, *overrides)[0]).data_set.train.images

    monkeypatch.delenv(FOLDER, raising=False)
    assert images() is not images()
    monkeypatch.setenv(FOLDER, str(tmp_path / "one"))
    first = images("loss=lsep", "seed=1")
    assert images("loss=bce", "seed=2") is first
    other = images("data.seed=1")
    assert not np.array_equal(other, first)
    assert images() is first
    assert images("data.seed=1") is other
    monkeypatch.setenv(FOLDER, str(tmp_path / "another"))  # a later one, before which files may have changed
    assert images() is not first
    assert np.array_equal(images(), first)


def test_jobs_of_one_sweep_share_the_backbone_of_solved_probes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def network(*overrides: str) -> Any:
        small = ("data.train=20", "data.val=10", "data.test=10", "trainer=cpu", "model.widths=[4]")
        return build_job(compose_here(tmp_path, *small, "training=probe", *overrides)[0]).network

    monkeypatch.delenv(FOLDER, raising=False)
    alone = network()
    monkeypatch.setenv(FOLDER, str(tmp_path / "one"))
    first, second = network("loss=lsep").eval(), network("loss=bce")
    assert second.backbone is first.backbone
    assert second.training
    assert second.backbone.training
    assert second.score_layer is not first.score_layer
    assert weights_hash(first) == weights_hash(second) == weights_hash(alone)
    read_again = copy.deepcopy(second)
    assert weights_hash(read_again) == weights_hash(second)
    assert weights_hash(read_again.backbone) == weights_hash(second.backbone)
    torch.nn.init.zeros_(second.score_layer.weight)
    assert weights_hash(second) != weights_hash(first)
    for other in ("training.solver=sgd", "model.widths=[5]"):
        assert network(other).backbone is not first.backbone


def test_a_thumbnail_is_made_once_of_the_same_images() -> None:
    class Images:
        def __init__(self, shift: int) -> None:
            self.shift, self.asked = shift, list[int]()

        def __getitem__(self, row: int) -> torch.Tensor:
            self.asked.append(row)
            return torch.full((3, 2, 2), row + self.shift, dtype=torch.uint8)

    made, one, other = _Thumbnails(), Images(0), Images(1)
    for images, rows in ((one, [1, 2]), (one, [2, 5]), (other, [2]), (one, [2])):
        found = made.of(images, rows)
        assert {row: image[0, 0, 0] for row, image in found.items()} == {r: r + images.shift for r in rows}
    assert one.asked == [1, 2, 5, 2]


def test_intervals_of_the_same_scores_are_the_same_and_of_others_their_own(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv(FOLDER, str(tmp_path))
    rng = np.random.default_rng(0)
    targets = rng.random((30, 3)) < 0.5
    mask = rng.random((30, 3)) < 0.9
    scores = rng.normal(size=(30, 3)).astype(np.float32)
    for given in (
        (scores, targets, None),
        (scores, targets, mask),
        (scores, ~targets, None),
        (-scores, targets, None),
    ):
        again = [None if array is None else array.copy() for array in given]
        for ranking in (bootstrap_ranking, ranking_metrics):
            expected = ranking(*given)
            assert _once(ranking, *given) == expected
            assert _once(ranking, *again) is _once(ranking, *given)
    assert len(_RANKED._made) == 3  # metrics of validation and of test, and intervals on test
