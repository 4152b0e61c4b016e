"""The example in the docstring of each loss does what it says."""

import doctest

import pytest

from lsep_ml import losses

PUBLIC = {name: getattr(losses, name) for name in losses.__all__ if name.endswith("_loss")}


@pytest.mark.parametrize("name", [*PUBLIC, "ClassCounts", "LabelIndices"])
def test_the_example_runs(name: str) -> None:
    [test, *_] = doctest.DocTestFinder(recurse=False).find(getattr(losses, name), name, globs={})
    assert test.examples, f"{name} has no example"
    doctest.DebugRunner().run(test)
