"""What is said of a call of something that is no function: what may be meant by it."""

from collections.abc import Iterable

from maskdsl.base.errors.language.names import UnknownFunction
from maskdsl.bind.context.frame import Frame
from maskdsl.ir.values.token_vectors import PoolKind
from maskdsl.syntax import tree

_SELECTING = ("topk", "topp", "above", "nearest", "balanced", "draw")
_FOREIGN = {
    "relu": "write `max(x, 0.0)`",
    "square": "write `x ** 2`",
    "matmul": "the product of two vectors is `dot(q, k)`",
    "argmax": "the best key is selected by a statement: `route best = topk(1, dot(q, k))`",
    "norm": "write `sqrt(dot(q, q))`",
}
"""Functions of other languages."""


def unknown_function(node: tree.Call, frame: Frame, *known: Iterable[str]) -> UnknownFunction:
    """The error of a call of no function; `known` are the names of those that there are."""
    name = node.function.id
    advice = _advice(name, frame)
    nearest = None if advice else frame.nearest(name, *known)
    return UnknownFunction(span=node.function.span, name=name, advice=advice, nearest=nearest)


def _advice(name: str, frame: Frame) -> str:
    declared = frame.declared
    if name in declared.routes:
        return f"`{name}` is a relation: write its name alone"
    if any(each.name == name for each in declared.inputs):
        return f"an input is read with square brackets: `{name}[...]`"
    if name in _SELECTING:
        return f"groups are selected by a statement, `route picked = {name}(...)`, and then attended: `attend picked`"
    if name in set(PoolKind):
        return f"vectors are pooled by a coordinate: `{name}(k by chunk)`"
    return _FOREIGN.get(name, "")
