"""Hostile texts through the whole product: `python -m tests.independent.hostile FIRST COUNT`.

Every step of every text ends in time and memory, with a result or declared errors. What does not is shrunk and printed.
"""

import argparse
import ast
import contextlib
import io
import json
import multiprocessing
import resource
import signal
import sys
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from types import FrameType
from typing import TypeVar

import torch

import maskdsl
from maskdsl.api import Mask, Pattern, Stack
from maskdsl.base.source import Source
from maskdsl.bind.expression.names import OF_BINDING, RESERVED
from maskdsl.cli.commands.check_and_fmt import checked
from maskdsl.cli.commands.show_and_stats import show, stats
from maskdsl.cli.request.masks import complete
from maskdsl.cli.request.rank_options import RankOptions
from maskdsl.cli.request.routed_masks import resolve_masks
from maskdsl.cli.request.shared_options import Ranges, SharedOptions
from maskdsl.cli.stages import STAGES, Stage
from maskdsl.ir.heads import Heads
from maskdsl.syntax.format import format_file
from maskdsl.syntax.parse import parse
from maskdsl.syntax.tree import File
from tests.independent.mutations import MARKER, hostile
from tests.support.records import add, commit

SECONDS = 5.0
"""Of CPU, for one step of one text."""
MEMORY = 1 << 30
"""Bytes that a campaign's process may take besides what it began with."""
SMALL, SHOWN, CALLED = 48, 4096, 160
"""What large parameters become, and the most tokens of what is shown and of what is called."""
MOST, RARE = 50_000, 1_000_000
"""Characters of a text: mostly, and of one in `RARELY`."""
RARELY = 100
PIECE = 200
"""Texts of one process of a campaign."""


T = TypeVar("T")


class TooSlow(BaseException):
    """No `Exception`: nothing may take it for an error of its own."""


class Wrong(AssertionError):
    """A result that is none."""


@dataclass
class Trial:
    """One text that is being tried."""

    text: str
    random: Random
    path: Path
    seconds: dict[str, float] = field(default_factory=dict)

    def step(self, name: str, action: Callable[[], T]) -> T:
        """Its result; `AttnError` if it says what is wrong, `TooSlow`."""
        signal.setitimer(signal.ITIMER_VIRTUAL, SECONDS)
        began = time.process_time()
        try:
            return action()
        except maskdsl.AttnError as error:
            if not str(error).isprintable() and any(not (c.isprintable() or c == "\n") for c in str(error)):
                raise Wrong(f"an error with characters that are not printed: {str(error)!r}") from None
            raise
        finally:
            signal.setitimer(signal.ITIMER_VIRTUAL, 0)
            self.seconds[name] = max(self.seconds.get(name, 0.0), time.process_time() - began)

    def run(self) -> str:
        """How far it came."""
        self.path.write_bytes(self.text.encode(errors="surrogatepass"))
        said = self.step("check", lambda: checked(str(self.path), Heads(2)).as_dict())
        try:
            module = self.step("parse", lambda: maskdsl.parse(self.text))
        except maskdsl.AttnError:
            if said["ok"]:
                raise Wrong("`check` finds nothing wrong, and it is not parsed") from None
            return "refused as text"
        self.check_format(module.program.root)
        subjects = [*module.values(), *module.stacks.values()]
        reached = ["refused", *map(self.resolve_masks, self.random.sample(subjects, min(2, len(subjects))))]
        return max(reached, key=["refused", "bound", "looked at", "called"].index)

    def check_format(self, file: File) -> None:
        """A file as it was parsed: its formatted text is the same file, and is what itself is formatted to."""
        text = self.step("fmt", lambda: format_file(file))
        again = self.step("parse again", lambda: parse(Source("<text>", text)))
        if again != file or self.step("fmt again", lambda: format_file(again)) != text:
            raise Wrong("formatting changes its meaning, or its own result")

    def resolve_masks(self, subject: Pattern | Stack) -> str:
        values = small_values(subject)
        words = [subject.name, *(f"{name}={value}" for name, value in values.items())]
        try:
            bound = self.step("bind", lambda: subject.bind(heads=2, **values))
            masks = list(bound.layers)[:1] if isinstance(subject, Stack) else [bound]
            mask = masks[0]
            tokens = max(mask.query_length, mask.key_length)
        except maskdsl.AttnError:
            return "refused"
        for stage in self.random.sample(STAGES, 3):
            if not stage.reads_inputs or tokens <= SHOWN:
                with contextlib.suppress(maskdsl.AttnError):
                    text = self.step(stage.name, partial(emitted, stage, mask))
                    check_text(text)
                    if stage.is_python:
                        self.step("compile", partial(check_module, text))
        if tokens > SHOWN:
            return "bound"
        with contextlib.suppress(maskdsl.AttnError):
            if self.random.random() < 0.5:
                options = SharedOptions(str(self.path), words, heads=Heads(2))
                ranks = self.random.choice([None, RankOptions((8, 3))])
                self.step("show", lambda: show(options, Ranges(None, None), ranks))
            else:
                options = SharedOptions(str(self.path), words, heads=Heads(2), block="32")
                self.step("stats", lambda: stats(options, head_dim=64, gpus=[], as_json=True))
        if tokens > CALLED or self.random.random() < 0.7:
            return "looked at"
        with contextlib.suppress(maskdsl.AttnError):
            self.step("call", lambda: called(mask))
        return "called"


def small_values(subject: Pattern | Stack) -> dict[str, int]:
    """Values for what has no default, or one that is large."""
    found = {}
    for name, default in subject.parameters.items():
        if name in RESERVED | OF_BINDING:
            continue  # Python would take it for what is given beside parameters
        if default is None:
            found[name] = 8
        elif default.isdecimal() and len(default) < 10 and int(default) > SMALL:
            found[name] = SMALL
    return found


def emitted(stage: Stage, mask: Mask) -> str:
    if stage.reads_inputs:
        resolved = resolve_masks([mask], [], None)
        return stage.text(resolved.masks[0], resolved.inputs)
    return stage.text(mask, {})


def check_text(text: str) -> None:
    """What is printed is no command to a terminal. Never executed."""
    if not text.replace("\n", "").replace("\t", "").isprintable():
        raise Wrong("characters that are not printed")


def check_module(text: str) -> None:
    """A generated module is one of Python, and has words of the file in its own docstring and in comments alone."""
    module = ast.parse(text)
    compile(module, "<generated>", "exec", dont_inherit=True)
    if MARKER in text:
        if ast.get_docstring(module) is not None:
            del module.body[0]
        if MARKER in ast.dump(module):
            raise Wrong("words of the text stand in code")


def called(mask: Mask) -> None:
    lengths = mask.given_query_length, mask.given_key_length, mask.given_key_length
    q, k, v = (torch.zeros(1, mask.heads, length, 4) for length in lengths)
    inputs = complete(mask.ir, {}, frozenset(each.name for each in mask.inputs)).arrays
    given = {name: torch.tensor(values) for name, values in inputs.items()}
    out = mask.compile("tiled")(q, k, v, **given)
    if out.shape != q.shape:
        raise Wrong(f"an output of {tuple(out.shape)}")


@contextlib.contextmanager
def limited() -> Iterator[Path]:
    """A folder for texts; steps are stopped in time, and nothing is printed but by `print` to the real output."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise TooSlow(f"more than {SECONDS:.0f} s")

    before = signal.signal(signal.SIGVTALRM, stop)
    try:
        with TemporaryDirectory() as folder, warnings.catch_warnings(), silent():
            warnings.simplefilter("error")
            warnings.simplefilter("ignore", maskdsl.AttnWarning)
            yield Path(folder)
    finally:
        signal.signal(signal.SIGVTALRM, before)


@contextlib.contextmanager
def silent() -> Iterator[None]:
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        yield


@dataclass(frozen=True)
class Result:
    outcome: str
    step: str
    """The one that took longest, or went wrong."""
    seconds: float
    kind: str = ""
    """What went wrong, and where: the same for alike failures."""


def tried(text: str, seed: int, folder: Path) -> Result:
    """What became of a text."""
    trial = Trial(text, Random(seed), folder / "text.attn")
    try:
        outcome = trial.run()
    except (Exception, TooSlow) as error:
        last = list(trial.seconds)[-1] if trial.seconds else "check"
        frames = [each for each in traceback.extract_tb(error.__traceback__) if "/maskdsl/" in each.filename]
        position = f"{Path(frames[-1].filename).name}:{frames[-1].name}" if frames else "?"
        if isinstance(error, TooSlow):  # where it stands when its time is over is chance
            position = next((each.name for each in frames if each.name not in ("__call__", "step")), "?")
        said = "" if isinstance(error, TooSlow) else f": {str(error)[:200]}"
        return Result("failed", last, trial.seconds.get(last, 0.0), f"{type(error).__name__} in {position}{said}")
    step = max(trial.seconds, key=trial.seconds.__getitem__)
    return Result(outcome, step, trial.seconds[step])


def alike(one: Result, other: Result) -> bool:
    return one.outcome == other.outcome and one.kind.partition(":")[0] == other.kind.partition(":")[0]


def shrunk(text: str, seed: int, folder: Path, result: Result, seconds: float = 60.0) -> str:
    """The text without the lines, and then the characters, that it fails alike without."""
    end = time.process_time() + seconds
    for split in (str.splitlines, list):
        parts, size = split(text), 1 << 16
        while size and time.process_time() < end:
            size = min(size, max(1, len(parts)))
            at = 0
            while at < len(parts) and time.process_time() < end:
                less = parts[:at] + parts[at + size :]
                candidate = "\n".join(less) if split is str.splitlines else "".join(less)
                if alike(tried(candidate, seed, folder), result):
                    parts = less
                else:
                    at += size
            size //= 2
        text = "\n".join(parts) if split is str.splitlines else "".join(parts)
    return text


def text_of(seed: int, most: int = MOST) -> str:
    return hostile(seed, RARE if most == MOST and seed % RARELY == 0 else most)


# Campaigns


def work(seeds: range, to: Connection) -> None:
    """Tries texts in a process of their own; sends each result, and the bytes that it has taken so far."""
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + MEMORY, size + MEMORY))
    began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with limited() as folder:
        for seed in seeds:
            result = tried(text_of(seed), seed, folder)
            to.send((seed, result, 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - began)))


def results(first: int, count: int) -> Iterator[tuple[int, Result, int]]:
    context = multiprocessing.get_context("fork")
    seed, end = first, first + count
    while seed < end:
        ours, theirs = context.Pipe(duplex=False)
        process = context.Process(target=work, args=(range(seed, min(seed + PIECE, end)), theirs))
        process.start()
        theirs.close()
        with contextlib.suppress(EOFError):
            while True:
                found = ours.recv()
                yield found
                seed = found[0] + 1
        process.join()
        if process.exitcode:
            yield seed, Result("failed", "?", 0.0, f"the process ends with {process.exitcode}"), 0
            seed += 1


@dataclass
class Campaign:
    """What has become of texts so far."""

    outcomes: Counter[str] = field(default_factory=Counter)
    longest: tuple[float, str, int] = (0.0, "", 0)
    """Seconds, step and seed."""
    largest: int = 0
    """Bytes."""
    kinds: Counter[str] = field(default_factory=Counter)

    def as_dict(self) -> dict[str, object]:
        return {
            "count": self.outcomes.total(),
            "outcomes": dict(sorted(self.outcomes.items())),
            "longest_s": round(self.longest[0], 2),
            "largest_mb": self.largest >> 20,
        }

    def add(self, seed: int, result: Result, memory: int) -> None:
        self.outcomes[result.outcome] += 1
        self.longest = max(self.longest, (result.seconds, result.step, seed))
        self.largest = max(self.largest, memory)
        if result.kind:
            self.kinds[result.kind.partition(":")[0]] += 1


def campaign(first: int, count: int, shrinks: bool = True) -> Campaign:
    """Prints what fails."""
    found = Campaign()
    for seed, result, memory in results(first, count):
        found.add(seed, result, memory)
        if result.kind:
            print(f"--- seed {seed}, {result.step}: {result.kind}", flush=True)
            if shrinks and found.kinds[result.kind.partition(":")[0]] == 1 and "process" not in result.kind:
                with limited() as folder:
                    least = shrunk(text_of(seed), seed, folder, result)
                print(least if len(least) < 2000 else f"{least[:1000]}\n...\n{least[-500:]}", flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("first", type=int)
    parser.add_argument("count", type=int)
    parser.add_argument("--whole", action="store_true", help="shrink nothing of what fails")
    parser.add_argument("--record", type=Path, help="a file of results that this one is added to")
    options = parser.parse_args()
    found = campaign(options.first, options.count, not options.whole)
    _, step, seed = found.longest
    print(json.dumps({**found.as_dict(), "longest": f"{step} of seed {seed}", "kinds": dict(found.kinds)}))
    if options.record is not None:
        add({"first": options.first, "commit": commit(), **found.as_dict()}, options.record)
    sys.exit(found.outcomes["failed"] > 0)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
