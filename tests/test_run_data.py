"""run.py on every real layout, from files to result.json, on small trees that the tests write."""

import csv
import json
import sys
from collections.abc import Callable
from pathlib import Path

import data_trees
import numpy as np
import pytest
from jobs import run_job_here
from typer.testing import CliRunner

from lsep_ml import cli
from lsep_ml.data.images import opened

SMALL = (
    "model=small_cnn",
    "model.widths=[4,4]",
    "model.num_features=6",
    "transform.resize=[24,24]",
    "training.epochs=1",
    "fitting.epochs=1",
    "trainer=cpu",
    "data.num_workers=0",
)


def run(tmp_path: Path, *overrides: str) -> dict:
    record, folder = run_job_here(tmp_path / "outputs", f"paths.data={tmp_path / 'data'}", *overrides)
    written = json.loads((folder / "result.json").read_text())
    assert written.pop("checksum")
    assert written == record
    arrays = np.load(folder / "predictions.npz", allow_pickle=False)
    assert arrays["targets"].shape == (record["counts"]["images"]["test"], len(record["label_names"]))
    assert list(arrays["label_names"]) == record["label_names"]
    for label, name in enumerate(record["label_names"]):
        assert arrays["targets"][:, label].sum() == record["counts"]["positives"]["test"][name]
    return record | {"mask": arrays["mask"]}


@pytest.mark.parametrize(
    ("data", "write", "labels", "test"),
    [
        ("voc2007", data_trees.write_voc, 20, 22),
        ("coco", data_trees.write_coco, 8, 17),
        ("nuswide", data_trees.write_nuswide, 81, None),
        ("csv", data_trees.write_csv, None, None),
        ("coco_json", data_trees.write_coco_json, None, None),
    ],
)
def test_a_tree_becomes_a_record(
    tmp_path: Path, data: str, write: Callable[..., Path], labels: int | None, test: int | None
) -> None:
    write(tmp_path / "data" / data)
    extra = ["data.split=official"] if data == "nuswide" else []
    record = run(tmp_path, f"data={data}", *SMALL, *extra)
    assert labels in (None, len(record["label_names"]))
    assert test in (None, record["counts"]["images"]["test"])
    assert record["model"] == "small_cnn"
    assert record["mask"].all()


@pytest.mark.parametrize("loss", ["lsep", "softmax", "ranking"])
def test_unknown_entries_reach_the_record(tmp_path: Path, loss: str) -> None:
    data_trees.write_csv(tmp_path / "data" / "csv", columns=True)
    record = run(tmp_path, "data=csv", f"loss={loss}", *SMALL)
    assert 0 < record["mask"].mean() < 1


def test_voc_ignore_becomes_a_mask(tmp_path: Path) -> None:
    data_trees.write_voc(tmp_path / "data" / "voc2007", inside="VOC2007")
    record = run(tmp_path, "data=voc2007", "data.difficult=ignore", "decision=threshold", *SMALL)
    assert 0 < record["mask"].mean() < 1


def test_balanced_sampling_is_another_identity(tmp_path: Path) -> None:
    data_trees.write_csv(tmp_path / "data" / "csv")
    identities = set()
    for sampler in ("plain", "balanced"):
        overrides = (
            "data=csv",
            f"data.sampler={sampler}",
            "decision=topk",
            *SMALL,
            f"paths.data={tmp_path / 'data'}",
        )
        (tmp_path / sampler).mkdir()
        identities.add(run(tmp_path / sampler, *overrides)["identity"])
    assert len(identities) == 2


def test_other_images_under_the_same_names_are_other_data(tmp_path: Path) -> None:
    root = data_trees.write_csv(tmp_path / "data" / "csv")
    first = run(tmp_path, "data=csv", "decision=topk", *SMALL)
    assert run(tmp_path, "data=csv", "decision=threshold", *SMALL)["reused"]["prediction"]
    data_trees.write_image(root / "photos" / "000.jpg", seed=1)
    again = run(tmp_path, "data=csv", "decision=topk", *SMALL)
    assert not again["reused"]["prediction"]
    assert again["identity"] != first["identity"]
    assert again["split_hash"] == first["split_hash"]


def test_results_of_another_data_set_are_not_overwritten(tmp_path: Path) -> None:
    data_trees.write_csv(tmp_path / "data" / "flowers")
    data_trees.write_csv(tmp_path / "data" / "birds", images=70)
    options = ("data=csv", "decision=topk", *SMALL)
    first = run(tmp_path, *options, f"data.root={tmp_path / 'data' / 'flowers'}")
    birds = (*options, f"data.root={tmp_path / 'data' / 'birds'}")
    with pytest.raises(ValueError, match=r"holds results of other data .*names\.data=NAME.*force=true"):
        run(tmp_path, *birds)
    assert (
        run(tmp_path, *options, f"data.root={tmp_path / 'data' / 'flowers'}")["finished"] == first["finished"]
    )
    assert run(tmp_path, *birds, "names.data=birds")["data"] == "birds"
    assert run(tmp_path, *birds, "force=true")["split_hash"] != first["split_hash"]


def test_labels_per_image_are_of_images_with_a_known_entry(tmp_path: Path) -> None:
    root = data_trees.write_csv(tmp_path / "data" / "csv", columns=True)
    with (root / "labels.csv").open() as file:
        header, *rows = csv.reader(file)
    part = header.index("split")
    unknown = [row for row in rows if row[part] == "test"][:6]
    for row in unknown:
        row[1:part] = [""] * (part - 1)
    with (root / "labels.csv").open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    options = ("data=csv", "data.unlabelled=keep", "decision=topk", "decision.min_k=2", "decision.max_k=2")
    record = run(tmp_path, *options, *SMALL)
    low, high = record["intervals"]["test"]["labels_per_image"]
    assert (record["mask"].sum(1) == 0).sum() >= 6
    assert low <= record["metrics"]["test"]["labels_per_image"] <= high


@pytest.mark.parametrize("first", ["check", "run"])
def test_check_and_run_open_each_image_once_between_them(
    tmp_path: Path, first: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    names: list[str] = []
    real = opened._open_one
    monkeypatch.setattr(opened, "_open_one", lambda path: names.append(path.name) or real(path))
    monkeypatch.setenv("LSEP_ML_DATA", str(tmp_path / "data"))
    root = data_trees.write_csv(tmp_path / "elsewhere" / "mine", images=40)

    def check() -> None:
        done = CliRunner().invoke(cli.app, ["check", "csv", "--root", str(root)])
        assert done.exit_code == 0, done.output

    def train() -> None:
        run_job_here(tmp_path / "outputs", "data=csv", f"data.root={root}", "decision=topk", *SMALL)

    for step in (check, train) if first == "check" else (train, check):
        step()
        assert len(names) == len(set(names)) == 40
    assert [path.name for path in root.parent.iterdir()] == ["mine"]
    assert {path.name for path in root.iterdir()} == {"labels.csv", "photos"}
    assert (tmp_path / "data" / ".cache").is_dir()


def test_check_and_prepare_answer_on_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LSEP_ML_DATA", str(tmp_path))
    data_trees.write_voc(tmp_path / "voc2007")
    check = ["check", "voc2007", "--root", str(tmp_path / "voc2007")]
    done = CliRunner().invoke(cli.app, check)
    assert done.exit_code == 0, done.output
    assert "not the paper's protocol" in " ".join(done.output.split())
    [image, *_] = sorted((tmp_path / "voc2007").rglob("*.jpg"))
    image.write_bytes(image.read_bytes()[:100])
    done = CliRunner().invoke(cli.app, check)
    assert done.exit_code == 3
    assert image.name in done.output
    absent = ["prepare", "voc2007", "--from", str(tmp_path / "absent"), "--root", str(tmp_path / "new")]
    monkeypatch.setattr(sys, "argv", ["lsep_ml", *absent])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    assert stopped.value.code == 1
    said = capsys.readouterr().err
    assert "absent" in said
    assert "Traceback" not in said
