"""F-beta, a cost of errors and break-even as criteria: decisions against all they could choose, by plain loops."""

from functools import partial
from pathlib import Path

import decisions_oracle as oracle
import numpy as np
import pytest
from decisions_data import honest
from jobs import compose_here
from test_decisions_rules import random_case

from lsep_ml.decisions import (
    CappedThreshold,
    GlobalThreshold,
    LabelSetSupport,
    LinearThresholds,
    PerClassThreshold,
    TopK,
)
from lsep_ml.decisions.criteria import CRITERIA
from lsep_ml.decisions.support import GRID, _SetTable
from lsep_ml.metrics import LABEL_SET_KEYS
from lsep_ml.store.sections import config_sections, plain_sections

OPTIONS = [
    {"criterion": "fbeta"},
    {"criterion": "fbeta", "beta": 2.0},
    {"criterion": "fbeta", "beta": 0.3},
    {"criterion": "cost"},
    {"criterion": "cost", "miss_cost": 5.0},
    {"criterion": "cost", "miss_cost": 0.2},
    {"criterion": "break_even"},
]
options = pytest.mark.parametrize("options", OPTIONS, ids=str)


def errors(sets, targets, mask):
    """Right, wrong and missed entries of a list of label sets, label by label."""
    found = []
    for label in range(targets.shape[1]):
        rows = [i for i in range(len(targets)) if mask[i][label]]
        right = sum(1 for i in rows if sets[i][label] and targets[i][label])
        wrong = sum(1 for i in rows if sets[i][label] and not targets[i][label])
        missed = sum(1 for i in rows if targets[i][label] and not sets[i][label])
        found.append((right, wrong, missed, len(rows)))
    return found


def value(sets, targets, mask, criterion, beta=1.0, miss_cost=1.0, by_label=False):
    """What is maximised."""
    counted = errors(np.asarray(sets), targets, mask)
    if criterion == "fbeta":
        weight = beta**2
        return np.mean([
            (1 + weight) * right / ((1 + weight) * right + weight * missed + wrong) if right + wrong + missed else 0.0
            for right, wrong, missed, _ in counted
        ])  # fmt: skip
    if criterion == "cost":
        return -np.mean(
            [(wrong + miss_cost * missed) / known if known else 0.0 for _, wrong, missed, known in counted]
        )
    gaps = [(abs(wrong - missed), known) for _, wrong, missed, known in counted]
    if by_label:
        return -np.mean([gap / known if known else 0.0 for gap, known in gaps])
    return -abs(sum(wrong - missed for _, wrong, missed, _ in counted)) / sum(known for *_, known in counted)


@options
@pytest.mark.parametrize("seed", range(4))
def test_top_k_and_thresholds_by_brute_force(options, seed):
    case = scores, targets, mask = random_case(seed, masked=bool(seed % 2))
    tried = [[oracle.top_k(row, k) for row in scores] for k in range(1, 6)]
    best = oracle.best([value(sets, targets, mask, **options) for sets in tried])
    assert TopK(**options).fit(*case).choices() == {"k": 1 + best}
    grid = np.linspace(scores.min(), scores.max(), 50).astype(np.float32)[::-1]
    best = oracle.best([value(scores > theta, targets, mask, **options) for theta in grid])
    assert GlobalThreshold(**options).fit(*case).choices()["theta"] == grid[best]
    every = oracle.every_cutoff(scores, mask)
    best = oracle.best([value(scores > theta, targets, mask, **options) for theta in every])
    found = GlobalThreshold("exact", **options).fit(*case).predict(scores).numpy()
    assert (found == (scores > every[best]))[mask].all()


@options
@pytest.mark.parametrize("seed", range(4))
def test_capped_label_sets_by_brute_force(options, seed):
    case = scores, targets, mask = random_case(seed, levels=1000)
    tried = []
    for theta in oracle.every_cutoff(scores, mask):
        counts = [min(max(sum(score > theta for score in row), 1), 3) for row in scores.tolist()]
        tried.append(np.array([oracle.top_k(row, n) for row, n in zip(scores.tolist(), counts, strict=True)]))
    best = oracle.best([value(sets, targets, mask, **options) for sets in tried])
    found = CappedThreshold(1, 3, **options).fit(*case).predict(scores).numpy()
    assert (found == tried[best])[mask].all()


@options
@pytest.mark.parametrize("seed", range(4))
def test_each_label_has_the_best_threshold_of_its_own(options, seed):
    case = scores, targets, mask = random_case(seed)
    found = PerClassThreshold(guard=False, **options).fit(*case).predict(scores).numpy()
    for label in range(5):
        column = (slice(None), slice(label, label + 1))
        every = oracle.every_cutoff(scores[column], mask[column])
        parts = targets[column], mask[column]
        best = oracle.best(
            [value(scores[column] > theta, *parts, **options, by_label=True) for theta in every]
        )
        assert (found[column] == (scores[column] > every[best]))[mask[column]].all()


@options
@pytest.mark.parametrize("offset", ["class", "one"])
def test_offsets_of_linear_thresholds_by_brute_force(options, offset, monkeypatch):
    monkeypatch.setattr("lsep_ml.decisions.offset.FEW_POSITIVES", 0)
    log_odds, targets, mask = random_case(2)
    decision = LinearThresholds(4, 5, offset=offset, **options)
    decision.choose(honest(log_odds, targets, mask))
    found = log_odds > decision.offsets.numpy()
    for part in [slice(k, k + 1) for k in range(5)] if offset == "class" else [slice(None)]:
        given = targets[:, part], mask[:, part]
        tried = [log_odds[:, part] > theta for theta in oracle.every_cutoff(log_odds[:, part], given[1])]
        best = oracle.best([value(sets, *given, **options, by_label=offset == "class") for sets in tried])
        assert (found[:, part] == tried[best])[given[1]].all()


@options
def test_the_two_weights_of_support_by_brute_force(options):
    log_odds, targets, mask = random_case(3, rows=40)
    rows = honest(log_odds, targets, mask | (np.arange(40) % 2 == 0)[:, None])
    decision = LabelSetSupport(4, 5, log_odds="platt", **options)
    decision.choose(rows)
    values = []
    for pair in GRID:
        sets = np.zeros_like(targets)
        for fold in range(5):
            candidates = _SetTable.of(rows).without(fold).candidates(10_000)
            totals = rows.log_odds.astype(float) @ candidates.sets.T + candidates.bonus(*pair)
            sets[rows.folds == fold] = candidates.sets[totals.argmax(1)][rows.folds == fold]
        values.append(value(sets, targets, rows.known, **options))
    chosen = decision.choices()
    assert (chosen["alpha"], chosen["beta"]) == GRID[oracle.best(values)]


def test_a_miss_that_costs_more_is_made_less_often():
    generator = np.random.default_rng(0)
    targets = generator.random((300, 5)) < 0.3
    scores = generator.standard_normal((300, 5)) + 1.5 * targets
    case = scores, targets
    missed = []
    for price in (0.1, 1.0, 10.0):
        sets = (
            GlobalThreshold("exact", criterion="cost", miss_cost=price)
            .fit(scores, *case[1:])
            .predict(scores)
            .numpy()
        )
        missed.append((targets & ~sets).sum())
    assert missed[0] > missed[1] > missed[2]
    sets = GlobalThreshold("exact", criterion="break_even").fit(scores, *case[1:]).predict(scores).numpy()
    assert sets.sum() == targets.sum()  # as many predicted as true: precision is recall


def test_f_beta_of_one_is_f1_and_a_cost_of_one_is_the_hamming_loss():
    case = random_case(1, rows=200, levels=1000, masked=False)
    for kind in (TopK, GlobalThreshold, CappedThreshold):
        for key, same in (("fbeta", "f1"), ("cost", "hamming_loss")):
            assert kind(criterion=key).fit(*case).choices() == kind(criterion=same).fit(*case).choices()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"criterion": "auc"}, "criterion='auc': expected one of pc_p, .*, fbeta, cost, break_even"),
        (
            {"beta": 2.0, "criterion": "jaccard"},
            "beta=2.0: only criterion='fbeta' weighs by it, not 'jaccard'",
        ),
        ({"criterion": "fbeta", "beta": 0.0}, "beta=0.0: expected a positive number"),
        ({"criterion": "fbeta", "beta": float("nan")}, "beta=nan"),
        ({"miss_cost": 2.0}, "miss_cost=2.0: only criterion='cost'"),
        ({"criterion": "cost", "miss_cost": -1.0}, "miss_cost=-1.0: expected a positive number"),
        ({"criterion": "cost", "miss_cost": float("inf")}, "miss_cost=inf"),
    ],
)
@pytest.mark.parametrize(
    "kind",
    [
        TopK,
        GlobalThreshold,
        CappedThreshold,
        PerClassThreshold,
        partial(LinearThresholds, 4, 3),
        partial(LabelSetSupport, 4, 3),
    ],
)
def test_what_means_nothing_is_refused(kind, given, message):
    with pytest.raises(ValueError, match=message):
        kind(**given)


def test_the_three_are_no_metrics_of_a_table():
    assert set(CRITERIA) - set(LABEL_SET_KEYS) == {"fbeta", "cost", "break_even"}


@pytest.mark.parametrize("name", ["topk", "threshold", "capped", "per_class", "thresh_linear", "support"])
def test_what_was_decided_before_is_still_found(name: str, tmp_path: Path) -> None:
    config, _ = compose_here(tmp_path, f"decision={name}")
    hashed = config_sections(config, ("decision",))["decision"]
    assert "miss_cost" not in hashed
    assert ("beta" in hashed) == (name == "per_class")  # which had one from the beginning
    weighed, _ = compose_here(tmp_path, f"decision={name}", "decision.criterion=cost", "decision.miss_cost=3")
    assert config_sections(weighed, ("decision",))["decision"]["miss_cost"] == 3
    assert plain_sections({"decision": {}}, ("decision",)) == {"decision": {}}
