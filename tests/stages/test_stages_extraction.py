"""Extraction: in the batches, layout and types that are asked for, and the same bits after it was killed."""

import json
import logging
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import data_trees
import numpy as np
import pytest
import torch
from jobs import compose_here, run_job_here

from lsep_ml.decisions import label_blocks
from lsep_ml.metrics import indicator
from lsep_ml.metrics.functional import RANKING_KEYS, ranking_metrics
from lsep_ml.models import Network
from lsep_ml.runs import top_scores
from lsep_ml.runs.arrays import read_arrays
from lsep_ml.runs.files import RESULT, TEST, VALIDATION
from lsep_ml.runs.finished import read_run
from lsep_ml.stages import evaluation, scores, sealed_rows
from lsep_ml.stages.extraction import extract_features
from lsep_ml.stages.job import Job, build_job
from lsep_ml.stages.running import Running
from lsep_ml.stages.sealed_rows import SealedRows
from lsep_ml.store.entries import Entry
from lsep_ml.store.keys import identity_of

NET = ("model=timm", "model.name=test_resnet", "model.weights=null", "transform.crop=64", "trainer=cpu")
SIZES = ("data.train=70", "data.val=20", "data.test=20", "data.canvas=24")


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return data_trees.write_csv(tmp_path_factory.mktemp("own") / "csv")


def job_here(tree: Path, output: Path, *options: str) -> Job:
    place = ("data=csv", f"data.root={tree}", f"paths.data={tree.parent}", "data.num_workers=0")
    return build_job(compose_here(output, *place, *NET, *options)[0])


def extracted(job: Job) -> Entry:
    return extract_features(job.store, job.made_by["config"], job.network, job.data, job.device, job.running)


def array(entry: Entry, split: str) -> np.ndarray:
    return np.load(entry.folder / f"{split}_features.npy")


def test_what_is_left_open_is_fast_on_the_cpu(tree: Path, tmp_path: Path) -> None:
    job = job_here(tree, tmp_path)
    assert job.running == Running(16, channels_last=True)
    assert job_here(tree, tmp_path, "extraction.batch_size=5").running.batch_size == 5
    small = build_job(compose_here(tmp_path, *SIZES)[0])
    assert small.running == Running(128, channels_last=False)
    config = compose_here(tmp_path, *NET)[0].extraction
    assert Running.on(torch.device("cuda"), config, 128) == Running(128, channels_last=False)


def test_the_arrays_are_what_the_network_gives_for_these_batches(tree: Path, tmp_path: Path) -> None:
    job = job_here(tree, tmp_path, "extraction.batch_size=7")
    entry = extracted(job)
    network = job.network.eval().to(memory_format=torch.channels_last)
    for split in ("train", "val", "test"):
        rows = range(len(job.data.data_set.split(split)))
        images = torch.stack([job.data.transform(job.data.data_set.split(split).images[row]) for row in rows])
        parts = []
        for start in range(0, len(images), 7):
            with torch.inference_mode():
                batch = images[start : start + 7].contiguous(memory_format=torch.channels_last)
                parts.append(network.extract(batch).numpy())
        np.testing.assert_array_equal(array(entry, split), np.concatenate(parts))
        assert array(entry, split).dtype == np.float32


def test_how_it_is_run_is_in_the_key(tree: Path, tmp_path: Path) -> None:
    options = ("batch_size=5", "channels_last=false", "precision=bf16", "store=float16")
    jobs = [
        job_here(tree, tmp_path, *([f"extraction.{option}"] if option else [])) for option in ("", *options)
    ]
    assert len({extracted(job).identity for job in jobs}) == len(jobs)
    half = array(extracted(jobs[4]), "val")
    assert half.dtype == np.float16
    whole = array(extracted(jobs[0]), "val")
    np.testing.assert_array_equal(half, whole.astype(np.float16))
    rough = array(extracted(jobs[3]), "val")
    assert rough.dtype == np.float32
    assert 0 < np.abs(rough - whole).max() < 0.05 * np.abs(whole).max()
    # A network that is trained itself is the same whatever is extracted from it; a score layer on features is not.
    assert len({identity_of(job.made_by) for job in jobs}) == 1
    probes = [
        job_here(tree, tmp_path, "training=probe", *([f"extraction.{option}"] if option else []))
        for option in ("", "batch_size=5", "precision=bf16", "store=float16")
    ]
    assert [len({identity_of(job.made_by) for job in probes[:n]}) for n in (2, 3, 4)] == [1, 2, 3]


@pytest.mark.parametrize("option", ["precision=float16", "store=float64"])
def test_other_types_are_refused(tree: Path, tmp_path: Path, option: str) -> None:
    with pytest.raises(ValueError, match=f"extraction.{option}: float32 or "):
        job_here(tree, tmp_path, f"extraction.{option}")


@pytest.mark.parametrize("decision", ["thresh_est", "threshold"])
def test_a_run_works_on_float16(tmp_path: Path, decision: str) -> None:
    options = (*SIZES, "training=probe", "training.epochs=2", "fitting.epochs=1", "trainer=cpu")
    one, folder = run_job_here(tmp_path, *options, f"decision={decision}")
    half, other = run_job_here(tmp_path, *options, f"decision={decision}", "extraction.store=float16")
    assert folder != other
    assert half["identity"] != one["identity"]
    assert half["metrics"]["test"]["map"] == pytest.approx(one["metrics"]["test"]["map"], abs=0.05)
    again, _ = run_job_here(tmp_path, *options, f"decision={decision}", "extraction.store=float16")
    assert again["finished"] == half["finished"]


def test_scores_are_kept_in_float16_where_that_is_asked_for(tmp_path: Path) -> None:
    options = (*SIZES, "training=probe", "training.epochs=2", "decision=threshold", "trainer=cpu")
    one, folder = run_job_here(tmp_path, *options)
    half, other = run_job_here(tmp_path, *options, "extraction.scores=float16")
    assert half["identity"] == one["identity"]  # the same network
    assert folder != other
    assert half["reused"]["prediction"]  # nothing of stage 1 depends on it
    with np.load(folder / "predictions.npz") as whole, np.load(other / "predictions.npz") as rounded:
        np.testing.assert_array_equal(rounded["scores"], whole["scores"].astype(np.float16))
        assert rounded["scores"].dtype == np.float32
        assert (np.abs(rounded["scores"] - whole["scores"]) <= 2**-11 * np.abs(whole["scores"])).all()
        found = ranking_metrics(rounded["scores"], rounded["targets"], rounded["mask"])
    assert half["metrics"]["test"]["map"] == found["map"]
    entry = Entry(tmp_path / "features", "0" * 64, {}, {"width": 2}, reused=True)
    entry.folder.mkdir()
    np.save(entry.folder / "val_features.npy", np.full((1, 2), 1e5, np.float32))
    np.save(entry.folder / "val_image_ids.npy", np.array(["a.jpg"]))
    with pytest.raises(
        FloatingPointError, match=r"first a.jpg; float16 ends at 65504: extraction.scores=float32"
    ):
        scores._fill(np.empty((1, 3), np.float16), entry, "val", torch.nn.Linear(2, 3), 4)


class Killed(BaseException):
    """What ends an extraction in these tests."""


@pytest.mark.parametrize("dies_at", [1, 3, 6])
def test_a_killed_extraction_goes_on_to_the_same_bits(
    tree: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    dies_at: int,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(sealed_rows, "SECONDS", 0.0)
    options = ("extraction.batch_size=4",)
    whole = extracted(job_here(tree, tmp_path / "whole", *options))
    calls = count_calls(monkeypatch, dies_at)
    with pytest.raises(Killed):
        extracted(job_here(tree, tmp_path / "killed", *options))
    batches = calls["all"]
    calls["dies_at"] = None
    with caplog.at_level(logging.INFO):
        job = job_here(tree, tmp_path / "killed", *options)
        entry = extracted(job)
    sizes = [len(job.data.data_set.split(split)) for split in ("train", "val", "test")]
    assert calls["all"] - batches == sum(-(-size // 4) for size in sizes) - (dies_at - 1)
    assert "were done before" in caplog.text or dies_at == 1
    assert "images," in caplog.text
    assert entry.identity == whole.identity
    for split in ("train", "val", "test"):
        assert array(entry, split).tobytes() == array(whole, split).tobytes()
    assert not list((tmp_path / "killed").rglob("*.kept"))


SLOW = """
import sys, time
from lsep_ml.models import Network
from lsep_ml.stages import sealed_rows
sys.path.insert(0, sys.argv.pop(1))
from jobs import run_job_here
sealed_rows.SECONDS, extract = 0.0, Network.extract
def slow(self, images):
    time.sleep(0.1)
    return extract(self, images)
Network.extract = slow
run_job_here(*sys.argv[1:])
"""
"""A run that seals every batch, and takes its time over each."""


def test_sigkill_costs_what_was_not_sealed_and_the_bits_are_the_same(tree: Path, tmp_path: Path) -> None:
    place = ("data=csv", f"data.root={tree}", f"paths.data={tree.parent}", "data.num_workers=0")
    options = (*place, *NET, "extraction.batch_size=4", "training=probe", "decision=threshold", "loss=bce")
    record, _ = run_job_here(tmp_path / "whole", *options)
    killed = tmp_path / "killed"
    words = [sys.executable, "-c", SLOW, str(Path(__file__).parents[1]), str(killed), *options]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    while process.poll() is None and sealed(killed) < 3:
        time.sleep(0.005)
    process.kill()
    said = process.communicate()[0].decode()
    assert process.returncode == -signal.SIGKILL, said
    kept = sealed(killed)
    assert kept >= 3
    with pytest.MonkeyPatch.context() as patch:
        calls = count_calls(patch, None)
        again, _ = run_job_here(killed, *options)
    assert again["metrics"] == record["metrics"]
    images = again["counts"]["images"].values()
    assert calls["all"] <= sum(-(-number // 4) for number in images) - kept
    for split in ("train", "val", "test"):
        one, other = (
            next((output / "store/features").glob(f"*/{split}_features.npy")).read_bytes()
            for output in (tmp_path / "whole", killed)
        )
        assert one == other


def sealed(output: Path) -> int:
    """Parts of training features that are sealed."""
    files = list(output.glob("store/features/*.kept/train_features.parts.json"))
    return len(json.loads(files[0].read_text())) if files else 0


def count_calls(monkeypatch: pytest.MonkeyPatch, dies_at: int | None) -> dict[str, Any]:
    calls: dict[str, Any] = {"all": 0, "dies_at": dies_at}
    extract = Network.extract

    def counted(self: Network, images: torch.Tensor) -> torch.Tensor:
        calls["all"] += 1
        if calls["all"] == calls["dies_at"]:
            raise Killed
        return extract(self, images)

    monkeypatch.setattr(Network, "extract", counted)
    return calls


def test_a_damaged_part_is_written_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sealed_rows, "SECONDS", 0.0)
    file, shape = tmp_path / "rows.npy", (9, 2)
    values = np.arange(18, dtype=np.float32).reshape(shape)
    first = SealedRows(file, values.dtype, shape)
    for start in (0, 3, 6):
        rows = np.arange(start, start + 3)
        first.write(rows, values[rows])
        assert first.seal_if_due()
    assert SealedRows(file, values.dtype, shape).done == 9
    damaged = np.load(file, mmap_mode="r+")
    damaged[4, 1] += 1
    damaged.flush()
    again = SealedRows(file, values.dtype, shape)
    assert again.done == 3
    rows = np.arange(3, 9)
    again.write(rows, values[rows])
    again.finish(tmp_path / "all.npy")
    np.testing.assert_array_equal(np.load(tmp_path / "all.npy"), values)
    assert SealedRows(file, np.dtype(np.float16), shape).done == 0  # another array
    (tmp_path / "rows.parts.json").write_text(json.dumps({"rows": 3}))
    assert SealedRows(file, values.dtype, shape).done == 0


def test_rows_are_sealed_when_it_is_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = SealedRows(tmp_path / "rows.npy", np.dtype(np.float32), (4, 1))
    rows.write(np.arange(2), np.ones((2, 1), np.float32))
    assert not rows.seal_if_due()
    assert SealedRows(tmp_path / "rows.npy", np.dtype(np.float32), (4, 1)).done == 0
    monkeypatch.setattr(sealed_rows, "SECONDS", 0.0)
    assert rows.seal_if_due()
    assert rows.done == 2


@pytest.mark.parametrize(
    ("decision", "fit_on"),
    [
        ("threshold", "val"),
        ("per_class", "both"),
        ("thresh_linear", "crossfit"),
        ("thresh_est", "val"),
        ("support", "val"),
        ("thresh_est", "both"),
        ("thresh_linear", "train"),
        ("topk", "both"),
    ],
)
def test_sparse_targets_give_the_same_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, decision: str, fit_on: str
) -> None:
    draw = np.random.default_rng(0)
    cells = np.where(draw.random((60, 3)) < 0.1, "", (draw.random((60, 3)) < 0.4).astype(int).astype(str))
    lines = ["feature_0,feature_1,a,b,c"]
    for features, labels in zip(draw.normal(size=(60, 2)).round(3).tolist(), cells.tolist(), strict=True):
        lines.append(",".join([*map(str, features), *labels]))
    (tmp_path / "f.csv").write_text("\n".join([*lines, ""]))
    options = ("data=features", f"data.root={tmp_path}", "loss=bce", "loss.pos_weight=balanced")
    options += ("fitting.epochs=2", f"pictures={str(decision == 'threshold').lower()}")
    options += ("label_sets.abstain=0.2",) if decision == "threshold" else ()
    options += ("decision.offset=class",) if decision == "thresh_est" else ()
    if decision != "per_class":
        monkeypatch.setattr(scores, "temporary_array", None)  # nowhere are all training scores
    dense, held, intervals = (), (), []
    for least in (indicator.LARGE, 0):
        monkeypatch.setattr(indicator, "LARGE", least)
        for module in (scores, evaluation, label_blocks, top_scores):
            monkeypatch.setattr(module, "LARGE", 10**8 if least else 0)
        record, folder = run_job_here(
            tmp_path / str(least), *options, f"decision={decision}", f"decision.fit_on={fit_on}"
        )
        intervals.append(set(record["intervals"]["test"]))
        run = read_run(folder / RESULT)[0]
        read = {
            f"{file} {name}": array
            for file in (TEST, VALIDATION)
            for name, array in read_arrays(
                run, file, "targets", "predictions", "mask", "scores", "thresholds"
            ).items()
        }
        tables = [(folder / name).read_text() for name in ("per_class.csv", "decision.json")]
        keys = "identity", "metrics", "split_hash", "warnings", "abstention"
        numbers = {name: record.get(name) for name in keys}
        dense, held = held, ([numbers, tables], read)
    assert set(np.load(folder / TEST).files) >= {"targets_columns", "mask_rest", "predictions_starts"}
    assert list((tmp_path / "0").glob("store/features/*/train_mask_rest.npy"))
    assert not list((tmp_path / "0").glob("store/scores/*/train_scores.npy"))
    assert intervals[0] - intervals[1] == set(RANKING_KEYS) - {"map_classes"}
    assert "f1" in intervals[1]
    assert dense[0] == held[0]
    for name, values in dense[1].items():
        np.testing.assert_array_equal(held[1][name], values, strict=True)


@pytest.mark.parametrize("rows", [1, 7, 8, 9, 41])
def test_computed_scores_are_those_that_would_be_stored(rows: int) -> None:
    """Whatever rows are asked for: some of a batch, of several, of the last, which is not whole, none, one twice."""
    draw = torch.Generator().manual_seed(rows)
    layer, features = torch.nn.Linear(24, 40), torch.randn(rows, 24, generator=draw)
    with torch.inference_mode():
        stored = torch.cat([layer(batch) for batch in features.split(8)]).numpy()
    computed = scores.ComputedScores(features.numpy(), layer, 8)
    assert (computed.shape, len(computed), computed.ndim, computed.dtype) == ((rows, 40), rows, 2, np.float32)
    mask = np.arange(rows) % 3 == 0
    for asked in (
        slice(None), slice(3, 6), slice(2, 30), mask, ~mask, mask & ~mask, np.random.default_rng(0).permutation(rows),
        np.array([rows - 1, 0, 0]), np.array([rows - 1]),
    ):  # fmt: skip
        np.testing.assert_array_equal(computed[asked], stored[asked], strict=True)


@pytest.mark.parametrize("training", ["probe", "finetune"])
def test_bad_images_that_nobody_looked_for_enter_nothing(tmp_path: Path, training: str) -> None:
    """They are named and counted, in training and at the extraction, and no label of theirs is known afterwards."""
    lines = ["image,cat,dog,split"]
    for number in range(36):
        data_trees.write_image(tmp_path / f"in/{number:02d}.jpg", seed=number)
        part = "train" if number < 20 else "val" if number < 28 else "test"
        lines.append(f"{number:02d}.jpg,{number % 2},{1 - number % 3 // 2},{part}")
    (tmp_path / "in/labels.csv").write_text("\n".join(lines) + "\n")
    bad = ["05.jpg", "24.jpg", "35.jpg"]
    (tmp_path / "in/05.jpg").write_bytes(b"no image")
    (tmp_path / "in/24.jpg").unlink()
    (tmp_path / "in/35.jpg").write_bytes(b"")
    record, folder = run_job_here(
        tmp_path / "out", "data=csv", f"data.root={tmp_path / 'in'}", "data.check=on_read", "model=small_cnn",
        "model.widths=[4,4]", "model.num_features=6", f"training={training}", "training.epochs=1",
        "transform.resize=[24,24]",
        "transform.crop=20", "decision=threshold", "trainer=cpu", "pictures=false",
    )  # fmt: skip
    assert record["counts"]["dropped"] == {"unreadable": 3}
    assert sorted(record["unread"]) == bad
    assert "35.jpg: the file is empty" in record["unread"]["35.jpg"]
    for name, split in (("predictions.npz", "test"), ("validation.npz", "val")):
        with np.load(folder / name) as arrays:
            assert record["counts"]["images"][split] == len(arrays["mask"])
            for image, mask, targets in zip(
                *(arrays[key] for key in ("image_ids", "mask", "targets")), strict=True
            ):
                assert mask.all() == mask.any() == (image not in bad)
                assert image not in bad or not targets.any()
