"""Options of a source as they are written on a command line."""

from collections.abc import Iterable
from typing import Any

import yaml

from lsep_ml.data.errors import DataError


def parse_options(written: Iterable[str]) -> dict[str, Any]:
    """Return the options in `data.NAME=VALUE` (or `NAME=VALUE`), values as YAML: `data.label_columns=[cat, dog]`.

    Raises:
        DataError: one that is written otherwise.
    """
    options: dict[str, Any] = {}
    for text in written:
        name, equals, value = text.removeprefix("data.").partition("=")
        if not equals or not name.isidentifier():
            raise DataError(f"{text!r}: expected data.NAME=VALUE, such as data.group=patient")
        try:
            options[name] = yaml.safe_load(value) if value.strip() else ""
        except yaml.YAMLError as error:
            raise DataError(f"{text!r}: {value!r} is not a value: {error}") from error
    return options
