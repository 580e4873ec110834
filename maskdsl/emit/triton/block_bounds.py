"""Bounds of the relation over a block of queries and a block of keys, as kernels name and print them."""

from collections.abc import Iterable, Mapping
from dataclasses import replace

from maskdsl.base.records import dataclass
from maskdsl.emit.triton.token_coordinates import KernelNames
from maskdsl.emit.triton.triton_printer import TritonPrinter
from maskdsl.ir.declared.inputs import Input
from maskdsl.ir.expressions import Coordinate, Head, InSpace, Leaf, Side, apply
from maskdsl.ir.facts.bounds import Bounds
from maskdsl.ir.facts.ranges import Range
from maskdsl.ir.ops import Op

_POSITION, HEAD = "its position", "its head"
"""Leaves of bounds are `Coordinate`s with names that no pattern can give: a coordinate, the laid-out position or the
head, then " low" or " high"; a space, then " start" or " end"."""


def ends(node: Leaf) -> Bounds:
    """The bounds of a leaf over a block, as leaves; head and batch entry are the same for all pairs."""
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
    """The bounds of the positions of a block: its first and its last."""
    return Bounds(Coordinate(side, f"{_POSITION} low"), Coordinate(side, f"{_POSITION} high"))


@dataclass(frozen=True)
class BoundNames:
    """The variables of bounds in a kernel."""

    names: KernelNames

    def printer(self, taken: Iterable[str], tables: Mapping[Input, str] | None = None) -> TritonPrinter:
        """A printer of bounds. `tables` are further inputs that they read, with their pointers."""
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
        """The static range of a leaf; of a bound, that of the coordinate."""
        if not isinstance(node, Coordinate):
            return self.names.leaf(node)
        name, end = node.name.rsplit(" ", 1)
        if name == HEAD:
            return self.names.leaf(Head())
        length = self.names.sequence(node.side).length
        if end in ("start", "end"):
            return Range(0, length)
        if name == _POSITION:
            return Range(0, length - 1)
        return self.names.leaf(Coordinate(node.side, name, node.type))

    def text(self, side: Side, name: str) -> str:
        bounded, end = name.rsplit(" ", 1)
        if bounded == HEAD:
            return f"head_{end}"
        if bounded == _POSITION:
            return f"{'first' if end == 'low' else 'last'}_{side}"
        if end in ("start", "end"):
            return f"{self.names.kind(side)}_{bounded}_{end}"
        return f"{self.names.coordinates[side, bounded]}_{end}"
