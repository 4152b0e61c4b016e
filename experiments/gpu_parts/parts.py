"""What a part of the check is given, what it returns, and how one runs in a process of its own."""

import multiprocessing
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

PASS, FAIL, SKIPPED = "pass", "fail", "skipped"


@dataclass(frozen=True)
class Setting:
    """Where the parts compute, "cuda" or "cpu", and the folder for all they write; on a CPU they are small."""

    device: str
    folder: Path

    @property
    def small(self) -> bool:
        """Whether only correctness is judged, on little data."""
        return self.device == "cpu"


class Judged(NamedTuple):
    """What a part found, what it should be, both without spaces, and whether it is."""

    value: str
    goal: str
    good: bool


class Skipped(Exception):
    """Raised by a part that cannot be had here: what there is, and what it needs, both without spaces."""

    def __init__(self, found: str, needed: str) -> None:
        super().__init__(found, needed)
        self.found, self.needed = found, needed


class Line(NamedTuple):
    """One line of the result."""

    name: str
    value: str
    goal: str
    verdict: str


Part = Callable[[], Judged]
Group = dict[str, Part]
"""Parts by name that run one after the other in one process."""


def judge(name: str, part: Part) -> Line:
    """Run a part; one that raises has failed."""
    try:
        judged = part()
        return Line(name, judged.value, judged.goal, PASS if judged.good else FAIL)
    except Skipped as skipped:
        return Line(name, skipped.found, skipped.needed, SKIPPED)
    except Exception as error:
        traceback.print_exc()
        return Line(name, type(error).__name__, "no-error", FAIL)


def run_apart(group: Group, log: Path, seconds: float, lanes: int = 1) -> Iterator[Line]:
    """Run the parts in processes of their own: one that crashes or takes longer than `seconds` fails alone.

    What they print goes to `log`. lanes: how many processes at a time, each with its share of the parts, for parts that
    measure no time; the lines come in the parts' order.
    """
    names = list(group)
    size = -(-len(names) // lanes)
    shares = [
        {name: group[name] for name in names[start : start + size]} for start in range(0, len(names), size)
    ]
    workers = [Worker(_send_lines, share, log=log) for share in shares]
    for waiting, worker in zip(shares, workers, strict=True):
        while waiting:
            name = next(iter(waiting))
            found = worker.receive(seconds)
            del waiting[name]
            if found is not None:
                yield Line(*found)
                continue
            yield Line(name, worker.end(), "an-end", FAIL)
            if waiting:
                worker = Worker(_send_lines, waiting, log=log)
        worker.end()


def _send_lines(send: Callable[[Any], None], group: Group) -> None:
    for name, part in group.items():
        send(tuple(judge(name, part)))


class Worker:
    """A copy of this process in a session of its own, which calls `work(send, *arguments)`.

    A copy has all imports already, and its CUDA context is its own, so this process must have none.
    """

    def __init__(self, work: Callable[..., None], *arguments: Any, log: Path) -> None:
        context = multiprocessing.get_context("fork")
        self._receiver, sender = context.Pipe(duplex=False)
        sys.stdout.flush()
        self._process = context.Process(target=_begin, args=(sender, log, work, arguments))
        self._process.start()
        sender.close()

    def receive(self, seconds: float) -> Any:
        """The next value that was sent; None where the copy has ended, or takes longer."""
        try:
            return self._receiver.recv() if self._receiver.poll(seconds) else None
        except EOFError:
            return None

    def end(self) -> str:
        """End the copy and all it started; how it ended, in a word."""
        self._process.join(0.5)
        code = self._process.exitcode
        self.kill()
        if code is None:
            return "out-of-time"
        return f"signal-{-code}" if code < 0 else f"exit-code-{code}"

    def kill(self) -> None:
        """SIGKILL to the copy and all it started."""
        assert self._process.pid is not None
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.join()


def _begin(sender: Connection, log: Path, work: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    os.setsid()
    with log.open("ab") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    sys.stdout, sys.stderr = sys.__stdout__, sys.__stderr__
    sys.stdout.reconfigure(line_buffering=True)
    work(sender.send, *arguments)


def call_apart(function: Callable[..., Any], *arguments: Any, log: Path, seconds: float = 600) -> Any:
    """What `function(*arguments)` returns in a copy of this process.

    Raises:
        RuntimeError: it raised, which stands in the log, crashed or took longer.
    """
    worker = Worker(_send_result, function, arguments, log=log)
    found = worker.receive(seconds)
    ended = worker.end()
    if found is None:
        raise RuntimeError(f"{function.__name__}: {ended}")
    return found[0]


def _send_result(send: Callable[[Any], None], function: Callable[..., Any], arguments: Any) -> None:
    send((function(*arguments),))
