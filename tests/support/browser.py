"""One headless Chromium, and what is looked at in it. None is downloaded: Debian's, or whatever is on the path."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)


def launched() -> Iterator[Any]:
    """A browser for a fixture. While it is open, its event loop is in the way of other tests."""
    if CHROMIUM is None:
        # No package index has it, so `make test` cannot bring it: the gate installs it by apt, or says that it cannot.
        pytest.skip("pages are tested in chromium, an optional tool that is not on the path; .ci/run installs it")
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-dev-shm-usage"])
        yield browser
        browser.close()


PALE = Path(__file__).with_name("pale.js").read_text()
"""Run in a page, gives one text of each colour that is too pale to be read."""

CUT = Path(__file__).with_name("cut.js").read_text()
"""Run in a page, gives elements whose content is cut off, or sticks out."""
