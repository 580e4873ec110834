"""First contact with a GPU, without one: steps that end in every way end only themselves, and nothing is made up."""

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from zipfile import ZipFile

import first_contact
import pytest
import torch
from contact import plans, report, runner, wheels
from contact.names import CUDNN, FLASH, FLEX, FLEX_TUNED, OURS
from contact.runner import DONE, FAILED, FAULTED, NO_GPU, SKIPPED, STOPPED, Record, Step
from gpu.patterns import ENTRIES

ROOT = Path(__file__).parents[2]
STEPS = "tests.support.contact_steps:"


def ran(steps: list[Step], folder: Path, seconds: float = 60) -> list[Record]:
    lines = list(runner.run("check", steps, seconds, folder, []))
    assert lines == runner.read(folder / runner.LINES)
    assert [line["step"] for line in lines] == [step.name for step in steps]
    return lines


def test_what_fails_faults_hangs_or_dies_ends_only_itself(tmp_path: Path) -> None:
    pids = tmp_path / "pid"
    steps = [
        Step("versions", STEPS + "has_gpu"),
        Step("fails", STEPS + "fails"),
        Step("faults", STEPS + "faults"),
        Step("hangs", STEPS + "hangs", {"pids": str(pids)}, limit=3),
        Step("dies", STEPS + "dies"),
        Step("is not there", STEPS + "nobody"),
        Step("adds", STEPS + "adds", {"one": 1, "other": 2}),
    ]
    versions, fails, faults, hangs, dies, absent, adds = ran(steps, tmp_path)
    assert (versions["outcome"], versions["gpu"]) == (DONE, "a stub")
    assert (fails["outcome"], fails["why"], fails["forward"]) == (FAILED, "ValueError: not right", 1)
    assert faults["outcome"] == FAULTED
    assert faults["why"].startswith("RuntimeError: CUDA error")
    assert (hangs["outcome"], hangs["why"], hangs["forward"]) == (STOPPED, "killed after 3 s", 1)
    assert not is_alive(int(pids.read_text()))
    assert (dies["outcome"], dies["why"]) == (FAILED, "SIGABRT: the last words")
    assert absent["outcome"] == FAILED
    assert (adds["outcome"], adds["first"], adds["sum"]) == (DONE, 1, 3)
    assert report.failures([versions, fails, faults, hangs, dies, absent, adds]) == [
        *("fails", "faults", "hangs", "dies", "is not there")
    ]
    assert "Traceback" in (tmp_path / runner.LOG).read_text()


def is_alive(pid: int) -> bool:
    """Whether a process still runs; one that nobody has waited for does not."""
    status = Path(f"/proc/{pid}/stat")
    return status.exists() and status.read_text().rsplit(")", 1)[1].split()[0] != "Z"


def test_steps_end_when_the_time_is_spent(tmp_path: Path) -> None:
    steps = [
        Step("is stopped", STEPS + "sleeps", {"seconds": 60}, limit=1, least=1),
        Step("is cut short", STEPS + "sleeps", {"seconds": 60}, limit=30, least=1),
        Step("is skipped", STEPS + "sleeps", {"seconds": 0}, least=1),
        Step("needs nothing", STEPS + "adds", {"one": 1, "other": 1}, least=-100),
    ]
    began = time.monotonic()
    stopped, cut, skipped, _ = ran(steps, tmp_path, seconds=4)
    assert time.monotonic() - began < 14
    assert (stopped["outcome"], stopped["why"]) == (STOPPED, "killed after 1 s")
    assert cut["outcome"] == SKIPPED
    assert cut["why"].endswith("s that were left were not enough")
    assert (skipped["outcome"], skipped["why"]) == (SKIPPED, "0 s are left, and it needs 1")


def test_without_a_gpu_each_step_says_so(tmp_path: Path) -> None:
    steps = [
        Step("versions", STEPS + "no_gpu"),
        Step("hangs", STEPS + "hangs", {"pids": "nowhere"}),
        Step("memcheck", STEPS + "adds", tool=("no-such-tool",)),
    ]
    assert [line["outcome"] for line in ran(steps, tmp_path)] == [NO_GPU] * 3
    assert not report.failures(runner.read(tmp_path / runner.LINES))


@pytest.fixture
def tool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A sanitizer that runs what it is given, reports, and ends with 9 if that said "bad"."""
    script = tmp_path / "sanitizer"
    script.write_text(
        '#!/bin/sh\necho \'========= COMPUTE-SANITIZER\'\nout=$("$@")\necho "$out"\n'
        "case $out in *bad*) echo '========= ERROR SUMMARY: 1 error'; exit 9;; esac\n"
        "echo '========= ERROR SUMMARY: 0 errors'\n"
    )
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    return script.name


def test_steps_under_a_tool(tool: str, tmp_path: Path) -> None:
    def step(name: str, text: str, command: str = tool) -> Step:
        given = {"text": text, "name": "CACHING"}
        return Step(name, STEPS + "says", given, tool=(command,), environment={"CACHING": "1"})

    good, bad, absent = ran([step("good", "fine"), step("bad", "bad"), step("absent", "", "no-such-tool")], tmp_path)
    assert (good["outcome"], good["variable"]) == (DONE, "1")
    assert good["tool"] == ["COMPUTE-SANITIZER", "ERROR SUMMARY: 0 errors"]
    assert (bad["outcome"], bad["tool"][-1]) == (FAILED, "ERROR SUMMARY: 1 error")
    assert (absent["outcome"], absent["why"]) == (SKIPPED, "there is no no-such-tool here")
    assert report.told(bad).endswith("; ERROR SUMMARY: 1 error")


def test_a_step_that_runs_again_counts_once(tmp_path: Path) -> None:
    for other in (1, 2):
        list(runner.run("check", [Step("adds", STEPS + "adds", {"one": 1, "other": other})], 60, tmp_path, []))
    (line,) = runner.read(tmp_path / runner.LINES)
    assert line["sum"] == 3


# Plans


@pytest.mark.parametrize("steps", [plans.check(), plans.measure(False), plans.measure(True)])
def test_plans_begin_with_the_machine_and_name_each_step_once(steps: list[Step]) -> None:
    assert [step.name for step in steps[:2]] == ["versions", "rates"]
    assert len({step.name for step in steps}) == len(steps)
    for step in steps:
        module, function = step.target.split(":")
        assert callable(getattr(__import__(module, fromlist=[function]), function))
        json.dumps(step.arguments)


def test_tests_of_the_plan_are_there() -> None:
    files = [name for step in plans.check() if step.target == plans.TESTS for name in step.arguments["files"]]
    assert len(files) >= 5
    assert all((ROOT / "tests/gpu" / f"{name}.py").exists() for name in files)


def test_the_long_plan_is_the_short_one_and_more() -> None:
    short, long = plans.measure(False), plans.measure(True)
    names = [step.name for step in long]
    assert [name for name in names if name in {step.name for step in short}] == [step.name for step in short]
    assert len(names) > 2 * len(short)


def test_rows_are_of_known_patterns_and_the_first_are_the_headlines() -> None:
    assert {*plans.PATTERNS} == {row["pattern"] for row in plans.ROWS} == {entry.name for entry in ENTRIES}
    first = [row["pattern"] for row in plans.ROWS[: plans.FIRST]]
    assert first == ["causal", "window 1,024", "dense", "Longformer", "packed documents"]
    assert {72, 96, 192, 256} <= {row["head_dim"] for row in plans.ROWS}
    assert {"float16", "bfloat16"} == {row["dtype"] for row in plans.ROWS}
    assert any(row["key_heads"] < row["heads"] for row in plans.ROWS)
    assert any(row["length"] % 128 for row in plans.ROWS)
    names = {step.name for step in plans.measure(False)}
    assert {"decode", "varlen", "block maps", "training, causal, 16 layers", "training, causal, 1 layers"} <= names


@pytest.mark.parametrize("steps", [plans.check(), plans.measure(False)])
def test_kernels_run_by_threads_too(steps: list[Step]) -> None:
    """What loads by tensor descriptors by default runs without them as well, with the same arguments."""
    by_threads = [step for step in steps if step.name.endswith(", by threads")]
    assert len(by_threads) >= 2
    assert all(step.environment["MASKDSL_DESCRIPTORS"] == "0" for step in by_threads)
    others = [step for step in steps if step not in by_threads]
    assert not [step for step in others if "MASKDSL_DESCRIPTORS" in step.environment]
    twice = {step.name for step in by_threads if any(is_like(step, each) for each in others)}
    assert twice == {step.name for step in by_threads if step.target != plans.TESTS}


def is_like(one: Step, other: Step) -> bool:
    """Whether both do the same."""
    return one.target == other.target and {**other.arguments, "by_threads": True} == {
        **one.arguments,
        "by_threads": True,
    }


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
@pytest.mark.parametrize("call", ["check", "measure"])
def test_the_calls_here(call: str, tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "benchmarks/first_contact.py"), call, "--out", str(tmp_path)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert ended.returncode == 0, ended.stderr
    lines = runner.read(tmp_path / runner.LINES)
    assert {line["outcome"] for line in lines} == {NO_GPU}
    assert [line["step"] for line in lines] == [
        step.name for step in (plans.check() if call == "check" else plans.measure(False))
    ]
    assert lines[0]["torch"] == torch.__version__
    assert ended.stdout.count("no GPU") == len(lines)
    assert report.NOTHING in report.page(lines)


# Wheels


def test_wheels_of_packages_that_are_not_there_are_unpacked(tmp_path: Path) -> None:
    for name in ("brought_along", "pytest"):
        with ZipFile(tmp_path / f"{name}-1.0-py3-none-any.whl", "w") as archive:
            archive.writestr(f"{name}/__init__.py", "here = True\n")
    site = tmp_path / "site"
    assert wheels.unpack(tmp_path, site) == ["brought_along"]
    assert (site / "brought_along/__init__.py").exists()
    assert not (site / "pytest").exists()


def test_what_is_packed_is_what_the_project_needs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    commands: list[list[str]] = []
    monkeypatch.setattr(wheels.subprocess, "run", lambda command, check: commands.append(command))
    monkeypatch.setattr(sys, "argv", ["first_contact.py", "pack", str(tmp_path)])
    assert first_contact.main() == 0
    (command,) = commands
    assert command[1:4] == ["-m", "pip", "download"]
    assert command[command.index("--python-version") + 1] == "3.12"
    assert command[command.index("--dest") + 1] == str(tmp_path)
    names = {re.split(r"[<>=]", word)[0] for word in wheels.requirements()}
    assert {"lark", "rich", "numpy", "pytest", "pytest-xdist", "hypothesis"} <= names
    assert not {"torch", "triton"} & names


# The page


def line(step: str, call: str = "measure", **more: object) -> Record:
    return {"call": call, "step": step, "outcome": DONE, "seconds": 1.0, **more}


MACHINE = line("versions", gpu="GPU 1", driver="1.2", torch="2", triton="3", python="3.12")


def row(name: str, seconds: dict[str, float], **more: object) -> Record:
    contenders = {
        who: {part: {"seconds": each, "tflops": 100.0} for part in report.PASSES} for who, each in seconds.items()
    }
    return line(f"{name}, row", row={"pattern": name}, contenders=contenders, **more)


def test_a_page_of_nothing_says_so() -> None:
    page = report.page([])
    assert report.NOTHING in page
    assert "|" not in page


def test_the_page_is_that_of_the_results(request: pytest.FixtureRequest) -> None:
    expected = report.page(runner.read(first_contact.RESULTS / runner.LINES))
    if request.config.getoption("--update-golden"):
        first_contact.PAGE.write_text(expected)
    assert first_contact.PAGE.read_text() == expected, "`python benchmarks/first_contact.py page` writes it anew"


def test_the_page_has_what_was_measured_and_nothing_else() -> None:
    causal = row("causal", {OURS: 1e-3, FLEX: 1.5e-3, FLASH: 0.5e-3})
    causal["contenders"][OURS]["forward"]["drift"] = 0.012
    causal["contenders"][FLEX_TUNED] = {"failed": "OutOfResources: shared memory"}
    causal["map"] = {OURS: 0.5, FLEX: 0.25}
    causal["contenders"][CUDNN] = {"wrong": "the output is off by 1"}
    packed = row("packed documents", {FLEX: 1e-3}) | {"forward with maps": {OURS: 2e-3, FLEX: 5e-3}}
    packed["contenders"][OURS] = {"errors": {}, "backward": {"failed": "RuntimeError: no memory"}}
    lines = [
        MACHINE,
        line("rates", product_tflops=400.0, copy_bytes=4.25e12),
        line("smoke", "check", errors={"output": 0.001, "q": 0.004}),
        causal,
        packed,
        line("dense, row", outcome=STOPPED, why="killed after 40 s", row={"pattern": "dense"}),
        line("memcheck", "check", tool=["ERROR SUMMARY: 0 errors"]),
        line("tests", "check", outcome=FAILED, why="pytest ended with 1", passed=3, failed=1, skipped=0),
        line("decode", length=131072, window={OURS: {"seconds": 2e-5, "error": 0.001}}, dense={}, ratio=12.0),
        line("varlen", contenders={OURS: {"seconds": 3e-3, "errors": {"q": 0.01}}, FLEX: {"failed": "no"}}),
        line("block maps", length=131072, our_seconds=1e-4, flex_seconds=1e-3, ratio=10.0),
    ]
    page = report.page(lines)
    assert "On GPU 1 (driver 1.2), torch 2, Triton 3, Python 3.12." in page
    assert "| causal, row | forward | 1 ms | 100 | 25% | 1.50 | failed | 0.50 | wrong |  | +1.2% |" in page
    assert "| causal, row | map | 500 ms |  |  | 0.50 |  |  |  |  |  |" in page
    assert "| packed documents, row | backward | failed |" in page
    assert "| packed documents, row | forward with maps | 2 ms |  |  | 2.50 |" in page
    assert "| dense, row | forward | stopped |" in page
    assert "| measure | rates | done | 1 s | copies 4.25 TB/s, products 400 TFLOP/s |" in page
    assert "| check | smoke | done | 1 s | largest error 0.004 |" in page
    assert "| check | memcheck | done | 1 s | ERROR SUMMARY: 0 errors |" in page
    assert "| check | tests | failed | 1 s | pytest ended with 1; 3 passed; 1 failed; 0 skipped |" in page
    assert "| window | maskdsl | 20 us | 0.001 |" in page
    assert "| varlen | maskdsl | 3 ms | 0.01 |" in page
    assert "- causal, row: SDPA cuDNN: wrong: the output is off by 1" in page
    assert report.NOTHING not in page
    assert report.failures(lines) == ["dense, row", "tests", "packed documents, row"]


def test_goals() -> None:
    lines = [
        MACHINE,
        row("causal", {OURS: 1.0, FLEX: 1.5, FLASH: 0.95}),
        row("Swin", {OURS: 2.0, FLEX: 1.9}),
        line("decode", ratio=12.0),
    ]
    found = report.goals(lines)
    assert [goal.verdict for goal in found] == ["missed", "met", "missed", "met", "met", "met", "not measured", "met"]
    assert found[0].measured == "2 of 2 compared, least 0.95, below 1: Swin, row (0.95)"
    assert report.mean(lines[1:3], FLEX, "forward") == pytest.approx((1.5 * 0.95) ** 0.5)


def test_nothing_is_met_that_was_not_measured() -> None:
    """No row, or one that was stopped before ours had a time."""
    stopped = line("causal, row", outcome=STOPPED, why="killed", row={"pattern": "causal"}, contenders={OURS: {}})
    for lines in ([MACHINE], [MACHINE, stopped]):
        assert {goal.verdict for goal in report.goals(lines)} == {"not measured"}
