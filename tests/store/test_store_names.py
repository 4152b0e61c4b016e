"""Functions that moved: every old name leads to something that is there, and identities keep the first names."""

from functools import reduce
from importlib import import_module

import pytest

from lsep_ml.store.names import MOVED, current_names, first_names


def found(name: str) -> object:
    """What a dotted name names: an attribute of the deepest module that can be imported."""
    module, _, attribute = name.rpartition(".")
    return reduce(getattr, [attribute], import_module(module))


@pytest.mark.parametrize("new", sorted(set(MOVED.values())))
def test_what_stands_in_an_old_name_s_place_is_there(new: str) -> None:
    assert callable(found(new))
    assert new not in MOVED  # both rows of a name that moved twice lead to the newest


def test_names_are_replaced_wherever_they_stand_and_nothing_else_is() -> None:
    old, new = next(iter(MOVED.items()))
    configuration = {
        "reader": {"_target_": old, "n": [1, 2.5, None, True, old]},
        old: "a key stays",
        "text": f"{old}!",
    }
    expected = {
        "reader": {"_target_": new, "n": [1, 2.5, None, True, new]},
        old: "a key stays",
        "text": f"{old}!",
    }
    assert current_names(configuration) == expected
    assert current_names(expected) == expected
    assert configuration["reader"] == {"_target_": old, "n": [1, 2.5, None, True, old]}  # which is left alone


def test_an_identity_is_hashed_from_the_first_name_of_each() -> None:
    firsts: dict[str, str] = {}
    for old, new in MOVED.items():
        firsts.setdefault(new, old)
    for new, old in firsts.items():
        assert first_names({"_target_": new}) == {"_target_": old}
        assert current_names(first_names([new])) == [new]
