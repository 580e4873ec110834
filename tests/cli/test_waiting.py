"""What is said while people wait, and that Ctrl-C ends it."""

import os
import pty
import re
import signal
import subprocess
import sys
from time import monotonic, sleep

import numpy as np
import pytest
from rich.console import Console

import maskdsl
from maskdsl.base.progress import Watch, watched
from maskdsl.cli import waiting
from maskdsl.cli.request import routed_masks
from tests.support.interrupts import heeds_interrupts

PATTERN = """
pattern scattered(n = 2048) {
    space tokens[n]
    attend random(head, q // 8, k // 8) % 50 == 0
}
"""
LONG = PATTERN.replace("2048", "400_000").replace("// 8", "// 2")


def test_work_tells_how_far_it_is(monkeypatch):
    mask = maskdsl.parse(PATTERN)["scattered"].bind(heads=3)
    plain = mask.tiles(block=(64, 64))
    shares = []

    def told(self, name, value):
        object.__setattr__(self, name, value)
        shares.append(self.share)

    with watched() as watch:
        monkeypatch.setattr(Watch, "__setattr__", told)
        assert mask.tiles(block=(64, 64)) == plain
    assert shares == sorted(shares) and watch.share == 1 and watch.steps == 3
    assert len({round(share * 3) for share in shares}) == 4
    assert any(0 < share % (1 / 3) < 0.33 for share in shares)


def test_an_estimate_at_the_pace_so_far():
    assert waiting.far(0.0, 9) == ""
    assert waiting.far(0.25, 10) == "25%, about 30 s to go"
    assert waiting.far(0.01, 60).endswith("about 99 min to go")
    assert waiting.far(0.001, 60).endswith("about 17 h to go")


def test_long_work_says_how_to_end_it():
    """From the estimate of what it takes in all."""
    assert "Ctrl-C" not in waiting._outlook(0.5, 1.4) and "Ctrl-C" not in waiting._outlook(0.0, 9)
    assert waiting._outlook(0.5, 2) == "50%, about 2 s to go; Ctrl-C ends it"


def test_an_interrupt_says_how_far_it_was():
    with (
        pytest.raises(KeyboardInterrupt, match=r"finding tiles: ended by Ctrl-C after 0 s$"),
        waiting.working("finding tiles"),
    ):
        raise KeyboardInterrupt


def test_lines_where_there_is_no_terminal(monkeypatch, capsys):
    monkeypatch.setattr(waiting, "LONG", 0.02)
    monkeypatch.setattr(waiting, "messages", lambda: Console(stderr=True))
    with waiting.working("finding tiles"):
        sleep(0.1)
    assert re.search(r"^finding tiles: 0 s, it has just begun$", capsys.readouterr().err, re.MULTILINE)


def test_a_terminal_is_told_soon_and_control_c_ends_it(tmp_path):
    file = tmp_path / "scattered.attn"
    file.write_text(LONG)
    ours, theirs = pty.openpty()
    words = [sys.executable, "-m", "maskdsl", "show", str(file), "--heads", "64"]
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "100"}
    process = subprocess.Popen(
        words, stdout=subprocess.DEVNULL, stderr=theirs, env=environment, preexec_fn=heeds_interrupts
    )
    os.close(theirs)
    try:
        said = b""
        while b"to go; Ctrl-C ends it" not in said:
            said += os.read(ours, 4096)
        process.send_signal(signal.SIGINT)
        start = monotonic()
        assert process.wait(30) == 130
        assert monotonic() - start < 20  # on a slow machine; otherwise below one second
        lines = os.read(ours, 1 << 16).decode().splitlines()
        assert re.search(r"finding tiles: ended by Ctrl-C after \d+ s, \d+% done$", lines[-1])
        assert not any("Traceback" in line for line in lines)
    finally:
        process.kill()
        os.close(ours)


def test_an_interrupt_passes_through(monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(np, "flatnonzero", interrupted)
    with pytest.raises(KeyboardInterrupt):
        maskdsl.parse(PATTERN)["scattered"].bind().tiles(block=(64, 64))


def test_no_vectors_are_made_up_where_nothing_is_routed(monkeypatch):
    monkeypatch.setattr(routed_masks, "blank_vectors", lambda *_: pytest.fail("of 67 million tokens: gigabytes"))
    mask = maskdsl.parse(PATTERN)["scattered"].bind()
    assert routed_masks.resolve_masks([mask], [], None).inputs == {}
