"""The ensemble trains as torch does; the summaries read curves with known answers."""

import decisions
import ensemble
import numpy as np
import optimisation
import pytest
import sampling
import torch
from torch import nn

from lsep_ml import losses


def problem(rows: int = 48) -> ensemble.Problem:
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(rows, 6, generator=generator)
    targets = (features[:, :4] > 0.3).long()
    return ensemble.Problem(features, targets, features, targets)


def test_a_member_trains_as_the_same_network_by_torch_alone() -> None:
    data, rate = problem(), 0.05
    members = ensemble.Members((6, *ensemble.HIDDEN, 4), [3], torch.float32)
    layers: list[nn.Module] = []
    for weights, bias in zip(members.parameters[::2], members.parameters[1::2], strict=True):
        layer = nn.Linear(*weights.shape[1:])
        layer.weight.data, layer.bias.data = weights[0].detach().T.clone(), bias[0, 0].detach().clone()
        layers += [layer, nn.ReLU()]
    network = nn.Sequential(*layers[:-1])
    sgd = torch.optim.SGD(network.parameters(), lr=rate, momentum=0.9, weight_decay=5e-5)
    order = np.random.default_rng(3)
    expected = []
    for _ in range(3):
        total = 0.0
        for rows in torch.from_numpy(order.permutation(48)).split(32):
            loss = losses.lsep_loss(network(data.features[rows]), data.targets[rows])
            sgd.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(network.parameters(), 0.5)
            sgd.step()
            total += loss.item() * len(rows)
        expected.append(total / 48)
    found = ensemble.train(data, losses.lsep_loss, [0.01, rate], [2, 3], 3, clip=0.5)
    mine = [row["train_loss"] for row in found if (row["rate"], row["seed"]) == (rate, 3)]
    assert mine == pytest.approx(expected, rel=1e-4)


def test_a_member_that_diverges_is_alone() -> None:
    alone = ensemble.train(problem(), losses.bpmll_loss, [0.001], [0], 2)
    beside = ensemble.train(problem(), losses.bpmll_loss, [0.001, 1e4], [0], 2)
    assert [row["failure"] for row in beside if row["rate"] == 1e4] == ["not finite"]
    assert [row["val_map"] for row in beside if row["rate"] == 0.001] == pytest.approx(
        [row["val_map"] for row in alone], abs=1e-4
    )


def test_a_working_range_is_interpolated_and_ends_where_the_rates_do() -> None:
    logs = np.array([-3.0, -2, -1, 0])
    assert optimisation.working_range(logs, np.array([0.2, 0.6, 0.8, 0.0]), 0.4) == pytest.approx(
        (-2.5, -0.5)
    )
    assert optimisation.working_range(logs, np.array([0.5, 0.6, 0.8, 0.7]), 0.4) == (-3, 0)
    assert optimisation.working_range(logs, np.array([0.1, 0.3, 0.2, 0.1]), 0.4) == (-2, -2)


def test_the_summary_counts_failures_and_epochs() -> None:
    def rows(loss: str, rate: str, curve: list[float], failure: str = "") -> list[dict[str, str]]:
        found = [
            {
                "loss": loss,
                "rate": rate,
                "seed": seed,
                "epoch": str(epoch),
                "val_map": str(value),
                "failure": "",
            }
            for seed in "01"
            for epoch, value in enumerate(curve, 1)
        ]
        return found + [{**row, "val_map": "0", "failure": failure} for row in found[:2] if failure]

    table = rows("lsep", "0.1", [0.2, 0.5, 1.0]) + rows("lsep", "1", [0.95, 0.6, 0.6])
    table += rows("bpmll", "0.1", [0.3, 0.2]) + rows("bpmll", "1", [0.1], "not finite")
    target, (lsep, bpmll) = optimisation.summarise(table)
    assert target == pytest.approx(0.9)
    assert lsep["epochs_to_target"] == "3 3"
    assert lsep["decades"] == pytest.approx(1)
    assert lsep["failed_trainings"] == 0
    assert bpmll["epochs_to_target"] == "- -"
    assert bpmll["decades"] == 0
    assert bpmll["failed_trainings"] == 2


def test_sampling_all_pairs_is_exact_and_fewer_are_biased_low() -> None:
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(4, 12, generator=generator)
    targets = (torch.arange(12) < 3).long().expand(4, 12)
    exact = sampling.estimates(scores, targets, 27, 5)
    assert (exact["value"], exact["gradient_length"]) == pytest.approx((1, 1), abs=1e-5)
    assert exact["gradient_spread"] == pytest.approx(0, abs=1e-3)
    few = sampling.estimates(scores, targets, 3, 200)
    assert few["value"] < 0.8
    assert few["gradient_spread"] > 0.2


def test_the_synthetic_problem_is_what_it_says() -> None:
    training, *_ = sampling.draw(0)
    assert training.targets.shape == (sampling.TRAIN, 1000)
    assert training.targets.sum(1).double().mean().item() == pytest.approx(10, abs=0.3)


def test_difficulty_is_found_where_it_is_put_in() -> None:
    rng = np.random.default_rng(0)
    targets = np.zeros((400, 6), np.uint8)
    targets[:, :2] = 1
    noise = np.linspace(0, 4, 400)[:, None]
    offset = 30 * rng.normal(size=(400, 1))  # LSEP does not see it
    scores = 3.0 * targets + noise * rng.normal(size=(400, 6)) + offset
    thresholds = np.broadcast_to(scores.mean(1, keepdims=True) + noise, scores.shape)
    found = decisions.difficulty(
        {"scores": scores, "targets": targets, "thresholds": thresholds, "predictions": scores > thresholds}
    )
    assert found["relative, pairs wrong"] > 0.5
    assert found["relative, pairs wrong, same count"] == pytest.approx(found["relative, pairs wrong"])
    assert found["label's own threshold, labels above it"] > 0.4
    assert abs(found["raw, pairs wrong"]) < 0.2
