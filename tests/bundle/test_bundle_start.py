"""A bundle or a run as the starting point of another training, for other labels too."""

import logging
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from jobs import run_job_here

from lsep_ml.bundle import read_parts, write_bundle
from lsep_ml.bundle.start import starting_point
from lsep_ml.models import SmallCNN

State = dict[str, torch.Tensor]
Train = Callable[..., tuple[State, State]]


@pytest.fixture(scope="module")
def other_tree(photo_tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same photos; apple is now called zest, and so comes last."""
    root = shutil.copytree(photo_tree, tmp_path_factory.mktemp("other") / "csv")
    labels = root / "labels.csv"
    labels.write_text(labels.read_text().replace("apple", "zest"))
    return root


@pytest.fixture
def train(photo_run: Path, other_tree: Path, tmp_path: Path) -> Train:
    """Train from a bundle of `photo_run` on other labels: the states before and after."""
    write_bundle(read_parts(photo_run), tmp_path / "bundle")

    def run(*overrides: str) -> tuple[State, State]:
        data = (
            "data=csv",
            f"data.root={other_tree}",
            f"paths.data={other_tree.parent}",
            "data.num_workers=0",
        )
        model = ("model.widths=[4,4]", "model.num_features=6", f"model.weights={tmp_path / 'bundle'}")
        options = ("transform.resize=[24,24]", "decision=topk", "trainer=cpu", "optimizer.lr=0.05")
        record, folder = run_job_here(tmp_path / "outputs", *data, *model, *options, *overrides)
        assert record["label_names"] == ["bread", "cheese", "dates", "eggs", "zest"]
        return dict(read_parts(photo_run).state), dict(read_parts(folder).state)

    return run


def differ(first: State, second: State, prefix: str) -> set[str]:
    return {name for name in first if name.startswith(prefix) and not torch.equal(first[name], second[name])}


def test_rows_of_the_same_name_and_the_backbone_are_where_it_starts(
    train: Train, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        before, after = train("optimizer.lr=0", "training.frozen_epochs=1", "training.epochs=1")
    assert not differ(before, after, "backbone.")
    for part in ("weight", "bias"):
        rows = before[f"score_layer.{part}"]
        assert torch.equal(after[f"score_layer.{part}"][:4], rows[1:])
        assert not torch.equal(after[f"score_layer.{part}"][4], rows[0])
    assert "the score rows of 4 labels; 1 labels are new: zest" in caplog.text


def test_full_fine_tuning_moves_everything(train: Train) -> None:
    before, after = train("training.epochs=1")
    moved = differ(before, after, "backbone.")
    assert moved == {name for name in before if name.startswith("backbone.")}


def test_a_frozen_backbone_stays_to_the_last_bit(train: Train) -> None:
    before, after = train("training.epochs=2", "training.frozen_epochs=2")
    assert not differ(before, after, "backbone.")
    assert not torch.equal(after["score_layer.weight"][:4], before["score_layer.weight"][1:])


def test_a_staged_backbone_moves_later(train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    from lsep_ml.training.label_prediction import LabelPrediction

    frozen: list[bool] = []
    step = LabelPrediction.training_step

    def seen(self: LabelPrediction, *batch: object) -> torch.Tensor:
        trained = {p.requires_grad for p in self.network.backbone.parameters()} | {
            self.network.backbone.training
        }
        assert len(trained) == 1
        frozen.append(not trained.pop())
        return step(self, *batch)  # type: ignore[arg-type]

    monkeypatch.setattr(LabelPrediction, "training_step", seen)
    train("training.epochs=3", "training.frozen_epochs=1")
    steps = len(frozen) // 3
    assert frozen == [True] * steps + [False] * 2 * steps


def test_another_backbone_is_refused(train: Train) -> None:
    with pytest.raises(
        ValueError, match=r"holds another backbone, lsep_ml.models.SmallCNN with .*'num_features': 6"
    ):
        train("model.num_features=8")


def test_other_normalisation_is_said(train: Train, caplog: pytest.LogCaptureFixture) -> None:
    train("training.epochs=1", "transform.mean=[0.1,0.2,0.3]")
    assert "transform.mean is not what" in caplog.text
    assert "transform.std" not in caplog.text


def test_a_file_with_the_small_networks_own_weights(tmp_path: Path) -> None:
    first = SmallCNN(widths=[4], num_features=3)
    torch.save(first.state_dict(), tmp_path / "weights.pth")
    second = SmallCNN(widths=[4], num_features=3, weights=str(tmp_path / "weights.pth"))
    assert all(torch.equal(tensor, second.state_dict()[name]) for name, tensor in first.state_dict().items())
    with pytest.raises(ValueError, match="the weights of another network"):
        SmallCNN(widths=[5], num_features=3, weights=str(tmp_path / "weights.pth"))


def test_only_a_folder_is_a_starting_point(photo_run: Path, tmp_path: Path) -> None:
    assert starting_point(None) is None
    assert starting_point("imagenet") is None
    assert starting_point(str(tmp_path / "weights.pth")) is None
    assert starting_point(str(photo_run)) is not None
    with pytest.raises(FileNotFoundError, match="neither a bundle"):
        starting_point(str(tmp_path))
