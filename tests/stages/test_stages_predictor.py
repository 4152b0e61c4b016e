"""Runs of a predictor: what they share, what they leave, what they refuse, and their report."""

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import data_trees
import numpy as np
import pytest
from jobs import compose_here, run_job_here
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from lsep_ml.bundle import read_parts
from lsep_ml.metrics.functional import RANKING_KEYS
from lsep_ml.reports import build_report
from lsep_ml.stages.job import build_job

NETWORK = (
    "data.train=200",
    "data.val=40",
    "data.test=50",
    "data.canvas=24",
    "model.widths=[4,4]",
    "model.num_features=6",
    "training.epochs=1",
    "fitting.epochs=1",
    "trainer=cpu",
)
OPTIONS = {
    "score_layer": (),
    "br": (),
    "chain_ensemble": ("predictor.chains=2",),
    "powerset": ("predictor.estimator.max_iter=50",),
    "mlknn": (),
    "cnn_rnn": ("predictor.hidden=8", "predictor.epochs=2"),
}
# Two hundred scenes have too many label sets, and little training, for a multinomial regression to be content.
pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.filterwarnings("ignore:The number of unique classes:UserWarning"),
]
Finished = tuple[dict[str, Any], Path]


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("predictors")


@pytest.fixture(scope="module")
def runs(output: Path) -> dict[str, Finished]:
    """One run a predictor, each with its own default decision."""
    return {name: run_job_here(output, *NETWORK, f"predictor={name}", *OPTIONS[name]) for name in OPTIONS}


def arrays(folder: Path) -> dict[str, np.ndarray]:
    with np.load(folder / "predictions.npz", allow_pickle=False) as file:
        return dict(file)


def test_all_share_one_network_and_one_extraction(runs: dict[str, Finished]) -> None:
    records = [record for record, _ in runs.values()]
    assert len({record["identity"] for record in records}) == 1
    assert len({record["stored"]["features"] for record in records}) == 1
    assert len({record["stored"]["scores"] for record in records}) == len(OPTIONS)
    assert [record["reused"]["prediction"] for record in records] == [False] + [True] * 5
    for name, (record, folder) in runs.items():
        assert record["predictor"] == name
        assert record["decision"] == ("thresh_est" if name == "score_layer" else "none")
        assert folder.name.startswith("small_cnn-lsep-" + ("thresh_est" if name == "score_layer" else name))


def test_label_sets_pass_through(runs: dict[str, Finished], output: Path) -> None:
    for name, (record, folder) in runs.items():
        if name == "score_layer":
            continue
        found = arrays(folder)
        stored = output / "store" / "scores" / record["stored"]["scores"]
        np.testing.assert_array_equal(found["predictions"], np.load(stored / "test_label_sets.npy"))
        scored = name != "cnn_rnn"
        assert ("scores" in found) == scored
        for metrics in (*record["metrics"].values(), record["intervals"]["test"]):
            assert {"f1", "exact_match", "labels_per_image"} <= set(metrics)
            assert any(key in metrics for key in RANKING_KEYS) == scored
        assert (folder / "precision_recall.png").exists() == scored
        assert (folder / "class_f1.png").exists()
        assert not (folder / "decision.json").exists()
        if scored and name != "powerset":
            np.testing.assert_array_equal(found["predictions"], found["scores"] > 0)


def test_training_in_epochs_is_in_the_history(runs: dict[str, Finished]) -> None:
    for name, (_, folder) in runs.items():
        with (folder / "history.csv").open() as file:
            rows = [row for row in csv.DictReader(file) if row["stage"] == "predictor"]
        assert [row["epoch"] for row in rows] == (["1", "2"] if name == "cnn_rnn" else [])


def test_a_predictor_is_fitted_once(runs: dict[str, Finished], output: Path) -> None:
    first, folder = runs["cnn_rnn"]
    history = (folder / "history.csv").read_text()
    again, same = run_job_here(output, *NETWORK, "predictor=cnn_rnn", *OPTIONS["cnn_rnn"], "force=true")
    assert again["reused"] == {"prediction": True, "extraction": True, "predictor": True}
    assert same == folder
    assert again["metrics"] == first["metrics"]
    assert again["seconds"]["predictor"] == first["seconds"]["predictor"]
    assert (folder / "history.csv").read_text() == history


def test_other_options_are_other_scores(runs: dict[str, Finished], output: Path) -> None:
    other, _ = run_job_here(output, *NETWORK, "predictor=br", "predictor.estimator.C=0.1")
    assert other["stored"]["scores"] != runs["br"][0]["stored"]["scores"]
    assert other["identity"] == runs["br"][0]["identity"]
    assert not other["reused"]["predictor"]


@pytest.mark.parametrize("decision", ["topk", "thresh_est"])
def test_a_decision_on_a_predictor_s_scores(runs: dict[str, Finished], output: Path, decision: str) -> None:
    record, folder = run_job_here(output, *NETWORK, "predictor=br", f"decision={decision}")
    assert record["reused"] == {"prediction": True, "extraction": True, "predictor": True}
    found, features = arrays(folder), output / "store" / "features" / record["stored"]["features"]
    names = ("train_features", "train_targets", "test_features")
    train, targets, test = (np.load(features / f"{name}.npy") for name in names)
    scaler = StandardScaler().fit(train.astype(np.float64))
    label = int(targets.sum(0).argmax())
    by_hand = LogisticRegression(C=1.0, max_iter=1000).fit(scaler.transform(train), targets[:, label])
    np.testing.assert_allclose(
        found["scores"][:, label], by_hand.decision_function(scaler.transform(test)), rtol=1e-4, atol=1e-4
    )
    if decision == "topk":
        assert (found["predictions"].sum(1) == record["choices"]["k"]).all()
    else:
        np.testing.assert_array_equal(found["predictions"], found["scores"] > found["thresholds"])
    assert (folder / "decision.json").exists()


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ("predictor=cnn_rnn", "decision=topk"),
            "decision=topk: predictor=cnn_rnn emits label sets and no scores",
        ),
        (("decision=none",), "decision=none: predictor=score_layer gives scores and no label sets"),
        (("predictor=br", "training=joint"), "training=joint trains a decision on the network's own scores"),
        (("predictor=cnn_rnn", "predictor.beam=0"), "beam=0: expected a whole number at least 1"),
    ],
)
def test_what_does_not_go_together_is_refused_before_training(
    tmp_path: Path, overrides: tuple[str, ...], message: str
) -> None:
    with pytest.raises(Exception, match=message):
        run_job_here(tmp_path, *NETWORK, *overrides)
    assert not list(tmp_path.glob("store/*/*"))


def test_unknown_entries(tmp_path: Path) -> None:
    data_trees.write_csv(tmp_path / "csv", columns=True)
    place = (f"data.root={tmp_path / 'csv'}", f"paths.data={tmp_path}")
    data = ("data=csv", *place, "data.num_workers=0", "transform.resize=[24,24]")
    network = [option for option in NETWORK if not option.startswith("data.")]
    for name in ("chain", "powerset", "mlknn", "cnn_rnn"):
        config, _ = compose_here(tmp_path, *network, *data, f"predictor={name}")
        with pytest.raises(ValueError, match="entries of the training targets are unknown"):
            build_job(config)
    zero, _ = compose_here(tmp_path, *network, *data, "predictor=br", "decision=zero")
    assert build_job(zero).decision is not None  # whose scores have a zero, whatever the loss
    record, folder = run_job_here(tmp_path, *network, *data, "predictor=br")
    found = arrays(folder)
    assert 0 < found["mask"].mean() < 1
    assert record["metrics"]["test"]["f1"] >= 0


def test_a_diverging_predictor_leaves_nothing(output: Path, runs: dict[str, Finished]) -> None:
    before = set((output / "store" / "scores").glob("*/entry.json"))
    options = ("predictor=cnn_rnn", "predictor.optimizer.lr=1e30", "predictor.hidden=8")
    with pytest.raises(FloatingPointError, match=r"lower predictor\.optimizer\.lr"):
        run_job_here(output, *NETWORK, *options)
    assert set((output / "store" / "scores").glob("*/entry.json")) == before


def test_a_bundle_of_a_predictor_is_refused_with_the_way_out(runs: dict[str, Finished]) -> None:
    for name in ("br", "cnn_rnn"):
        with pytest.raises(ValueError, match=f"a run of predictor={name}, .*predictor=score_layer"):
            read_parts(runs[name][1])


def test_the_report_shows_every_row(runs: dict[str, Finished], tmp_path: Path) -> None:
    folders = {name: folder for name, (_, folder) in runs.items()}
    for name, folder in folders.items():
        shutil.copytree(folder, tmp_path / name)
    report = build_report(tmp_path, tmp_path / "report", replicates=100)
    assert report.problems == []
    assert len({run.scores for run in report.runs}) == len(OPTIONS)
    [table] = [table for table in report.tables if table.slug.startswith("table1")]
    found = {row.label: row for row in table.rows if row.row is not None}
    assert list(found) == [
        "Wang et al. (CNN-RNN)",
        "LSEP (threshold est.)",
        "Binary relevance",
        "Ensemble of chains",
        "Label powerset",
        "ML-kNN",
    ]
    record = json.loads((folders["cnn_rnn"] / "result.json").read_text())
    assert found["Wang et al. (CNN-RNN)"].cells["f1"].mean == pytest.approx(
        100 * record["metrics"]["test"]["f1"]
    )
    [two] = [table for table in report.tables if table.slug.startswith("table2")]
    assert [row.label for row in two.rows if row.row is not None] == ["threshold est."]
