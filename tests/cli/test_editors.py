"""`lsp`, where it is not installed. What it serves is tested in `tests/language_server`."""

import subprocess
import sys
from importlib import util

from maskdsl.cli.commands import lsp


def test_it_says_what_to_install(maskdsl, monkeypatch):
    monkeypatch.setattr(lsp, "find_spec", lambda name: None if name == "pygls" else util.find_spec(name))
    ended = maskdsl("lsp")
    assert ended.code == 2 and "error[E530]" in ended.err and "pip install 'maskdsl[lsp]'" in ended.err


def test_no_torch_is_needed():
    code = "import sys, maskdsl.view.language_server.server; assert not {'torch', 'triton'} & set(sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0
