"""What holds for all tests: one thread a process, and browser tests that CI never skips."""

import os
import shutil
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from selenium import webdriver

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--window-size=1200,900",
)

# Set before torch is loaded, and inherited by the processes that tests start. Sums in another number of threads differ
# in their last bits, tests that run side by side have the other cores, and threads that wait must not spin.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["OMP_WAIT_POLICY"] = "PASSIVE"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave out what drives a browser where there is none, except in CI, which installs it and must not skip."""
    if os.environ.get("CI") or (shutil.which("chromium") and shutil.which("chromedriver")):
        return
    for item in items:
        if "chrome" in getattr(item, "fixturenames", ()):
            item.add_marker(
                pytest.mark.skip(reason="needs Debian's chromium and chromium-driver, as .ci/run installs")
            )


@pytest.fixture(scope="session")
def chrome(tmp_path_factory: pytest.TempPathFactory) -> "Iterator[webdriver.Chrome]":
    """Debian's chromium; nothing is downloaded, nothing is skipped where it is missing."""
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = "/usr/bin/chromium"
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service("/usr/bin/chromedriver"))
    yield driver
    driver.quit()
