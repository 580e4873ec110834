"""Long work: it says so on a terminal's standard error, and Ctrl-C ends it quietly."""

import os
import pty
import select
import signal
import subprocess
import sys
import time

SHOW = ["show", "examples/language/bigbird.attn", "n=65536", "--block", "96"]
SHORT = ["stats", "examples/language/longformer.attn", "--json"]


def start(words, stderr):
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "80"}
    command = [sys.executable, "-m", "maskdsl", *words]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stderr, env=environment)


def read(terminal, seconds):
    """What comes within the time; nothing more comes from a terminal that nobody has open."""
    ready, _, _ = select.select([terminal], [], [], seconds)
    try:
        return os.read(terminal, 65536).decode() if ready else ""
    except OSError:
        return ""


def test_long_work_says_so_and_can_be_interrupted():
    terminal, stderr = pty.openpty()
    process = start(SHOW, stderr)
    os.close(stderr)
    said, until = "", time.monotonic() + 60
    while "finding tiles" not in said and time.monotonic() < until:
        said += read(terminal, 1)
    assert "finding tiles" in said
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=60)
    while more := read(terminal, 0.1):
        said += more
    assert process.returncode == 130 and out == b""
    assert "Traceback" not in said and said.endswith("\x1b[?25h\r\x1b[1A\x1b[2K")  # the cursor is back, the line gone
    os.close(terminal)


def test_quiet_also_while_modules_load(maskdsl, monkeypatch):
    def interrupted(arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr("maskdsl.cli.app.invoke", interrupted)
    ended = maskdsl("check", "some.attn")
    assert (ended.code, ended.out, ended.err) == (130, "", "")


def test_short_work_says_nothing():
    terminal, stderr = pty.openpty()
    process = start(SHORT, stderr)
    os.close(stderr)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 0 and out.startswith(b"{") and read(terminal, 0.1) == ""
    os.close(terminal)
