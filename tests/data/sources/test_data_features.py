"""Features in the place of images: every file they come in, what is refused, and a run on them."""

import csv

import numpy as np
import polars as pl
import pytest
from hydra.errors import InstantiationException
from jobs import run_job_here
from typer.testing import CliRunner

from lsep_ml.cli import app
from lsep_ml.data import DataError
from lsep_ml.data.sources.features import read_features

N, D = 60, 5
NAMES = ("cat", "dog", "sofa")
FEATURES = np.random.default_rng(0).normal(size=(N, D)).astype(np.float32)
TARGETS = (FEATURES[:, :3] + np.random.default_rng(1).normal(size=(N, 3)) > 0).astype(np.uint8)
PARTS = np.array(["train", "train", "val", "test"] * (N // 4))
IDS = [f"text {row}" for row in range(N)]


def rows_of(data_set, features=FEATURES):
    """Row of FEATURES -> its targets, over all splits."""
    found = {}
    for name in ("train", "val", "test"):
        split = data_set.split(name)
        for values, targets in zip(split.images.numpy(), split.targets, strict=True):
            found[int(np.flatnonzero((np.abs(features - values) < 1e-4).all(axis=1))[0])] = targets.tolist()
    return found


EXPECTED = {row: TARGETS[row].tolist() for row in range(N)}


def table(root, name="labels.csv", ids=IDS, header="id", order=range(N)):
    with (root / name).open("w", newline="") as file:
        rows = [[ids[r], *TARGETS[r], PARTS[r]] for r in order]
        csv.writer(file).writerows([[header, *NAMES, "split"], *rows])


def sparse(path, rows, first=None, base=1):
    lines = [] if first is None else [first]
    for r in rows:
        labels = ",".join(str(k) for k in np.flatnonzero(TARGETS[r]))
        lines.append(" ".join([labels, *(f"{i + base}:{v:.6f}" for i, v in enumerate(FEATURES[r]))]))
    path.write_text("\n".join(lines) + "\n")


def frame(root, ids=True):
    columns = {f"feature_{d}": FEATURES[:, d] for d in range(D)}
    labels = ["|".join(n for n, t in zip(NAMES, row, strict=True) if t) for row in TARGETS]
    return pl.DataFrame({**({"id": IDS} if ids else {}), **columns, "labels": labels, "split": PARTS})


WRITERS = {
    "npz": lambda root: np.savez(
        root / "features.npz", features=FEATURES, targets=TARGETS, label_names=NAMES, split=PARTS
    ),
    "npz of splits": lambda root: np.savez(
        root / "x.npz",
        label_names=NAMES,
        **{f"{p}_features": FEATURES[p == PARTS] for p in ("train", "val", "test")},
        **{f"{p}_targets": TARGETS[p == PARTS] for p in ("train", "val", "test")},
    ),
    "npz and a table by id": lambda root: (
        np.savez(root / "f.npz", X=FEATURES, ids=IDS),
        table(root, order=range(N - 1, -1, -1)),
    ),
    "npy and a table by row": lambda root: (np.save(root / "features.npy", FEATURES), table(root)),
    "Parquet": lambda root: frame(root).write_parquet(root / "f.parquet"),
    "Parquet by row": lambda root: frame(root, ids=False).write_parquet(root / "f.parquet"),
    "lists in Parquet": lambda root: pl.DataFrame(
        {
            "id": IDS,
            "embedding": FEATURES.tolist(),
            **{n: TARGETS[:, k] for k, n in enumerate(NAMES)},
            "split": PARTS,
        }
    ).write_parquet(root / "f.parquet"),
    "CSV": lambda root: frame(root).write_csv(root / "f.csv"),
}


@pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS)
def test_files(tmp_path, write):
    write(tmp_path)
    data_set = read_features(tmp_path)
    assert data_set.label_names == NAMES
    assert data_set.feature_width == D
    assert rows_of(data_set) == EXPECTED
    assert {name: len(data_set.split(name)) for name in ("train", "val", "test")} == {
        "train": 30,
        "val": 15,
        "test": 15,
    }
    assert len(data_set.images_hash) == 64


def test_sparse_text_of_both_kinds(tmp_path):
    for kind, first, base in (("xc", f"{{}} {D} 3", 0), ("svm", None, 1)):
        root = tmp_path / kind
        root.mkdir()
        for name, rows in (("train", range(40)), ("test", range(40, N))):
            sparse(root / f"{name}.txt", rows, None if first is None else first.format(len(rows)), base)
        data_set = read_features(root, holdout=0.1)
        assert data_set.label_names == ("0", "1", "2")
        assert rows_of(data_set) == EXPECTED
        assert len(data_set.test) == 20
        assert len(data_set.val) == 4


def test_unknown_entries_are_masked(tmp_path):
    targets = TARGETS.astype(float)
    targets[3, 1], targets[8, 2] = np.nan, -1
    np.savez(tmp_path / "f.npz", features=FEATURES, targets=targets)
    data_set = read_features(tmp_path)
    assert sum(int((~data_set.split(name).mask).sum()) for name in ("train", "val", "test")) == 2


def bad(value):
    features = FEATURES.copy()
    features[7, 2] = value
    return features


REFUSED = {
    "NaN": (
        lambda root: np.savez(root / "f.npz", features=bad(np.nan), targets=TARGETS),
        "f.npz, row 8: feature 2 is nan",
    ),
    "infinity": (
        lambda root: np.savez(root / "f.npz", features=bad(np.inf), targets=TARGETS),
        "row 8: feature 2 is inf",
    ),
    "targets of 2": (
        lambda root: np.savez(root / "f.npz", features=FEATURES, targets=TARGETS * 2),
        "row .*label . is 2; 0, 1",
    ),
    "other rows": (
        lambda root: np.savez(root / "f.npz", features=FEATURES, targets=TARGETS[:5]),
        r"\(5, 3\), not \(60, K\)",
    ),
    "no array": (lambda root: np.savez(root / "f.npz", weights=FEATURES), "no array named features; found weights"),
    "one dimension": (
        lambda root: np.save(root / "f.npy", FEATURES[0]),
        r"float32 \(5,\); features are numbers \(N, D\)",
    ),
    "a width that differs": (
        lambda root: pl.DataFrame(
            {"embedding": [[1.0, 2.0]] * 3 + [[1.0]], "labels": ["a", "b", "a", "b"]}
        ).write_parquet(root / "f.parquet"),
        "row 4: 1 features, and 2 in the first row",
    ),
    "a word": (
        lambda root: (root / "f.csv").write_text("id,f0,f1,labels\na,1,2,x|y\nb,1,two,x\n"),
        "f.csv, line 3: 'two' in column 'f1' is no number",
    ),
    "an index outside": (
        lambda root: (root / "train.txt").write_text("2 3 2\n0 0:1 2:1\n1 0:1 3:1\n"), "line 3: index 3 is outside",
    ),
    "a label outside": (
        lambda root: (root / "a.txt").write_text("2 3 2\n0 0:1\n2 0:1\n"),
        "line 3: label 2 is outside 0 to 1",
    ),
    "cut off": (lambda root: (root / "a.txt").write_text("3 3 2\n0 0:1\n1 0:1\n"), "says 3 rows, and there are 2"),
    "no such text": (
        lambda root: (root / "a.svm").write_text("0 1:1\nx y:z\n"),
        "line 2: 'x y:z' is not `labels index",
    ),
    "too large": (
        lambda root: (root / "a.txt").write_text("3 999999999 2\n0 0:1\n1 0:1\n1 1:1\n"),
        "GiB written out",
    ),
    "rows of the table": (
        lambda root: (np.save(root / "f.npy", FEATURES), table(root, order=range(9))), "9 rows of labels for 60 rows",
    ),
    "an id without features": (
        lambda root: (np.savez(root / "f.npz", features=FEATURES[:55], ids=IDS[:55]), table(root)),
        "5 rows have no features, such as text 55",
    ),
    "ids of others": (
        lambda root: (np.savez(root / "f.npz", features=FEATURES, ids=[f"x{r}" for r in range(N)]), table(root)),
        "no column holds the ids of the features, such as x0; set data.id=NAME",
    ),
    "no labels": (lambda root: np.save(root / "f.npy", FEATURES), "no targets, and no table of labels; set data.table"),
    "objects": (
        lambda root: np.savez(root / "f.npz", features=FEATURES, targets=TARGETS, label_names=np.array(NAMES, object)),
        "f.npz: not a file of arrays: it holds Python objects.*; save arrays of numbers and texts",
    ),
    "other bytes": (
        lambda root: (root / "f.npz").write_bytes(b"PK no"), "f.npz: not a file of arrays: it is damaged, or of another"
    ),
    "nothing": (lambda root: (root / "x.md").write_text(""), "no .npy, .npz, Parquet"),
    "two files": (
        lambda root: (np.save(root / "a.npy", FEATURES), np.save(root / "b.npy", FEATURES)),
        "a.npy, b.npy; set data.file",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("write", "message"), REFUSED.values(), ids=REFUSED)
def test_refused(tmp_path, write, message):
    write(tmp_path)
    with pytest.raises(DataError, match=message):
        read_features(tmp_path)


def test_a_run_on_features(tmp_path):
    np.savez(tmp_path / "f.npz", features=FEATURES, targets=TARGETS, label_names=NAMES, split=PARTS, ids=IDS)
    common = ("data=features", f"data.root={tmp_path}", "training.epochs=2", "fitting.epochs=2")
    record, folder = run_job_here(tmp_path / "out", *common)
    assert record["model"] == "given"
    assert record["config"]["training"]["probe"] is True
    assert record["config"]["model"]["width"] == D
    with np.load(folder / "predictions.npz") as arrays:
        assert arrays["image_ids"].tolist() == [
            name for name, part in zip(IDS, PARTS, strict=True) if part == "test"
        ]
        assert np.array_equal(arrays["targets"], TARGETS[PARTS == "test"])
        stored = np.load(next((tmp_path / "out" / "store" / "features").glob("*/test_features.npy")))
    assert np.array_equal(stored, FEATURES[PARTS == "test"])
    for more in (
        ("loss=bce", "decision=threshold"),
        ("predictor=br",),
        ("training=finetune", "decision=topk"),
    ):
        other, _ = run_job_here(tmp_path / "out", *common, *more)
        assert other["split_hash"] == record["split_hash"]
    with pytest.raises(
        ValueError, match=r"data=features has features in the place of images, which model=small_cnn"
    ):
        run_job_here(tmp_path / "out", *common, "model=small_cnn")
    with pytest.raises(
        InstantiationException, match=r"model.width=None: model=given takes the features of data=features"
    ):
        run_job_here(
            tmp_path / "out", "data=digits", "model=given", "data.train=40", "data.val=8", "data.test=8"
        )
    made = CliRunner().invoke(app, ["bundle", str(folder), "--out", str(tmp_path / "bundle")])
    assert made.exit_code == 0, made.output
    assert "3 labels" in made.output
