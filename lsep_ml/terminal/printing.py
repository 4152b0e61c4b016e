"""Printing that changes nothing: what looks like markup stays, and what would move the cursor is shown, not sent."""

import logging
import sys
from typing import Any, TextIO

from rich.console import Console
from rich.text import Text

console = Console()
errors = Console(stderr=True)


def plain(value: object, style: str = "") -> Text:
    """Return the text of `value` for a table's cell or a title: no markup is read in it, control characters are
    escaped."""
    return Text(_visible(str(value)), style=style)


def say(text: object, on: Console = console, style: str = "") -> None:
    """Print `text` as it is, on lines as long as it takes (so that a path can be copied)."""
    on.print(plain(text, style), highlight=False, soft_wrap=True)


def _visible(text: str) -> str:
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in "\n\t" else c.encode("unicode_escape").decode() for c in text)


class TerminalHandler(logging.StreamHandler[TextIO]):
    """Logs to what standard output is at the moment: above a progress bar while there is one."""

    def __init__(self, stream: Any = None) -> None:
        logging.Handler.__init__(self)  # `stream`, which Hydra's defaults give, is the one of before the bar

    @property
    def stream(self) -> Any:
        """Return standard output, which a progress bar replaces while it is shown."""
        return sys.stdout

    @stream.setter
    def stream(self, value: Any) -> None:
        raise AttributeError("a TerminalHandler always writes to the current standard output")

    def format(self, record: logging.LogRecord) -> str:
        """Return the message with its control characters escaped."""
        return _visible(super().format(record))


class ErrorHandler(logging.Handler):
    """Logs to what standard error is at the moment, as `say` prints."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print the message with its control characters escaped."""
        say(self.format(record), on=errors)
