"""Class counts: taken from known targets, and filled in where a loss takes them."""

from functools import partial

import pytest
import torch
from hydra.utils import instantiate
from loss_cases import draw

from lsep_ml import losses
from lsep_ml.losses import ClassCounts, with_class_counts


def test_known_entries_are_counted() -> None:
    targets = torch.tensor([[1, 0, 1], [1, 1, 0], [0, 0, 0], [1, 0, 0]])
    mask = torch.tensor([[True, True, False], [True, False, True], [True, True, True], [False, True, True]])
    for dtype in (torch.bool, torch.uint8, torch.int64, torch.float32):
        assert [counts.tolist() for counts in ClassCounts.of(targets.to(dtype), mask)] == [
            [2, 0, 0],
            [1, 3, 3],
        ]
    assert [counts.tolist() for counts in ClassCounts.of(targets)] == [[3, 1, 1], [1, 3, 3]]


def test_they_are_filled_in_where_they_are_taken_and_not_even_counted_elsewhere() -> None:
    counts = ClassCounts(torch.tensor([1, 5]), torch.tensor([9, 5]))
    loss = with_class_counts(partial(losses.bce_loss, pos_weight="balanced"), lambda: counts)
    scores, targets = draw(4, 2, 0.5)
    plain = losses.bce_loss(scores, targets, pos_weight=[9.0, 1.0])
    assert (
        loss(scores, targets)
        == plain
        == losses.bce_loss(scores, targets, pos_weight=torch.tensor([9.0, 1.0]))
    )
    assert plain != losses.bce_loss(scores, targets)

    def never() -> ClassCounts:
        raise AssertionError("counted for nothing")

    assert with_class_counts(losses.lsep_loss, never) is losses.lsep_loss
    assert losses.compares_images(with_class_counts(losses.soft_f1_loss, never))


def test_a_configured_loss_still_says_what_it_is() -> None:
    configured = instantiate({"_target_": "lsep_ml.losses.bce_loss", "_partial_": True, "normalize": True})
    loss = with_class_counts(configured, lambda: ClassCounts(torch.ones(2), torch.ones(2)))
    assert loss.func is losses.bce_loss
    assert loss.keywords.keys() == {"normalize", "class_counts"}


def test_weights_are_capped_and_tempered() -> None:
    counts = ClassCounts(torch.tensor([1, 4, 0]), torch.tensor([99, 100, 100]))
    scores, targets = torch.zeros(1, 3), torch.tensor([[1, 1, 1]])

    def weights(**options: object) -> list[float]:
        f = scores.clone().requires_grad_()
        losses.bce_loss(f, targets, class_counts=counts, **options).backward()
        return (-2 * f.grad[0]).tolist()

    assert weights(pos_weight="balanced") == pytest.approx([20, 20, 20])
    assert weights(pos_weight="balanced", pos_weight_cap=1000.0) == pytest.approx([99, 25, 100])
    assert weights(pos_weight="tempered") == pytest.approx([99**0.5, 5, 10])


def test_ldam_without_a_margin_is_bce() -> None:
    scores, targets = draw(5, 6, 0.4)
    counts = ClassCounts.of(targets)
    torch.testing.assert_close(
        losses.ldam_loss(scores, targets, class_counts=counts, margin=0.0), losses.bce_loss(scores, targets)
    )


def test_splc_that_corrects_nothing_is_focal_with_a_margin() -> None:
    scores, targets = draw(5, 6, 0.4)
    focal = losses.focal_loss(scores, targets, alpha=None)
    torch.testing.assert_close(losses.splc_loss(scores, targets, margin=0.0, tau=1.0), focal)


def test_tkpr_against_all_labels_is_the_pairwise_logistic_loss_and_a_constant() -> None:
    """The pairs of two positives add log(1 + exp(x)) + log(1 + exp(-x)), and every positive against itself log 2."""
    scores, _ = draw(5, 6, 0.4)
    targets = torch.eye(6, dtype=torch.long)[:5]
    found = losses.tkpr_loss(scores, targets, top_k=6)
    torch.testing.assert_close(
        found,
        losses.pairwise_logistic_loss(scores, targets) + torch.log(torch.tensor(2.0, dtype=torch.float64)),
    )
