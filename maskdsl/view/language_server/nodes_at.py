"""Finds the nodes of a tree at an offset."""

from collections.abc import Iterator
from dataclasses import fields

from maskdsl.syntax import tree


def path_at(root: tree.Node, offset: int) -> list[tree.Node]:
    """The nodes around an offset, or ending right before it, outermost first; empty if there is none."""
    path = [root] if root.span.start <= offset <= root.span.end else []
    while path:
        inner = [each for each in children(path[-1]) if each.span.start <= offset <= each.span.end]
        if not inner:
            return path
        path.append(inner[-1])  # of two adjacent nodes, the one that begins here
    return path


def children(node: tree.Node) -> Iterator[tree.Node]:
    """The child nodes of a node in the order of its fields, without comments."""
    for name in _names(type(node)):
        value = getattr(node, name)
        for each in value if isinstance(value, tuple) else (value,):
            if isinstance(each, tree.Node):
                yield each


def _names(kind: type[tree.Node]) -> tuple[str, ...]:
    return tuple(each.name for each in fields(kind) if each.name not in ("span", "comments", "doc"))
