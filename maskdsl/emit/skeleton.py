"""Skeleton and lines to source text: the holes of `codegen/*.py` are filled. A skeleton is read, never imported.

A hole is a region of a real module, which holds the code for plain full attention:

    # hole: predicate
    allowed = bounds
    # end

In C the markers are comments of C: `/* hole: predicate */` and `/* end */`.

Filling replaces the region, markers included, with generated lines at the first marker's indentation. Given None, a
hole keeps its code, with the holes in it, and loses its markers. A hole that ends inside of a loop holds the head of
the loop.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from importlib.resources import files

_MARKER = re.compile(r"^(?P<indent> *)(?:#|/\*) (?:hole: (?P<name>\w+)|end)(?: \*/)?\n", re.MULTILINE)


@cache
def read_skeleton(name: str) -> str:
    """The text of `codegen/<name>.py`."""
    return _text_of(f"{name}.py")


def read_c(name: str) -> str:
    """The text of `codegen/<name>.c`."""
    return _text_of(f"{name}.c")


def _text_of(file: str) -> str:
    return files("maskdsl.codegen").joinpath(file).read_text(encoding="utf-8")


def words_of(text: str) -> set[str]:
    """All words of a text that are identifiers."""
    return {word for word in re.findall(r"\w+", text) if word.isidentifier()}


@cache
def skeleton_words(*names: str) -> frozenset[str]:
    """The identifiers in these skeletons, comments included."""
    return frozenset(word for name in names for word in words_of(read_skeleton(name)))


def fill(skeleton: str, holes: Mapping[str, Sequence[str] | None]) -> str:
    """The text of the module with every hole filled. `holes` must name exactly the holes of the skeleton."""
    outermost = list(_outermost(skeleton))
    names = {first["name"] for first, _ in outermost}
    assert names == set(holes), f"holes {sorted(names)} of the skeleton, {sorted(holes)} given"
    pieces, done = list[str](), 0
    for first, last in outermost:
        lines = holes[first["name"]]
        pieces.append(skeleton[done : first.start()])
        if lines is None:
            pieces.append(skeleton[first.end() : last.start()])
        else:
            pieces += [f"{first['indent']}{line}".rstrip() + "\n" for line in lines]
        done = last.end()
    return "".join(pieces) + skeleton[done:]


def _outermost(skeleton: str) -> Iterator[tuple[re.Match[str], re.Match[str]]]:
    """The markers of the holes that are in no other hole: the first and the last of each."""
    opened: list[re.Match[str]] = []
    for marker in _MARKER.finditer(skeleton):
        if marker["name"]:
            opened.append(marker)
            continue
        first = opened.pop()
        if not opened:
            yield first, marker
    assert not opened, f"the hole {opened[0]['name']} does not end"
