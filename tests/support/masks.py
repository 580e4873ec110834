"""Masks built by hand, so that the run time is tested without the binder."""

from collections.abc import Iterable

from maskdsl.ir.declared.inputs import Dimension, DimensionKind, Input
from maskdsl.ir.declared.sequences import Axis, CoordinateDefinition, Given, Sequence, Space
from maskdsl.ir.expressions import Constant, Coordinate, Expression, Side, apply
from maskdsl.ir.mask import Clause, MaskIR
from maskdsl.ir.ops import Op, Type


def q(name: str = "i", kind: Type = Type.INT) -> Coordinate:
    return Coordinate(Side.QUERY, name, kind)


def k(name: str = "i", kind: Type = Type.INT) -> Coordinate:
    return Coordinate(Side.KEY, name, kind)


def c(value: int | float | bool) -> Constant:
    return Constant(value)


def tokens(length: int, *coordinates: CoordinateDefinition) -> Sequence:
    return Sequence((Space("tokens", (Axis("tokens", length),)),), coordinates)


def grid(*lengths: int, names: str = "tyx") -> Sequence:
    """A space `image` with the last of the axes t, y, x."""
    axes = tuple(Axis(name, length) for name, length in zip(names[-len(lengths) :], lengths, strict=True))
    return Sequence((Space("image", axes),))


def given(name: str, kind: Type = Type.INT, space: str = "tokens") -> CoordinateDefinition:
    return CoordinateDefinition(name, kind, ((space, Given(name)),))


DIMENSIONS = {"batch": DimensionKind.BATCH, "heads": DimensionKind.HEADS, "tokens": DimensionKind.TOKENS}


def declared(name: str, kind: Type, **sizes: int | None) -> Input:
    """An input with the dimensions named, in that order; names other than batch, heads and tokens are fixed."""
    dimensions = (
        Dimension(DIMENSIONS.get(text, DimensionKind.FIXED), size, text if text in DIMENSIONS else str(size))
        for text, size in sizes.items()
    )
    return Input(name, kind, tuple(dimensions))


def mask(
    relation: Expression,
    queries: Sequence,
    keys: Sequence | None = None,
    *,
    heads: int = 1,
    inputs: Iterable[Input] = (),
    scores: tuple[Expression, ...] = (),
    weight: Expression | None = None,
    scale: Expression | None = None,
) -> MaskIR:
    return MaskIR(
        name="pattern",
        parameters=(),
        heads=heads,
        queries=queries,
        keys=queries if keys is None else keys,
        self_attention=keys is None,
        inputs=tuple(inputs),
        attend=(Clause(relation),),
        require=(),
        relation=relation,
        scores=scores,
        weight=weight,
        scale=scale,
    )


def within(size: int, name: str = "i") -> Expression:
    distance = apply(Op.ABSOLUTE, apply(Op.SUBTRACT, q(name), k(name)))
    return apply(Op.LESS_EQUAL, distance, c(size))


def causal() -> Expression:
    return apply(Op.LESS_EQUAL, k(), q())


def either(*parts: Expression) -> Expression:
    return apply(Op.OR, *parts)


def both(*parts: Expression) -> Expression:
    return apply(Op.AND, *parts)
