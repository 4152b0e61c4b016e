"""Data sets: one file a source, which says all that is its own; a module here that defines SOURCE is one."""

import importlib
import pkgutil
import re
from collections.abc import Iterable
from functools import cache
from typing import Any

import yaml

from lsep_ml.data.errors import DataError
from lsep_ml.data.sources.source import Source

__all__ = ["Source", "find_source", "sources"]


@cache
def sources() -> dict[str, Source]:
    """Return the sources on disk by name, in alphabetical order."""
    modules = [
        importlib.import_module(f"{__name__}.{found.name}") for found in pkgutil.iter_modules(__path__)
    ]
    found = [module.SOURCE for module in modules if hasattr(module, "SOURCE")]
    return {source.name: source for source in sorted(found, key=lambda source: source.name)}


def find_source(name: str) -> Source:
    """Return the source called `name`.

    Raises:
        DataError: there is none; the message names those there are.
    """
    if name not in sources():
        raise DataError(f"no data set {name!r} to check; there are {', '.join(sources())}")
    return sources()[name]


def parse_options(written: Iterable[str], source: str) -> dict[str, Any]:
    """Return the options in `data.NAME=VALUE` (or `NAME=VALUE`), values as YAML: `data.label_columns=[cat, dog]`; marks
    alone are themselves: `data.separator=;`.

    Raises:
        DataError: one that is written otherwise, or is none of how the data set `source` is read; no such data set.
    """
    options: dict[str, Any] = {}
    takes = find_source(source).takes
    for text in written:
        name, equals, value = text.removeprefix("data.").partition("=")
        if not equals or not name.isidentifier():
            raise DataError(f"{text!r}: expected data.NAME=VALUE, such as data.group=patient")
        if name not in takes:
            raise DataError(
                f"{text!r}: no option of how data={source} is read; there are {', '.join(sorted(takes)) or 'none'}"
            )
        try:
            options[name] = yaml.safe_load(value) if re.search(r"\w|^[\[{'\"]", value) else value
        except yaml.YAMLError as error:
            raise DataError(f"{text!r}: {value!r} is not a value: {error}") from error
    return options
