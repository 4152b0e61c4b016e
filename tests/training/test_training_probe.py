"""Probes by the solver: optima against scikit-learn and certificates, hard columns and labels, paths and folds."""

from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit
from sklearn.linear_model import LogisticRegression
from torch import Tensor, distributed, nn

from lsep_ml import losses
from lsep_ml.data import Split
from lsep_ml.data.stratified import stratified_folds
from lsep_ml.metrics.indicator import SparseIndicator
from lsep_ml.processes.group import Processes
from lsep_ml.training import continuation
from lsep_ml.training.continuation import HINGE_TOLERANCE, check_solvable, is_convex
from lsep_ml.training.kept import Kept
from lsep_ml.training.linear_scores import ProbeFeatures, StandardisedFeatures
from lsep_ml.training.path import DecayPath, Solving
from lsep_ml.training.probe import PATH, WIDEST, ProbeImages, best_of, next_on_path, weight_decay
from lsep_ml.training.recipe import Loss
from lsep_ml.training.solver import Solution, minimise
from lsep_ml.training.standardisation import ScoreLayer, Standardisation

N, D, K = 90, 8, 5
SMOOTH = ("lsep", "bpmll", "softmax", "bce", "zlpr", "pairwise_logistic", "two_way")


def loss_of(name: str) -> Loss:
    found: Loss = getattr(losses, f"{name}_loss")
    return found


def split(num: int = N, width: int = D, seed: int = 0, masked: bool = False) -> Split:
    """Features of columns of unlike size, one of them constant; the last label never occurs."""
    draws = np.random.default_rng(seed)
    hidden = draws.normal(size=(num, width))
    hidden[:, 2] = 0
    features = hidden * np.logspace(-2, 2, width)
    features[:, np.arange(width) != 2] += 3
    targets = (hidden[:, :K] + draws.normal(size=(num, K)) > 0.5 + np.arange(K) * 0.2).astype(np.uint8)
    targets[:, -1] = 0
    mask = draws.random((num, K)) < 0.8 if masked else None
    ids = np.array([str(row) for row in range(num)])
    return Split(torch.from_numpy(features.astype(np.float32)), targets, mask, ids)


def images_of(source: Split) -> ProbeImages:
    assert isinstance(source.images, Tensor)
    mask = None if source.mask is None else torch.from_numpy(source.mask)
    targets = torch.from_numpy(source.targets)
    return ProbeImages(StandardisedFeatures(source.images), targets, mask)


def end(images: ProbeImages, loss: Loss, decay: float, tolerance: float = 1e-6) -> tuple[ScoreLayer, Any]:
    start, _ = images.start(loss)
    blocks = images.blocks(torch.float64)
    return images.solve(loss, decay, start, blocks, tolerance=tolerance, fine=True)


def standardised(features: Tensor) -> NDArray[np.float64]:
    x = features.numpy().astype(np.float64)
    deviation = x.std(0)
    return (x - x.mean(0)) / np.where(deviation == 0, 1, deviation)


def gradient(source: Split, loss: Loss, layer: ScoreLayer, decay: float) -> float:
    """The norm by autograd on the whole matrix of features."""
    x = torch.from_numpy(standardised(source.images))
    weight, bias = (part.double().requires_grad_() for part in layer)
    mask = None if source.mask is None else torch.from_numpy(source.mask)
    value = (
        loss(x @ weight.T + bias, torch.from_numpy(source.targets), mask=mask) + decay * weight.square().sum()
    )
    parts = torch.autograd.grad(value, [weight, bias])
    return float(torch.cat([part.flatten() for part in parts]).norm())


@pytest.mark.parametrize("axes", [False, True])
@pytest.mark.parametrize("case", ["plain", "masked", "fewer images than features"])
@pytest.mark.parametrize("name", SMOOTH)
def test_the_gradient_is_gone_at_the_end(name: str, case: str, axes: bool) -> None:
    source = split(30, 60) if "fewer" in case else split(masked=case == "masked")
    images = images_of(source)
    layer, found = end(images.on_axes() if axes else images, loss_of(name), 0.03)
    assert found.converged
    assert found.gradient_norm <= 1e-6
    assert gradient(source, loss_of(name), layer, 0.03) <= 1.1e-6
    assert is_convex(loss_of(name))
    assert torch.isfinite(layer.weight).all()
    assert layer.weight[:, 2].abs().max() < 1e-6 / (2 * 0.03)  # the column of zeros
    never = layer.weight[-1] @ torch.from_numpy(standardised(source.images)).T + layer.bias[-1]
    assert never.max() < layer.bias[:-1].max()  # the label that never occurs is not the first


def test_bce_is_scikit_learns_logistic_regression() -> None:
    source = split()
    images = images_of(source)
    layer, _ = end(images, losses.bce_loss, 0.05)
    raw = nn.Linear(D, K)
    raw.load_state_dict(images.features.standardisation.raw(layer)._asdict())
    scores = raw(source.images).detach().numpy()
    oracle = LogisticRegression(C=1 / (2 * 0.05 * N), tol=1e-10, max_iter=10000)
    x = standardised(source.images)
    for label in range(K - 1):
        wanted = oracle.fit(x, source.targets[:, label]).decision_function(x)
        np.testing.assert_allclose(scores[:, label], wanted, atol=1e-4)


def pairwise_minimum(source: Split, decay: float, margin: float) -> tuple[float, float]:
    """Bounds, from below and above, of the least sum of hinges over pairs plus the penalty, by scipy.

    Hinges with a kink rounded in width lie above the hinges by at most width log 2 each; the widths go to 1e-5.
    """
    x, known = standardised(source.images), np.ones(source.targets.shape, bool)
    known = known if source.mask is None else np.asarray(source.mask)
    pairs = np.array(
        [
            (row, u, v)
            for row, labels in enumerate(source.targets)
            for u in np.flatnonzero((labels == 1) & known[row])
            for v in np.flatnonzero((labels == 0) & known[row])
        ]
    )
    row, u, v = pairs.T

    def value(flat: NDArray[np.float64], width: float) -> tuple[float, NDArray[np.float64]]:
        weight, bias = flat[:-K].reshape(K, -1), flat[-K:]
        scores = x @ weight.T + bias
        z = (margin + scores[row, v] - scores[row, u]) / width
        slopes = np.zeros_like(scores)
        np.add.at(slopes, (row, v), expit(z) / len(x))
        np.add.at(slopes, (row, u), -expit(z) / len(x))
        gradient = np.concatenate([(slopes.T @ x + 2 * decay * weight).ravel(), slopes.sum(0)])
        return float(width * np.logaddexp(0, z).sum() / len(x) + decay * (weight**2).sum()), gradient

    flat = np.zeros(K * x.shape[1] + K)
    for width in (0.3, 0.1, 0.03, 0.01, 3e-3, 1e-3, 3e-4, 1e-4, 3e-5, 1e-5):
        found = minimize(
            value, flat, (width,), "L-BFGS-B", jac=True, options={"maxiter": 3000, "ftol": 1e-15}
        )
        flat = found.x
    return found.fun - 1e-5 * np.log(2) * len(pairs) / len(x), value(flat, 1e-12)[0]


@pytest.mark.parametrize("case", ["plain", "masked", "fewer images than features"])
def test_the_ranking_loss_ends_at_its_minimum(case: str) -> None:
    source = split(30, 60) if "fewer" in case else split(masked=case == "masked")
    images = images_of(source)
    layer, found = end(images, partial(losses.ranking_loss, margin=1.0), 0.3)
    assert found.converged
    x = torch.from_numpy(standardised(source.images))
    hinges = losses.ranking_loss(x @ layer.weight.T + layer.bias, images.targets, mask=images.mask)
    value = float(hinges + 0.3 * layer.weight.square().sum())
    assert value == pytest.approx(found.value, rel=1e-9)
    low, high = pairwise_minimum(source, 0.3, 1.0)
    assert high <= low * (1 + 3 * HINGE_TOLERANCE)  # the oracle is sharp
    assert low <= value <= high * (1 + HINGE_TOLERANCE)


def test_the_ranking_loss_of_few_images_ends_no_higher_than_scipys() -> None:
    draws = np.random.default_rng(0)
    source = replace(
        split(20, 50),
        images=torch.from_numpy(draws.normal(size=(20, 50)).astype(np.float32)),
        targets=(draws.random((20, K)) < 0.4).astype(np.uint8),
    )
    images, loss = images_of(source).on_axes(), losses.ranking_loss
    zero, coarse = images.start(loss)
    begun, _ = images.solve(loss, 0.1, zero, images.blocks(), tolerance=coarse)
    _, found = images.solve(loss, 0.1, begun, images.blocks(torch.float64), tolerance=1e-6, fine=True)
    _, high = pairwise_minimum(source, 0.1, 1.0)
    assert found.value <= high * 1.01


def test_the_ranking_loss_far_from_its_minimum_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(continuation, "minimise", partial(minimise, max_iterations=0))
    _, found = end(images_of(split()), losses.ranking_loss, 0.3)
    assert found.iterations == 0
    assert not found.converged  # with all hinges open the gap alone, neglecting the gradient, is 0


def test_principal_axes_save_iterations_and_move_no_minimum(monkeypatch: pytest.MonkeyPatch) -> None:
    draws = np.random.default_rng(0)
    mixed = draws.normal(size=(300, 40)) @ np.diag(np.logspace(0, 2, 40)) @ draws.normal(size=(40, 40))
    targets = (mixed[:, :K] + 50 * draws.normal(size=(300, K)) > 30).astype(np.uint8)
    ids = np.arange(300).astype(str)
    images = images_of(Split(torch.from_numpy(mixed.astype(np.float32)), targets, None, ids))
    plain, before = end(images, losses.bce_loss, 1e-3)
    turned, found = end(images.on_axes(), losses.bce_loss, 1e-3)
    assert found.iterations < before.iterations / 2
    torch.testing.assert_close(turned.weight, plain.weight, atol=1e-3, rtol=0)
    monkeypatch.setattr("lsep_ml.training.principal_axes._MOST", 10)
    assert StandardisedFeatures(images.features.raw).axes.directions is None


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("name", ["warp", "focal", "asl"])
def test_what_is_not_convex_says_so_and_is_lower_than_where_it_began(name: str, masked: bool) -> None:
    loss = loss_of(name)
    assert not is_convex(loss)
    source = split(masked=masked)
    images = images_of(source)
    began, _ = end(images, losses.ranking_loss if name == "warp" else losses.bce_loss, 0.1)
    x = images.blocks(torch.float64)
    layer, found = images.solve(loss, 0.1, began, x, tolerance=1e-6, fine=True)
    at = [
        float(loss(x.scores(each), images.targets, mask=images.mask) + 0.1 * each.weight.square().sum())
        for each in (began, layer)
    ]
    assert found.value == pytest.approx(at[1], rel=1e-9)
    assert at[1] < at[0]
    if name != "warp":
        assert gradient(source, loss, layer, 0.1) <= 1.1e-6


@pytest.mark.parametrize(
    ("loss", "named"),
    [
        (partial(losses.lsep_loss, max_pairs=1000), "max_pairs=1000"),
        (partial(losses.pairwise_logistic_loss, max_pairs=3), "max_pairs=3"),
        (partial(losses.warp_loss, sampled=True), "sampled=True"),
    ],
)
def test_a_loss_that_draws_is_refused(loss: Loss, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        check_solvable(loss)
    check_solvable(partial(losses.lsep_loss, max_pairs=None))


def test_features_of_any_scale_are_folded_back() -> None:
    source = split()
    standardisation = Standardisation.of(source.images)
    draws = torch.Generator().manual_seed(0)
    layer = ScoreLayer(torch.randn(K, D, generator=draws), torch.randn(K, generator=draws))
    raw = standardisation.raw(layer)
    assert raw.weight.dtype == raw.bias.dtype == torch.float32
    wanted = standardised(source.images) @ layer.weight.double().numpy().T + layer.bias.numpy()
    found = source.images.double() @ raw.weight.double().T + raw.bias
    np.testing.assert_allclose(found, wanted, atol=1e-3)


def test_blocks_are_the_same_read_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    features = torch.randn(50, D, generator=torch.Generator().manual_seed(0))
    monkeypatch.setattr("lsep_ml.training.linear_scores._BLOCK", 16)
    kept = StandardisedFeatures(features).blocks()
    monkeypatch.setattr("lsep_ml.training.linear_scores.KEPT", 0)
    anew = StandardisedFeatures(features).blocks()
    for _ in range(2):
        assert all(torch.equal(*pair) for pair in zip(kept, anew, strict=True))
    weight = torch.randn(K, D, requires_grad=True)
    bias = torch.randn(K, requires_grad=True)
    wanted = torch.cat(list(kept)) @ weight.T + bias
    up = torch.randn(50, K)
    expected = torch.autograd.grad(wanted, [weight, bias], up)
    found = anew.scores(ScoreLayer(weight, bias))
    torch.testing.assert_close(found, wanted)
    for ours, theirs in zip(torch.autograd.grad(found, [weight, bias], up), expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("name", ["lsep", "bce", "softmax", "bpmll", "two_way"])
def test_scores_made_in_parts_lead_to_the_same_layer(
    name: str, masked: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, loss = split(40, masked=masked), loss_of(name)
    whole = images_of(source)
    dense, mask = source.targets, source.mask
    sparse = SparseIndicator.of(*np.nonzero(dense), dense.shape)
    known = None if mask is None else SparseIndicator.of(*np.nonzero(mask), mask.shape, np.bool_)
    half = torch.arange(0, 40, 2)

    def found(images: ProbeImages) -> list[Tensor]:
        images = images.on_axes()
        coarse = torch.tensor(images.start(loss)[1])
        return [coarse, *end(images, loss, 0.1)[0], *end(images.only(half), loss, 0.1)[0]]

    wanted = found(whole)
    monkeypatch.setattr("lsep_ml.training.probe._LARGE", 0)
    monkeypatch.setattr("lsep_ml.training.linear_scores._ENTRIES", 7 * K)
    assert not whole.in_parts(loss_of("ranking"))  # which follows all its hinges
    for images in (whole, replace(whole, targets=sparse, mask=known)):
        assert images.in_parts(loss) == (name != "two_way")  # which compares images
        for ours, theirs in zip(found(images), wanted, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["lsep", "bce"])
def test_features_turned_to_their_axes_lead_to_the_same_layer(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, val = split(), split(40, seed=1)
    images, loss = images_of(source), loss_of(name)
    features = ProbeFeatures.of(source.images, val.images)
    turned = replace(images, features=features.train).on_axes()
    assert turned.axes is not None
    assert turned.axes.directions is None
    layers = [end(each, loss, 0.1)[0] for each in (images, turned)]
    raws = [
        each.features.standardisation.raw(layer) for each, layer in zip((images, turned), layers, strict=True)
    ]
    for ours, theirs in zip(*raws, strict=True):
        torch.testing.assert_close(ours[:-1], theirs[:-1], rtol=1e-4, atol=1e-4)
    scores = features.val.blocks().scores(ScoreLayer(*(part.float() for part in layers[1])))
    wanted = val.images @ raws[1].weight.T + raws[1].bias
    torch.testing.assert_close(scores, wanted, rtol=1e-3, atol=1e-3)
    rows = torch.arange(0, N, 3)  # the same bits, whether all were asked for before or not
    monkeypatch.setattr("lsep_ml.training.linear_scores._BLOCK", 16)
    of_rows = torch.cat(list(images.features.turned().blocks(rows)))
    assert torch.equal(of_rows, torch.cat(list(images.features.turned().blocks()))[rows])
    monkeypatch.setattr("lsep_ml.training.linear_scores.KEPT", N * D * 12 - 1)
    assert images.features.turned() is images.features


def test_what_is_kept_of_features_has_a_bound_and_changes_no_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = torch.randn(50, D, generator=torch.Generator().manual_seed(0))
    rows, size = torch.arange(0, 50, 2), raw.nbytes
    monkeypatch.setattr("lsep_ml.training.linear_scores._BLOCK", 16)
    asked: list[dict[str, Any]] = [{}, {"dtype": torch.float64}, {"rows": rows}, {}]
    wanted = [list(StandardisedFeatures(raw).blocks(**each)) for each in asked]
    for limit, kept in {4 * size: 3, 3 * size: 3, 2 * size: 1, size: 1, size - 1: 0, 0: 0}.items():
        monkeypatch.setattr("lsep_ml.training.linear_scores.KEPT", limit)
        features = StandardisedFeatures(raw)
        for options, blocks in zip(asked, wanted, strict=True):
            found = features.blocks(**options)
            assert found.sizes == [len(block) for block in blocks]
            assert all(torch.equal(*pair) for pair in zip(found, blocks, strict=True))
            assert sum(each.nbytes for each in features._kept.values()) <= limit
        assert sum(each.nbytes for each in features._kept.values()) == kept * size


class Counted(Tensor):
    """Features that count how often they are read."""

    reads = 0

    @classmethod
    def __torch_function__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function.__name__ in ("__getitem__", "split"):
            cls.reads += 1
        with torch._C.DisableTorchFunctionSubclass():
            return function(*args, **(kwargs or {}))


def test_losses_weight_decays_and_folds_share_one_reading(tmp_path: Path) -> None:
    raw = split()
    assert isinstance(raw.images, Tensor)
    features = ProbeFeatures.of(raw.images.as_subclass(Counted), split(40, seed=1).images)
    reads = []
    for name in ("lsep", "bce", "ranking"):
        path = path_on(tmp_path / name, [], features=features, loss=loss_of(name), name=name)
        decay = path.search()
        reads.append(Counted.reads)
        layer, _ = path.end(decay)
        reads.append(Counted.reads)
        path.out_of_fold(decay, layer)
        reads.append(Counted.reads)
    assert reads[0] == 2  # once for mean and deviation, once to standardise
    assert reads[1:] == [3] * 8  # and once in float64


def test_features_that_are_not_finite_are_named() -> None:
    features = torch.ones(9, 2)
    features[7, 1] = torch.inf
    with pytest.raises(FloatingPointError, match="training image 7"):
        Standardisation.of(features)


def walk(curve: dict[int, float]) -> list[int]:
    maps: dict[int, float] = {}
    while (step := next_on_path(maps)) is not None:
        maps[step] = curve.get(step, 0.0)
    return list(maps)


def test_the_path_is_widened_while_its_edge_is_best() -> None:
    assert walk({-1: 0.5}) == list(PATH)
    assert walk({-2: 0.5, -3: 0.6, -4: 0.7}) == [*PATH, -3, -4, -5]
    assert walk({0: 0.5, 1: 0.6}) == [*PATH, 1, 2]
    assert walk({step: float(-step) for step in range(-20, 20)})[-1] == WIDEST[0]
    assert walk({step: 1 + step / 100 for step in range(-20, 20)})[-1] == WIDEST[1]
    assert best_of({0: 0.5, -1: 0.5, -2: 0.4}) == 0
    assert weight_decay(-2) == pytest.approx(0.1)


def path_on(
    folder: Path, rows: list[Any], features: ProbeFeatures | None = None, **options: Any
) -> DecayPath:
    solving = Solving(losses.lsep_loss, "lsep", None, 1e-6, 3, 0, torch.device("cpu"))
    data: Any = SimpleNamespace(train=split(), val=split(40, seed=1))
    return DecayPath(replace(solving, **options), data, Kept(folder), rows.append, features)


@pytest.mark.parametrize("name", ["soft_f1", "focal", "asl", "hill", "splc"])
def test_each_step_of_a_path_begins_at_the_solution_of_binary_cross_entropy(
    name: str, tmp_path: Path
) -> None:
    loss, rows = loss_of(name), list[Any]()
    path = path_on(tmp_path, rows, loss=loss, name=name)
    # Where the F1 loss with a strong weight decay has ended, at large biases, its own slopes say nothing of the scale
    # on which cross entropy is to be minimised.
    path.layers[1.0] = ScoreLayer(torch.zeros(K, D), torch.full((K,), 500.0))
    blocks = path.images.blocks()
    path._step(0.1, path.layers[1.0], blocks)
    led = path.layers[0.1]
    first, _ = path.images.solve(losses.bce_loss, 0.1, path.zero, blocks, tolerance=path.coarse)
    wanted, _ = path.images.solve(loss, 0.1, first, blocks, tolerance=path.coarse)
    torch.testing.assert_close(led.weight, wanted.weight, atol=0.02, rtol=0)
    assert path.search() in [row["weight_decay"] for row in rows]


def test_an_end_that_costs_validation_map_is_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = path_on(tmp_path, [], loss=loss_of("focal"), name="focal")
    decay = path.search()

    def leaves(decay: float, start: ScoreLayer, *rest: Any, fine: bool) -> tuple[ScoreLayer, Solution]:
        nowhere = torch.zeros_like(start.weight, dtype=torch.float64)
        return ScoreLayer(nowhere, start.bias.double()), Solution(0.0, 0.0, 1, True)

    monkeypatch.setattr(path, "_solve", leaves)
    for _ in range(2):  # made, and found again
        layer, facts = path.end(decay)
        assert torch.equal(layer.weight, path.layers[decay].weight)
        assert "the layer of the path is kept" in facts["warnings"][-1]


def whole(path: DecayPath) -> tuple[Any, ...]:
    decay = path.search()
    layer, facts = path.end(decay)
    return decay, layer, facts, *path.out_of_fold(decay, layer)


def test_a_path_ends_with_what_it_chose(tmp_path: Path) -> None:
    rows: list[Any] = []
    path = path_on(tmp_path, rows)
    decay, layer, facts, scores, folds = whole(path)
    best = max(rows, key=lambda row: (row["val_map"], row["weight_decay"]))
    shares = path.train.targets.mean(0)
    assert float(layer.bias.double().numpy() @ shares) == pytest.approx(0, abs=1e-6)
    assert decay == best["weight_decay"] == facts["weight_decay"]
    assert facts["epoch"] == best["epoch"]
    assert [row["epoch"] for row in rows] == list(range(1, len(rows) + 1))
    assert facts["converged"]
    assert facts["warnings"] == []
    again, _ = end(path.images, losses.lsep_loss, decay)
    torch.testing.assert_close(layer.weight, again.weight, rtol=0, atol=1e-4)
    # Out of fold: by a layer that is fitted without the fold, and is nearly at its own optimum.
    np.testing.assert_array_equal(folds, stratified_folds(path.train.targets, 3, 0))
    for fold in range(3):
        rest = replace(path.images, rows=torch.from_numpy(np.flatnonzero(folds != fold)))
        own, _ = end(rest, losses.lsep_loss, decay)
        wanted = (
            path.images.only(torch.from_numpy(np.flatnonzero(folds == fold)))
            .blocks(torch.float64)
            .scores(own)
        )
        # The bias of the label that never occurs falls without end.
        np.testing.assert_allclose(scores[folds == fold, :-1], wanted[:, :-1], atol=0.05)
    assert (scores[:, -1] < scores[:, :-1].min()).all()


@pytest.mark.parametrize("kill_at", [2, 6, 8])
def test_a_killed_path_ends_with_the_same_bits(
    tmp_path: Path, kill_at: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows: list[Any] = []
    expected = whole(path_on(tmp_path / "whole", rows))
    original, calls = ProbeImages.solve, iter(range(1, 100))

    def killed(self: ProbeImages, *args: Any, **options: Any) -> Any:
        if next(calls) == kill_at:
            raise KeyboardInterrupt
        return original(self, *args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(ProbeImages, "solve", killed)
        with pytest.raises(KeyboardInterrupt):
            whole(path_on(tmp_path / "killed", []))
    again: list[Any] = []
    found = whole(path_on(tmp_path / "killed", again))
    assert found[0] == expected[0]
    assert all(torch.equal(*pair) for pair in zip(found[1], expected[1], strict=True))
    assert found[2] == expected[2]
    np.testing.assert_array_equal(found[3], expected[3])
    without = [[{k: v for k, v in row.items() if k != "seconds"} for row in each] for each in (rows, again)]
    assert without[0] == without[1]


def end_of_a_rank(rank: int, count: int, folder: Path) -> None:
    """Solve in this process of `count`, some rows at a time or not; what it ends with goes to a file of its own."""
    if count > 1:
        distributed.init_process_group("gloo", f"file://{folder}/met", rank=rank, world_size=count)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lsep_ml.training.linear_scores._BLOCK", 16)
        patch.setattr("lsep_ml.training.linear_scores._SHARES", 3)
        for large in (0, 2**26):
            patch.setattr("lsep_ml.training.probe._LARGE", large)
            path = path_on(folder / str(large), [], weight_decay=0.3, tolerance=1e-3)
            path.kept.processes = Processes(rank, count)
            path.images = replace(path.images, processes=path.kept.processes)
            decay, layer, facts, scores, folds = whole(path)
            found = {**layer._asdict(), "norm": facts["gradient_norm"], "scores": scores * (rank == 0)}
            np.savez(folder / f"{large}-{rank}.npz", decay=decay, folds=folds, **found)
    if count > 1:
        distributed.barrier()
        distributed.destroy_process_group()


@pytest.mark.filterwarnings("ignore")
def test_several_processes_solve_to_the_bits_of_one(tmp_path: Path) -> None:
    worlds = {count: tmp_path / str(count) for count in (1, 2)}
    for folder in worlds.values():
        folder.mkdir()
    end_of_a_rank(0, 1, worlds[1])
    torch.multiprocessing.spawn(end_of_a_rank, (2, worlds[2]), nprocs=2)
    for large in (0, 2**26):
        wanted = np.load(worlds[1] / f"{large}-0.npz")
        for rank in range(2):
            found = np.load(worlds[2] / f"{large}-{rank}.npz")
            for name in wanted.files if rank == 0 else set(wanted.files) - {"scores"}:
                np.testing.assert_array_equal(found[name], wanted[name], err_msg=f"{large} {rank} {name}")


def test_a_damaged_state_is_made_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    kept = Kept(tmp_path)
    assert kept.get("a", lambda: {"x": 1}) == {"x": 1}
    (tmp_path / "a.ckpt").write_bytes(b"no checkpoint")
    assert kept.get("a", lambda: {"x": 2}) == {"x": 2}
    assert "it is made again" in caplog.text
    assert kept.get("a", lambda: {"x": 3}) == {"x": 2}


def test_what_did_not_converge_is_a_warning(tmp_path: Path) -> None:
    path = path_on(tmp_path, [], tolerance=1e-30, weight_decay=0.1)
    decay = path.search()
    assert decay == 0.1
    _, facts = path.end(decay)
    [warning] = facts["warnings"]
    assert "did not converge" in warning


def test_a_probe_that_ranks_no_better_than_a_constant_is_a_warning(tmp_path: Path) -> None:
    path = path_on(tmp_path, [], weight_decay=0.1)
    train, val = path.features
    other = StandardisedFeatures(-val.raw, train.standardisation)  # what a label has, the others have here
    path.features = ProbeFeatures(train, other)
    _, facts = path.end(path.search())
    [warning] = facts["warnings"]
    assert f"validation mAP {facts['validation']['map']:.1%} is not above the" in warning


def test_images_at_the_clamp_are_counted_and_are_a_warning(tmp_path: Path) -> None:
    options = {"loss": losses.bpmll_loss, "diagnostics": {"clamped_rows": losses.bpmll_clamped_rows}}
    rows: list[Any] = []
    path = path_on(tmp_path / "none", rows, **options)
    _, facts = path.end(path.search())
    assert facts["warnings"] == []
    assert all(row["train_clamped_rows"] == row["val_clamped_rows"] == 0 for row in rows)
    train, val = path.features
    far = -1e6 * val.raw  # images unlike any that was trained on
    beyond = ProbeFeatures(train, StandardisedFeatures(far, train.standardisation))
    path = path_on(tmp_path / "some", rows, features=beyond, weight_decay=0.1, **options)
    _, facts = path.end(path.search())
    clamped = int(rows[-1]["val_clamped_rows"])
    assert 0 < clamped <= 40
    assert rows[-1]["train_clamped_rows"] == 0
    said = f"the loss sat at its clamp on 0 training and {clamped} validation images of the chosen epoch"
    assert facts["warnings"][0] == f"{said} (weight decay 0.1)"


def test_a_loss_that_is_not_finite_is_named(tmp_path: Path) -> None:
    def broken(scores: Tensor, targets: Tensor, **options: Any) -> Tensor:
        return (scores * torch.nan).sum()

    with pytest.raises(FloatingPointError, match=r"loss=broken at weight decay 1: .* it is nan"):
        path_on(tmp_path, [], loss=broken, name="broken").search()
