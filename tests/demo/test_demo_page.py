"""The page in a real browser: it says what predict says, its knob moves the decision, and it speaks to nobody else."""

import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

import lsep_ml
from lsep_ml import cli
from lsep_ml.bundle import Classifier, Predictions

HOST = "127.0.0.1"


def free_port() -> int:
    with socket.create_server((HOST, 0)) as server:
        return int(server.getsockname()[1])


@pytest.fixture(scope="module")
def classifier(digits_run: Path) -> Classifier:
    """Thresholds estimated, ten labels."""
    return lsep_ml.load(digits_run, device="cpu")


SERVE = """
import signal, socket, sys
from lsep_ml import cli
signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell in the background leaves ignored
look_up = socket.getaddrinfo
def seen(host, *rest, **options):
    print("asks for", host, file=sys.stderr, flush=True)
    return look_up(host, *rest, **options)
socket.getaddrinfo = seen
cli.main()
"""
"""The command line, in a process that says which hosts it asks for."""


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the server says on stderr."""
    return tmp_path_factory.mktemp("demo") / "stderr"


@pytest.fixture(scope="module")
def address(digits_run: Path, said: Path) -> Iterator[str]:
    """Where the page is served; Ctrl-C ends it."""
    port = free_port()
    words = [sys.executable, "-c", SERVE, "demo", str(digits_run), "--port", str(port), "--device", "cpu"]
    with said.open("w") as errors, subprocess.Popen(words, stdout=subprocess.PIPE, stderr=errors) as server:
        try:
            assert server.stdout is not None
            assert f"http://{HOST}:{port}/" in server.stdout.readline().decode(), said.read_text()
            yield f"http://{HOST}:{port}/"
            server.send_signal(signal.SIGINT)
            assert server.wait(60) == 0
        finally:
            server.kill()
    assert "Traceback" not in said.read_text()


@pytest.fixture
def page(chrome: webdriver.Chrome, address: str) -> Iterator[webdriver.Chrome]:
    """The page, freshly loaded; no error may have been logged when the test is over."""
    chrome.get(address)
    until(lambda: chrome.find_elements(By.CSS_SELECTOR, "input[type=file]"))
    chrome.get_log("browser")
    yield chrome
    assert [line for line in chrome.get_log("browser") if line["level"] == "SEVERE"] == []
    chrome.get("about:blank")  # before the server ends, which the page would call an error


@pytest.fixture
def scene(tmp_path: Path) -> Path:
    rng = np.random.default_rng(3)
    Image.fromarray(rng.integers(0, 256, (30, 40), np.uint8)).save(tmp_path / "scene.png")
    return tmp_path / "scene.png"


def until(done: Callable[[], Any], seconds: float = 60) -> Any:
    """What `done` gives, once it gives something."""
    end = time.monotonic() + seconds
    while not (found := done()):
        assert time.monotonic() < end, "nothing came"
        time.sleep(0.05)
    return found


def drop(page: webdriver.Chrome, image: Path) -> None:
    page.find_element(By.CSS_SELECTOR, "input[type=file]").send_keys(str(image))


def shown_rows(page: webdriver.Chrome) -> list[tuple[str, float, float, bool]]:
    """Name, score, threshold and whether it is chosen, of every row."""
    script = """return [...document.querySelectorAll(".found tbody tr")].map(row => [
      row.querySelector("th").textContent, ...[...row.querySelectorAll(".number")].map(n => n.textContent)])"""
    return [
        (name.removeprefix("✓").strip(), float(score), float(threshold), name.startswith("✓"))
        for name, score, threshold in page.execute_script(script)
    ]


def shown_labels(page: webdriver.Chrome) -> list[str]:
    return texts(page, ".found .label")


def texts(page: webdriver.Chrome, selector: str) -> list[str]:
    """Of all elements at one moment: the page may replace them at any time."""
    found: list[str] = page.execute_script(
        "return [...document.querySelectorAll(arguments[0])].map(e => e.textContent)", selector
    )
    return found


def expected_rows(found: Predictions, shift: float = 0) -> list[tuple[Any, ...]]:
    assert found.thresholds is not None
    order = np.argsort(-found.scores[0], kind="stable")
    scores, thresholds = found.scores[0].astype(float), found.thresholds[0] + shift
    return [
        (found.label_names[k], pytest.approx(scores[k], abs=0.06), pytest.approx(thresholds[k], abs=0.06))
        for k in order
    ]


def test_a_dropped_image_is_read_and_the_knob_moves_all_thresholds(
    page: webdriver.Chrome, classifier: Classifier, scene: Path
) -> None:
    found = classifier.predict(scene)
    assert found.thresholds is not None
    drop(page, scene)
    rows = until(lambda: shown_rows(page))
    assert [row[:3] for row in rows] == expected_rows(found)
    assert {row[0] for row in rows if row[3]} == set(found[0].labels) == set(shown_labels(page))
    slider = page.find_element(By.CSS_SELECTOR, "input[type=range]")
    for key, count in ((Keys.HOME, 10), (Keys.END, 0)):  # by keyboard, to both ends
        slider.send_keys(key)
        until(lambda count=count: len(shown_labels(page)) == count)  # type: ignore[misc]
    for _ in range(60):
        slider.send_keys(Keys.ARROW_LEFT)
    shift = float(slider.get_property("value"))  # type: ignore[arg-type]
    expected = {
        name
        for name, score, threshold in zip(
            found.label_names, found.scores[0].astype(float), found.thresholds[0].astype(float), strict=True
        )
        if score > threshold + shift
    }
    until(lambda: set(shown_labels(page)) == expected)
    assert [row[:3] for row in shown_rows(page)] == expected_rows(found, shift)
    page.find_element(By.CSS_SELECTOR, "[aria-label*=eset]").click()
    until(lambda: "As fitted" in texts(page, ".change")[0])
    assert set(shown_labels(page)) == set(found[0].labels)


def test_a_mark_stands_where_its_threshold_is(
    page: webdriver.Chrome, classifier: Classifier, scene: Path
) -> None:
    drop(page, scene)
    until(lambda: shown_rows(page))
    script = """return [...document.querySelectorAll(".found .bar div")].map(bar => {
      const [all, value, mark] = [bar, bar.children[0], bar.children[1]].map(e => e.getBoundingClientRect());
      return [all.width, value.width, (mark.left + mark.right) / 2 - all.left]; })"""
    found = classifier.predict(scene)
    assert found.thresholds is not None
    places = np.array(page.execute_script(script))
    order = np.argsort(-found.scores[0], kind="stable")
    assert (places[:, 0] > 150).all()
    # one linear scale takes scores to the ends of bars and thresholds to marks
    numbers = np.concatenate([found.scores[0][order], found.thresholds[0][order]])
    pixels = np.concatenate([places[:, 1], places[:, 2]])
    slope, start = np.polyfit(numbers, pixels, 1)
    assert slope > 0
    np.testing.assert_allclose(slope * numbers + start, pixels, atol=1)


def test_it_speaks_to_nobody_else(page: webdriver.Chrome, address: str, said: Path) -> None:
    script = """return [...performance.getEntriesByType("resource").map(entry => entry.name),
      ...[...document.querySelectorAll("link[href]")].map(link => link.href),
      ...[...document.querySelectorAll("[src]")].map(element => element.src)]"""
    fetched = page.execute_script(script)
    assert len(fetched) > 10
    assert [url for url in fetched if not url.startswith((address, "data:", "blob:"))] == []
    hosts = set(re.findall("asks for (.*)", said.read_text()))
    assert HOST in hosts
    assert hosts <= {HOST, "localhost", "None"}


def test_it_is_dark_where_the_reader_is(page: webdriver.Chrome, scene: Path) -> None:
    def darkness(scheme: str) -> float:
        media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
        page.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
        page.refresh()
        until(lambda: page.find_elements(By.CSS_SELECTOR, "input[type=file]"))
        drop(page, scene)
        until(lambda: shown_rows(page))
        colour = page.find_element(By.CSS_SELECTOR, ".found .how-many").value_of_css_property("color")
        return sum(map(int, re.findall(r"\d+", colour)[:3])) / 3

    assert darkness("dark") > 200
    assert darkness("light") < 50


def test_a_file_that_is_no_image_is_said(page: webdriver.Chrome, tmp_path: Path, scene: Path) -> None:
    (tmp_path / "broken.png").write_bytes(scene.read_bytes()[:60])
    drop(page, tmp_path / "broken.png")
    said = until(lambda: texts(page, ".toast-body.error"))[0]
    assert re.search("cannot be decoded|cannot identify", said)
    page.get_log("browser")  # it also logs the failed request


def call(*words: object) -> None:
    sys.argv = ["lsep_ml", *map(str, words)]
    cli.main()


@pytest.fixture
def own_argv(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", [])


def test_a_port_in_use_is_said_before_anything_is_read(
    own_argv: None, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server((HOST, 0)) as server, pytest.raises(SystemExit):
        port = server.getsockname()[1]
        call("demo", "absent", "--port", port)
    said = " ".join(capsys.readouterr().err.split())
    assert f"--host {HOST} --port {port}: Address already in use; give another --port" in said


def test_a_missing_gradio_is_said_with_the_extra(
    own_argv: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "gradio", None)
    monkeypatch.delitem(sys.modules, "lsep_ml.demo.page", raising=False)
    with pytest.raises(SystemExit):
        call("demo", "absent")
    assert "pip install 'lsep-ml[demo]'" in capsys.readouterr().err
