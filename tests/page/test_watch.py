"""The page that follows its file: errors and repairs in a real browser, and what the server answers to whom."""

import json
import os
import signal
import subprocess
import sys
from http.client import HTTPConnection
from threading import Thread

import pytest

from maskdsl.cli.commands.view_page import PageRequest
from maskdsl.cli.request.shared_options import SharedOptions
from maskdsl.ir.heads import Heads
from maskdsl.view.page.watch import Watched, server
from tests.page.conftest import settle
from tests.support.interrupts import heeds_interrupts

LOCAL = "pattern local(n = 64, size = 9) {\n    space tokens[n]\n    attend window(size)\n}\n"
BROKEN = LOCAL.replace("window", "windw")


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "local.attn"
    path.write_text(LOCAL)
    return path


@pytest.fixture
def served(file):
    """The address of the page of a file."""
    wanted = PageRequest(SharedOptions(str(file), heads=Heads(2)))
    serving = server(Watched(wanted.build, [file], "local"))
    Thread(target=serving.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{serving.server_address[1]}/"
    serving.shutdown()
    serving.server_close()


def get(address, path="/", **headers):
    connection = HTTPConnection(address.split("/")[2], timeout=30)
    connection.request("GET", path, headers=headers)
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    return answer, text


def save(file, text):
    """As editors do: the file is another one afterwards."""
    other = file.with_suffix(".new")
    other.write_text(text)
    other.replace(file)


def test_a_saved_error_and_its_repair(served, opened, file):
    page = opened(served)
    page.select_option("#block", "1")
    settle(page)
    save(file, BROKEN)
    alert = page.get_by_role("alert")
    alert.wait_for()
    assert alert.inner_text().splitlines()[0] == "The file has an error"
    lines = page.locator("#problem-text").inner_text().splitlines()
    assert lines[0] == "error[E206]: there is no function or macro `windw`"
    assert lines[3].index("windw") == lines[4].index("^^^^^") and "did you mean `window`?" in lines[-1]
    assert page.locator("#map").is_visible()  # what was there before
    save(file, LOCAL.replace("size = 9", "size = 21"))
    page.locator("#parameters b").get_by_text("21").wait_for()
    settle(page)
    assert not page.locator("#problem").is_visible()
    assert page.locator("#block").input_value() == "1"  # what was chosen stays
    assert all(each.startswith(served) for each in page.heard.requests)


def test_a_file_that_is_broken_from_the_start(served, opened, file):
    save(file, BROKEN)
    page = opened(served, wait=False)
    page.get_by_text("did you mean `window`?").wait_for()
    assert not page.locator("#page").is_visible()
    save(file, LOCAL)
    page.locator("h1").get_by_text("local").wait_for()
    settle(page)


def test_only_this_machine_is_answered(served):
    answer, text = get(served)
    assert answer.status == 200 and "<title>local</title>" in text
    assert answer.headers["Cache-Control"] == "no-store"
    assert get(served, Host="evil.example")[0].status == 403
    assert get(served, "/../local.attn")[0].status == 404
    assert json.loads(get(served, "/state")[1]) == {"version": 1, "error": None}


def test_files_that_are_used_are_followed(tmp_path):
    (tmp_path / "used.attn").write_text("def near(size) = window(size)\n")
    root = tmp_path / "root.attn"
    root.write_text('use "used.attn"\npattern p(n = 8) { space tokens[n] attend near(3) }\n')
    watched = Watched(PageRequest(SharedOptions(str(root))).build, [root], "p")
    assert watched.state() == {"version": 1, "error": None} == watched.state()
    save(tmp_path / "used.attn", "def near(size) = windw(size)\n")
    broken = watched.state()
    assert broken["version"] == 2 and "used.attn:1" in broken["error"]
    assert len(watched.models) == 1
    save(tmp_path / "used.attn", "def near(size) = window(size) and causal\n")
    assert watched.state() == {"version": 3, "error": None}
    root.unlink()
    assert "there is no file" in watched.state()["error"]


def test_interrupting_it_is_no_error(file):
    words = [sys.executable, "-m", "maskdsl", "view", str(file), "--watch"]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(words, **pipes, env=environment, preexec_fn=heeds_interrupts) as process:
        line = process.stdout.readline()
        address = line.split()[0]
        assert "<title>" in get(address)[1]
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=20)
    assert (out.strip(), err, process.returncode) == ("ended", "", 0)
