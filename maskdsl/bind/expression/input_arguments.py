"""Macros that take inputs: the body with the names of these inputs in place of the parameters."""

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any

from maskdsl.base.errors.language.tables import ArgumentNotInput
from maskdsl.bind.context.bound_values import BAD, Bad
from maskdsl.bind.context.frame import Frame
from maskdsl.syntax import tree


def with_inputs(
    macro: tree.MacroDeclaration, given: Mapping[str, tree.Expression], frame: Frame
) -> tree.MacroDeclaration | Bad:
    """The macro without its parameters of type `input`. BAD, with a report, if an argument is no input.

    Other names in the macro that are those of these inputs get a blank, so that they stay apart.
    """
    parameters = [each for each in macro.parameters if each.type is not None and each.type.id == "input"]
    if not parameters:
        return macro
    inputs = {each.name.id: _input(each, given.get(each.name.id, each.default), frame) for each in parameters}
    known = {name: value for name, value in inputs.items() if isinstance(value, str)}
    if len(known) < len(inputs):
        return BAD
    others = tuple(each for each in macro.parameters if each not in parameters)
    apart = {name: f"{name} " for name in {*known.values()} - known.keys()}
    result: tree.MacroDeclaration = _renamed(replace(macro, parameters=others), {**apart, **known})
    return result


def _input(parameter: tree.Parameter, node: tree.Expression | None, frame: Frame) -> str | Bad:
    """The name of the input that an argument is."""
    assert node is not None
    if isinstance(node, tree.Name):
        if node.id in frame.declared.bad_names:
            return BAD
        if node.id not in frame.names and frame.declared.input(node.id) is not None:
            return node.id
    nearest = None
    if isinstance(node, tree.Name):
        declared = (*frame.declared.inputs, *frame.declared.unread)
        nearest = frame.nearest(node.id, [each.name for each in declared if each.source is None])
    return frame.add(ArgumentNotInput(span=node.span, name=parameter.name.id, nearest=nearest))


def _renamed(node: Any, names: Mapping[str, str]) -> Any:
    """A node with other names, but for the names of macros that it calls and of their parameters."""
    match node:
        case tuple():
            return tuple(_renamed(each, names) for each in node)
        case tree.Name(id=name):
            return replace(node, id=names.get(name, name))
        case tree.Argument(value=value, by=by):
            return replace(node, value=_renamed(value, names), by=_renamed(by, names))
        case tree.Call(arguments=arguments):
            return replace(node, arguments=_renamed(arguments, names))
        case tree.MacroDeclaration(parameters=parameters, lets=lets, body=body):
            inside = (_renamed(each, names) for each in (parameters, lets, body))
            return replace(node, **dict(zip(("parameters", "lets", "body"), inside, strict=True)))
        case tree.Node():
            changed = {each.name: _renamed(getattr(node, each.name), names) for each in fields(node)}
            return replace(node, **changed)
        case _:
            return node
