"""Texts with many of a thing take time in proportion: counted in calls of functions, which load does not change."""

import ast
import sys
import warnings
from collections.abc import Callable

import pytest

import maskdsl
from maskdsl.bind import bind
from maskdsl.bind.opened_pattern import MOST_STATEMENTS
from maskdsl.cli.stages import STAGES, Stage
from maskdsl.syntax import tree

PATTERN = "pattern {name}(n = 8) {{ space t[n] {inside} attend causal }}\n"
LINES = {
    tree.PooledSpaceStatement: "space s{}[1]",
    tree.LetStatement: "let l{} = 1",
    tree.InputStatement: "input x{}: int[t]",
    tree.CoordinateStatement: "coord c{} = i",
    tree.RouteStatement: "route r{} = topk(2, dot(mean(q by g), mean(k by g)))",
    tree.ScoreStatement: "score s * 0.{}1",
    tree.WeightStatement: "weight 0.{}1",
    tree.SinkStatement: "sink 0.{}1",
}


def calls(work: Callable[[], object]) -> int:
    count = 0

    def see(frame: object, event: str, argument: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(see)
    try:
        work()
    finally:
        sys.setprofile(None)
    return count


def inputs(count: int) -> str:
    return PATTERN.format(name="p", inside=" ".join(f"input x{n}: int[t]" for n in range(count)))


def allowed(count: int) -> str:
    lines = "\n".join(f"attend causal and q == {n}  # allow: W001" for n in range(count))
    return f"pattern p(n = 8) {{ space a[n] space b[n] queries a keys b\n{lines}\n}}"


def lets(count: int) -> str:
    chain = " ".join(f"let l{n + 1} = l{n} or l{n}" for n in range(count))
    return PATTERN.format(name="p", inside=f"let l0 = n == 8 {chain} require l{count}")


def attends(count: int) -> str:
    return PATTERN.format(name="p", inside=" ".join(f"attend q == {n} and k == {n}" for n in range(count)))


@pytest.mark.parametrize("text", [inputs, allowed, lets, attends])
def test_four_times_as_many_take_four_times_as_long(text: Callable[[int], str]) -> None:
    few, many = (maskdsl.parse(text(count)).program for count in (50, 200))
    assert calls(lambda: bind(many, "p", {})) < 5 * calls(lambda: bind(few, "p", {}))


def test_a_pattern_takes_as_long_whatever_else_a_file_declares() -> None:
    def text(count: int) -> str:
        macros = "".join(f"def m{n}(a) = k <= q + a\n" for n in range(count))
        return macros + "".join(PATTERN.format(name=f"p{n}", inside="attend m0(1)") for n in range(count))

    few, many = (maskdsl.parse(text(count)).program for count in (5, 200))
    for program in (few, many):
        bind(program, "p0", {})
    assert calls(lambda: bind(many, "p3", {})) <= 1.02 * calls(lambda: bind(few, "p3", {}))


def test_all_of_many_comments_silence() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        maskdsl.parse(allowed(20))["p"].bind()
    with pytest.warns(maskdsl.AttnWarning, match="W001"):
        maskdsl.parse(allowed(20).replace("q == 7  # allow: W001", "q == 7"))["p"].bind()


@pytest.mark.parametrize("kinds, what, most", MOST_STATEMENTS, ids=[what for _, what, _ in MOST_STATEMENTS])
def test_there_is_a_limit_of_statements_of_each_kind(kinds: tuple[type, ...], what: str, most: int) -> None:
    line = LINES[kinds[-1]]

    def text(count: int) -> str:
        return PATTERN.format(name="p", inside=" ".join(map(line.format, range(count))))

    with pytest.raises(maskdsl.AttnError, match=f"E307.*{most + (what == 'spaces') + 1:,} {what} are declared"):
        maskdsl.parse(text(most + 1))["p"].bind()


@pytest.mark.parametrize("stage", [stage for stage in STAGES if stage.is_python], ids=lambda stage: stage.name)
@pytest.mark.parametrize(
    "lines, most",
    [("score s * 1.5 + q.b * 0.{}1", 100), ("route r{0} = topk(2, dot(mean(q by g), mean(k by g)))", 50)],
    ids=["scores", "routes"],
)
def test_what_is_generated_of_the_most_statements_is_read_by_python(stage: Stage, lines: str, most: int) -> None:
    inside = "input b: float[t] coord g = i // 4 " + " ".join(map(lines.format, range(most)))
    mask = maskdsl.parse(PATTERN.format(name="p", inside=inside))["p"].bind()
    try:
        module = stage.text(mask, {})
    except maskdsl.AttnError as error:
        assert stage.name == "flex" and "E603" in str(error)
        return
    assert len(module) < 500_000
    compile(ast.parse(module), "<generated>", "exec")
