"""What every public metric that takes targets refuses, iterated over the public names: a new one is in it by itself."""

from collections.abc import Callable, Iterator
from functools import partial
from inspect import isclass, isfunction, signature
from typing import Any

import numpy as np
import pytest
import torch

from lsep_ml import metrics
from lsep_ml.metrics import functional

CHECKED_BEFORE = {"label_values", "image_ranking", "compare_label_sets", "known_entries", "held_known"}
"""Parts of the core that take arrays which a caller has looked at, or take no value of the targets."""

GIVEN = {"content": "test", "replicates": 3, "num_labels": 2}


def parameters(function: Callable[..., Any]) -> list[str]:
    return list(signature(function).parameters)


def taking_targets() -> Iterator[tuple[str, Callable[..., Any]]]:
    """Every public function and method that takes targets; methods as they are of a new object."""
    modules = [(metrics, metrics.__all__), (functional, vars(functional))]
    named = {name: getattr(module, name) for module, names in modules for name in names if name[0] != "_"}
    for name, thing in named.items():
        if isfunction(thing) and "targets" in parameters(thing) and name not in CHECKED_BEFORE:
            yield name, thing
        elif isclass(thing):
            for key, method in vars(thing).items():
                if isfunction(method) and key[0] != "_" and "targets" in parameters(method):
                    yield f"{name}.{key}", partial(_on_new, thing, method)


def _on_new(kind: type, method: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    made = kind(**{name: GIVEN[name] for name in parameters(kind) if name in GIVEN})
    return method(made, *args, **kwargs)


METRICS = dict(taking_targets())
every = pytest.mark.parametrize("name", METRICS)


def first_of(name: str) -> str:
    """What it takes beside targets: predictions, or scores."""
    found = METRICS[name]
    names = parameters(found.args[1])[1:] if isinstance(found, partial) else parameters(found)
    [first] = set(names) & {"predictions", "scores"}
    return first


def ask(name: str, values: Any, targets: Any, mask: Any = None) -> Any:
    """Call it with what it takes, as tensors where it takes these."""
    found = METRICS[name]
    shell = isinstance(found, partial) and issubclass(found.args[0], torch.nn.Module)
    names = parameters(found.args[1]) if isinstance(found, partial) else parameters(found)
    if mask is None and not shell:
        mask = np.ones(np.shape(values), bool)
    arrays = [
        array if array is None or not shell else torch.from_numpy(array) for array in (values, targets, mask)
    ]
    given = {key: value for key, value in GIVEN.items() if key in names}
    return found(*arrays, **given)


def test_the_table_has_functions_shells_and_bootstraps() -> None:
    assert {
        "average_precisions",
        "bootstrap_label_sets",
        "bootstrap_ranking",
        "count_label_sets",
        "ranking_metrics",
        "LabelSetMetrics.update",
        "RankingMetrics.update",
        "PairedBootstrap.run_metrics",
    } <= METRICS.keys()


GOOD = np.array([[0.0, 1.0], [1.0, 0.0], [0.0, 0.0]])


def with_entry(value: float) -> np.ndarray:
    found = GOOD.copy()
    found[2, 0] = value
    return found


@every
@pytest.mark.parametrize("wrong", [2, -1, 0.5, 0.9, 1e-30, np.nan, np.inf])
@pytest.mark.parametrize("masked", [False, True])
def test_only_zeros_and_ones_are_targets_and_label_sets(name: str, wrong: float, masked: bool) -> None:
    bad, mask = with_entry(wrong), np.ones_like(GOOD, bool) if masked else None
    with pytest.raises(ValueError, match=r"targets: \S+ found in row 2, column 0, expected only 0 and 1"):
        ask(name, GOOD, bad, mask)
    if first_of(name) == "predictions":
        with pytest.raises(
            ValueError, match=r"predictions: \S+ found in row 2, column 0, expected only 0 and 1"
        ):
            ask(name, bad, GOOD, mask)


@every
@pytest.mark.parametrize(("wrong", "dtype"), [(2, np.uint8), (-1, np.int8), (3, np.int64)])
def test_only_zeros_and_ones_are_integer_targets(name: str, wrong: int, dtype: type) -> None:
    with pytest.raises(ValueError, match=rf"targets: {wrong} found in row 2, column 0"):
        ask(name, GOOD, with_entry(wrong).astype(dtype))


@every
def test_an_unknown_entry_holds_anything(name: str) -> None:
    mask = with_entry(0) * 0 == 0
    mask[2, 0] = False
    for value in (-1, np.nan, 0.5):
        ask(name, GOOD, with_entry(value), mask)


@every
@pytest.mark.parametrize("masked", [False, True])
def test_nan_scores_are_refused(name: str, masked: bool) -> None:
    if first_of(name) == "predictions":
        return
    with pytest.raises(ValueError, match="scores: NaN"):
        ask(name, with_entry(np.nan), GOOD, np.ones_like(GOOD, bool) if masked else None)
    ask(name, with_entry(np.inf), GOOD)
    ask(name, with_entry(-np.inf), GOOD)


@every
def test_nothing_is_repeated_to_fit(name: str) -> None:
    """One column of targets is not the targets of every label."""
    good = np.zeros((4, 2))
    good[0] = 1
    for other in (good[:, :1], good[:1], good[:, 0], good[:3]):
        with pytest.raises(ValueError, match=r"shape"):
            ask(name, good, other)
        with pytest.raises(ValueError, match=r"(mask|targets): shape"):
            ask(name, good, good, other != 0)
    ask(name, good, good, good != 0)
