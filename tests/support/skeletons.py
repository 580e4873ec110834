"""What of a generated module is not the skeleton's: the holes as they were filled, function by function."""

import re
from collections.abc import Iterable, Iterator
from difflib import SequenceMatcher

from maskdsl.emit.skeleton import read_skeleton

HELPERS = ("triton_functions", "pooling", "functions")


def filled(module: str, skeletons: Iterable[str]) -> str:
    """The lines that stand neither in these skeletons nor in helpers, behind the names of their functions."""
    whole = [line for name in (*HELPERS, *skeletons) for line in read_skeleton(name).splitlines()]
    kept = [line for line in whole if not re.fullmatch(r" *# (hole: \w+|end)", line)]
    return "\n".join(_filled(module.splitlines(), kept)) + "\n"


def _filled(lines: list[str], whole: list[str]) -> Iterator[str]:
    last = ""
    for tag, _, _, start, end in SequenceMatcher(None, whole, lines, autojunk=False).get_opcodes():
        if tag in ("insert", "replace"):
            above = (line for line in reversed(lines[:start]) if re.match(r"def |class ", line))
            function = next(above, "the module").partition("(")[0]
            yield from () if function == last else (f"# {function}",)
            last = function
            yield from lines[start:end]
