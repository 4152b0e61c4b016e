"""fit_decision: one training loop that is quiet, deterministic, and alive."""

import copy
import io
import random
import tracemalloc
import warnings
from contextlib import nullcontext
from functools import partial

import numpy as np
import pytest
import torch
from rich.console import Console

import lsep_ml
from lsep_ml.decisions import (
    DECISIONS,
    Calibrated,
    CappedThreshold,
    ConformalRisk,
    CountEstimation,
    GlobalThreshold,
    LabelSetSupport,
    PerClassThreshold,
    Rule,
    ThresholdClass,
    ThresholdEstimation,
    TopK,
    label_blocks,
)
from lsep_ml.decisions.checks import RowMatrix
from lsep_ml.metrics import counts, indicator
from lsep_ml.metrics.indicator import SparseIndicator
from lsep_ml.training import cross_fitting, fitting, label_decision
from lsep_ml.training.fitting import DecisionWarning, fit_decision
from lsep_ml.training.resume import Saving, States

KINDS = [CountEstimation, ThresholdEstimation, ThresholdClass]


def learnable(rows=600, features=24, labels=5, seed=0):
    """Scores whose thresholds the features reveal, and label counts too."""
    generator = torch.Generator().manual_seed(seed)
    latent = torch.randn(rows, 4, generator=generator)
    clean = latent @ torch.randn(4, labels, generator=generator)
    inputs = torch.relu(latent @ torch.randn(4, features, generator=generator))
    return clean + 3 * latent[:, :1], clean > 0, inputs


def loss_before(decision, data):
    decision.reset(*data, seed=0)
    with torch.no_grad():
        return float(decision.loss(*data))


@pytest.mark.parametrize("kind", KINDS)
def test_training_lowers_the_loss_and_reports_every_epoch(kind):
    data, history = learnable(), []
    decision = kind(24, 5)
    before = loss_before(decision, data)
    result = fit_decision(
        decision, *data, epochs=20, on_epoch=lambda epoch, loss: history.append((epoch, loss))
    )
    assert result is decision
    assert [epoch for epoch, _ in history] == list(range(20))
    losses = [loss for _, loss in history]
    assert losses[-1] < losses[0] < before * 1.05
    with torch.no_grad():
        assert float(decision.loss(*data)) == pytest.approx(losses[-1], rel=0.2)
    assert not decision.training


class ReadByRows:
    """A matrix that is there only as the rows that are read."""

    def __init__(self, matrix):
        self.matrix, self.shape, self.ndim, self.dtype = matrix, matrix.shape, 2, matrix.dtype
        self.most = self.read = 0

    def __len__(self):
        return len(self.matrix)

    def __getitem__(self, rows):
        found = self.matrix[rows]
        self.most, self.read = max(self.most, len(found)), self.read + len(found)
        return found


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_learnt_decision_is_trained_on_may_be_read_by_rows_alone(kind, monkeypatch):
    """Scores and targets, a few rows at a time; label count estimation reads the scores to check them alone."""
    monkeypatch.setattr("lsep_ml.metrics.counts.ENTRIES", 300)
    monkeypatch.setattr("lsep_ml.decisions.checks.BLOCK", 50)
    monkeypatch.setattr("lsep_ml.training.label_decision._BLOCK", 2)
    scores, targets, features = (array.numpy() for array in learnable(rows=200))
    mask = np.random.default_rng(0).random(scores.shape) < 0.95
    expected = fit_decision(kind(24, 5), scores, targets, features, mask, epochs=2)
    by_rows = ReadByRows(scores), ReadByRows(targets)
    found = fit_decision(kind(24, 5), *by_rows, features, mask, epochs=2)
    for name, value in expected.state_dict().items():
        assert torch.equal(found.state_dict()[name], value), name
    assert max(matrix.most for matrix in by_rows) <= 128
    passes = by_rows[0].read / len(scores)
    fit_decision(kind(24, 5), *by_rows, features, mask, epochs=4)
    assert by_rows[0].read / len(scores) - passes == passes + (2 if found.learns_from_scores else 0)


def test_the_reported_loss_is_the_mean_over_images():
    data, history = learnable(rows=50), []
    frozen = partial(torch.optim.SGD, lr=0.0)
    decision = ThresholdEstimation(24, 5)
    fit_decision(
        decision,
        *data,
        epochs=1,
        batch_size=16,
        optimizer=frozen,
        on_epoch=lambda _, loss: history.append(loss),
    )
    with torch.no_grad():
        assert history[0] == pytest.approx(float(decision.loss(*data)), rel=1e-6)


def test_threshold_estimation_beats_one_threshold_when_features_tell():
    data, held_out = learnable(2000), learnable(2000)
    scores, targets, features = held_out
    learnt = fit_decision(ThresholdEstimation(24, 5), *data, batch_size=32, epochs=15)
    rule = fit_decision(GlobalThreshold("exact", criterion="exact_match"), *data)

    def exact_match(predictions):
        return float((predictions == targets).all(1).float().mean())

    assert exact_match(learnt.predict(scores, features)) > exact_match(rule.predict(scores)) + 0.2


@pytest.mark.parametrize("offset", ["class", "one"])
def test_offsets_are_the_best_on_log_odds_of_heads_trained_without_the_fold(offset, tmp_path):
    scores, targets, features = learnable(rows=60)
    targets[:, 3] = False
    mask = torch.rand(scores.shape, generator=torch.Generator().manual_seed(0)) < 0.9
    folds = np.arange(60) % 3
    log_odds = torch.empty(scores.shape)
    for fold in range(3):
        outside, inside = torch.from_numpy(folds != fold), torch.from_numpy(folds == fold)
        arrays = (array[outside] for array in (scores, targets, features, mask))
        head = fit_decision(ThresholdEstimation(24, 5), *arrays, epochs=2)
        log_odds[inside] = scores[inside] - head.decide(scores[inside], features[inside]).thresholds
    plain = fit_decision(ThresholdEstimation(24, 5), scores, targets, features, mask, epochs=2)
    assert "offsets" not in plain.state_dict()
    assert plain.choices() == {}
    decision = ThresholdEstimation(24, 5, offset=offset)
    decision.label_names = list("abcde")
    with pytest.warns(DecisionWarning, match="never named, since no image it was fitted on has them: d$"):
        fit_decision(decision, scores, targets, features, mask, epochs=2, folds=folds)

    def f1(label, cut):
        named, known = log_odds[:, label] > cut, mask[:, label]
        actual = targets[:, label] & known
        correct, all_named = (named & actual).sum(), (named & known).sum()
        return 2 * float(correct) / max(float(all_named + actual.sum()), 1)

    chosen = decision.choices()["offset"]
    labels = [label for label in range(5) if label != 3]
    cuts = [-np.inf, *log_odds.flatten().tolist()]
    if offset == "class":
        for label in labels:
            assert f1(label, chosen[label]) == pytest.approx(max(f1(label, cut) for cut in cuts))
    else:
        assert len({chosen[label] for label in labels}) == 1
        totals = [sum(f1(label, cut) for label in range(5)) for cut in cuts]
        assert sum(f1(label, chosen[0]) for label in range(5)) == pytest.approx(max(totals))
    expected = plain.thresholds(features, 60) + torch.tensor(chosen)
    decision.save(tmp_path / "decision.json")
    for one in (decision, lsep_ml.decisions.load(tmp_path / "decision.json")):
        thresholds = one.decide(scores, features).thresholds
        torch.testing.assert_close(thresholds[:, labels], expected[:, labels])
        assert not one.predict(scores + 1e6, features)[:, 3].any()


def test_one_image_has_an_offset_too():
    scores, targets, features = learnable(rows=1)
    targets = torch.tensor([[True, False, False, False, False]])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        decision = fit_decision(
            ThresholdEstimation(24, 5, offset="class"), scores, targets, features, epochs=1
        )
    assert torch.equal(decision.predict(scores + 0.01, features), targets)


@pytest.mark.parametrize("kind", KINDS)
def test_the_seed_determines_the_result_and_the_callers_random_state_is_kept(kind):
    data = learnable(rows=100)
    states = []
    for seed, noise in ((0, 1), (0, 5), (1, 1)):
        torch.manual_seed(noise)
        before = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()  # noqa: NPY002
        decision = fit_decision(kind(24, 5), *data, epochs=2, seed=seed)
        assert torch.equal(torch.get_rng_state(), before[0])
        assert (np.random.get_state()[1] == before[1]).all()  # noqa: NPY002
        assert random.getstate() == before[2]
        states.append(decision.state_dict())
    assert all(torch.equal(value, states[1][key]) for key, value in states[0].items())
    assert not all(torch.equal(value, states[2][key]) for key, value in states[0].items())


@pytest.mark.parametrize("kind", KINDS)
def test_arrays_of_any_kind_give_the_same_head(kind, tmp_path):
    data = learnable(rows=100)
    mask = torch.rand(data[0].shape, generator=torch.Generator().manual_seed(0)) < 0.9
    maps = []
    for name, tensor in zip(("scores", "targets", "features", "mask"), (*data, mask), strict=True):
        np.save(tmp_path / f"{name}.npy", tensor.numpy())
        maps.append(np.load(tmp_path / f"{name}.npy", mmap_mode="r"))
    fits = [fit_decision(kind(24, 5), *arrays, epochs=2).state_dict() for arrays in ((*data, mask), maps)]
    assert all(torch.equal(value, fits[1][key]) for key, value in fits[0].items())


def test_nothing_is_printed_or_written(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    fit_decision(ThresholdEstimation(24, 5), *learnable(rows=50), epochs=2)
    assert list(tmp_path.iterdir()) == []
    assert capfd.readouterr() == ("", "")
    page = io.StringIO()
    monkeypatch.setattr(fitting, "console", Console(file=page, force_terminal=True))
    fit_decision(ThresholdEstimation(24, 5), *learnable(rows=50), epochs=2, progress=True)
    assert "ThresholdEstimation, loss" in page.getvalue()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_default_rates_keep_the_head_alive_at_any_scale_of_the_features(kind, scale):
    scores, targets, features = learnable(seed=2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        decision = fit_decision(kind(24, 5), scores, targets, scale * features, epochs=30)
    hidden = decision.head[:4]((scale * features - decision.feature_mean) * decision.feature_scale)
    assert ((hidden > 0).any(0)).sum() >= 8  # of the 10 units


def test_a_dead_head_is_reported():
    scores, targets, features = learnable()
    fast = partial(torch.optim.SGD, lr=3.0, momentum=0.9)
    with pytest.warns(
        DecisionWarning, match="ThresholdEstimation: the head predicts the same for every image"
    ):
        fit_decision(ThresholdEstimation(24, 5), scores, targets, features, epochs=3, optimizer=fast)
    with pytest.warns(DecisionWarning, match="the head predicts the same for every image"):
        fit_decision(ThresholdEstimation(24, 5, standardize=False), scores, targets, 1e4 * features, epochs=3)


def test_a_loss_of_nan_stops_the_training():
    def explosive(parameters):
        return torch.optim.SGD(parameters, lr=1e30)

    with pytest.raises(
        FloatingPointError, match=r"CountEstimation: the loss is not finite at step \d+ \(epoch 1\)"
    ):
        fit_decision(
            CountEstimation(24, 5), *learnable(rows=100), epochs=3, batch_size=10, optimizer=explosive
        )


def test_rules_and_errors_go_the_same_way():
    scores, targets, features = learnable()
    mask = torch.rand(scores.shape, generator=torch.Generator().manual_seed(0)) < 0.5
    for kind in (TopK, GlobalThreshold):
        fitted = fit_decision(kind(), scores, targets, features, mask)
        assert fitted.choices() == kind().fit(scores, targets, mask).choices()
    with pytest.raises(ValueError, match="decides from features, got none"):
        fit_decision(ThresholdEstimation(24, 5), scores, targets)
    with pytest.raises(ValueError, match="5 labels, but the decision was made for 4"):
        fit_decision(ThresholdEstimation(24, 4), scores, targets, features)
    with pytest.raises(TypeError, match="Linear is neither a Rule nor a LearntDecision"):
        fit_decision(torch.nn.Linear(2, 2), scores, targets)


@pytest.mark.parametrize(
    ("rule", "by_blocks"),
    [
        (GlobalThreshold(), True),
        (PerClassThreshold(search="grid"), True),
        (PerClassThreshold(), True),
        (PerClassThreshold(criterion="break_even"), False),
        (GlobalThreshold(criterion="exact_match"), False),
        (TopK(), False),
    ],
    ids=["threshold", "per_class, grid", "per_class", "break-even", "of whole label sets", "topk"],
)
@pytest.mark.parametrize("masked", [False, True])
def test_large_matrices_are_fitted_by_blocks_of_labels_to_the_same_state(
    rule, by_blocks, masked, monkeypatch
):
    draw, rule = np.random.default_rng(0), copy.deepcopy(rule)
    scores = draw.normal(size=(60, 70)).astype(np.float32)
    targets = draw.random((60, 70)) < 0.2
    mask = draw.random((60, 70)) < 0.7 if masked else None
    expected = copy.deepcopy(rule).fit(scores, targets, mask)
    if by_blocks:
        monkeypatch.setattr(Rule, "fit", None)
    monkeypatch.setattr(label_blocks, "LARGE", 0)
    fit_decision(rule, scores, targets, mask=mask)
    for name, values in expected.state_dict().items():
        assert torch.equal(rule.state_dict()[name], values), name


SIZES = {"num_features": 3, "num_labels": 130}
CATALOGUE = {
    **{row.key: partial(row.build, **SIZES, weight_decay=1.0) for row in DECISIONS},
    "topk, exact match": partial(TopK, criterion="exact_match"),
    "threshold, exact match": partial(GlobalThreshold, criterion="exact_match"),
    "per_class, grid": partial(PerClassThreshold, search="grid"),
    "capped, none at least": partial(CappedThreshold, 0, 3, criterion="ov_p"),
    "capped, exact match": partial(CappedThreshold, 1, 3, criterion="exact_match"),
    "isotonic": partial(Calibrated, "isotonic"),
    "conformal, per class": partial(ConformalRisk, shape="per_class"),
    "support, platt": partial(LabelSetSupport, **SIZES, log_odds="platt", max_sets=5),
    "one offset": partial(ThresholdEstimation, **SIZES, offset="one", criterion="of1"),
}


class Computed(RowMatrix):
    """Scores of which rows alone can be read."""

    by_labels = False

    def __init__(self, scores):
        self.scores, self.shape, self.dtype = scores, scores.shape, scores.dtype

    def __getitem__(self, rows):
        assert not isinstance(rows, tuple)
        return self.scores[rows]


@pytest.mark.filterwarnings("ignore::lsep_ml.training.fitting.DecisionWarning")
@pytest.mark.parametrize("name", CATALOGUE)
@pytest.mark.parametrize("masked", [False, True])
def test_sparse_targets_give_the_state_of_dense_ones_and_are_never_made_dense(name, masked, monkeypatch):
    """Above the sizes from which on matrices are read by blocks no more of a sparse one is made dense at a time."""
    draw = np.random.default_rng(0)
    scores = draw.normal(size=(60, 130)).astype(np.float32)
    targets = draw.random((60, 130)) < 0.1
    targets[::2] = targets[0]  # one label set many times
    mask = draw.random((60, 130)) < 0.7 if masked else None
    if masked:
        mask[:20] = True
        if name not in (
            "count_est",
            "support",
            "support, platt",
        ):  # they need images whose labels are all known
            mask[:, 7] = False
    features = draw.normal(size=(60, 3)).astype(np.float32)
    options = {"epochs": 1, "batch_size": 4, "folds": np.arange(60) % 3}
    expected = fit_decision(CATALOGUE[name](), scores, targets, features, mask, **options).state_dict()
    for module, size, value in (
        (label_blocks, "LARGE", 0),
        (cross_fitting, "LARGE", 0),
        (counts, "ENTRIES", 800),
        (indicator, "_BLOCK", 800),
        (label_decision, "_BLOCK", 2),
    ):
        monkeypatch.setattr(module, size, value)
    array, of_labels = SparseIndicator.__array__, SparseIndicator._labels

    def some(self, *args, **options):
        assert self.size <= 64 * 60
        return array(self, *args, **options)

    def few(self, labels):
        assert len(np.arange(130)[labels].reshape(-1)) <= 64
        return of_labels(self, labels)

    monkeypatch.setattr(SparseIndicator, "__array__", some)
    monkeypatch.setattr(SparseIndicator, "_labels", few)
    held, known = (
        None if matrix is None else SparseIndicator.from_dense(matrix) for matrix in (targets, mask)
    )
    decision = CATALOGUE[name]()
    given = Computed(scores) if decision.fits_by_rows else scores
    found = fit_decision(decision, given, held, features, known, **options).state_dict()
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        torch.testing.assert_close(found[key], value, rtol=0, atol=0, msg=key)


@pytest.mark.parametrize("name", ["topk", "conformal"])
def test_sparse_targets_are_fitted_in_less_memory_than_dense_ones_take(name, monkeypatch):
    draw = np.random.default_rng(0)
    scores, places = draw.normal(size=(2000, 500)).astype(np.float32), draw.integers(0, 500, 4000)
    held = SparseIndicator.of(np.repeat(np.arange(2000), 2), places, scores.shape)
    monkeypatch.setattr(counts, "ENTRIES", 2**14)
    decision = CATALOGUE[name]()
    fit_decision(decision, scores[:100], held[:100])  # what is imported and made once
    tracemalloc.start()
    fit_decision(decision, scores, held)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < scores.size


def test_fit_decision_is_found_on_the_package():
    assert lsep_ml.fit_decision is fit_decision
    with pytest.raises(AttributeError, match="has no attribute 'fit_decisions'"):
        lsep_ml.fit_decisions  # noqa: B018


def test_a_training_that_was_killed_continues_with_the_same_numbers(tmp_path):
    data, whole = learnable(rows=100), []
    expected = fit_decision(
        ThresholdEstimation(24, 5), *data, epochs=6, on_epoch=lambda *row: whole.append(row)
    ).state_dict()

    def kill(epoch, loss):
        if epoch == 4:
            raise KeyboardInterrupt

    folder, history = tmp_path / "states", []
    for on_epoch in (kill, lambda *row: history.append(row)):
        states = States(folder, Saving(every_minutes=1e-9))
        decision = ThresholdEstimation(24, 5)
        with pytest.raises(SystemExit) if on_epoch is kill else nullcontext():
            fit_decision(decision, *data, epochs=6, on_epoch=on_epoch, states=states)
    assert states.saved[-1][0].name == "state-6.ckpt"  # Lightning counts the batches of an epoch as one
    assert history == whole
    assert all(torch.equal(value, expected[key]) for key, value in decision.state_dict().items())


def test_trainings_without_a_fold_that_finished_before_a_kill_are_found_again(tmp_path, monkeypatch):
    data, train, trained = learnable(rows=60), fitting._train, []

    def fit(**options):
        return fit_decision(ThresholdEstimation(24, 5, (), offset="class"), *data, epochs=1, **options)

    expected = fit().state_dict()

    def killed_in_the_fourth(*given):
        trained.append(given)
        if len(trained) == 4:
            raise KeyboardInterrupt
        train(*given)

    monkeypatch.setattr(fitting, "_train", killed_in_the_fourth)
    with pytest.raises(KeyboardInterrupt):
        fit(states=States(tmp_path, Saving()))
    decision = fit(
        states=States(tmp_path, Saving(every_minutes=1e-9))
    )  # whose own states remove no such training
    assert len(trained) == 4 + 1 + 3  # on all rows again, and without the third, fourth and fifth fold
    assert all(torch.equal(value, expected[key]) for key, value in decision.state_dict().items())


def test_states_of_another_kind_are_not_continued_from(tmp_path, caplog):
    (tmp_path / "state-7.ckpt").write_bytes(b"not a checkpoint")
    data = learnable(rows=100)
    states = States(tmp_path, Saving())
    fitted = fit_decision(ThresholdEstimation(24, 5), *data, epochs=2, states=states).state_dict()
    assert "it starts again" in caplog.text
    expected = fit_decision(ThresholdEstimation(24, 5), *data, epochs=2).state_dict()
    assert all(torch.equal(value, expected[key]) for key, value in fitted.items())


SGD = partial(torch.optim.SGD, lr=0.01)


@pytest.mark.parametrize(
    ("kind", "size", "masked", "optimizer"),  # with and without a smaller last batch
    [
        (ThresholdEstimation, 13, False, fitting.paper_sgd),
        (ThresholdEstimation, 20, True, SGD),
        (CountEstimation, 13, True, partial(SGD, momentum=0.5)),
        (CountEstimation, 20, False, partial(SGD, momentum=0.5, nesterov=True, weight_decay=0.1)),
        (ThresholdClass, 13, True, torch.optim.Adam),
    ],
)
def test_steps_are_those_of_a_plain_loop_however_many_batches_are_loaded_at_once(
    kind, size, masked, optimizer, monkeypatch
):
    scores, targets, features = learnable(rows=100, features=7)
    generator = torch.Generator().manual_seed(0)
    mask = torch.rand(scores.shape, generator=generator) < 0.8 if masked else None
    options = {"epochs": 3, "batch_size": size, "seed": 5, "optimizer": optimizer}
    found = []
    for block in (1, 3, 32):
        monkeypatch.setattr("lsep_ml.training.label_decision._BLOCK", block)
        fitted = fit_decision(kind(7, 5), scores, targets, features, mask, **options)
        found.append(fitted.state_dict())

    plain = kind(7, 5)
    plain.reset(scores, targets, features, mask, seed=5)
    optimizer, order = optimizer(plain.parameters()), torch.Generator().manual_seed(5)
    for _ in range(3):
        torch.empty((), dtype=torch.int64).random_(generator=order)  # which a loader draws for its workers
        rows_in_order = torch.randperm(100, generator=order)
        if 100 % size:
            torch.randperm(
                100, generator=order
            )  # which torch's sampler draws when it is asked for more than there are
        for rows in rows_in_order.split(size):
            part = (scores[rows], targets[rows].float(), features[rows], None if mask is None else mask[rows])
            optimizer.zero_grad()
            plain.loss(*part).backward()
            optimizer.step()
    for state in found:
        assert all(torch.equal(value, state[key]) for key, value in plain.state_dict().items())


@pytest.mark.filterwarnings("ignore::lsep_ml.training.fitting.DecisionWarning")  # an epoch teaches nothing
@pytest.mark.parametrize("row", DECISIONS, ids=lambda row: row.key)
def test_a_decision_by_its_name_is_the_one_of_default_options(row):
    scores, targets, inputs = learnable(rows=300, labels=4)
    named = lsep_ml.fit_decision(row.key, scores, targets, inputs, epochs=1)
    built = fit_decision(row.build(num_labels=4, num_features=24), scores, targets, inputs, epochs=1)
    assert type(named) is row.load()
    assert torch.equal(named.predict(scores, inputs), built.predict(scores, inputs))
    assert repr(named).startswith(f"{row.class_name}(4 labels")
    assert "\n" not in repr(named)


def test_a_name_that_cannot_be_fitted_is_said():
    scores, targets, _ = learnable(rows=40)
    with pytest.raises(ValueError, match="decision='magic': there are topk, threshold, "):
        fit_decision("magic", scores, targets)
    with pytest.raises(ValueError, match="decision='thresh_est' decides from features; give features="):
        fit_decision("thresh_est", scores, targets)


def test_what_python_shows_of_a_decision():
    scores, targets, _ = learnable(rows=200)
    assert repr(TopK()) == "TopK(not fitted)"
    fitted = fit_decision("topk", scores, targets)
    assert repr(fitted) == f"TopK(5 labels, k = {int(fitted.k)})"
    by_label = fit_decision("per_class", scores, targets)
    first = ", ".join(f"{value:.4g}" for value in by_label.theta.tolist()[:3])
    assert repr(by_label).startswith(
        f"PerClassThreshold(5 labels, theta = [{first}, ... 5 in all], shrinkage = "
    )
