"""Rules fitted from blocks of labels are those fitted on the whole matrix, to the last bit."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from scipy.sparse import csc_array

from lsep_ml.decisions import GlobalThreshold, PerClassThreshold
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

    def __init__(self, scores: Any, targets: Any, size: int) -> None:
        self.scores, self.targets, self.size = scores, csc_array(targets), size

    def __iter__(self) -> Iterator[LabelBlock]:
        for start in range(0, self.scores.shape[1], self.size):
            labels = slice(start, start + self.size)
            yield LabelBlock(start, self.scores[:, labels], self.targets[:, labels].toarray() != 0)


RULES: list[tuple[type[Any], dict[str, Any]]] = [
    (GlobalThreshold, {}),
    (GlobalThreshold, {"criterion": "of1", "steps": 7}),
    (PerClassThreshold, {"search": "grid"}),
    (PerClassThreshold, {"search": "grid", "guard": False}),
    (PerClassThreshold, {"search": "grid", "folds": 3, "seed": 1, "criterion": "pc_p"}),
    (PerClassThreshold, {"search": "grid", "criterion": "break_even"}),
]


@pytest.mark.parametrize(("kind", "options"), RULES)
@pytest.mark.parametrize(("images", "labels", "size"), [(200, 23, 5), (40, 9, 9), (1, 4, 3), (60, 12, 1)])
def test_blocks_give_the_same_thresholds(
    kind: type[Any], options: dict[str, Any], images: int, labels: int, size: int
) -> None:
    scores, targets = drawn(images, labels, seed=images)
    whole = kind(**options).fit(scores, targets)
    by_blocks = fit_by_label_blocks(kind(**options), Blocks(scores, targets, size))
    assert by_blocks.state_dict().keys() == whole.state_dict().keys()
    for name, value in whole.state_dict().items():
        torch.testing.assert_close(by_blocks.state_dict()[name], value, rtol=0, atol=0, msg=name)
    assert torch.equal(by_blocks.predict(scores), whole.predict(scores))


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        (GlobalThreshold("exact"), "needs? 'grid'|need 'grid'"),
        (PerClassThreshold(), "need 'grid'"),
        (GlobalThreshold(criterion="exact_match"), "criterion='exact_match'"),
        (PerClassThreshold(search="grid", beta=2.0), "beta"),
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
