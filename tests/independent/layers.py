"""The layers of a stack, first to last: the name of a pattern and the values of its parameters."""

from collections.abc import Iterator
from typing import Any

from tests.independent.meaning import STANDARD, Meaning
from tests.independent.reader import File, Node, Pattern
from tests.independent.tokens import AxisName, Scope

Layer = tuple[str, dict[str, Any]]


def layers_of(file: File, name: str, heads: int, given: dict[str, Any]) -> list[Layer]:
    stack = file.stacks[name]
    evaluator = Meaning(file, Pattern(name, (), ()), {}, heads, {})
    return list(layers(evaluator, stack.layers, Scope(evaluator.bound(stack.parameters, given))))


def layers(evaluator: Meaning, node: Node, scope: Scope) -> Iterator[Layer]:
    match node:
        case ("+", first, second):
            yield from layers(evaluator, first, scope)
            yield from layers(evaluator, second, scope)
        case ("*", count, repeated):
            for _ in range(evaluator.value(count, scope)):
                yield from layers(evaluator, repeated, scope)
        case ("if", condition, first, second):
            yield from layers(evaluator, first if evaluator.value(condition, scope) else second, scope)
        case ("each", "sum", body, helper, ("range", first, last)):
            for turn in range(evaluator.value(first, scope), evaluator.value(last, scope)):
                yield from layers(evaluator, body, scope.with_names({**scope.names, helper: turn}))
        case ("name", name):
            yield from called(evaluator, name, (), scope)
        case ("call", name, arguments):
            yield from called(evaluator, name, arguments, scope)
        case _:
            raise AssertionError(node)


def called(
    evaluator: Meaning, name: str, arguments: tuple[tuple[str | None, Node], ...], scope: Scope
) -> Iterator[Layer]:
    file = evaluator.file
    inner = file.stacks.get(name)
    parameters = (inner or file.patterns.get(name) or STANDARD.patterns[name]).parameters
    free = iter(parameters)
    given: dict[str, Any] = {}
    kinds = {each: kind == "axis" or default == ("name", "i") for each, kind, default in parameters}
    for key, node in arguments:
        parameter = key or next(free)[0]
        given[parameter] = evaluator.axis(node, scope) if kinds[parameter] else evaluator.value(node, scope)
    values = evaluator.bound(parameters, given)
    if inner is not None:
        yield from layers(evaluator, inner.layers, Scope(values))
    else:
        yield name, {each: x.name if isinstance(x, AxisName) else x for each, x in values.items()}
