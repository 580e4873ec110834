"""Rewrites a tree of the first version of the language to one of this version that means the same.

What changed: `mean(k, c)` is `mean(k by c)`, `sum(q, i, key_head)` is `sum(q by i, heads = key_head)`, and `over` of
selectors is `per`. A `where` ends before `or` and `if`, as it did; the formatter sets the brackets that say so.
"""

from dataclasses import fields, replace
from typing import Any

from maskdsl.syntax import tree

_GATHERS = ("mean", "max", "sum", "root")


def upgraded(file: tree.File) -> tree.File:
    """The file in the forms of this version."""
    result: tree.File = _rewritten(file)
    return result


def as_gathered(call: tree.Call) -> tree.Call | None:
    """A pool of the first version in the form of this one; None if the call is no such pool."""
    arguments = call.arguments
    if call.function.id not in _GATHERS or len(arguments) not in (2, 3):
        return None
    if any(each.name is not None or each.by is not None for each in arguments):
        return None
    whose, by, *heads = (each.value for each in arguments)
    vector = whose.relation if isinstance(whose, tree.Where) else whose
    if not isinstance(vector, tree.Name) or vector.id not in ("q", "k") or not isinstance(by, tree.Name):
        return None
    span = arguments[0].span
    named = (tree.Argument(tree.Name("heads", span=each.span), each, span=each.span) for each in heads)
    return replace(call, arguments=(tree.Argument(None, whose, by, span=span), *named))


def _rewritten(node: Any) -> Any:
    match node:
        case tuple():
            return tuple(map(_rewritten, node))
        case tree.Call(function=tree.Name(id="dot"), arguments=arguments):
            return replace(node, arguments=tuple(map(_of_dot, arguments)))
        case tree.Call(function=tree.Name(id="topp"), arguments=arguments):
            return replace(node, arguments=tuple(map(_of_selector, arguments)))
        case tree.Node():
            return replace(node, **{each.name: _rewritten(getattr(node, each.name)) for each in fields(node)})
        case _:
            return node


def _of_dot(argument: tree.Argument) -> tree.Argument:
    gathered = as_gathered(argument.value) if isinstance(argument.value, tree.Call) else None
    return replace(argument, value=_rewritten(argument.value) if gathered is None else gathered)


def _of_selector(argument: tree.Argument) -> tree.Argument:
    name = argument.name
    if name is not None and name.id == "over":
        return replace(argument, name=replace(name, id="per"))
    return replace(argument, value=_rewritten(argument.value))
