"""The terminal: how data are shown on it as they are, and how errors end a program with one message."""

from lsep_ml.terminal.printing import TerminalHandler, console, errors, plain, say
from lsep_ml.terminal.safety_net import net

__all__ = ["TerminalHandler", "console", "errors", "net", "plain", "say"]
