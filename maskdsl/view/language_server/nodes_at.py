"""Nodes of a tree by the place where they stand."""

from collections.abc import Iterator
from dataclasses import fields

from maskdsl.syntax import tree


def path_at(root: tree.Node, offset: int) -> list[tree.Node]:
    """The nodes around a character, or right before it, the outermost first; empty where none is."""
    path = [root] if root.span.start <= offset <= root.span.end else []
    while path:
        inner = [each for each in children(path[-1]) if each.span.start <= offset <= each.span.end]
        if not inner:
            return path
        path.append(inner[-1])  # of two that touch, the one that begins here
    return path


def children(node: tree.Node) -> Iterator[tree.Node]:
    """The parts of a node, comments aside, in the order of their fields."""
    for name in _names(type(node)):
        value = getattr(node, name)
        for each in value if isinstance(value, tuple) else (value,):
            if isinstance(each, tree.Node):
                yield each


def _names(kind: type[tree.Node]) -> tuple[str, ...]:
    return tuple(each.name for each in fields(kind) if each.name not in ("span", "comments", "doc"))
