"""Inputs: their declarations, and reading those that are indexed."""

from collections.abc import Sequence
from dataclasses import replace

from maskdsl.base.errors.language.limits import TooMany
from maskdsl.base.errors.language.names import UnknownName
from maskdsl.base.errors.language.spaces import BadLength
from maskdsl.base.errors.language.tables import IndexCount, NotIndexed, WrongDimension
from maskdsl.base.errors.language.types import NotConstant, UnknownType
from maskdsl.bind.context.bound_values import BAD, Bad, Term, Value, why_unknown
from maskdsl.bind.context.frame import Declared, Frame
from maskdsl.bind.context.terms import as_terms, make
from maskdsl.bind.expression.macros import Elaborate
from maskdsl.ir.expressions import Batch, Read
from maskdsl.ir.heads import Heads
from maskdsl.ir.mask import Dimension, DimensionKind, Input
from maskdsl.ir.ops import Op, Type
from maskdsl.syntax import tree

_MOST_DIMENSIONS = 8
BATCH = Dimension(DimensionKind.BATCH, None, "batch")


def declare(statement: tree.InputStatement, frame: Frame, elaborate: Elaborate) -> Input | Bad:
    """An input as its statement declares it."""
    types = {each.value: each for each in Type}
    kind = types.get(statement.type.id)
    if kind is None:
        known = "the types are `int`, `float` and `bool`"
        nearest = frame.nearest(statement.type.id, types)
        frame.add(UnknownType(span=statement.type.span, name=statement.type.id, known=known, nearest=nearest))
    if len(statement.dimensions) > _MOST_DIMENSIONS:
        count, limit = len(statement.dimensions), _MOST_DIMENSIONS
        return frame.add(TooMany(span=statement.span, count=count, what="dimensions of an input", limit=limit))
    dimensions = [_dimension(node, frame, elaborate) for node in statement.dimensions]
    known_dimensions = tuple(each for each in dimensions if not isinstance(each, Bad))
    if kind is None or len(known_dimensions) < len(dimensions):
        return BAD
    kinds = [each.kind for each in known_dimensions]
    for once in (DimensionKind.BATCH, DimensionKind.HEADS):
        if kinds.count(once) > 1:
            what, hint = f"`{statement.name.id}` has two dimensions `{once}`", "one is possible"
            return frame.add(WrongDimension(span=statement.span, what=what, hint=hint))
    return _here(Input(statement.name.id, kind, known_dimensions, span=statement.span), frame.world.heads)


def _here(declared: Input, heads: Heads) -> Input:
    """With the heads that are here, where one value a token is read for each; tables are indexed by any head."""
    if heads.are_all or not declared.is_coordinate:
        return declared
    here = heads.first, heads.count
    dimensions = [
        replace(each, here=here if each.kind is DimensionKind.HEADS else None) for each in declared.dimensions
    ]
    return replace(declared, dimensions=tuple(dimensions))


def _dimension(node: tree.Expression, frame: Frame, elaborate: Elaborate) -> Dimension | Bad:
    world = frame.world
    if isinstance(node, tree.Name):
        name = node.id
        if name in world.bad_names:
            return BAD
        if name == "batch":
            return BATCH
        if name in ("dim", "_") and name not in frame.names:
            return Dimension(DimensionKind.DIM if name == "dim" else DimensionKind.FREE, None, name)
        if name == "heads":
            return Dimension(DimensionKind.HEADS, world.heads.whole, name)
        space = next((each for each in world.spaces() if each.name == name), None)
        if space is not None:
            return Dimension(DimensionKind.TOKENS, space.size, name)
        if any(each.name == name for each in world.sources()):
            what, hint = f"the space `{name}` is in no sequence", "only others are pooled from it"
            return frame.add(WrongDimension(span=node.span, what=what, hint=hint))
        if name in ("tokens", "queries", "keys"):
            if name == "tokens" and not world.self_attention:
                hint = "say `queries`, `keys` or the name of a space"
                what = "`tokens` means nothing where queries and keys differ"
                return frame.add(WrongDimension(span=node.span, what=what, hint=hint))
            sequence = world.keys.sequence if name == "keys" else world.queries.sequence
            return Dimension(DimensionKind.TOKENS, sequence.length, name)
    value = elaborate(node, frame)
    if isinstance(value, Bad):
        return BAD
    if not isinstance(value, Term) or value.type is not Type.INT or value.constant is None:
        return frame.add(NotConstant(span=node.span, what="the length of a dimension", reason=why_unknown(value)))
    if value.constant < 1:
        return frame.add(BadLength(span=node.span, what="the length of a dimension", value=int(value.constant)))
    return Dimension(DimensionKind.FIXED, int(value.constant), node.span.text)


def heads_dimension(world: Declared) -> Dimension:
    """Of what is found, in the heads that are here."""
    return Dimension(DimensionKind.HEADS, world.heads.count, "heads")


def read_table(node: tree.Index, indices: Sequence[Value], frame: Frame) -> Term | Bad:
    """One element of an input that is indexed."""
    name, span = node.base.id, node.span
    if name in frame.world.bad_names:
        return BAD
    declared = frame.world.input(name)
    if declared is None:
        return _no_table(name, node, frame.world, frame)
    if declared.is_coordinate:
        hint = f"a coordinate of tokens, read as `q.{name}` or `k.{name}`"
        return frame.add(NotIndexed(span=node.base.span, name=name, hint=hint))
    if len(indices) != len(declared.dimensions):
        shown = ", ".join(each.text for each in declared.dimensions)
        expected = f"{len(declared.dimensions)} ind{'ices' if len(declared.dimensions) != 1 else 'ex'}"
        found, text = len(indices), f"{declared.type}[{shown}]"
        return frame.add(IndexCount(span=span, name=name, expected=expected, found=found, declared=text))
    terms = as_terms(frame, Op.RANDOM, span, indices)  # integers, all
    if terms is None:
        return BAD
    for term, dimension, written in zip(terms, declared.dimensions, node.indices, strict=True):
        if dimension.kind in (DimensionKind.DIM, DimensionKind.FREE):
            what, hint = f"the dimension `{dimension.text}` has no index", "its length is known at the call only"
            return frame.add(WrongDimension(span=written.span, what=what, hint=hint))
        if dimension.size is None and not isinstance(term.expression, Batch):
            what, hint = "the index of the dimension `batch` is `batch`", "something else"
            return frame.add(WrongDimension(span=written.span, what=what, hint=hint))
    read = Read(name, tuple(term.expression for term in terms), declared.type, span=span)
    return make(frame, span, read, terms)


def _no_table(name: str, node: tree.Index, world: Declared, frame: Frame) -> Bad:
    if name in frame.names:
        return frame.add(NotIndexed(span=node.base.span, name=name, hint="neither a tuple nor an input"))
    known = [each.name for each in world.inputs]
    hint = "no input and no tuple"
    return frame.add(UnknownName(span=node.base.span, name=name, hint=hint, nearest=frame.nearest(name, known)))
