"""Steps, each in a process of its own: what fails, faults or hangs ends only itself.

Each step leaves one line of JSON, `{"call", "step", "outcome", "seconds", ...}`, in `contact.jsonl`, and the end of
what it printed in `contact.log`. It needs the standard library alone.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

BENCHMARKS = Path(__file__).parents[1]
LINES, LOG = "contact.jsonl", "contact.log"
DONE, FAILED, FAULTED, STOPPED, SKIPPED, NO_GPU = "done", "failed", "faulted", "stopped", "skipped", "no GPU"
"""What may become of a step: a result; an exception; an error of the GPU that lasts; it hung; no time is left."""
TOOLS = "/usr/local/cuda/bin"
"""Where commands of the CUDA toolkit are that are not on the path."""
LOGGED, LOGGED_OF_TOOLS = 4000, 20000
"""Characters of what a step prints that are kept, and where a tool runs it."""

Record = dict[str, Any]


@dataclass(frozen=True)
class Step:
    """A function that is called with `keep`, and what it may take."""

    name: str
    target: str
    """`module:function`. Its result, a dict, goes into the line, beside what it gave to `keep` before."""
    arguments: Mapping[str, Any] = field(default_factory=dict)
    limit: float = 30.0
    """Seconds after which it is killed, with every process that it started."""
    least: float = 8.0
    """Seconds that have to be left for it to be started."""
    tool: tuple[str, ...] = ()
    """A command that runs it, such as a sanitizer."""
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Ended:
    """A process that ended. `status` is None if it was killed for its time."""

    status: int | None
    result: Record
    printed: str


def run(call: str, steps: Sequence[Step], seconds: float, folder: Path, paths: Sequence[Path]) -> Iterator[Record]:
    """Runs steps one after the other, as the seconds last, and gives their lines. `paths` is where modules are.

    After a step that answers that there is no GPU, no other is started: each answers so.
    """
    folder.mkdir(parents=True, exist_ok=True)
    end = time.monotonic() + seconds
    outcome = DONE
    for step in steps:
        began = time.monotonic()
        line = {"outcome": NO_GPU} if outcome == NO_GPU else answer(step, end - began, folder, paths)
        record = {"call": call, "step": step.name, "seconds": round(time.monotonic() - began, 2), **line}
        outcome = record["outcome"]
        with (folder / LINES).open("a") as file:
            file.write(json.dumps(record) + "\n")
        yield record


def answer(step: Step, left: float, folder: Path, paths: Sequence[Path]) -> Record:
    """The line of one step."""
    if left < step.least:
        return {"outcome": SKIPPED, "why": f"{max(left, 0):.0f} s are left, and it needs {step.least:.0f}"}
    if step.tool and shutil.which(step.tool[0], path=search_path()) is None:
        return {"outcome": SKIPPED, "why": f"there is no {step.tool[0]} here"}
    limit = min(step.limit, left)
    ended = started(step, limit, paths)
    with (folder / LOG).open("a") as file:
        file.write(f"--- {step.name}\n{ended.printed[-(LOGGED_OF_TOOLS if step.tool else LOGGED) :]}\n")
    line = {"outcome": DONE, **ended.result}
    if step.tool:
        line["tool"] = [text.strip("= ") for text in ended.printed.splitlines() if text.startswith("=========")][-12:]
    if ended.status is None:
        enough = limit == step.limit
        why = f"killed after {limit:.0f} s" if enough else f"the {limit:.0f} s that were left were not enough"
        return {**line, "outcome": STOPPED if enough else SKIPPED, "why": why}
    if ended.status and line["outcome"] == DONE:
        return {**line, "outcome": FAILED, "why": died(ended)}
    return line


def search_path() -> str:
    return os.pathsep.join([os.environ.get("PATH", os.defpath), TOOLS])


def died(ended: Ended) -> str:
    """Why a process ended that could not say so itself."""
    assert ended.status is not None
    code = signal.Signals(-ended.status).name if ended.status < 0 else f"exit status {ended.status}"
    return ": ".join([code, *ended.printed.strip().splitlines()[-1:]])


def started(step: Step, limit: float, paths: Sequence[Path]) -> Ended:
    """Runs a step's process, and ends what it leaves behind."""
    with tempfile.TemporaryDirectory() as scratch:
        result, printed = Path(scratch) / "result.json", Path(scratch) / "printed"
        child = [sys.executable, "-m", "contact.child", step.target, json.dumps(step.arguments), str(result)]
        known = filter(None, [os.environ.get("PYTHONPATH")])
        path = os.pathsep.join([*map(str, (BENCHMARKS, BENCHMARKS.parent, *paths)), *known])
        environment = {
            **os.environ,
            "PATH": search_path(),
            "PYTHONPATH": path,
            "PYTHONUNBUFFERED": "1",
            **step.environment,
        }
        tool = [shutil.which(step.tool[0], path=search_path()) or step.tool[0], *step.tool[1:]] if step.tool else []
        with printed.open("w") as file:
            process = subprocess.Popen(
                [*tool, *child], env=environment, stdout=file, stderr=file, start_new_session=True
            )
            try:
                status = process.wait(limit)
            except subprocess.TimeoutExpired:
                status = None
            finally:
                end_group(process)
        found = json.loads(result.read_text()) if result.exists() else {}
        return Ended(status, found, printed.read_text(errors="replace"))


def end_group(process: "subprocess.Popen[bytes]") -> None:
    """Kills a process and those that it started; does not wait for what the kernel does not let go of."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    with suppress(subprocess.TimeoutExpired):
        process.wait(5)


def read(path: Path) -> list[Record]:
    """The lines of a file, of each step the last one. No file has no lines."""
    lines = map(json.loads, path.read_text().splitlines()) if path.exists() else ()
    return list({(line["call"], line["step"]): line for line in lines}.values())
