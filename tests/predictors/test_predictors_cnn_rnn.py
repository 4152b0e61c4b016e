"""CNN-RNN: what it learns, and its beam search against the enumeration of all paths."""

from functools import partial
from itertools import permutations

import numpy as np
import pytest
import torch
from torch import Tensor

from lsep_ml.predictors import CNNRNN
from lsep_ml.predictors.cnn_rnn import label_paths
from lsep_ml.predictors.label_paths import PADDING, LabelPaths

ADAM = partial(torch.optim.Adam, lr=0.01)
SMALL = {"size": 24, "hidden": 48, "dropout": 0.0}


def network(labels: int, seed: int = 0) -> LabelPaths:
    """A network of random weights, large enough that paths differ much in probability."""
    torch.manual_seed(seed)
    paths = LabelPaths(6, labels, size=8, hidden=16, dropout=0.0).eval()
    with torch.no_grad():
        for weight, factor in (
            (paths.from_image.weight, 4),
            (paths.from_path.weight, 5),
            (paths.lstm.weight_ih_l0, 5),
        ):
            weight.mul_(factor)
    return paths


def path_log_probability(paths: LabelPaths, image: Tensor, labels: tuple[int, ...]) -> float:
    """log P of naming exactly these labels in this order, one step after the other."""
    state, token, total = None, paths.start, 0.0
    for position, nxt in enumerate([*labels, paths.end]):
        output, state = paths.lstm(paths.embedding(torch.tensor([[token]])), state)
        joint = torch.relu(paths.from_path(output[0, 0]) + paths.from_image(image))
        logits = (paths.embedding.weight @ joint).tolist()
        left = [k for k in range(paths.num_labels) if k not in labels[:position]] + [paths.end]
        total += logits[nxt] - float(np.logaddexp.reduce([logits[k] for k in left]))
        token = nxt
    return total


@pytest.mark.parametrize("labels", [1, 3, 4])
@torch.no_grad()
def test_beam_search_of_full_width_is_exhaustive_search(labels: int) -> None:
    paths, images = network(labels), torch.randn(12, 6, generator=torch.Generator().manual_seed(1))
    every = [p for length in range(labels + 1) for p in permutations(range(labels), length)]
    found, log_p = paths.most_probable(images, width=len(every))
    sizes = set()
    for row, image in enumerate(images):
        values = [path_log_probability(paths, image, path) for path in every]
        assert np.logaddexp.reduce(values) == pytest.approx(0, abs=1e-4)  # every path is there
        best = every[int(np.argmax(values))]
        assert found[row].nonzero().flatten().tolist() == sorted(best)
        assert float(log_p[row]) == pytest.approx(max(values), abs=1e-4)
        sizes.add(len(best))
    assert len(sizes) > 1 or labels == 1


@torch.no_grad()
def test_a_beam_of_one_is_greedy_until_nothing_better_can_come() -> None:
    paths, images = network(4, seed=3), torch.randn(60, 6, generator=torch.Generator().manual_seed(3))
    found, _ = paths.most_probable(images, width=1)
    wide, _ = paths.most_probable(images, width=65)
    for row, image in enumerate(images):
        prefix: tuple[int, ...] = ()
        candidates = [prefix]
        while len(prefix) < 4:  # END finishes any prefix of the greedy path
            following = [(*prefix, k) for k in range(4) if k not in prefix]
            prefix = max(following, key=lambda path: prefix_log_probability(paths, image, path))
            candidates.append(prefix)
        best = max(candidates, key=lambda path: path_log_probability(paths, image, path))
        assert found[row].nonzero().flatten().tolist() == sorted(best)
    assert not torch.equal(found, wide)


def prefix_log_probability(paths: LabelPaths, image: Tensor, labels: tuple[int, ...]) -> float:
    """log P of naming these labels first, whatever comes after."""
    token = torch.tensor([[paths.start, *labels[:-1]]])
    named = torch.zeros(1, len(labels), paths.num_labels, dtype=torch.bool)
    for position in range(1, len(labels)):
        named[0, position, list(labels[:position])] = True
    log_p, _ = paths.log_probabilities(paths.image(image[None]), token, named)
    return sum(float(log_p[0, position, label]) for position, label in enumerate(labels))


def test_the_loss_is_that_of_the_paths() -> None:
    paths, images = network(4), torch.randn(3, 6, generator=torch.Generator().manual_seed(4))
    targets = np.array([[1, 0, 1, 0], [0, 0, 0, 0], [1, 1, 0, 1]]) == 1
    named = [(0, 2), (), (0, 1, 3)]  # label 0 is the most frequent, then each is as frequent as the next
    with torch.no_grad():
        each = [path_log_probability(paths, image, path) for image, path in zip(images, named, strict=True)]
    loss = paths.loss(images, label_paths(targets))
    assert float(loss.detach()) == pytest.approx(-np.mean(each), rel=1e-5)
    loss.backward()
    assert all(torch.isfinite(parameter.grad).all() for parameter in paths.parameters())


def test_paths_name_frequent_labels_first() -> None:
    targets = np.array([[1, 1, 1], [0, 0, 1], [0, 1, 1], [0, 0, 0]]) == 1
    end, no = 3, PADDING
    wanted = [[2, 1, 0, end], [2, end, no, no], [2, 1, end, no], [end, no, no, no]]
    assert label_paths(targets).tolist() == wanted


def test_it_learns_to_copy() -> None:
    targets = np.random.default_rng(0).random((400, 6)) < 0.3
    targets[:, 5] = False  # and never names a label that no training image has
    model = CNNRNN(ADAM, **SMALL, epochs=15, batch_size=32).fit(targets[:300], targets[:300])
    label_sets, scores = model.predict(targets[300:])
    np.testing.assert_array_equal(label_sets, targets[300:])
    assert scores is None
    assert [row["epoch"] for row in model.history] == list(range(1, 16))
    assert model.history[-1]["train_loss"] < 0.2 * model.history[0]["train_loss"]


def test_it_overfits_50_images() -> None:
    rng = np.random.default_rng(1)
    features, targets = rng.normal(size=(50, 10)), rng.random((50, 5)) < 0.4
    model = CNNRNN(partial(torch.optim.Adam, lr=0.03), **SMALL, epochs=150, batch_size=50).fit(
        features, targets
    )
    np.testing.assert_array_equal(model.predict(features).label_sets, targets)


def test_the_result_is_determined_by_the_seed_and_keeps_the_caller_s_random_state() -> None:
    rng = np.random.default_rng(2)
    features, targets = rng.normal(size=(60, 4)), rng.random((60, 3)) < 0.5
    torch.manual_seed(7)
    before = torch.get_rng_state()
    first, again, other = (
        CNNRNN(ADAM, **{**SMALL, "dropout": 0.5}, epochs=2).fit(features, targets, seed=seed)
        for seed in (0, 0, 1)
    )
    assert torch.equal(torch.get_rng_state(), before)
    assert first.history == again.history != other.history
    np.testing.assert_array_equal(first.predict(features).label_sets, again.predict(features).label_sets)


def test_a_label_that_no_training_image_has_is_never_named() -> None:
    rng = np.random.default_rng(3)
    targets = rng.random((40, 4)) < 0.5
    targets[:, 2] = False
    model = CNNRNN(ADAM, **SMALL, epochs=1).fit(rng.normal(size=(40, 3)), targets)
    model.network.embedding.weight.data[2] = 100.0
    assert not model.predict(rng.normal(size=(30, 3))).label_sets[:, 2].any()


def test_what_it_refuses() -> None:
    rng = np.random.default_rng(4)
    features, targets = rng.normal(size=(20, 3)), rng.random((20, 2)) < 0.5
    mask = np.ones((20, 2), bool)
    mask[0, 0] = False
    with pytest.raises(ValueError, match="1 entries of the training targets are unknown, and a path"):
        CNNRNN(ADAM).fit(features, targets, mask)
    with pytest.raises(ValueError, match="beam=0"):
        CNNRNN(ADAM, beam=0)
    huge = partial(torch.optim.SGD, lr=1e30)
    with pytest.raises(FloatingPointError, match=r"not finite in epoch \d; lower predictor.optimizer.lr"):
        CNNRNN(huge, **SMALL, epochs=5).fit(features, targets)
