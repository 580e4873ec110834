"""Layouts as values: sort keys of each space, masks with a layout, and the text of a layout in the language."""

from collections.abc import Iterator, Mapping
from dataclasses import replace

from maskdsl.base.records import dataclass
from maskdsl.ir.declared.sequences import Along, CoordinateDefinition, CurveKind, Sequence, Space
from maskdsl.ir.expressions import Constant, Coordinate, Expression, Side, apply
from maskdsl.ir.facts.reads import reads
from maskdsl.ir.mask import MaskIR
from maskdsl.ir.mask_printer import print_expression
from maskdsl.ir.ops import Op, Type

Keys = tuple[Expression, ...]
"""Sort keys over one token; `()` is the declared order."""
Layout = Mapping[str, Keys]
"""Sort keys by name of the space. Missing spaces are in declared order."""
_DECLARED = "declared"


@dataclass(frozen=True)
class Candidate:
    """Sort keys for one space, and the kind of the order."""

    keys: Keys
    kind: str


def token(name: str, type: Type = Type.INT) -> Coordinate:
    """A coordinate in an expression over one token."""
    return Coordinate(Side.TOKEN, name, type)


def quotient(of: Expression, size: int) -> Expression:
    """`of // size`."""
    return of if size == 1 else apply(Op.FLOOR_DIVIDE, of, Constant(size))


def curve(kind: CurveKind, axes: tuple[str, ...]) -> Coordinate:
    """The position along a curve, under the name that `bind` gives it."""
    return token(f"{kind}({', '.join(axes)})")


def spaces_of(mask: MaskIR) -> dict[str, Space]:
    """The spaces of both sides by name, queries first."""
    return {space.name: space for sequence in (mask.queries, mask.keys) for space in sequence.spaces}


def laid_out(mask: MaskIR, layout: Layout) -> MaskIR:
    """The mask in this layout."""
    read = reads(*(key for keys in layout.values() for key in keys))
    curves = [each.name for each in read.coordinates if _is_curve(each.name)]
    queries, keys = (_with_layout(each, layout, curves) for each in (mask.queries, mask.keys))
    return replace(mask, queries=queries, keys=keys, auto=())


def _is_curve(name: str) -> bool:
    return name.partition("(")[0] in list(CurveKind) and name.endswith(")")


def _with_layout(sequence: Sequence, layout: Layout, curves: list[str]) -> Sequence:
    order = tuple(layout.get(space.name, ()) for space in sequence.spaces)
    missing = [name for name in dict.fromkeys(curves) if sequence.definition(name) is None]
    definitions = tuple(each for name in missing for each in _curve_definition(sequence, name))
    return replace(sequence, order=order if any(order) else (), coordinates=(*definitions, *sequence.coordinates))


def _curve_definition(sequence: Sequence, name: str) -> Iterator[CoordinateDefinition]:
    """The definition of a curve in all spaces that have its axes, as `bind` makes it; none if no space has them."""
    kind, _, axes = name.removesuffix(")").partition("(")
    source = Along(CurveKind(kind), tuple(axes.split(", ")))
    having = [space for space in sequence.spaces if all(space.axis(axis) is not None for axis in source.axes)]
    if having:
        yield CoordinateDefinition(name, Type.INT, tuple((space.name, source) for space in having))


def written_layout(mask: MaskIR) -> Layout:
    """The layout that the mask has."""
    pairs = [
        (space.name, keys)
        for sequence in (mask.queries, mask.keys)
        for space, keys in zip(sequence.spaces, sequence.order, strict=False)
    ]
    return {name: keys for name, keys in pairs if keys}


def layout_text(mask: MaskIR, layout: Layout) -> str:
    """The layout in the language, without the word `order`; spaces are joined by `; `. No keys at all: `declared`."""
    names = spaces_of(mask)
    orders = []
    for name in names:
        if layout.get(name):
            by = f"by {', '.join(map(print_expression, layout[name]))}"
            orders.append(by if len(names) == 1 else f"{name} {by}")
    return "; ".join(orders) or _DECLARED
