"""What every label set must keep: against plain loops, for every decision; saved, exported and refused."""

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from decisions_data import EVERY, fitted, learnable, name_of
from jobs import compose_here, run_job_here
from torch.export import Dim

from lsep_ml import decisions
from lsep_ml.data import DataError
from lsep_ml.data.label_groups import LabelGroups, read_label_groups
from lsep_ml.decisions import Calibrated, ConformalRisk, Decided, GlobalThreshold, LearnThenTest, TopK
from lsep_ml.decisions.constraints import Constraints
from lsep_ml.store.sections import RUN_SECTIONS, config_sections

EACH = [
    Constraints(min_labels=2),
    Constraints(max_labels=1),
    Constraints(2, 3),
    Constraints(one_of=((1, 4), (0, 5))),
    Constraints(at_most_one=((0, 2, 3),)),
    Constraints(implied=((0, 3), (3, 5), (2, 1))),
    Constraints(2, 3, ((0, 1),), ((2, 3),), ((2, 4), (4, 5))),
]


def kept(sets, margins, constraints):
    """Label sets that keep the constraints, image by image, label by label."""
    result = []
    for chosen, margin in zip(sets.tolist(), margins.tolist(), strict=True):
        labels = range(len(margin))
        found = {k for k in labels if chosen[k]}
        order = sorted(labels, key=lambda k, margin=margin: (-margin[k], k))
        banned, needed = set(), set()
        for group in (*constraints.one_of, *constraints.at_most_one):
            first = next(k for k in order if k in group)
            banned |= set(group) - {first}
            needed |= {first} if group in constraints.one_of else set()
        found = (found | needed) - banned
        if constraints.max_labels is not None:
            first = [k for k in order if k in needed] + [k for k in order if k in found - needed]
            found = set(first[: constraints.max_labels])
        while len(found) < constraints.min_labels:
            found.add(next(k for k in order if k not in found | banned))
        while new := {parent for label, parent in constraints.implied if label in found} - found:
            found |= new
        result.append([k in found for k in labels])
    return np.array(result)


def margins_of(scores, decided):
    if decided.thresholds is not None:
        return scores - decided.thresholds
    return scores if decided.probabilities is None else decided.probabilities


def constrained(decision, constraints):
    """The fitted decision under the constraints, or None where it promises what they would break."""
    fitted(decision)
    if {"recall": constraints.removes, "precision": bool(constraints), None: False}[decision.promises]:
        with pytest.raises(ValueError, match=f"{type(decision).__name__} promises {decision.promises}"):
            decision.constrain(constraints)
        return None
    return decision.constrain(constraints)


@pytest.fixture(autouse=True)
def free_again():
    yield
    for decision in EVERY:
        decision.constraints = Constraints()


@pytest.mark.parametrize("constraints", EACH, ids=str)
@pytest.mark.parametrize("decision", EVERY, ids=name_of)
def test_every_decision_keeps_them(decision, constraints, tmp_path):
    scores, _, features = learnable(rows=120, seed=1)
    before = fitted(decision).decide(scores, features)
    if constrained(decision, constraints) is None:
        return
    decided = decision.decide(scores, features)
    expected = kept(before.label_sets, margins_of(scores, before), constraints)
    assert np.array_equal(decided.label_sets.numpy(), expected)
    assert torch.equal(decision.predict(scores, features), decided.label_sets)
    if decided.thresholds is not None:
        assert torch.equal(scores > decided.thresholds, decided.label_sets)
        moved = decided.thresholds != before.thresholds
        assert torch.equal(moved, decided.label_sets != before.label_sets)  # no further than is asked
    if decided.counts is not None:
        assert torch.equal(decided.counts, decided.label_sets.sum(1))
    decision.save(tmp_path / "decision.json")
    assert json.loads((tmp_path / "decision.json").read_text())["format"] == 2
    loaded = decisions.load(tmp_path / "decision.json")
    assert loaded.constraints == constraints
    assert torch.equal(loaded.predict(scores, features), decided.label_sets)


class Graph(torch.nn.Module):
    def __init__(self, decision):
        super().__init__()
        self.decision = decision

    def forward(self, scores):
        return self.decision.constrained(scores).label_sets.to(torch.uint8)


@pytest.mark.parametrize("decision", [TopK(), GlobalThreshold(), Calibrated()], ids=name_of)
def test_they_are_in_the_graph(decision, tmp_path):
    scores, _, _ = learnable(rows=50, seed=1)
    graph = Graph(constrained(decision, EACH[-1])).eval()
    expected = decision.predict(scores)
    program = torch.export.export(graph, (scores[:3],), dynamic_shapes=({0: Dim.DYNAMIC},))
    assert torch.equal(program.module()(scores) != 0, expected)
    onnxruntime = pytest.importorskip("onnxruntime")
    from lsep_ml.bundle.onnx_program import OPSET, onnx_program

    written = onnx_program(graph, (scores[:3],), ["scores"], ["labels"], [{0: "batch"}], OPSET)
    written.save(tmp_path / "graph.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "graph.onnx", providers=["CPUExecutionProvider"])
    assert np.array_equal(session.run(["labels"], {"scores": scores.numpy()})[0] != 0, expected.numpy())


def test_ties_and_extremes():
    scores = torch.tensor([[0.0, 0.0, 0.0], [-3e38, -3e38, 1e-38], [5.0, 5.0, 5.0]])
    sets = scores > 1
    decided = Constraints(min_labels=2).apply(scores, Decided(sets, torch.full_like(scores, 1.0)))
    assert decided.label_sets.tolist() == [[True, True, False], [True, False, True], [True, True, True]]
    assert torch.equal(scores > decided.thresholds, decided.label_sets)
    decided = Constraints(max_labels=1).apply(scores, Decided(sets, torch.full_like(scores, 1.0)))
    assert decided.label_sets.tolist() == [[False] * 3, [False] * 3, [True, False, False]]
    assert torch.equal(scores > decided.thresholds, decided.label_sets)


def test_parents_of_parents_also_in_a_ring():
    assert Constraints(implied=((0, 1), (1, 2), (1, 3))).closure() == ((0, 1), (0, 2), (0, 3), (1, 2), (1, 3))
    with pytest.raises(ValueError, match="label 0 implies itself"):
        Constraints(implied=((0, 1), (1, 0)))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"min_labels": -1}, "min_labels=-1, max_labels=None: expected whole numbers"),
        ({"min_labels": 1.5}, "min_labels=1.5"),
        ({"max_labels": 0}, "max_labels=0"),
        ({"max_labels": True}, "max_labels=True"),
        ({"min_labels": 3, "max_labels": 2}, "min_labels=3, max_labels=2: the first is larger"),
        ({"max_labels": 1, "one_of": ((0, 1), (2, 3))}, "a label of each of 2 one_of groups"),
        ({"one_of": ((0, 1), (1, 2))}, "a label is in one group, once"),
        ({"one_of": ((0, 1),), "implied": ((3, 1),)}, "label 1, implied by label 3, is in a group"),
    ],
)
def test_what_cannot_be_kept_together_is_refused(given, message):
    with pytest.raises(ValueError, match=message):
        Constraints(**given)


def test_labels_that_are_not_there_are_refused():
    scores, targets, _ = learnable()
    decision = GlobalThreshold().fit(scores, targets)
    with pytest.raises(ValueError, match=r"groups: labels 0\.\.9, but there are 6"):
        decision.constrain(Constraints(one_of=((0, 9),))).predict(scores)
    with pytest.raises(ValueError, match="an image can have no more than 5 labels"):
        decision.constrain(Constraints(6, one_of=((0, 1),))).predict(scores)


def test_a_guarantee_may_not_be_broken():
    assert ConformalRisk().constrain(Constraints(min_labels=1)).constraints.min_labels == 1
    with pytest.raises(ValueError, match="ConformalRisk promises recall"):
        ConformalRisk().constrain(Constraints(max_labels=3))
    for broken in (Constraints(min_labels=1), Constraints(max_labels=1), Constraints(at_most_one=((0, 1),))):
        with pytest.raises(ValueError, match="LearnThenTest promises precision"):
            LearnThenTest().constrain(broken)


def test_a_label_taken_away_makes_a_label_set_less_precise():
    scores, wrong = torch.tensor([[3.0, 2.0, 1.0]]), torch.tensor([[True, False, False]])
    decision = GlobalThreshold().fit(torch.cat([scores, -scores]), torch.tensor([[1, 1, 1], [0, 0, 0]]))
    shares = [
        float((label_sets & wrong).sum() / label_sets.sum())
        for label_sets in (decision.predict(scores), decision.constrain(Constraints(1, 1)).predict(scores))
    ]
    assert shares == [pytest.approx(1 / 3), 1.0]


def test_the_recall_that_was_promised_holds_with_labels_added():
    scores, targets, _ = learnable(rows=200)
    decision = ConformalRisk(0.2).fit(scores, targets)
    more = decision.predict(scores)
    decision.constrain(Constraints(min_labels=3, implied=((0, 5),)))
    assert (decision.predict(scores) >= more).all()


PARITY = {"rule": "one_of", "labels": ["0", "1"]}
REST = {"rule": "threshold", "labels": ["5"]}
GROUPS = {"groups": {"parity": PARITY, "rest": REST}, "implies": {"7": ["8"], "8": ["9"]}}


def test_a_file_of_groups(tmp_path: Path) -> None:
    (tmp_path / "groups.json").write_text(json.dumps(GROUPS))
    names = [str(digit) for digit in range(10)]
    assert read_label_groups(tmp_path / "groups.json", names) == LabelGroups(((0, 1),), (), ((7, 8), (8, 9)))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "Expecting"),
        ("[]", "expected an object with the keys groups, implies"),
        ('{"group": {}}', "expected an object with the keys"),
        ('{"groups": []}', "groups: expected an object"),
        ('{"groups": {"a": {"rule": "two_of", "labels": ["0"]}}}', "group 'a': expected a rule"),
        ('{"groups": {"a": {"rule": "one_of", "labels": "0"}}}', "group 'a': expected a list of labels"),
        ('{"groups": {"a": {"rule": "one_of", "labels": ["x"]}}}', "group 'a': 'x' is none of the labels"),
        ('{"groups": {"a": {"rule": "one_of", "labels": ["0", "0"]}}}', "'0' is in 'a' and in 'a'"),
        ('{"implies": {"0": ["x"]}}', "what '0' implies: 'x' is none of the labels"),
        ('{"implies": {"x": ["0"]}}', "implies: 'x' is none of the labels"),
    ],
)
def test_a_file_of_groups_of_another_form_is_refused(content: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "groups.json").write_text(content)
    with pytest.raises(DataError, match=f"groups_of_labels=.*{message}"):
        read_label_groups(tmp_path / "groups.json", ["0", "1"])
    with pytest.raises(DataError, match="No such file"):
        read_label_groups(tmp_path / "absent.json", ["0", "1"])


SMALL = (
    "data.train=60",
    "data.val=20",
    "data.test=20",
    "training.epochs=1",
    "fitting.epochs=1",
    "trainer=cpu",
)


def test_a_run_keeps_them_and_shares_its_training(tmp_path: Path) -> None:
    (tmp_path / "groups.json").write_text(json.dumps(GROUPS))
    plain, folder = run_job_here(tmp_path / "out", *SMALL, "decision=threshold")
    assert config_sections(compose_here(tmp_path / "out", *SMALL)[0], ("label_sets",)) == {"label_sets": {}}
    asked = (
        *SMALL,
        "decision=threshold",
        "label_sets.min_labels=2",
        f"data.groups_of_labels={tmp_path / 'groups.json'}",
    )
    record, other = run_job_here(tmp_path / "out", *asked)
    assert folder != other
    assert record["identity"] == plain["identity"]  # the network is the same
    with np.load(other / "predictions.npz", allow_pickle=False) as arrays:
        sets, scores, thresholds = arrays["predictions"] != 0, arrays["scores"], arrays["thresholds"]
    assert (sets[:, :2].sum(1) == 1).all()
    assert (sets.sum(1) >= 2).all()
    assert not (sets[:, 7] & ~sets[:, 9]).any()
    assert np.array_equal(scores > thresholds, sets)
    assert run_job_here(tmp_path / "out", *asked)[0] == json.loads(json.dumps(record))  # found again
    (tmp_path / "groups.json").write_text(json.dumps({"implies": {"0": ["1"]}}))
    with pytest.raises(ValueError, match="another configuration"):  # the same name, another content
        run_job_here(tmp_path / "out", *asked)
    (tmp_path / "groups.json").write_text(json.dumps({"implies": {"7": ["8"], "8": ["7"]}}))
    with pytest.raises(ValueError, match=r"groups_of_labels=.*groups\.json: implied: '7' implies itself"):
        run_job_here(tmp_path / "out", *asked)
    with pytest.raises(ValueError, match="no more than 10 labels"):
        run_job_here(tmp_path / "out", *SMALL, "label_sets.min_labels=11")
    assert set(itertools.chain(RUN_SECTIONS)) >= {"decision", "label_sets"}
