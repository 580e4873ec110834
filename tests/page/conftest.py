"""One headless Chromium for all tests of the page."""

from dataclasses import dataclass, field

import pytest

from tests.support.browser import launched


@pytest.fixture(scope="package")
def browser():
    """Closed before other tests run: while it is open, its event loop is in the way of theirs."""
    yield from launched()


@dataclass
class Heard:
    """What a page has said to the console, and asked the network for."""

    complaints: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)


@pytest.fixture
def opened(browser):
    """Opens an address, waits for the map, and gives the page. Fails if anything was complained about."""
    contexts = []
    heard = Heard()

    def open(address, *, width=1280, height=900, theme="light", wait=True):
        context = browser.new_context(
            viewport={"width": width, "height": height}, color_scheme=theme, reduced_motion="reduce"
        )
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(20_000)
        page.on("console", lambda message: heard.complaints.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: heard.complaints.append(str(error)))
        page.on("request", lambda request: heard.requests.append(request.url))
        page.heard = heard
        page.goto(address)
        if wait:
            settle(page)
        return page

    yield open
    for context in contexts:
        context.close()
    assert heard.complaints == []


def settle(page):
    """Waits until everything that can be seen is painted."""
    page.wait_for_timeout(60)
    page.locator('#map[data-settled]:not([data-settled=""])').wait_for()
