"""Rules fitted from blocks of labels are those fitted on the whole matrix, to the last bit."""

import copy
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from scipy.sparse import csc_array

from lsep_ml.decisions import GlobalThreshold, PerClassThreshold, shared_thresholds
from lsep_ml.decisions.checks import ChosenRows
from lsep_ml.decisions.label_blocks import fit_by_label_blocks
from lsep_ml.metrics.label_blocks import LabelBlock


def drawn(images: int, labels: int, seed: int) -> tuple[Any, Any]:
    """Scores with ties, one label without a positive and one that all images have."""
    rng = np.random.default_rng(seed)
    targets = rng.random((images, labels)) < np.geomspace(0.5, 0.01, labels)
    targets[:, 0], targets[:, -1] = True, False
    scores = np.round(rng.normal(size=(images, labels)) + targets + rng.normal(size=labels), 1)
    return scores.astype(np.float32), targets


class Blocks:
    """A matrix as blocks of some labels."""

    def __init__(self, scores: Any, targets: Any, size: int, mask: Any = None) -> None:
        self.scores, self.targets, self.size, self.mask = scores, csc_array(targets), size, mask

    def __iter__(self) -> Iterator[LabelBlock]:
        for start in range(0, self.scores.shape[1], self.size):
            labels = slice(start, start + self.size)
            known = None if self.mask is None else self.mask[:, labels]
            yield LabelBlock(start, self.scores[:, labels], self.targets[:, labels].toarray() != 0, known)


def same_as_whole(rule: Any, scores: Any, targets: Any, size: int, mask: Any = None) -> None:
    """The rule fitted by blocks of `size` labels has the same state, to the last bit, as the one fitted on all."""
    whole = copy.deepcopy(rule).fit(scores, targets, mask)
    by_blocks = fit_by_label_blocks(rule, Blocks(scores, targets, size, mask))
    assert by_blocks.state_dict().keys() == whole.state_dict().keys()
    for name, value in whole.state_dict().items():
        torch.testing.assert_close(by_blocks.state_dict()[name], value, rtol=0, atol=0, msg=name)
    assert torch.equal(by_blocks.predict(scores), whole.predict(scores))


RULES: list[tuple[type[Any], dict[str, Any]]] = [
    (GlobalThreshold, {}),
    (GlobalThreshold, {"criterion": "of1", "steps": 7}),
    *(
        (GlobalThreshold, {"search": "exact", "criterion": criterion})
        for criterion in ("f1", "pc_p", "pc_r", "ov_p", "ov_r", "cf1", "of1", "hamming_loss")
    ),
    (GlobalThreshold, {"search": "exact", "criterion": "fbeta", "beta": 2.0}),
    (GlobalThreshold, {"search": "exact", "criterion": "cost", "miss_cost": 5.0}),
    (PerClassThreshold, {"search": "grid"}),
    (PerClassThreshold, {"search": "grid", "guard": False}),
    (PerClassThreshold, {"search": "grid", "folds": 3, "seed": 1, "criterion": "pc_p"}),
    (PerClassThreshold, {"search": "grid", "criterion": "break_even"}),
    (PerClassThreshold, {}),
    (PerClassThreshold, {"guard": False}),
    (PerClassThreshold, {"folds": 3, "seed": 1, "criterion": "fbeta", "beta": 0.5}),
    (PerClassThreshold, {"criterion": "cost", "miss_cost": 5.0}),
]


@pytest.mark.parametrize(("kind", "options"), RULES)
@pytest.mark.parametrize(("images", "labels", "size"), [(200, 23, 5), (40, 9, 9), (1, 4, 3), (60, 12, 1)])
def test_blocks_give_the_same_thresholds(
    kind: type[Any], options: dict[str, Any], images: int, labels: int, size: int
) -> None:
    scores, targets = drawn(images, labels, seed=images)
    same_as_whole(kind(**options), scores, targets, size)


@pytest.mark.parametrize(("kind", "options"), RULES)
def test_blocks_with_unknown_entries_give_the_same_thresholds(
    kind: type[Any], options: dict[str, Any]
) -> None:
    """A label and an image are known nowhere, another label in one image alone."""
    scores, targets = drawn(50, 11, seed=3)
    mask = np.random.default_rng(4).random(scores.shape) < 0.7
    mask[7], mask[:, 2], mask[1:, 5] = False, False, False
    same_as_whole(kind(**options), scores, targets, 4, mask)


@pytest.mark.parametrize("seed", range(40))
def test_an_exact_search_by_blocks_finds_what_the_whole_one_finds(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the sizes, ties, spread, positives (none in a fold or in most labels) and cut-offs that it looks at."""
    rng = np.random.default_rng(seed)
    monkeypatch.setattr(shared_thresholds, "_MARKS", int(rng.choice([2, 4, 128])))
    images, labels = int(rng.integers(2, 80)), int(rng.integers(1, 9))
    targets = rng.random((images, labels)) < rng.choice([0.01, 0.1, 0.5], labels)
    targets[rng.integers(images), 0], targets[rng.integers(images), -1] = True, True
    targets[0, 0] = not targets[:, 0].all()
    scores = np.round(rng.normal(size=targets.shape) * rng.choice([1, 1e4]) + 2 * targets, rng.integers(0, 3))
    mask = rng.random(targets.shape) < 0.8 if seed % 2 else None
    if mask is not None:
        mask[0], mask[1] = True, True
    if not (targets & (True if mask is None else mask)).any():
        targets[1, 0] = True
    rule = PerClassThreshold(guard=bool(seed % 3)) if seed % 4 else GlobalThreshold("exact")
    same_as_whole(rule, scores.astype(np.float32), targets, int(rng.integers(1, labels + 1)), mask)


def test_an_exact_search_by_blocks_is_that_of_plain_loops() -> None:
    """Macro F1 at every midway between two scores, in float64, one threshold after another."""
    scores, targets = drawn(40, 6, seed=9)
    distinct = np.unique(scores).astype(np.float64)[::-1]
    cuts = [distinct[0], *((distinct[1:] + distinct[:-1]) / 2)]
    values = []
    for cut in cuts:
        total = 0.0
        for label in range(6):
            predicted, true = scores[:, label] > np.float32(cut), targets[:, label]
            both = 2 * int((predicted & true).sum())
            total += both / max(1, int(predicted.sum() + true.sum()))
        values.append(total / 6)
    found = fit_by_label_blocks(GlobalThreshold("exact"), Blocks(scores, targets, 4))
    assert float(found.theta) == np.float32(cuts[int(np.argmax(np.array(values) >= max(values) - 1e-12))])


def test_the_number_of_threads_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    scores, targets = drawn(60, 12, seed=1)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    same_as_whole(PerClassThreshold(), scores, targets, 2)
    same_as_whole(GlobalThreshold(), scores, targets, 2)


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        (GlobalThreshold("exact", criterion="break_even"), "break_even.*search='grid'"),
        (PerClassThreshold(criterion="break_even"), "break_even.*search='grid'"),
        (GlobalThreshold(criterion="exact_match"), "criterion='exact_match'"),
        (PerClassThreshold(beta=2.0), "beta"),
        (PerClassThreshold(search="grid", min_recall=0.5), "min_recall"),
        (PerClassThreshold(search="grid", criterion="of1"), "divides by label"),
    ],
)
def test_what_needs_all_labels_at_once_is_refused(rule: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        fit_by_label_blocks(rule, Blocks(*drawn(20, 4, 0), size=2))


def test_scores_that_are_not_finite_name_their_label() -> None:
    scores, targets = drawn(20, 7, 0)
    scores[3, 5] = np.nan
    with pytest.raises(ValueError, match="label 5"):
        fit_by_label_blocks(GlobalThreshold(), Blocks(scores, targets, 2))


def test_blocks_without_a_known_entry_are_refused() -> None:
    scores, targets = drawn(20, 7, 0)
    with pytest.raises(ValueError, match="no known entry"):
        fit_by_label_blocks(GlobalThreshold(), Blocks(scores, targets, 2, np.zeros(scores.shape, bool)))


def test_chosen_rows_are_those_of_the_matrix() -> None:
    matrix = np.random.default_rng(0).normal(size=(9, 4)).astype(np.float32)
    numbers = np.array([7, 0, 0, 3, 8])
    held, rows = ChosenRows(matrix, numbers), matrix[numbers]
    assert (held.shape, held.size, held.dtype, len(held)) == (rows.shape, rows.size, rows.dtype, len(rows))
    np.testing.assert_array_equal(np.asarray(held), rows, strict=True)
    for at in (slice(1, 4), np.array([4, 0]), 2, (slice(None), slice(1, 3)), (np.array([1, 2]), 3)):
        np.testing.assert_array_equal(held[at], rows[at], strict=True)
