"""A run's record, result.json: read, sealed with the checksums of the run's files, and verified against them."""

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, NoReturn

import yaml

from lsep_ml.files import content_hash, file_digest, write_json
from lsep_ml.runs.files import DECISION, ERROR, OVERRIDES, RESULT, SEALED, TEST, UNFINISHED, VALIDATION

_AGAIN = "run the job again with force=true"
_READ_ALONE = (TEST, VALIDATION, DECISION)  # which has the checksum of its weights


class RecordError(ValueError):
    """Says that a file of a run cannot be used, what is wrong with it, and the way out."""


def read_object(file: Path) -> dict[str, Any]:
    """Read the JSON object in `file`.

    Raises:
        RecordError: unreadable, not JSON (NaN is none), or not an object.
    """
    try:
        record = json.loads(file.read_text(encoding="utf-8"), parse_constant=_no_number)
    except (OSError, UnicodeDecodeError) as error:
        raise RecordError(f"unreadable ({error}); run the job again") from None
    except (ValueError, RecursionError) as error:
        raise RecordError(f"not JSON ({error}): half-written or edited by hand; run the job again") from None
    if not isinstance(record, dict):
        raise RecordError(f"a JSON {type(record).__name__}, not an object; run the job again")
    return record


def read_record(file: Path, *, sealed: bool = False) -> dict[str, Any]:
    """Read the record in `file`, a run's result.json, without its checksum, which is verified where there is one.

    Raises:
        RecordError: not a JSON object, not the one that was written, or, with `sealed`, one without a checksum.
    """
    record = read_object(file)
    checksum = record.pop("checksum", None)
    if checksum is None and sealed:
        raise RecordError(f"not the record of a finished run (it has no checksum); {_AGAIN}")
    if checksum is not None and checksum != content_hash(record):
        raise RecordError(f"damaged or edited (not the checksum it was written with); {_AGAIN}")
    return record


def read_sealed(folder: Path, names: Collection[str] | None = None) -> dict[str, Any]:
    """Read the record of the finished run in `folder`, and verify it and those of its files that `names` has.

    Args:
        folder: of the run.
        names: of files; one that the run did not leave is passed over. None: all that it left.

    Raises:
        FileNotFoundError: a file is missing.
        RecordError: one is damaged, or result.json is not the record of a finished run; names the file.
    """
    try:
        record = read_record(folder / RESULT, sealed=True)
        sealed = dict(record["files"])
    except (RecordError, KeyError, TypeError, ValueError) as error:
        why = error if isinstance(error, RecordError) else f"not the record of a finished run ({error!r})"
        raise RecordError(f"{folder / RESULT}: {why}") from None
    for name in sealed if names is None else sealed.keys() & set(names):
        if not (folder / name).is_file():
            raise FileNotFoundError(f"{folder / name}: missing; {_AGAIN}")
        try:
            check_file(folder / name, sealed)
        except RecordError as error:
            raise RecordError(f"{folder}/{error}") from None
    return record


def check_beside(file: Path) -> None:
    """Raise RecordError where `file`, by its name and the record beside it, is a run's and not as the run left it."""
    if file.name not in _READ_ALONE or not (file.parent / RESULT).is_file():
        return
    try:
        check_file(file, read_record(file.parent / RESULT).get("files", {}))
    except RecordError as error:
        named = "" if str(error).startswith(file.name) else f"{RESULT}: "
        raise RecordError(f"{file.parent}/{named}{error}") from None


def check_file(file: Path, sealed: Mapping[str, str]) -> None:
    """Raise RecordError where `file` does not have the checksum that `sealed`, a record's `files`, has for its name."""
    if file.name in sealed and file_digest(file) != sealed[file.name]:
        raise RecordError(f"{file.name}: damaged (not the checksum it was written with); {_AGAIN}")


def write_record(folder: Path, record: Mapping[str, Any]) -> dict[str, Any]:
    """Write `record` to result.json, the last of the files of the run in `folder`, with the checksums of the others.

    Returns:
        The record with these, as `read_record` gives it.
    """
    own = {RESULT, UNFINISHED, ERROR}
    files = (file for file in sorted(folder.iterdir()) if file.suffix in SEALED and file.name not in own)
    sealed = {**record, "files": {file.name: file_digest(file) for file in files}}
    write_json(folder / RESULT, sealed | {"checksum": content_hash(sealed)})
    (folder / UNFINISHED).unlink(missing_ok=True)
    return sealed


def read_overrides(folder: Path, record: Mapping[str, Any]) -> tuple[str, ...] | None:
    """Read what the run that made `record`, in `folder`, was called with; None where that is not known.

    Records of earlier versions do not say; of them it is what whoever asked last for the run called it with.
    """
    found = record.get("overrides")
    if found is None:
        try:
            found = yaml.safe_load((folder / OVERRIDES).read_text(encoding="utf-8"))
        except (OSError, ValueError, yaml.YAMLError):
            return None
    return tuple(map(str, found)) if isinstance(found, list) else None


def _no_number(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no number")
