"""How methods are named and ordered, and how a protocol departs from the paper's."""

import pytest

from lsep_ml.decisions import DECISIONS
from lsep_ml.metrics import PAPER_KEYS
from lsep_ml.reports.paper import (
    LOSSES,
    decision_name,
    departures,
    loss_name,
    method_name,
    method_order,
    paper_numbers,
    paper_table,
)
from lsep_ml.runs.finished import NO_DECISION, Method


@pytest.mark.parametrize(
    ("loss", "decision", "name"),
    [
        ("warp", "topk", "WARP (K)"),
        ("lsep", "thresh_est", "LSEP (threshold est.)"),
        ("lsep", "per_class", "LSEP (θ per class)"),
        ("cnn_rnn", "none", "Wang et al. (CNN-RNN)"),
        ("my_loss", "my_decision", "my_loss (my_decision)"),
        ("my_loss", "none", "my_loss"),
    ],
)
def test_a_method_is_the_loss_and_the_decision_in_brackets(loss: str, decision: str, name: str) -> None:
    assert method_name(loss, decision) == name


def test_every_decision_of_the_catalogue_has_its_name() -> None:
    assert [decision_name(row.key) for row in DECISIONS] == [row.name for row in DECISIONS]
    assert (decision_name("other"), loss_name("other")) == ("other", "other")


def test_methods_stand_in_the_paper_s_order_with_what_it_lacks_before_lsep() -> None:
    methods = [
        *(("lsep", "topk"), ("mine", "topk"), ("bce", "topk"), ("softmax", "threshold"), ("softmax", "topk")),
        *(("lsep", "odd"), ("lsep", "thresh_est"), ("also_mine", "topk")),
    ]
    assert sorted(methods, key=method_order) == [
        ("softmax", "topk"),
        ("softmax", "threshold"),
        ("bce", "topk"),
        ("also_mine", "topk"),
        ("mine", "topk"),
        ("lsep", "topk"),
        ("lsep", "thresh_est"),
        ("lsep", "odd"),  # an unknown decision comes last
    ]
    assert list(LOSSES)[-1] == "lsep"


def test_the_paper_s_tables_are_whole() -> None:
    losses, decisions = paper_table(1), paper_table(2)
    assert list(losses)[-1] == list(decisions)[-1] == ("lsep", "thresh_est")
    assert [method for method in losses if method.decision == NO_DECISION] == [("cnn_rnn", "none")]
    for method, numbers in (losses | decisions).items():
        assert all(0 < value < 100 for value in numbers.values())
        full = 6 + 6 + 2  # NUS-WIDE and COCO, and F1 and exact match of VOC2007
        assert len(numbers) == (full if method.scorer != "cnn_rnn" else len(numbers))
    assert losses[Method("lsep", "thresh_est")] == decisions[Method("lsep", "thresh_est")]
    assert set(paper_numbers(2, "nuswide")[Method("lsep", "topk")]) == set(PAPER_KEYS)


@pytest.mark.parametrize(
    ("data", "model", "images", "told"),
    [
        ("voc2007", "vgg16", {"train": "4760", "val": "251", "test": "4952"}, []),
        ("digits", "small_cnn", {"train": "1", "val": "1", "test": "1"}, []),
        ("voc2007", "vgg16", {}, []),  # a record of a version that counted nothing
        ("voc2007", "vgg16", {"train": "10", "val": "many", "test": "4952"}, []),
        (
            "coco",
            "timm resnet50",
            {"train": "100", "val": "20", "test": "7"},
            [
                "120 training images (the paper: 82,081)",
                "7 test images (the paper: 40,137)",
                "network timm resnet50 (the paper: VGG16)",
            ],
        ),
    ],
)
def test_departures_from_the_paper_s_protocol(
    data: str, model: str, images: dict[str, str], told: list[str]
) -> None:
    assert departures(data, model, images) == told
