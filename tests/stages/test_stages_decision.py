"""Stage 2: which images a decision is fitted on, and that validation is judged by fits without the image judged."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from jobs import run_job_here
from omegaconf import OmegaConf

from lsep_ml.decisions import (
    CappedThreshold,
    ConformalRisk,
    CountEstimation,
    Decision,
    GlobalThreshold,
    LabelSetSupport,
    LinearThresholds,
    PerClassThreshold,
    ThresholdEstimation,
    load,
)
from lsep_ml.stages.completion import constrained
from lsep_ml.stages.decision import fit, stored_fits
from lsep_ml.stages.fit_rows import FitRows
from lsep_ml.stages.judging import cross_fit
from lsep_ml.stages.sweep import FOLDER
from lsep_ml.store.entries import Store
from lsep_ml.training.fitting import fit_decision
from lsep_ml.training.folds import draw_folds
from lsep_ml.training.kept import Kept
from lsep_ml.training.linear_problem import OnAxes

TINY = (
    *("data.train=100", "data.val=40", "data.test=30", "data.canvas=24", "model.widths=[4,8]"),
    *("model.num_features=6", "training=probe", "training.folds=3", "trainer=cpu", "fitting.epochs=2"),
)


def case(rows: int = 60, val: int = 25, seed: int = 0) -> FitRows:
    rng = np.random.default_rng(seed)
    features = rng.standard_normal((rows, 5)).astype(np.float32)
    signal = features @ rng.standard_normal((5, 3))
    targets = (signal + rng.standard_normal((rows, 3)) > 0).astype(np.uint8)
    scores = (signal + rng.standard_normal((rows, 3))).astype(np.float32)
    return FitRows(
        scores, targets, features, None, np.arange(rows) >= rows - val, draw_folds(rows, seed), None
    )


HONEST = {
    "threshold": GlobalThreshold("exact"),
    "per_class": PerClassThreshold(),
    "capped": CappedThreshold(1, 2),
    "thresh_linear": LinearThresholds(5, 3, weight_decay=0.1),
    "thresh_linear, one offset": LinearThresholds(
        5, 3, weight_decay=0.1, offset="one", criterion="exact_match"
    ),
    "support": LabelSetSupport(5, 3, log_odds="platt"),
    "thresh_est, an offset": ThresholdEstimation(5, 3, (), offset="class"),
}


@pytest.mark.parametrize("name", HONEST)
def test_an_images_own_targets_do_not_change_its_validation_label_set(name: str) -> None:
    rows, unfitted = case(), HONEST[name]
    brief = {"epochs": 1} if name.startswith("thresh_est") else None
    judged = cross_fit(unfitted, unfitted, rows, brief)
    assert judged.label_sets.shape == (25, 3)
    for row in range(35, 60, 25 if brief else 6):
        targets = rows.targets.copy()
        targets[row] = 1 - targets[row]
        changed = FitRows(rows.scores, targets, rows.features, None, rows.val, rows.folds, None)
        other = cross_fit(unfitted, unfitted, changed, brief)
        assert np.array_equal(other.label_sets[row - 35], judged.label_sets[row - 35])
        if judged.thresholds is not None and other.thresholds is not None:
            assert np.array_equal(other.thresholds[row - 35], judged.thresholds[row - 35])
    if name == "threshold":  # what is judged is not what the fit on all rows says
        assert len(np.unique(judged.thresholds)) > 1


def test_fits_without_a_fold_that_finished_before_a_kill_are_found_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows, unfitted, fits, brief = case(), ThresholdEstimation(5, 3, ()), list[Any](), {"epochs": 1}
    expected = cross_fit(unfitted, unfitted, rows, brief)

    def killed_in_the_third(decision: Any, *arrays: Any, **options: Any) -> Any:
        fits.append(decision)
        if len(fits) == 3:
            raise KeyboardInterrupt
        return fit_decision(decision, *arrays, **options)

    monkeypatch.setattr("lsep_ml.stages.fit_rows.fit_decision", killed_in_the_third)
    with pytest.raises(KeyboardInterrupt):
        cross_fit(unfitted, unfitted, rows, brief, kept=Kept(tmp_path))
    judged = cross_fit(unfitted, unfitted, rows, brief, kept=Kept(tmp_path))
    assert len(fits) == 3 + 3
    assert np.array_equal(judged.thresholds, expected.thresholds)


def test_each_row_is_decided_by_the_fit_without_its_fold() -> None:
    rows = case()
    judged = cross_fit(GlobalThreshold("exact"), GlobalThreshold("exact"), rows)
    assert judged.thresholds is not None
    for fold in range(5):
        outside = rows.folds != fold
        theta = GlobalThreshold("exact").fit(rows.scores[outside], rows.targets[outside]).theta
        inside = ~outside[35:]
        assert (judged.thresholds[inside] == float(theta)).all()
        assert np.array_equal(judged.label_sets[inside], rows.scores[35:][inside] > float(theta))


def test_too_few_images_without_a_fold_are_judged_by_the_fit_on_all(caplog: pytest.LogCaptureFixture) -> None:
    rows = case(rows=20, val=20)
    fitted = ConformalRisk(0.05).fit(rows.scores, rows.targets)
    judged = cross_fit(ConformalRisk(0.05), fitted, rows)
    assert np.array_equal(judged.label_sets, fitted.predict(rows.scores).numpy())
    assert "at least 19 images are needed" in caplog.text


def test_jobs_of_one_sweep_share_what_a_decision_learns_without_the_scores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given, trainings = case(), []

    def counted(decision: Any, *arrays: Any, **options: Any) -> Any:
        trainings.append(decision)
        return fit_decision(decision, *arrays, **options)

    monkeypatch.setattr("lsep_ml.stages.fit_rows.fit_decision", counted)
    fitting = {"epochs": 2, "batch_size": 8}
    fitting["optimizer"] = {"_target_": "torch.optim.SGD", "_partial_": True, "lr": 0.1}

    def learnt(decision: Decision, shift: float = 0, seed: int = 0, **changed: Any) -> tuple[Any, ...]:
        rows = replace(given, val=np.zeros(60, bool), scores=given.scores + np.float32(shift), **changed)
        history: list[dict[str, Any]] = []
        config = OmegaConf.create({"names": {"decision": "learnt"}, "seed": seed, "fitting": fitting})
        fit(config, decision, rows, history.append)
        return (
            {name: value.tolist() for name, value in decision.state_dict().items()},
            history,
            decision.training,
        )

    monkeypatch.delenv(FOLDER, raising=False)
    alone = learnt(CountEstimation(5, 3, 2))
    assert learnt(CountEstimation(5, 3, 2), shift=1) == alone
    assert len(trainings) == 2
    monkeypatch.setenv(FOLDER, str(tmp_path))
    for shift, fit_on in ((0, "train"), (1, "crossfit")):
        assert learnt(CountEstimation(5, 3, 2, fit_on=fit_on), shift) == alone
    assert len(trainings) == 3
    with pytest.raises(ValueError, match="NaN"):
        learnt(CountEstimation(5, 3, 2), shift=np.nan)
    learnt(CountEstimation(5, 3, 2), seed=1)
    learnt(CountEstimation(5, 3, 3))
    learnt(CountEstimation(5, 3, 2), targets=1 - given.targets)
    learnt(CountEstimation(5, 3, 2), features=-given.features)
    learnt(CountEstimation(5, 3, 2), mask=np.arange(180).reshape(60, 3) % 7 > 0)
    learnt(ThresholdEstimation(5, 3))
    learnt(ThresholdEstimation(5, 3), shift=1)
    assert len(trainings) == 10


def test_jobs_of_one_sweep_share_the_axes_of_the_features(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    turned, of = [], OnAxes.of
    monkeypatch.setattr(OnAxes, "of", lambda inputs: turned.append(len(inputs)) or of(inputs))

    def fitted(scale: float, root: str, **changed: Any) -> list[Any]:
        rows = replace(case(), scores=case().scores * np.float32(scale), **changed)
        decision = LinearThresholds(5, 3, weight_decay=0.1)
        stored_fits(Store(tmp_path / root), {"scale": scale}, decision, rows).load(decision)
        return [value.tolist() for value in decision.state_dict().values()]

    monkeypatch.delenv(FOLDER, raising=False)
    alone = fitted(1, "alone"), fitted(2, "alone")
    assert len(turned) == 2
    monkeypatch.setenv(FOLDER, str(tmp_path))
    assert (fitted(1, "sweep"), fitted(2, "sweep")) == alone
    assert len(turned) == 3
    fitted(3, "sweep", features=-case().features)
    assert len(turned) == 4


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory):
    return tmp_path_factory.mktemp("decisions")


@pytest.mark.parametrize("name", ["thresh_linear", "support", "thresh_est", "per_class"])
def test_a_run_fits_on_honest_scores_and_judges_validation_without_the_image(name: str, output) -> None:
    record, folder = run_job_here(output, *TINY, f"decision={name}", "decision.fit_on=crossfit")
    with np.load(folder / "validation.npz", allow_pickle=False) as file:
        label_sets, targets, scores = file["predictions"], file["targets"], file["scores"]
        thresholds = file.get("thresholds")
    exact = (label_sets == targets).all(1).mean()
    assert record["metrics"]["val"]["exact_match"] == pytest.approx(exact)
    if thresholds is not None:
        assert np.array_equal(scores > thresholds, label_sets)
    by_log_odds = name in ("thresh_linear", "support")
    assert ("map_calibrated" in record["metrics"]["test"]) == by_log_odds
    assert ("unseen_label_sets" in record) == (name == "support")
    if name == "per_class":
        assert len(np.unique(thresholds, axis=0)) == 5  # one for each fold
    if by_log_odds:
        assert record["choices"]["weight_decay"] > 0


def test_without_out_of_fold_scores_validation_is_what_is_honest(output) -> None:
    finetuned = [option for option in TINY if option != "training.folds=3" and option != "training=probe"]
    record, _ = run_job_here(output, *finetuned, "training.epochs=1", "decision=support")
    assert 1 < record["choices"]["sets"] <= 140


def test_runs_that_go_by_the_same_linear_thresholds_share_their_fits(output) -> None:
    used = set()
    for options in (("decision=thresh_linear", "decision.criterion=exact_match"), ("decision=support",)):
        record, _ = run_job_here(output, *TINY, *options)
        used.add(record["stored"]["linear_thresholds"])
    other, _ = run_job_here(output, *TINY, "decision=support", "decision.fit_on=val")
    assert len(used) == 1
    assert other["stored"]["linear_thresholds"] not in used
    record, folder = run_job_here(output, *TINY, "decision=topk", "pictures=false")
    assert "linear_thresholds" not in record["stored"]
    assert not list(folder.glob("*.png"))


def test_a_run_leaves_its_least_certain_images_to_a_person(output) -> None:
    options = (*TINY, "data.density=0", "decision=topk", "decision.max_k=1", "pictures=false")
    plain, _ = run_job_here(output, *options)
    record, folder = run_job_here(output, *options, "label_sets.abstain=0.26")
    assert record["identity"] == plain["identity"]
    assert record["metrics"] == plain["metrics"]
    asked = record["abstention"]
    shares = {}
    for name, file in (("val", "validation.npz"), ("test", "predictions.npz")):
        with np.load(folder / file, allow_pickle=False) as arrays:
            highest = np.sort(arrays["scores"], axis=1)
            right = (arrays["predictions"] == arrays["targets"]).all(1)
        certain = highest[:, -1] - highest[:, -2]
        cuts = [asked["least"]] if name == "test" else sorted(set(certain.tolist()))
        shares[name] = [((certain >= cut).mean(), right[certain >= cut].mean()) for cut in cuts]
    best = max(share for share in shares["val"] if share[1] >= 0.26)
    assert tuple(asked["val"].values()) == pytest.approx(best)
    assert tuple(asked["test"].values()) == pytest.approx(shares["test"][0])
    assert load(folder / "decision.json").abstention is not None
    record, _ = run_job_here(output, *TINY, "decision=thresh_linear", "label_sets.abstain=1.0")
    assert record["abstention"]["test"] == {"coverage": 0.0, "exact_match": 0.0}
    assert any("every image is left to a person" in warning for warning in record["warnings"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("label_sets.abstain=1.5",), "label_sets.abstain=1.5: expected"),
        (("label_sets.abstain=0.9", "predictor=mlknn"), "decision=none keeps a predictor's own label sets"),
        (
            ("data.drop_labels=0.9", "decision=support"),
            "decision=support learns.*, or data.dropped_as=negative",
        ),
        (
            ("data.drop_labels=0.9", "decision=count_est"),
            "thresh_linear or threshold, which go by known labels",
        ),
    ],
)
def test_what_a_decision_cannot_do_is_refused_before_training(options, message, output) -> None:
    with pytest.raises(ValueError, match=message):
        run_job_here(output, *TINY, *options)


def test_several_networks_have_no_confidence_in_common() -> None:
    label_sets = {"min_labels": 0, "max_labels": None, "groups": None, "abstain": 0.9}
    config = OmegaConf.create({"label_sets": label_sets, "data": {"folds": 2}, "sizes": {"labels": 3}})
    with pytest.raises(ValueError, match=r"label_sets.abstain=0.9: with data.folds=2 several networks test"):
        constrained(config, GlobalThreshold())
