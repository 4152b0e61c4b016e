"""Stage 1 killed and started again: the same weights, history and choice, to the last bit."""

import signal
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from small_trainings import Trained, interrupted, kill_at, same, train

from lsep_ml.training import resume
from lsep_ml.training.checkpoints import read_checkpoint
from lsep_ml.training.resume import TERMINATED, Saving, StepSeed

pytestmark = pytest.mark.filterwarnings("ignore::pytorch_lightning.utilities.warnings.PossibleUserWarning")


@pytest.fixture(autouse=True)
def log_level(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "lsep_ml")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    return train(tmp_path_factory.mktemp("whole"))


@pytest.mark.parametrize("step", [1, 2, 3, 6, 7, 12, 18])
def test_killed_within_an_epoch(whole: Trained, tmp_path: Path, step: int) -> None:
    interrupted(tmp_path, "training_step", step)
    assert same(train(tmp_path), whole)


@pytest.mark.parametrize("epoch", [1, 3])
def test_killed_in_validation(whole: Trained, tmp_path: Path, epoch: int) -> None:
    interrupted(tmp_path, "validation_step", epoch)
    assert same(train(tmp_path), whole)


def test_killed_again_and_again(whole: Trained, tmp_path: Path) -> None:
    for step in (5, 5, 4, 6):  # each from where the one before was saved
        interrupted(tmp_path, "training_step", step)
    assert same(train(tmp_path), whole)


@pytest.mark.parametrize(
    "overrides",
    [
        ("data.num_workers=1",),
        ("trainer.accumulate_grad_batches=2", "data.sampler=balanced", "optimizer=adamw"),
        ("loss=bpmll", "training.frozen_epochs=2"),
        ("training.ema=0.9", "training.channels_last=true"),
        (
            "transform.augment=[trivial,erasing]",
            "training.mixup=0.4",
            "training.cutmix=1",
            "data.num_workers=1",
        ),
        ("loss=bce", "training.label_smoothing=0.1", "training.layer_decay=0.7"),
        ("training.decay_all=false", "optimizer=adamw", "transform.test_flip=true"),
        ("training.patience=1",),
    ],
    ids=["a worker", "accumulated", "frozen", "averaged", "mixed", "smoothed", "grouped", "patient"],
)
def test_whatever_is_trained_it_continues_with_the_same_numbers(
    tmp_path: Path, overrides: tuple[str, ...]
) -> None:
    whole = train(tmp_path / "whole", *overrides, saving=Saving())
    for step in (3, 10):
        output = tmp_path / str(step)
        interrupted(output, "training_step", step, *overrides, saving=Saving(every_n_steps=1))
        assert same(train(output, *overrides), whole)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, TERMINATED), (signal.SIGINT, 130)])
def test_a_training_that_is_to_end_saves_first(
    whole: Trained, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    before = [signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)]
    for hook, call in (("training_step", 9), ("validation_step", 1), ("training_step", 1)):
        with pytest.MonkeyPatch.context() as patch:
            kill_at(patch, hook, call, lambda module: signal.raise_signal(number))
            with pytest.raises(SystemExit) as ended:
                train(tmp_path, saving=Saving())
        assert ended.value.code == code in (130, 143)
        assert [signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)] == before
    saved = [int(file.stem.split("-")[1]) for file in tmp_path.rglob("state-*.ckpt")]
    assert sorted(saved) == [12, 13]
    assert same(train(tmp_path), whole)


def test_a_second_ctrl_c_ends_a_training_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def twice(module: object) -> None:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)  # the same one, handed on by a launcher
        monkeypatch.setattr(resume, "_SAME_SIGNAL", 0.0)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)

    with monkeypatch.context() as patch:
        kill_at(patch, "training_step", 2, twice)
        with pytest.raises(SystemExit) as ended:
            train(tmp_path, saving=Saving())
    assert ended.value.code == 130


def damage(file: Path, how: str) -> None:
    content = file.read_bytes()
    file.unlink()
    if how == "a folder":
        (file / "inside").mkdir(parents=True)
    elif how == "truncated":
        file.write_bytes(content[: len(content) // 2])
    elif how == "flipped":
        file.write_bytes(content[:1000] + bytes([content[1000] ^ 1]) + content[1001:])
    elif how == "empty":
        file.write_bytes(b"")


@pytest.mark.parametrize("how", ["truncated", "flipped", "empty", "missing", "a folder"])
def test_the_older_state_is_used_when_the_newest_is_damaged(
    whole: Trained, tmp_path: Path, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    interrupted(tmp_path, "training_step", 12)
    [newest] = tmp_path.rglob("state-10.ckpt")
    damage(newest, how)
    assert same(train(tmp_path), whole)
    assert "Continuing" in caplog.text
    assert "state-8.ckpt" in caplog.text
    assert ("cannot be continued from" in caplog.text) == (how != "missing")


def test_damaged_weights_of_the_best_epoch_are_not_built_on(
    whole: Trained, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    interrupted(tmp_path, "training_step", 12)
    [best] = tmp_path.rglob("best-1.ckpt")
    damage(best, "flipped")
    assert same(train(tmp_path), whole)
    assert "it starts again" in caplog.text


def test_what_is_finished_leaves_nothing_to_continue_from(whole: Trained, tmp_path: Path) -> None:
    interrupted(tmp_path, "training_step", 8)
    [kept] = tmp_path.rglob("*.kept")
    (kept / ".state-8.ckpt.x7ab").write_text("what a killed writer leaves")
    assert same(train(tmp_path), whole)
    found, rows = train(tmp_path)
    assert all(torch.equal(value, found[key]) for key, value in whole[0].items())
    assert [row["val_map"] for row in rows] == [str(row["val_map"]) for row in whole[1]]
    [folder] = [path for path in tmp_path.glob("store/predictions/*") if path.is_dir()]
    assert {file.name for file in folder.iterdir()} == {"checkpoint.ckpt", "history.csv", "entry.json"}
    assert set(read_checkpoint(folder / "checkpoint.ckpt")["state_dict"]) >= set(whole[0])


@pytest.mark.parametrize("key", ["every_n_steps", "every_minutes"])
def test_saving_must_be_positive_or_never(key: str) -> None:
    with pytest.raises(ValueError, match=rf"checkpoint\.{key}=0: above 0"):
        Saving(**{key: 0})


def test_minutes_save_too(tmp_path: Path) -> None:
    interrupted(tmp_path, "training_step", 3, saving=Saving(every_minutes=1e-9))
    assert {file.name for file in tmp_path.rglob("state-*")} == {"state-1.ckpt", "state-2.ckpt"}


@pytest.mark.parametrize("step", [7, 256, 300])
def test_a_step_draws_as_after_torch_manual_seed_which_it_does_not_call(
    monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    device = SimpleNamespace(root_device=torch.device("cpu"))
    trainer = SimpleNamespace(current_epoch=2, global_rank=1, num_training_batches=301, strategy=device)
    with torch.random.fork_rng(devices=[]):
        with monkeypatch.context() as patch:
            patch.setattr(torch, "manual_seed", None)
            StepSeed(3).on_train_batch_start(trainer, None, None, step)
        drawn = torch.rand(5)
        torch.manual_seed(int(np.random.SeedSequence((3, 2, step, 1)).generate_state(1, np.uint64)[0]))
        assert torch.equal(torch.rand(5), drawn)


def test_no_seeds_are_made_of_steps_that_an_epoch_has_not(monkeypatch: pytest.MonkeyPatch) -> None:
    made, sequence = [], np.random.SeedSequence
    monkeypatch.setattr(np.random, "SeedSequence", lambda words: made.append(words) or sequence(words))
    device = SimpleNamespace(root_device=torch.device("cpu"))
    trainer = SimpleNamespace(current_epoch=0, global_rank=0, num_training_batches=3, strategy=device)
    with torch.random.fork_rng(devices=[]):
        for step in range(3):
            StepSeed(4).on_train_batch_start(trainer, None, None, step)
    assert made == [(4, 0, step, 0) for step in range(3)]
