"""Targets between 0 and 1: which files give them, that the loss alone takes them, and what refuses them."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from data_trees import write_image
from jobs import compose_here, run_job_here
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from lsep_ml.data import DataError, DataSet
from lsep_ml.data.check.verdict import check
from lsep_ml.data.data_set import Split
from lsep_ml.data.known import without_unread
from lsep_ml.data.loading import BatchedSplit
from lsep_ml.data.mixing import Mix
from lsep_ml.data.order import BatchKey
from lsep_ml.data.sources.csv_labels import csv_annotations, read_csv
from lsep_ml.data.sources.features import read_features
from lsep_ml.data.withheld import Withheld
from lsep_ml.metrics import indicator
from lsep_ml.stages.job import build_job
from lsep_ml.store.sections import config_sections

N, K = 48, 3
PARTS = np.array(["train", "train", "val", "test"] * (N // 4))
TRAIN = PARTS == "train"
SOFT = np.random.default_rng(2).random((N, K)).round(3)
SOFT[:, 0] = SOFT[:, 0] > 0.6  # one label that is sure everywhere
SOFT[~TRAIN] = SOFT[~TRAIN] > 0.5
SOFT[4, 1] = 0.5
UNKNOWN = [(0, 1), (2, 2)]


def with_unknown(values: np.ndarray) -> np.ndarray:
    found = values.astype(float)
    for place in UNKNOWN:
        found[place] = np.nan
    return found


def csv_tree(root: Path, values: np.ndarray, *, images: bool = True) -> Path:
    root.mkdir(exist_ok=True, parents=True)
    lines = ["image,cat,dog,owl,split"]
    for row, part in enumerate(PARTS):
        if images:
            write_image(root / f"{row:02d}.png", seed=row)
        cells = ["" if np.isnan(value) else f"{value:g}" for value in values[row]]
        lines.append(",".join([f"{row:02d}.png", *cells, part]))
    (root / "labels.csv").write_text("\n".join(lines) + "\n")
    return root


def npz(root: Path, values: np.ndarray, **more: Any) -> Path:
    features = np.random.default_rng(0).normal(size=(N, 5)).astype(np.float32)
    features[:, :K] += SOFT
    np.savez(
        root / "f.npz",
        features=features,
        targets=values,
        split=PARTS,
        label_names=["cat", "dog", "owl"],
        **more,
    )
    return root


def expect_soft(data_set: DataSet, values: np.ndarray) -> None:
    known = ~np.isnan(values)
    expected = np.where(known, values, 0).astype(np.float32)
    assert data_set.train.soft is not None
    assert data_set.train.soft.dtype == np.float32
    np.testing.assert_array_equal(data_set.train.soft, expected[TRAIN])
    for name in ("train", "val", "test"):
        split = data_set.split(name)
        np.testing.assert_array_equal(split.targets, expected[name == PARTS] >= 0.5)
        assert split.mask is not None
        np.testing.assert_array_equal(split.mask, known[name == PARTS])
        assert name == "train" or split.soft is None


def test_a_table_and_an_array_give_them(tmp_path: Path) -> None:
    values = with_unknown(SOFT)
    of_table = read_csv(csv_tree(tmp_path / "csv", values), soft_targets=True, cache=tmp_path / "kept")
    expect_soft(of_table, values)
    again = read_csv(
        tmp_path / "csv", soft_targets=True, cache=tmp_path / "kept"
    )  # from the index that is kept
    expect_soft(again, values)
    assert again.split_hash == of_table.split_hash
    expect_soft(read_features(npz(tmp_path, values), soft_targets=True), values)
    other = values.copy()
    other[1, 1] = 0.123
    assert read_csv(csv_tree(tmp_path / "csv", other), soft_targets=True).split_hash != of_table.split_hash
    mask = np.ones((N, K), bool)
    mask[3] = False
    masked = read_features(npz(tmp_path, values, mask=mask), soft_targets=True).train
    assert masked.soft is not None
    assert masked.soft[~masked.mask].max() == 0


def test_targets_of_0_and_1_are_none(tmp_path: Path) -> None:
    hard = with_unknown(SOFT > 0.5)
    plain, allowed = (read_csv(csv_tree(tmp_path, hard), soft_targets=soft) for soft in (False, True))
    assert plain.train.soft is allowed.train.soft is None
    assert plain.split_hash == allowed.split_hash


@pytest.mark.parametrize("source", ["csv", "npz"])
@pytest.mark.parametrize(
    ("change", "soft", "message"),
    [
        ({}, False, "data.soft_targets=true"),
        ({(5, 1): 1.5}, True, "1.5.*a number from 0 to 1"),
        ({(5, 1): -0.5}, True, "-0.5.*a number from 0 to 1"),
        ({(2, 1): 0.25}, True, "val split: the target of 'dog' for .* is 0.25; .*only training images may"),
        ({(3, 2): 0.75}, True, "test split: the target of 'owl' for .* is 0.75; .*only training images may"),
    ],
)
def test_what_is_refused(
    tmp_path: Path, source: str, change: dict[tuple[int, int], float], soft: bool, message: str
) -> None:
    values = SOFT.copy()
    for place, value in change.items():
        values[place] = value
    root = csv_tree(tmp_path, values) if source == "csv" else npz(tmp_path, values)
    with pytest.raises(DataError, match=message):
        (read_csv if source == "csv" else read_features)(root, soft_targets=soft)
    if source == "csv":
        assert check("csv", root, soft_targets=soft).verdict.startswith("broken")
        assert "broken" not in check("csv", csv_tree(tmp_path, SOFT), soft_targets=True).verdict


def test_what_has_no_place_for_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "labels.csv").write_text("image,labels\na.png,cat\n")
    with pytest.raises(DataError, match="the labels are listed in cells; give a column a label"):
        csv_annotations(tmp_path, soft_targets=True)
    np.save(tmp_path / "features.npy", np.zeros((1, 2), np.float32))
    with pytest.raises(DataError, match="the labels are in a table; give an array targets"):
        read_features(tmp_path, soft_targets=True)
    monkeypatch.setattr(indicator, "LARGE", 0)
    with pytest.raises(DataError, match="48 x 3 targets; soft ones are held dense"):
        csv_annotations(csv_tree(tmp_path / "csv", SOFT, images=False), soft_targets=True)


def split_of(rows: int = 6) -> Split:
    soft = SOFT[TRAIN][:rows].astype(np.float32)
    ids = np.array([f"{row}" for row in range(rows)])
    return Split(
        torch.arange(rows * 2.0).reshape(rows, 2), (soft >= 0.5).astype(np.uint8), None, ids, soft=soft
    )


def data_set_of(train: Split) -> DataSet:
    hard = replace(split_of(), soft=None)
    others = (replace(hard, image_ids=np.array(list(letters))) for letters in ("abcdef", "uvwxyz"))
    return DataSet("drawn", ("a", "b", "c"), train, *others)


def test_a_split_that_contradicts_itself_is_refused() -> None:
    good = split_of()
    whole, soft = data_set_of(good), good.soft
    assert soft is not None
    for wrong in (1 - soft, soft * 3, soft * np.float32(np.nan), soft[:, :2], soft.astype(float)):
        with pytest.raises(DataError, match="soft targets"):
            data_set_of(replace(good, soft=wrong))
    for name in ("val", "test"):
        with pytest.raises(DataError, match="soft targets of validation or test"):
            replace(whole, **{name: replace(whole.split(name), soft=soft)})


def test_batches_and_what_is_mixed_into_them() -> None:
    split = split_of()
    soft = torch.from_numpy(split.soft)
    batch = BatchedSplit(split, None)[BatchKey(0, np.array([3, 1]))]
    assert torch.equal(batch.soft, soft[[3, 1]])
    assert torch.equal(batch.targets, (soft[[3, 1]] >= 0.5).byte())
    hard = BatchedSplit(replace(split, soft=None), None)[BatchKey(0, np.array([3, 1]))]
    assert hard.soft is None
    images = replace(split, images=torch.zeros(6, 1, 4, 4, dtype=torch.uint8))
    key = BatchKey(None, np.array([3, 1]), mix=Mix(np.array([0, 2]), 0.25))
    mixed = BatchedSplit(images, lambda given, *_: given)[key]  # type: ignore[arg-type]
    assert torch.equal(mixed.soft, soft[[3, 1]])
    assert mixed.others is not None
    assert torch.equal(mixed.others.soft, soft[[0, 2]])


def test_what_is_withheld_and_what_cannot_be_read_is_0() -> None:
    whole = data_set_of(split_of())
    for dropped_as in ("unknown", "negative"):
        left = Withheld(0.5, dropped_as).of(whole, 3).train  # type: ignore[arg-type]
        assert left.soft is not None
        hidden = left.soft == 0
        np.testing.assert_array_equal(left.soft[~hidden], whole.train.soft[~hidden])
        assert hidden.sum() > (whole.train.soft == 0).sum()
        assert (left.mask is None) == (dropped_as == "negative")
    rows = Withheld(long_tail=0.3).of(whole, 1).train
    places = rows.image_ids.astype(int)
    np.testing.assert_array_equal(rows.soft, whole.train.soft[places])
    unread = without_unread(whole, {"2"}).train
    assert unread.soft is not None
    assert not unread.soft[2].any()
    np.testing.assert_array_equal(unread.soft[3:], whole.train.soft[3:])


def test_a_loss_without_a_meaning_for_them_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    nowhere = ("data=csv", f"data.root={tmp_path / 'nowhere'}", "data.soft_targets=true")
    for loss in ("lsep", "asl", "two_way"):
        with pytest.raises(
            ValueError, match=f"data.soft_targets=true: loss={loss} .*take loss=bce, softmax or zlpr"
        ):
            build_job(compose_here(tmp_path, *nowhere, f"loss={loss}")[0])
    config = compose_here(tmp_path, *nowhere[:2])[0]
    assert "soft_targets" in config.data
    assert "soft_targets" not in config_sections(config, ("data",))["data"]  # identities are as they were


def soft_bce(scores: Tensor, targets: Tensor, mask: Tensor) -> Tensor:
    losses = binary_cross_entropy_with_logits(scores.double(), targets.double(), reduction="none")
    return (losses * mask).sum(1).mean()


def soft_softmax(scores: Tensor, targets: Tensor, mask: Tensor) -> Tensor:
    log_shares = scores.double().masked_fill(~mask, -torch.inf).log_softmax(1)
    return -(targets * log_shares.masked_fill(~mask, 0)).sum(1).mean()


def soft_zlpr(scores: Tensor, targets: Tensor, mask: Tensor) -> Tensor:
    f = scores.double()
    negative, positive = (
        (weight * mask * of.exp()).sum(1) for weight, of in ((1 - targets, f), (targets, -f))
    )
    return ((1 + negative).log() + (1 + positive).log()).mean()


@pytest.mark.parametrize(
    ("loss", "formula"), [("bce", soft_bce), ("softmax", soft_softmax), ("zlpr", soft_zlpr)]
)
def test_a_probe_is_solved_for_them(tmp_path: Path, loss: str, formula: Callable[..., Tensor]) -> None:
    """The bias is free, so the loss of soft targets has no slope in it; that of the label sets has."""
    values = with_unknown(SOFT)
    options = (
        "data=features",
        f"data.root={npz(tmp_path, values)}",
        "data.soft_targets=true",
        f"loss={loss}",
    )
    record, folder = run_job_here(
        tmp_path / "out",
        *options,
        "decision=threshold",
        "training.weight_decay=0.01",
        "training.tolerance=1e-6",
    )
    state = torch.load(folder / "checkpoint.ckpt", weights_only=True)["state_dict"]
    weight, bias = (state[f"network.score_layer.{part}"] for part in ("weight", "bias"))
    with np.load(tmp_path / "f.npz") as file:
        features = torch.from_numpy(file["features"][TRAIN])
    known = torch.from_numpy(~np.isnan(values[TRAIN]))
    soft = torch.from_numpy(np.nan_to_num(values[TRAIN])) * known
    slopes = []
    for targets in (soft, (soft >= 0.5).double()):
        level = bias.double().requires_grad_()
        slopes += torch.autograd.grad(
            formula(features.double() @ weight.double().T + level, targets, known), level
        )
    assert slopes[0].abs().max() < 1e-5
    assert slopes[1].abs().max() > 1e-3
    of_labels = record["counts"]["positives"]["train"]
    assert list(of_labels.values()) == (soft >= 0.5).sum(0).tolist()
    assert json.loads((folder / "result.json").read_text())["config"]["data"]["soft_targets"] is True


def test_a_network_is_trained_with_them(tmp_path: Path) -> None:
    """Blended images too: each with its own soft targets, by their shares."""
    values = with_unknown(SOFT)
    options = (
        "data=csv", f"data.root={csv_tree(tmp_path / 'in', values)}", "data.soft_targets=true", "loss=bce",
        "model.widths=[4,4]", "model.num_features=6", "training=finetune", "training.epochs=1", "training.mixup=1.0",
        "transform.resize=[24,24]", "transform.crop=20", "decision=per_class", "trainer=cpu", "pictures=false",
        "data.num_workers=0", "training.batch_size=8",
    )  # fmt: skip
    job = build_job(compose_here(tmp_path / "out", *options)[0])
    module = job.training.module
    known = torch.from_numpy(~np.isnan(values[TRAIN]))
    soft = torch.from_numpy(np.nan_to_num(values[TRAIN])).float()
    order = list(job.data.train_dataloader().sampler)
    for key, batch in zip(order, job.data.train_dataloader(), strict=True):
        with torch.no_grad():
            scores = module(batch.images).scores
            own = soft_bce(scores, soft[key.rows], known[key.rows])
            other = soft_bce(scores, soft[key.mix.partners], known[key.mix.partners])
            loss = module.training_step(batch, 0)
        share = batch.others.share
        assert float(loss) == pytest.approx(float(share * own + (1 - share) * other), rel=1e-5)
    record, _ = run_job_here(tmp_path / "out", *options)
    assert 0 <= record["metrics"]["test"]["f1"] <= 1
