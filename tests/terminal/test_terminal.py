"""What reaches a terminal: data as they are, one message for an error, lines above a bar."""

import errno
import io
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import OmegaConf
from rich.console import Console
from rich.table import Table

from lsep_ml.terminal import net, plain, say
from lsep_ml.terminal.printing import TerminalHandler
from lsep_ml.terminal.safety_net import (
    DEBUG,
    INTERRUPTED,
    UNEXPECTED,
    debugging,
    hydras_errors_here,
    message,
)

ROOT = Path(__file__).parent.parent.parent
NAMES = ["logger=[csv,wandb]", "[/b] in a path", "a\x1b[31mred", "two\rover", "[bold]", "ünï", "tab\there"]


@pytest.mark.parametrize("name", NAMES)
def test_data_are_printed_as_they_are(name: str) -> None:
    page = io.StringIO()
    console = Console(file=page, width=60)
    say(name, on=console)
    table = Table()
    table.add_column("name")
    table.add_row(plain(name))
    console.print(table)
    said = page.getvalue()
    assert "\x1b" not in said
    assert "\r" not in said
    if name.isprintable():
        assert said.count(name) == 2


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (ValueError("data.root=x: no such folder"), 1, "ValueError: data.root=x: no such folder"),
        (KeyError("scores"), 1, "--debug"),
        (RecursionError("too deep"), 1, "RecursionError: too deep"),
        (IndexError(), 1, "IndexError"),
        (KeyboardInterrupt(), INTERRUPTED, "the same command goes on"),
    ],
)
def test_an_error_ends_a_program_with_one_message(
    error: BaseException,
    code: int,
    words: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv(DEBUG, raising=False)
    with pytest.raises(SystemExit) as ended, net():
        raise error
    assert ended.value.code == code
    said = capsys.readouterr().err
    assert words in said
    assert "Traceback" not in said


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (
            FileNotFoundError(errno.ENOENT, "No such file or directory", "a.csv"),
            "a.csv: No such file or directory",
        ),
        (OSError(errno.ENOSPC, "No space left on device"), "No space left on device; make room and start"),
        (
            OSError(errno.ENOSPC, "full; make room and start the same command again", "a"),
            "a: full; make room",
        ),
        (OSError("a library's own words"), "a library's own words"),
    ],
)
def test_an_error_of_the_file_system_names_the_file_and_the_way_out(error: OSError, words: str) -> None:
    said = message(error)
    assert said.startswith(f"{type(error).__name__}: {words}")
    assert "Errno" not in said
    assert said.count("make room") <= 1


@pytest.mark.parametrize("asked", ["0", "1"])
def test_what_was_asked_for_is_known_while_hydra_hands_its_errors_on(
    asked: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(DEBUG, asked)
    with hydras_errors_here():
        assert os.environ[DEBUG] == "1"
        assert debugging() == (asked == "1")
    assert os.environ[DEBUG] == asked


def test_debugging_shows_the_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(DEBUG, "1")
    with pytest.raises(KeyError), net():
        raise KeyError("scores")


def test_the_message_is_the_cause_of_an_error_that_only_says_who_was_called() -> None:
    error = InstantiationException("Error in call to target 'lsep_ml.losses.lsep_loss'")
    error.__cause__ = ValueError("max_pairs=0: at least 1")
    assert message(error) == "ValueError: max_pairs=0: at least 1"


def test_lines_go_to_the_standard_output_of_the_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    handler = TerminalHandler()
    log = logging.Logger("bar")
    log.addHandler(handler)
    for _ in range(2):
        page = io.StringIO()
        monkeypatch.setattr(sys, "stdout", page)
        log.info("epoch \x1b[2J1")
        assert page.getvalue() == "epoch \\x1b[2J1\n"


def test_a_log_of_a_verb_is_printed_as_it_is(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging, "lastResort", logging.lastResort)
    log = logging.Logger("verb")
    with net():
        monkeypatch.setattr(logging.root, "handlers", [])
        log.warning("a\x1b[2J [bold] %s", "b.png")
        log.info("nothing of this")
    assert capsys.readouterr().err == "a\\x1b[2J [bold] b.png\n"


def test_a_terminal_without_the_letters_shows_their_codes() -> None:
    code = "from lsep_ml.terminal import net, say\nwith net(): say('\\u00fcn\\u2013')"
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True
    )
    assert done.stdout == "\\xfcn\\u2013\n"


def test_an_option_that_nothing_can_be_built_of_is_named() -> None:
    """Hydra names only the function that was called."""
    part = OmegaConf.create({"_target_": "builtins.range", "_args_": ["ten"]})
    with pytest.raises(InstantiationException) as raised:
        instantiate({"decision": part})
    said = message(raised.value)
    assert said.startswith("decision: TypeError: 'str' object cannot be interpreted as an integer")
    assert UNEXPECTED not in said
    with pytest.raises(InstantiationException) as raised:
        instantiate({"decision": {"_target_": "lsep_ml.decisions.TopK", "min_k": 0}})
    assert message(raised.value).startswith("ValueError: ")
