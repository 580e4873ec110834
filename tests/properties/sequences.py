"""Calls one after the other in one process, each held against the same call alone in a new one.

What is kept between calls must not show: not the number of heads, the lengths, the types or the mode of an earlier
call. `python -m tests.properties.sequences --seed 0 --count 2000` says which calls differ, and behind which others.
Patterns are those of `calls.py`, all examples and random programs.

Processes are forked from one that has imported all there is to import and computed nothing.
"""

import argparse
import json
import os
import sys
import tempfile
import traceback
import warnings
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random
from threading import Barrier
from typing import Any

import torch
import torch._dynamo.backends.common  # what `torch.compile` and checkpoints import when they are called
import torch.fx.experimental.symbolic_shapes  # what `torch.autograd.grad` imports
from torch import Tensor

from tests.properties.calls import OF_THE_PROCESS, Call, Subject, result_of, subject
from tests.support.records import add, commit

EACH = 25
"""Calls of one sequence."""
ROOM = 1e-6

Step = tuple[Call, ...]
"""Calls at once, each in a thread of its own; one alone is in the main thread."""


def subjects_of(seed: int) -> list[Subject]:
    """What the calls of a sequence are about: two, which so have many calls each."""
    random, found = Random(seed), list[Subject]()
    while len(found) < 2:
        found += filter(None, [subject(random.randrange(10**6))])
    return found


def steps_of(random: Random, count: int) -> list[Step]:
    """So many calls. Those of a step change nothing for the whole process."""
    seed = random.randrange(10**6)
    subjects = forked(lambda: subjects_of(seed))
    backend = random.choice(["auto", "auto", "auto", "reference"])
    steps: list[Step] = []
    while count > 0:
        calls = [Call.drawn(random, subjects, backend) for _ in range(min(count, random.choice([1, 1, 1, 1, 3])))]
        if len(calls) > 1:
            calls = [each for each in calls if each.mode not in OF_THE_PROCESS and not each.held]
        steps.append(tuple(calls))
        count -= len(calls)
    return [step for step in steps if step]


def results_of(steps: list[Step]) -> list[list[Tensor] | str]:
    return [result for step in steps for result in (at_once(step) if len(step) > 1 else [result_of(step[0])])]


def at_once(step: Step) -> list[list[Tensor] | str]:
    with ThreadPoolExecutor(len(step)) as threads:
        started = Barrier(len(step))
        return [*threads.map(lambda call: (started.wait(), result_of(call))[1], step)]


def forked(function: Callable[[], Any]) -> Any:
    """What a function gives in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "result"
        process = os.fork()
        if not process:
            status = 1
            try:
                warnings.simplefilter("ignore")
                torch.save(function(), path)
                status = 0
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(status)
        _, status = os.waitpid(process, 0)
        assert status == 0, f"a process ended with {status}"
        return torch.load(path, weights_only=False)


def same(found: list[Tensor] | str, expected: list[Tensor] | str) -> bool:
    if isinstance(found, str) or isinstance(expected, str):
        return found == expected
    pairs = zip(found, expected, strict=True)
    return all(x.dtype == y.dtype and torch.allclose(x, y, rtol=ROOM, atol=ROOM, equal_nan=True) for x, y in pairs)


def campaign(seed: int, count: int) -> tuple[list[str], Counter[str]]:
    """What is told of calls that differ from themselves alone, or fail alone; and what became of how many.

    Calls that the product refuses, as it refuses packed sequences of pooled keys, have to be refused alike.
    """
    random, told, outcomes = Random(seed), list[str](), Counter[str]()
    while outcomes.total() < count:
        steps = steps_of(random, min(EACH, count - outcomes.total()))
        calls = [call for step in steps for call in step]
        found = forked(lambda steps=steps: results_of(steps))
        for number, (call, result) in enumerate(zip(calls, found, strict=True)):
            expected = forked(lambda call=call: result_of(call))
            if isinstance(expected, str) and not expected.startswith("AttnError"):
                outcomes["failed alone"] += 1
                told.append(f"fails alone: {call}\n  {expected}")
            elif not same(result, expected):
                outcomes["different"] += 1
                told.append(difference(calls[:number], call, result, expected))
            else:
                outcomes["refused" if isinstance(expected, str) else "equal"] += 1
    return told, outcomes


def difference(before: list[Call], call: Call, found: list[Tensor] | str, expected: list[Tensor] | str) -> str:
    lines = [f"differs: {call}", f"  {apart(found, expected)}"]
    for each in before:
        _, again = forked(lambda each=each: [result_of(each), result_of(call)])
        if not same(again, expected):
            return "\n".join([*lines, f"  behind {each}"])
    return "\n".join([*lines, f"  behind {len(before)} calls, but behind none of them alone"])


def apart(found: list[Tensor] | str, expected: list[Tensor] | str) -> str:
    """The largest difference of each tensor, or the errors."""
    if isinstance(found, str) or isinstance(expected, str):
        return "\n  ".join(each if isinstance(each, str) else "no error" for each in (found, expected))
    pairs = zip(found, expected, strict=True)
    return f"by {[float((x - y).abs().max()) if x.numel() else 0.0 for x, y in pairs]}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--record", type=Path, help="a file of results that this one is added to")
    given = parser.parse_args()
    torch.set_num_threads(1)
    checked_out = commit()
    told, outcomes = campaign(given.seed, given.count)
    print(*told, sep="\n")
    piece = {
        "seed": given.seed,
        "count": outcomes.total(),
        "commit": checked_out,
        "outcomes": dict(sorted(outcomes.items())),
    }
    print(json.dumps(piece))
    if given.record is not None:
        add(piece, given.record)
    return bool(told)


if __name__ == "__main__":
    sys.exit(main())
