"""The tuner: files in and out, cross-fitting, the choice of the best."""

import io

import numpy as np
import polars as pl
import pytest
from report_runs import write_run
from rich.console import Console

from lsep_ml import decisions, fit_decision
from lsep_ml.decisions import GlobalThreshold, TopK
from lsep_ml.metrics import bootstrap_label_sets, count_label_sets, label_set_metrics
from lsep_ml.runs.record import RecordError, read_record, write_record
from lsep_ml.tuning import ScoreTable, apply, print_tuning, read_scores, tune, write_label_sets

NAMES = ["cat", "dog", "owl"]


def case(rows=90, seed=0, features=False):
    generator = np.random.default_rng(seed)
    targets = generator.random((rows, 3)) < [0.5, 0.3, 0.2]
    scores = (generator.standard_normal((rows, 3)) + 2 * targets).astype(np.float32)
    mask = generator.random((rows, 3)) < 0.9
    arrays = {"scores": scores, "targets": (targets & mask).astype(np.uint8), "mask": mask}
    arrays |= {"label_names": np.array(NAMES), "image_ids": np.array([f"{row}.jpg" for row in range(rows)])}
    if features:
        arrays["features"] = generator.standard_normal((rows, 5)).astype(np.float32)
    return arrays


def written(path, arrays):
    """The same scores as npz, or as a table with a column for each label."""
    if path.suffix == ".npz":
        np.savez(path, **arrays)
        return path
    targets = np.where(arrays["mask"], arrays["targets"].astype(object), None)
    columns = {"image_id": arrays["image_ids"]}
    for label, name in enumerate(NAMES):
        columns[f"score_{name}"] = arrays["scores"][:, label]
        columns[f"target_{name}"] = targets[:, label].tolist()
    for index in range(arrays["features"].shape[1] if "features" in arrays else 0):
        columns[f"feature_{index}"] = arrays["features"][:, index]
    frame = pl.DataFrame(columns, strict=False)
    frame.write_csv(path) if path.suffix == ".csv" else frame.write_parquet(path)
    return path


@pytest.mark.parametrize("suffix", [".npz", ".csv", ".parquet"])
@pytest.mark.parametrize("features", [False, True])
def test_every_format_holds_the_same(suffix, features, tmp_path):
    arrays = case(features=features)
    table = read_scores(written(tmp_path / f"scores{suffix}", arrays))
    for name, array in arrays.items():
        assert np.array_equal(getattr(table, name), array), name
    assert table.scores.dtype == np.float32
    assert (table.features is None) == (not features)


def test_parquet_with_list_columns(tmp_path):
    arrays = case(features=True)
    keys = ("scores", "targets", "features")
    pl.DataFrame({key: arrays[key].tolist() for key in keys}).write_parquet(tmp_path / "lists.parquet")
    table = read_scores(tmp_path / "lists.parquet")
    for key in keys:
        assert np.array_equal(getattr(table, key), arrays[key])
    assert table.mask is None
    assert table.label_names is None


@pytest.mark.parametrize("suffix", [".npz", ".csv", ".parquet"])
def test_a_tuned_decision_is_applied_to_new_scores(suffix, tmp_path):
    tuning = tune(
        written(tmp_path / f"val{suffix}", case()), tmp_path / "best.json", progress=False, replicates=50
    )
    assert [tuned.name for tuned in tuning.tried] == [
        "topk",
        "threshold",
        "threshold_exact",
        "per_class",
        "calibrated",
        "expected_f1",
    ]
    assert tuning.best.metrics["f1"] == max(tuned.metrics["f1"] for tuned in tuning.tried)
    new = case(seed=1)
    predictions, metrics = apply(
        tmp_path / "best.json", written(tmp_path / f"new{suffix}", new), tmp_path / f"out{suffix}"
    )
    assert (predictions == decisions.load(tmp_path / "best.json").predict(new["scores"]).numpy()).all()
    expected = label_set_metrics(count_label_sets(predictions, new["targets"], new["mask"]))
    assert {key: metrics[key] for key in expected} == {key: float(value) for key, value in expected.items()}
    if suffix == ".npz":
        with np.load(tmp_path / "out.npz", allow_pickle=False) as file:
            stored, ids, names = file["predictions"], file["image_ids"], file["label_names"]
            assert np.array_equal(file["mask"], new["mask"])
    else:
        frame = (
            pl.read_csv(tmp_path / "out.csv")
            if suffix == ".csv"
            else pl.read_parquet(tmp_path / "out.parquet")
        )
        columns = [column for column in frame.columns if column.startswith("predicted_")]
        stored, ids = frame[columns].to_numpy(), frame["image_id"].to_numpy()
        names = [column.removeprefix("predicted_") for column in columns]
    assert np.array_equal(stored, predictions)
    assert list(ids) == list(new["image_ids"])
    assert list(names) == NAMES


def test_metrics_are_those_out_of_fold(tmp_path):
    arrays = case()
    source = written(tmp_path / "scores.npz", arrays)
    tuning = tune(source, decisions=["threshold", "topk"], folds=4, seed=3, replicates=40, progress=False)
    scores, targets, mask = (arrays[key] for key in ("scores", "targets", "mask"))
    folds = np.array_split(np.random.default_rng(3).permutation(90), 4)
    for tuned, kind in zip(tuning.tried, (GlobalThreshold, TopK), strict=True):
        held_out = np.zeros_like(mask)
        for fold in folds:
            rest = np.array([row for row in range(90) if row not in set(fold)])
            held_out[fold] = kind().fit(scores[rest], targets[rest], mask[rest]).predict(scores[fold]).numpy()
        expected = label_set_metrics(count_label_sets(held_out, targets, mask))
        assert {key: tuned.metrics[key] for key in expected} == {key: float(v) for key, v in expected.items()}
        assert tuned.intervals == bootstrap_label_sets(held_out, targets, mask, replicates=40, seed=3)
        everything = kind().fit(scores, targets, mask)
        assert tuned.decision.choices() == everything.choices()
        fitted = count_label_sets(everything.predict(scores).numpy(), targets, mask)
        assert tuned.gap == pytest.approx(float(label_set_metrics(fitted)["f1"] - expected["f1"]))


@pytest.mark.parametrize(
    ("options", "formula"),
    [
        ({"criterion": "fbeta", "beta": 2.0}, lambda c, p, a, n: (5 * c / (4 * a + p)).mean()),
        ({"criterion": "cost", "miss_cost": 3.0}, lambda c, p, a, n: ((3 * (a - c) + p - c) / n).mean()),
        ({"criterion": "break_even"}, lambda c, p, a, n: abs(p.sum() - a.sum()) / n.sum()),
    ],
    ids=["fbeta", "cost", "break_even"],
)
def test_what_is_no_metric_of_a_table_is_a_criterion_too(options, formula, tmp_path):
    arrays = case()
    source = written(tmp_path / "scores.npz", arrays)
    tuning = tune(source, decisions=["threshold"], folds=3, replicates=20, progress=False, **options)
    (tuned,), key = tuning.tried, options["criterion"]
    assert tuned.decision.options()["criterion"] == key
    held_out = np.zeros_like(arrays["mask"])
    for fold in np.array_split(np.random.default_rng(0).permutation(90), 3):
        rest = np.setdiff1d(np.arange(90), fold)
        rule = GlobalThreshold(**options).fit(*(arrays[name][rest] for name in ("scores", "targets", "mask")))
        held_out[fold] = rule.predict(arrays["scores"][fold]).numpy()
    known, true = arrays["mask"] != 0, arrays["targets"] != 0
    counts = [(part & known).sum(0) for part in (held_out & true, held_out, true, known)]
    assert tuned.metrics[key] == pytest.approx(formula(*counts))
    assert tuned.intervals[key][0] < tuned.metrics[key] < tuned.intervals[key][1]
    assert tuning.best is tuned
    with (tmp_path / "out.txt").open("w") as page:
        print_tuning(tuning, Console(width=160, file=page))


@pytest.mark.filterwarnings("ignore::lsep_ml.training.fitting.DecisionWarning")  # the features tell nothing
@pytest.mark.parametrize("name", ["thresh_linear", "support", "thresh_est_offset"])
def test_what_goes_by_log_odds_is_tuned_out_of_fold_and_applied(name, tmp_path):
    arrays, new = case(features=True), case(features=True, seed=1)
    how = {"criterion": "exact_match", "folds": 2, "epochs": 2, "replicates": 20, "progress": False}
    tuning = tune(written(tmp_path / "scores.npz", arrays), tmp_path / "best.json", decisions=[name], **how)
    held_out = np.zeros(arrays["targets"].shape, bool)
    row = next(row for row in decisions.DECISIONS if row.key == name)
    sizes = {"num_features": arrays["features"].shape[1], "num_labels": held_out.shape[1]}
    given = [arrays[key] for key in ("scores", "targets", "features", "mask")]
    for fold in np.array_split(np.random.default_rng(0).permutation(90), 2):
        rest = np.setdiff1d(np.arange(90), fold)
        decision = row.build(criterion="exact_match", **sizes)
        fit_decision(decision, *(array[rest] for array in given), epochs=2)
        held_out[fold] = decision.predict(arrays["scores"][fold], arrays["features"][fold]).numpy()
    expected = label_set_metrics(count_label_sets(held_out, arrays["targets"], arrays["mask"]))
    assert tuning.best.metrics["exact_match"] == pytest.approx(float(expected["exact_match"]))
    assert decisions.load(tmp_path / "best.json").criterion == "exact_match"
    predictions, _ = apply(tmp_path / "best.json", written(tmp_path / "new.npz", new), tmp_path / "out.csv")
    decided = tuning.best.decision.decide(new["scores"], new["features"])
    assert np.array_equal(predictions, decided.label_sets.numpy())
    frame = pl.read_csv(tmp_path / "out.csv")
    for kind, values in (("threshold", decided.thresholds), ("probability", decided.probabilities)):
        columns = [column for column in frame.columns if column.startswith(f"{kind}_")]
        assert bool(columns) == (values is not None)
        if values is not None:
            np.testing.assert_allclose(frame[columns].to_numpy(), values, rtol=1e-4)


@pytest.mark.filterwarnings("ignore::lsep_ml.training.fitting.DecisionWarning")  # the features tell nothing
def test_learnt_decisions_join_where_there_are_features(tmp_path):
    source = written(tmp_path / "scores.npz", case(features=True))
    tuning = tune(source, criterion="exact_match", folds=2, epochs=2, replicates=20, progress=False)
    learnt = ["count_est", "thresh_est", "thresh_linear", "support", "threshold_class"]
    assert [tuned.name for tuned in tuning.tried][-5:] == learnt
    console = Console(width=160, record=True, quiet=False, file=(tmp_path / "out.txt").open("w"))
    with console.file:
        print_tuning(tuning, console)
    text = console.export_text()
    for tuned in tuning.tried:
        assert tuned.name in text
    assert f"{100 * tuning.best.metrics['exact_match']:.1f} [" in text
    assert text.index(tuning.best.name) < min(
        text.index(f" {tuned.name} ") for tuned in tuning.tried if tuned is not tuning.best
    )


def test_progress_is_shown(tmp_path, monkeypatch):
    page = io.StringIO()
    monkeypatch.setattr("lsep_ml.terminal.console", Console(file=page, force_terminal=True))
    source = written(tmp_path / "scores.npz", case())
    tune(source, decisions=["topk"], replicates=10)
    assert "topk" in page.getvalue()


def test_labels_in_another_order_are_refused(tmp_path):
    tune(written(tmp_path / "val.npz", case()), tmp_path / "best.json", decisions=["topk"], progress=False)
    arrays = case()
    arrays["label_names"] = np.array(["cat", "owl", "dog"])
    with pytest.raises(
        ValueError,
        match=r"not those of .* in this order; the first that differs is 'owl', where the decision has 'dog'",
    ):
        apply(tmp_path / "best.json", written(tmp_path / "new.npz", arrays), tmp_path / "out.npz")
    del arrays["label_names"]
    apply(tmp_path / "best.json", written(tmp_path / "new.npz", arrays), tmp_path / "out.npz")
    arrays["scores"] = arrays["scores"][:, :2]
    del arrays["targets"], arrays["mask"]
    with pytest.raises(ValueError, match="2 labels, but the decision was made for 3"):
        apply(tmp_path / "best.json", written(tmp_path / "new.npz", arrays), tmp_path / "out.npz")


def test_a_file_of_a_run_that_is_not_as_the_run_left_it_is_refused(tmp_path):
    folder = write_run(tmp_path, images=40, labels=3)
    scores = folder / "predictions.npz"
    tune(scores, folder / "decision.json", decisions=["threshold"], replicates=10)
    write_record(folder, read_record(folder / "result.json"))
    apply(folder / "decision.json", scores, tmp_path / "labels.csv")
    for file, use in {
        folder / "decision.json": lambda: apply(folder / "decision.json", scores, tmp_path / "labels.csv"),
        scores: lambda: tune(scores, None, decisions=["threshold"], replicates=10),
    }.items():
        content = file.read_bytes()
        changed = content[:-1] + bytes([content[-1] ^ 1])
        file.write_bytes(changed if file == scores else content.replace(b'"val"', b'"both"'))
        assert file.read_bytes() != content
        with pytest.raises(RecordError, match=rf"{folder}/{file.name}: damaged"):
            use()
        file.write_bytes(content)
    copied = tmp_path / "predictions.npz"  # elsewhere it is anybody's
    copied.write_bytes(content)
    assert len(read_scores(copied).scores) == 40
    (folder / "result.json").write_text("{")
    with pytest.raises(RecordError, match=rf"{folder}/result.json: not JSON"):
        read_scores(scores)


@pytest.mark.filterwarnings("ignore::lsep_ml.training.fitting.DecisionWarning")  # one epoch
def test_every_decision_can_be_tuned_saved_and_applied(tmp_path):
    source = written(tmp_path / "val.npz", case(features=True))
    new = case(seed=1, features=True)
    written(tmp_path / "new.npz", new)
    tuning = tune(
        source,
        decisions=[row.key for row in decisions.DECISIONS],
        folds=2,
        epochs=1,
        replicates=5,
        progress=False,
        criterion="of1",
    )
    assert {tuned.name for tuned in tuning.tried} == {row.key for row in decisions.DECISIONS}
    for tuned in tuning.tried:
        assert getattr(tuned.decision, "criterion", "of1") in {"of1", "f1", "exact_match"}
        tuned.decision.save(tmp_path / "decision.json")
        label_sets, _ = apply(tmp_path / "decision.json", tmp_path / "new.npz", tmp_path / "out.npz")
        decided = tuned.decision.decide(new["scores"], new["features"])
        assert np.array_equal(label_sets, decided.label_sets.numpy()), tuned.name
        with np.load(tmp_path / "out.npz", allow_pickle=False) as file:
            assert ("thresholds" in file) == (decided.thresholds is not None)
            if decided.thresholds is not None:
                assert np.array_equal(file["thresholds"], decided.thresholds.numpy())


def test_what_cannot_be_tuned(tmp_path):
    arrays = case()
    source = written(tmp_path / "scores.npz", arrays)
    for options, message in [
        ({"decisions": ["magic"]}, "unknown decision 'magic'; known are topk, threshold"),
        ({"decisions": ["thresh_est"]}, "no features, which thresh_est decides from"),
        ({"folds": 91}, "folds=91: expected 2 to 90"),
        ({"criterion": "accuracy"}, "criterion='accuracy'"),
        ({"criterion": "f1", "beta": 2.0}, "beta=2.0: only criterion='fbeta' weighs by it"),
    ]:
        with pytest.raises(ValueError, match=message):
            tune(source, progress=False, **options)
    without = {key: value for key, value in arrays.items() if key not in ("targets", "mask")}
    with pytest.raises(ValueError, match="no targets; a decision is fitted to scores and targets"):
        tune(written(tmp_path / "without.npz", without), progress=False)


@pytest.mark.parametrize(
    ("name", "arrays", "message"),
    [
        ("a.npz", {"logits": np.zeros((2, 2))}, "no array named scores; found logits"),
        ("b.npz", {"scores": np.zeros((2, 2)), "targets": np.zeros((2, 3))}, r"targets have shape \(2, 3\)"),
        (
            "c.npz",
            {"scores": np.zeros((2, 2)), "label_names": np.array(["a"])},
            r"label_names have shape \(1,\), scores \(2, 2\)",
        ),
        ("d.csv", {"prob_cat": [0.1]}, "no columns named score_LABEL; found prob_cat"),
        ("e.csv", {"score_cat": [0.1], "target_dog": [1]}, r"columns differ in \['cat', 'dog'\]"),
        ("f.parquet", {"scores": [[0.1], [0.1, 0.2]]}, "lists of different lengths"),
        ("g.txt", {}, "expected a file of .npz, .csv, .parquet"),
    ],
)
def test_files_of_other_contents(name, arrays, message, tmp_path):
    path = tmp_path / name
    if path.suffix == ".npz":
        np.savez(path, **arrays)
    elif path.suffix == ".csv":
        pl.DataFrame(arrays).write_csv(path)
    elif path.suffix == ".parquet":
        pl.DataFrame(arrays).write_parquet(path)
    with pytest.raises(ValueError, match=message):
        read_scores(path)
    with pytest.raises(FileNotFoundError, match="no such file"):
        read_scores(tmp_path / "missing.npz")


def test_predictions_of_nameless_scores(tmp_path):
    table = ScoreTable(np.zeros((2, 2), np.float32))
    write_label_sets(tmp_path / "out.csv", table, np.array([[True, False], [False, True]]), None)
    assert pl.read_csv(tmp_path / "out.csv", infer_schema=False).to_dict(as_series=False) == {
        "image": ["0", "1"],
        "labels": ["0", "1"],
        "margin": ["0.0", "0.0"],
        "score_0": ["0.0", "0.0"],
        "score_1": ["0.0", "0.0"],
        "image_id": ["0", "1"],
        "predicted_0": ["1", "0"],
        "predicted_1": ["0", "1"],
    }
    with pytest.raises(ValueError, match=r"expected a name with \.npz"):
        write_label_sets(tmp_path / "out.txt", table, np.zeros((2, 2), bool), None)


def test_texts_that_a_spreadsheet_would_run_are_marked_if_asked_for(tmp_path):
    scores = np.array([[1, -1], [-1, 1]], np.float32)
    arrays = {"label_names": np.array(["=1+1", "cat"]), "image_ids": np.array(["@a", "b"])}
    np.savez(tmp_path / "scores.npz", scores=scores, targets=(scores > 0).astype(np.uint8), **arrays)
    decision = tmp_path / "decision.json"
    GlobalThreshold().fit(scores, scores > 0).save(decision)
    for marked in (False, True):
        apply(decision, tmp_path / "scores.npz", tmp_path / "out.csv", spreadsheet=marked)
        table = pl.read_csv(tmp_path / "out.csv", infer_schema=False)
        assert table["image"].to_list() == (["'@a", "b"] if marked else ["@a", "b"])
        assert table["labels"].to_list() == (["'=1+1", "cat"] if marked else ["=1+1", "cat"])
        assert all(name[0] not in "=+-@" for name in table.columns)
