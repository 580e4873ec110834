"""Holds the product against the second meaning: `python -m tests.independent.compare FIRST COUNT [--triton]`.

Every seed is a program. What differs is shrunk and printed, as a file and a call to paste.
"""

import argparse
import json
import sys
import time
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from random import Random

import torch

import maskdsl
from tests.independent.algebra import has_algebra
from tests.independent.checks import (
    Differs,
    check_backend,
    check_no_entries,
    check_ordered,
    check_parts,
    check_stack,
    check_tiles,
    loaded,
)
from tests.independent.compiled import watched
from tests.independent.drawing import Drawn, draw
from tests.independent.explained import check_explained
from tests.independent.selection import Unclear
from tests.independent.truth import truth_of
from tests.support.records import add, commit

COMPUTED = ("forward", "backward", "some queries")
"""What kernels in C may compute of a program."""


def check(drawn: Drawn, seed: int, backends: tuple[str, ...], in_c: Counter[str] | None = None) -> str:
    """What became of one program: "equal", "refused" by the binder, "no numbers", or "unclear". Raises `Differs`.

    Adds to `in_c` whether kernels in C computed its forward pass, its backward pass, and calls with some queries.
    """
    try:
        module = loaded(drawn)
        with warnings.catch_warnings(action="ignore", category=maskdsl.AttnWarning):
            mask = module["drawn"].bind(heads=drawn.heads, key_heads=drawn.key_heads, **drawn.values)
    except maskdsl.AttnError as error:
        return "refused " + min(each.code for each in error.diagnostics)
    kind = "float32" if "native" in backends else "float64"
    truth = truth_of(drawn, seed, infinite="triton" not in backends, kind=kind)  # see docs/measured.md
    try:
        for each in (truth, *truth.branches):
            each.attends  # noqa: B018  # computed, or unclear
    except Unclear:
        return "unclear"
    check_tiles(mask, truth, Random(seed))
    check_explained(mask, truth, Random(seed))
    check_stack(module, truth, Random(seed))
    if truth.numbers is None:
        return "no numbers"
    for backend in backends:
        with watched(backend) as whole:
            check_backend(mask, truth, backend, Random(seed))
        check_ordered(mask, truth, backend)
        if seed % 5 == 0:
            check_no_entries(mask, truth, backend)
        with watched(backend) as parts:
            check_parts(mask, truth, backend, Random(seed))
        if in_c is not None:
            computed = whole["maskdsl_forward"], whole["maskdsl_backward"], parts["maskdsl_forward"]
            in_c.update(name for name, count in zip(COMPUTED, computed, strict=True) if count)
    return "equal"


# Shrinking, and campaigns


def smaller(drawn: Drawn) -> Iterator[Drawn]:
    """The program without one of its lines, or with fewer heads or entries."""
    lines = drawn.text.splitlines()
    for number in range(len(lines) - 2, 0, -1):
        text = "\n".join([*lines[:number], *lines[number + 1 :]]) + "\n"
        word = lines[number].split()
        rest = {name: shape for name, shape in drawn.inputs.items() if word[0] != "input" or word[1] != f"{name}:"}
        yield replace(drawn, text=text, inputs=rest)


def shrunk(drawn: Drawn, seed: int, backends: tuple[str, ...]) -> Drawn:
    for candidate in smaller(drawn):
        if differs(candidate, seed, backends):
            return shrunk(candidate, seed, backends)
    return drawn


def differs(drawn: Drawn, seed: int, backends: tuple[str, ...]) -> str | None:
    try:
        check(drawn, seed, backends)
    except Differs as error:
        return str(error)
    except Exception:
        return None
    return None


def campaign(
    first: int,
    count: int,
    backends: tuple[str, ...],
    stop: bool = False,
    routed: bool = False,
    in_c: Counter[str] | None = None,
) -> tuple[Counter[str], float]:
    """Programs `first` to `first + count`. Prints what differs; the counts, and the longest time of one in seconds.

    With `stop`, the first that differs is the last, and is printed as it is drawn. With `routed`, only programs with
    scores of groups are compared.
    """
    counts: Counter[str] = Counter()
    longest = 0.0
    for seed in range(first, first + count):
        if routed and not has_algebra(seed):
            continue
        drawn = draw(seed)
        began = time.process_time()
        try:
            counts[check(drawn, seed, backends, in_c)] += 1
        except Exception as error:
            counts["different"] += 1
            least = shrunk(drawn, seed, backends) if isinstance(error, Differs) and not stop else drawn
            print(f"--- seed {seed}: {differs(least, seed, backends) or repr(error)}")
            print(f"# heads={least.heads}, key_heads={least.key_heads}, batch={least.batch}\n{least.text}", flush=True)
            if stop:
                break
        longest = max(longest, time.process_time() - began)
    return counts, longest


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("first", type=int)
    parser.add_argument("count", type=int)
    parser.add_argument("--triton", action="store_true", help="in Triton's interpreter: TRITON_INTERPRET=1")
    parser.add_argument("--native", action="store_true", help="in float32, by the kernels in C where they compute them")
    parser.add_argument("--stop", action="store_true", help="at the first that differs, which is not shrunk")
    parser.add_argument("--routed", action="store_true", help="only programs with scores of groups")
    parser.add_argument("--record", type=Path, help="a file of results that this one is added to")
    asked = parser.parse_args()
    backends = ("triton",) if asked.triton else ("native",) if asked.native else ("tiled", "reference")
    in_c = Counter(dict.fromkeys(COMPUTED, 0)) if asked.native else None
    counts, longest = campaign(asked.first, asked.count, backends, asked.stop, asked.routed, in_c)
    found = {
        "first": asked.first,
        "count": asked.count,
        "backends": backends,
        "outcomes": dict(sorted(counts.items())),
        "longest_s": round(longest, 2),
    }
    if in_c is not None:
        found["in C"] = {**in_c, "fell back": counts["equal"] - in_c["forward"]}
    print(json.dumps(found))
    if asked.record is not None:
        add({**found, "commit": commit()}, asked.record)
    sys.exit(counts["different"] > 0)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
