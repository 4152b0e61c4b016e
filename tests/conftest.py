"""What holds for all tests: sleeping threads, and browser tests that CI never skips."""

import os
import shutil

import pytest

# Set before torch is loaded: waiting threads sleep, as in run.py, so that tests beside other work stay quick.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave out what drives a browser where there is none, except in CI, which installs it and must not skip."""
    if os.environ.get("CI") or (shutil.which("chromium") and shutil.which("chromedriver")):
        return
    for item in items:
        if "chrome" in getattr(item, "fixturenames", ()):
            item.add_marker(
                pytest.mark.skip(reason="needs Debian's chromium and chromium-driver, as .ci/run installs")
            )
