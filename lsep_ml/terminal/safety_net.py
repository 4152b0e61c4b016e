"""The net below every program of this package: whatever is raised ends it with one message and an exit code."""

import errno
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from lsep_ml.terminal.printing import ErrorHandler, errors, say

FAILED, USAGE, INTERRUPTED = 1, 2, 130
DEBUG = "HYDRA_FULL_ERROR"
"""The environment variable that asks for tracebacks, Hydra's own; --debug sets it."""

_ASKED = "LSEP_ML_DEBUG"
"""What DEBUG was before `hydras_errors_here` set it."""

UNEXPECTED = "not expected here"
"""Said of an error that may be this program's fault."""

GOES_ON = "what was finished is kept, and the same command goes on from there"
BEGINS_ANEW = "nothing is finished, and the same command begins anew"
"""Said after Ctrl-C."""

_KNOWN = (ValueError, OSError, ImportError, FloatingPointError)
"""What bad input raises; anything else may be this program's fault, and the message says how to see where."""


def debugging() -> bool:
    """Return whether tracebacks were asked for."""
    return os.environ.get(_ASKED, os.environ.get(DEBUG, "0")) not in ("", "0")


@contextmanager
def hydras_errors_here() -> Iterator[None]:
    """Have Hydra hand errors on, instead of printing them its own way; `debugging` says what was asked for."""
    before = {name: os.environ.get(name) for name in (DEBUG, _ASKED)}
    os.environ |= {_ASKED: str(int(debugging())), DEBUG: "1"}
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            os.environ |= {} if value is None else {name: value}


class Interrupted(BaseException):
    """Ctrl-C was pressed in a verb; says what is kept and how to go on."""


@contextmanager
def net() -> Iterator[None]:
    """Catch what the block raises: one message on standard error, then exit code 1; 130 after Ctrl-C.

    A message names the error's own words. With --debug or HYDRA_FULL_ERROR=1 the traceback is shown instead. A command
    that is none ends with 1 too.
    """
    logging.lastResort = ErrorHandler(logging.WARNING)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a terminal that cannot show a letter shows its code
            stream.reconfigure(errors="backslashreplace")
    try:
        yield
    except (KeyboardInterrupt, Interrupted) as error:
        say(f"interrupted; {str(error) or GOES_ON}", on=errors)
        raise SystemExit(INTERRUPTED) from None
    except SystemExit as ended:
        raise (SystemExit(FAILED) if ended.code == USAGE else ended) from None
    except BrokenPipeError:
        # The reader of a pipe (head, less) has seen enough; nothing more can be flushed to it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(FAILED) from None
    except Exception as error:
        if debugging():
            raise
        say(message(error), on=errors, style="red")
        raise SystemExit(FAILED) from None


def message(error: BaseException) -> str:
    """Return an error in one message: its kind and its words, and where to look where they may not be enough."""
    if type(error).__name__ == "InstantiationException":
        return _of_option(error)
    said = _of_file(error) if isinstance(error, OSError) and error.strerror else str(error)
    words = f"{type(error).__name__}: {said}" if said else type(error).__name__
    if isinstance(error, _KNOWN) or type(error).__module__.partition(".")[0] in ("hydra", "omegaconf"):
        return words
    return f"{words}\n({UNEXPECTED}; --debug, or {DEBUG}=1, shows where it comes from)"


def _of_file(error: OSError) -> str:
    """Return what the operating system said of a file, after its name."""
    place = "" if error.filename is None else f"{error.filename}: "
    full = error.errno in (errno.ENOSPC, errno.EDQUOT) and "make room" not in str(error.strerror)
    return f"{place}{error.strerror}{'; make room and start the same command again' if full else ''}"


def _of_option(error: BaseException) -> str:
    """Return what a part of a configuration could not be built for: the cause, after the option's key where it is no
    word of ours, which name the option themselves."""
    cause = error.__cause__
    if isinstance(cause, _KNOWN):
        return message(cause)
    text = str(error)
    key = text.rpartition("full_key: ")[2].strip() if "full_key: " in text else ""
    reason = text.partition("\n")[0] if cause is None else f"{type(cause).__name__}: {cause}"
    return f"{key or 'the configuration'}: {reason}; see the values of {key or 'its options'} (--cfg job shows them)"
