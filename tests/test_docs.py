"""The pages of the documentation do what they say.

Of each page, in order: files are written, commands print what stands below them (`--update-golden` writes that anew),
patterns bind at their defaults, programs run, one behind the other. Blocks marked `py` and `lua`, `toml` or `text` are
other people's languages and libraries, or are not run for a reason that their page gives.
"""

import fcntl
import os
import re
import shlex
import shutil
import subprocess
import sys
from contextlib import suppress
from functools import partial
from html import unescape
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import entry_points
from pathlib import Path
from threading import Thread

import campaigns
import pytest

import maskdsl as package
from maskdsl import AttnError
from maskdsl.cli.app import app
from tests.support.browser import PALE, launched
from tests.support.command_line import maskdsl
from tests.support.documented import DOCUMENTED

__all__ = ["maskdsl"]

ROOT = Path(__file__).parents[1]
PAGES = [path for path in sorted((ROOT / "docs").glob("*.md")) if path.stem != "gallery"]
BLOCK = re.compile(r"^```(\w+)([^\n]*)\n(.*?)^```$", re.M | re.S)
KNOWN = {"attn", "console", "python", "py", "text", "lua", "toml", "sh"}
COLUMNS = 72


def run(maskdsl, text):
    """The block of a terminal as it should be."""
    shown = []
    for command in re.findall(r"^\$ (.*)$", text, re.M):
        name, *words = shlex.split(command)
        assert name == "maskdsl", command
        ended = maskdsl(*words, columns=COLUMNS)
        assert ended.code in (0, 1, 2)
        shown.append(f"$ {command}\n{ended.out}{ended.err}")
    return "\n".join(line.rstrip() for line in "".join(shown).splitlines()) + "\n"


def check_pattern(text, more):
    title = re.search(r'title="([^"]+)"', more)
    if title:
        Path(title[1]).write_text(text)
    module = package.parse(text)
    for pattern in module.values():
        if "wrong" in more:  # by the name of its file
            with pytest.raises(AttnError):
                pattern.bind(heads=4)
        elif None not in pattern.parameters.values():
            pattern.bind(heads=4)


def test_figures_of_campaigns_are_those_recorded(request):
    page = ROOT / "docs" / "reliability.md"
    if request.config.getoption("--update-golden"):
        page.write_text(campaigns.with_table(page.read_text()))
    assert page.read_text() == campaigns.with_table(page.read_text()), "`make golden` writes them anew"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_blocks(page, maskdsl, monkeypatch, tmp_path, request):
    monkeypatch.chdir(tmp_path)
    text, names = page.read_text(), {}
    for kind, more, block in BLOCK.findall(text):
        assert kind in KNOWN, kind
        if kind == "attn":
            check_pattern(block, more)
        elif kind == "console":
            found = run(maskdsl, block)
            if request.config.getoption("--update-golden"):
                text = text.replace(f"```console\n{block}```", f"```console\n{found}```", 1)
            else:
                assert block == found
        elif kind == "python":
            exec(compile(block, f"{page.name}: {block.splitlines()[0]}", "exec"), names)
        elif kind == "py":
            compile(block, page.name, "exec")
    if request.config.getoption("--update-golden"):
        page.write_text(text)


@pytest.mark.parametrize(
    "page", [ROOT / "README.md", ROOT / "editors" / "README.md", *PAGES], ids=lambda page: page.stem
)
def test_commands_named_in_the_text_are_there(page):
    named = set(re.findall(r"(?:`|\$ )maskdsl ([a-z]+)", page.read_text()))
    assert named <= app.commands.keys()


class Loaded(HTMLParser):
    """What a page loads from elsewhere; links that people follow are not among it."""

    def __init__(self, text):
        super().__init__()
        self.found = []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        for name in ("src", "data") if tag != "link" else ("href",):
            address = values.get(name) or ""
            if address.startswith(("http:", "https:", "//")) and values.get("rel") != "canonical":
                self.found.append(address)


@pytest.fixture(scope="session")
def site(tmp_path_factory):
    """Built by the first worker that asks for it, and removed by the last."""
    own = tmp_path_factory.getbasetemp()
    folder = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "site"
    with open(folder.with_suffix(".lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            build_site(folder)
        fcntl.flock(lock, fcntl.LOCK_SH)
        yield folder
        with suppress(BlockingIOError):  # another reads it
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder)


def build_site(folder):
    ended = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", folder],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
    )
    if ended.returncode:
        shutil.rmtree(folder, ignore_errors=True)
    assert ended.returncode == 0, ended.stderr


def test_the_site_is_built_and_loads_nothing_from_elsewhere(site):
    pages = sorted(site.glob("*.html"))
    assert {f"{page.stem}.html" for page in PAGES} <= {page.name for page in pages}
    for page in pages:
        assert Loaded(page.read_text()).found == [], page
        assert "```" not in page.read_text(), page
    assert not any("@import" in style.read_text() for style in site.rglob("*.css"))


@pytest.fixture(scope="module")
def browser():
    yield from launched()


@pytest.fixture(scope="module")
def served(site):
    """The address of the site on this machine."""
    handler = partial(SimpleHTTPRequestHandler, directory=site)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.parametrize(("width", "theme"), [(400, "dark"), (1280, "light")])
def test_the_site_can_be_seen_and_read(browser, served, width, theme):
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=theme)
    for name in ("index", "tutorial", "gallery"):
        page.goto(f"{served}/{name}.html")
        page.add_style_tag(content="* { transition: none !important }")
        page.locator(f"body[data-md-color-scheme={'slate' if theme == 'dark' else 'default'}]").wait_for()
        assert page.evaluate("document.documentElement.scrollWidth") <= width, name
        assert page.evaluate("[...document.images].filter((each) => !each.loading && !each.naturalWidth).length") == 0
        if name != "gallery":  # which is long
            assert page.evaluate(PALE) == [], name
        elif width > 1000:  # its eight columns are not cut
            wrapped = "[...document.querySelectorAll('.md-typeset__scrollwrap')]"
            assert page.evaluate(f"{wrapped}.filter((each) => each.scrollWidth > each.clientWidth).length") == 0
    page.close()


def test_the_search_of_the_site_finds_something(browser, served):
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.goto(f"{served}/index.html", wait_until="networkidle")  # the index is there
    page.locator(".md-search__input").first.press_sequentially("neighborhood")
    page.locator(".md-search-result__link").first.wait_for()
    assert "neighborhood" in page.locator(".md-search-result__list").inner_text().lower()
    page.close()


@pytest.mark.skipif("attn" not in [each.name for each in entry_points(group="pygments.lexers")], reason="not installed")
def test_patterns_are_coloured(site):
    assert 'class="kd"' in (site / "index.html").read_text()


def test_the_site_describes_every_command_and_has_the_examples(site):
    text = (site / "command-line.html").read_text()
    assert {"show", "lsp"} < app.commands.keys()
    for name in app.commands:
        assert f'id="{name}"' in text
    assert (site / "examples/language/longformer.attn").is_file()
    assert 'src="pages/longformer.html"' in (site / "page.html").read_text()
    assert "connect-src 'none'" in (site / "pages/longformer.html").read_text()
    for name in ("with_order", "row_intervals"):
        assert f'id="maskdsl.api.bound_patterns.Mask.{name}"' in (site / "python.html").read_text()


def test_the_site_has_all_public_names_and_all_errors(site):
    text = (site / "python.html").read_text()
    for path, names in DOCUMENTED.items():
        assert f'id="{path}"' in text, path
        missing = [name for name in names if not re.search(rf'id="[\w.]+\.{name}"', text)]
        assert not missing, (path, missing)
    for name, home in package.HOMES.items():
        assert re.search(rf'id="{re.escape(home)}[\w.]*\.{name}"', text), name
    text = (site / "errors.html").read_text()
    catalogue = "".join(path.read_text() for path in ROOT.glob("maskdsl/base/errors/**/*.py"))
    declared = set(re.findall(r'code = "([EW]\d+)"', catalogue))
    assert len(declared) > 150 and all(f"<td>{code}</td>" in text for code in declared)
    assert "there is no token {token}<" in unescape(text)
