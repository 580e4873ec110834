"""Names and text of bounds: what a kernel asks of a whole block of queries and of keys before it looks at pairs."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from maskdsl.emit.triton.token_coordinates import KernelNames
from maskdsl.emit.triton.triton_printer import TritonPrinter
from maskdsl.ir.expressions import Coordinate, Head, InSpace, Leaf, Side, apply
from maskdsl.ir.facts.bounds import Bounds
from maskdsl.ir.facts.ranges import Range
from maskdsl.ir.mask import Input
from maskdsl.ir.ops import Op

_PLACE, HEAD = "its position", "its head"
"""In laid-out order, and the query's. The leaves of bounds are coordinates called like these or like a coordinate, then
" low" or " high"; those called like a space, then " start" or " end", are the places between which it lies."""


def ends(node: Leaf) -> Bounds:
    """The bounds of a leaf, as leaves of their own; the head and the batch entry are the same for all pairs."""
    match node:
        case Coordinate(side=side, name=name, type=kind):
            return Bounds(Coordinate(side, f"{name} low", kind), Coordinate(side, f"{name} high", kind))
        case InSpace(side=side, space=space):
            first, last = positions(side)
            start, end = Coordinate(side, f"{space} start"), Coordinate(side, f"{space} end")
            whole = apply(Op.AND, apply(Op.LESS_EQUAL, start, first), apply(Op.LESS, last, end))
            return Bounds(whole, apply(Op.AND, apply(Op.LESS_EQUAL, start, last), apply(Op.LESS, first, end)))
        case _:
            return Bounds(node, node)


def positions(side: Side) -> Bounds:
    """The first and the last one of a block."""
    return Bounds(Coordinate(side, f"{_PLACE} low"), Coordinate(side, f"{_PLACE} high"))


@dataclass(frozen=True)
class BoundNames:
    """What a kernel calls bounds."""

    names: KernelNames

    def printer(self, taken: Iterable[str], tables: Mapping[Input, str] | None = None) -> TritonPrinter:
        """`tables` are read besides the mask's inputs, and called so."""
        names, tables = self.names, tables or {}
        mask = names.plan.mask
        return TritonPrinter(
            replace(mask, inputs=(*mask.inputs, *tables)),
            self.ranges,
            coordinates=self.text,
            spaces=lambda side, space: space,
            inputs={**names.inputs, **{each.name: text for each, text in tables.items()}},
            relation=True,
            taken={*names.taken, *names.numbers, *names.inputs.values(), *tables.values(), *taken},
            prefix="bound_",
        )

    def ranges(self, node: Leaf) -> Range:
        """Of a bound, the range of what it bounds."""
        if not isinstance(node, Coordinate):
            return self.names.leaf(node)
        name, end = node.name.rsplit(" ", 1)
        if name == HEAD:
            return self.names.leaf(Head())
        length = self.names.sequence(node.side).length
        if end in ("start", "end"):
            return Range(0, length)
        if name == _PLACE:
            return Range(0, length - 1)
        return self.names.leaf(Coordinate(node.side, name, node.type))

    def text(self, side: Side, name: str) -> str:
        own, end = name.rsplit(" ", 1)
        if own == HEAD:
            return f"head_{end}"
        if own == _PLACE:
            return f"{'first' if end == 'low' else 'last'}_{side}"
        if end in ("start", "end"):
            return f"{self.names.kind(side)}_{own}_{end}"
        return f"{self.names.coordinates[side, own]}_{end}"
