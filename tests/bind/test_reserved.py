"""What inputs and parameters cannot be called is what public functions take by name beside them, and nothing else."""

import inspect
from collections.abc import Callable, Iterator
from importlib import import_module
from pkgutil import walk_packages

import pytest

import maskdsl
from maskdsl.base.diagnostics import AttnError
from maskdsl.bind.expression.names import OF_BINDING, OF_CALLS, RESERVED

OTHERS = ("maskdsl.integrations", "maskdsl.nn")
"""Parameters that these take beside their own are for convenience: they take a mask with all its values too."""


def functions() -> Iterator[Callable[..., object]]:
    """All functions and methods of the package."""
    for each in walk_packages(maskdsl.__path__, "maskdsl."):
        if each.name.startswith(("maskdsl.codegen.", "maskdsl.__main__", "maskdsl.integrations.vllm_backend")):
            continue
        module = import_module(each.name)
        for value in vars(module).values():
            if inspect.isfunction(value):
                yield value
            elif inspect.isclass(value) and value.__module__ == each.name:
                yield from filter(inspect.isfunction, vars(value).values())


def taken_beside(kind: str) -> set[str]:
    """The names that functions with `**inputs`, or `**parameters`, can be given besides."""
    names: set[str] = set()
    for function in functions():
        parameters = inspect.signature(function).parameters.values()
        if any(each.kind is each.VAR_KEYWORD and each.name == kind for each in parameters):
            if kind == "parameters" and function.__module__.startswith(OTHERS):
                continue
            names |= {each.name for each in parameters if each.kind in (each.POSITIONAL_OR_KEYWORD, each.KEYWORD_ONLY)}
    return names


@pytest.mark.slow
def test_names_of_inputs() -> None:
    assert taken_beside("inputs") - RESERVED == OF_CALLS


def test_names_of_parameters() -> None:
    assert taken_beside("parameters") - RESERVED == OF_BINDING


@pytest.mark.parametrize("name", sorted(OF_CALLS | RESERVED))
def test_inputs_are_refused_where_they_stand(name: str) -> None:
    text = f"pattern p(n = 4) {{\n    space t[n]\n    input {name}: int[t]\n    attend causal\n}}"
    with pytest.raises(AttnError) as raised:
        maskdsl.parse(text)["p"].bind()
    (found,) = raised.value.diagnostics
    assert found.span is not None and found.span.source.position(found.span.start) == (3, 11)


@pytest.mark.parametrize("name", sorted(OF_BINDING | RESERVED))
def test_parameters_are_refused_where_they_stand(name: str) -> None:
    with pytest.raises(AttnError) as raised:
        maskdsl.parse(f"pattern p(\n    {name} = 4\n) {{ space t[4] attend causal }}")["p"].bind()
    (found,) = raised.value.diagnostics
    assert found.span is not None and found.span.source.position(found.span.start) == (2, 5)
