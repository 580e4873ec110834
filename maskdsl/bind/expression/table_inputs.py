"""Declares inputs, and elaborates reads of those that are indexed."""

from collections.abc import Sequence
from dataclasses import replace

from maskdsl.base.errors.language.limits import TooMany
from maskdsl.base.errors.language.names import UnknownName
from maskdsl.base.errors.language.spaces import BadLength
from maskdsl.base.errors.language.tables import IndexCount, NotIndexed, NoVector, NoVectorLength, WrongDimension
from maskdsl.base.errors.language.types import NotConstant, UnknownType
from maskdsl.base.habits import DIMENSIONS as DIMENSIONS_ELSEWHERE
from maskdsl.base.source import Span
from maskdsl.bind.context.bound_values import BAD, Bad, Term, Value, constant, why_unknown
from maskdsl.bind.context.frame import Declared, Frame, StatementKind
from maskdsl.bind.context.reading import read
from maskdsl.bind.context.sides import head_number
from maskdsl.bind.context.terms import as_terms, make, operate
from maskdsl.bind.expression.head_numbers import key_heads
from maskdsl.bind.expression.macros import Elaborate
from maskdsl.bind.expression.sparse_inputs import (
    SPARSE,
    checked_numbers,
    checked_sparse,
    is_stored,
    number_of_entry,
)
from maskdsl.ir.declared.inputs import INDEXED, Dimension, DimensionKind, Input
from maskdsl.ir.expressions import Batch, Coordinate, Expression, Read, Side
from maskdsl.ir.heads import Heads
from maskdsl.ir.ops import Op, Type
from maskdsl.ir.values.token_vectors import TableRow
from maskdsl.syntax import tree

_DIMENSIONS = "`batch`, `heads`, `key_heads`, `tokens`, `queries`, `keys`, `dim`, `_`, the names of spaces, and numbers"
_MOST_DIMENSIONS = 8
_WORDS = ("batch", "heads", "key_heads", "tokens", "queries", "keys", "dim")
BATCH = Dimension(DimensionKind.BATCH, None, "batch")


def declare(statement: tree.InputStatement, frame: Frame, elaborate: Elaborate) -> Input | Bad:
    """The input that a statement declares; BAD, with a report, if it is wrong."""
    types = {each.value: each for each in Type}
    is_sparse = statement.type.id == SPARSE
    kind = Type.INT if is_sparse else types.get(statement.type.id)
    if kind is None:
        known = f"the types are `int`, `float`, `bool` and `{SPARSE}`"
        nearest = frame.nearest(statement.type.id, types, (SPARSE,))
        frame.add(UnknownType(span=statement.type.span, name=statement.type.id, known=known, nearest=nearest))
    if len(statement.dimensions) > _MOST_DIMENSIONS:
        count, limit = len(statement.dimensions), _MOST_DIMENSIONS
        return frame.add(TooMany(span=statement.span, count=count, what="dimensions of an input", limit=limit))
    dimensions = [_dimension(node, frame, elaborate) for node in statement.dimensions]
    known_dimensions = tuple(each for each in dimensions if not isinstance(each, Bad))
    if kind is None or len(known_dimensions) < len(dimensions):
        return BAD
    declared = Input(
        statement.name.id, kind, _with_lists(known_dimensions, frame.declared), sparse=is_sparse, span=statement.span
    )
    declared = _by_key_head(declared)
    kinds = declared.kinds
    for once in (DimensionKind.BATCH, DimensionKind.HEADS):
        if kinds.count(once) > 1:
            what, hint = f"`{statement.name.id}` has two dimensions `{once}`", "only one is allowed"
            return frame.add(WrongDimension(span=statement.span, what=what, hint=hint))
    if is_sparse:
        return checked_sparse(declared, statement, frame)
    if DimensionKind.ENTRIES in kinds and not checked_numbers(declared, statement, frame):
        return BAD
    return _here(declared, frame.declared.heads)


def _with_lists(dimensions: tuple[Dimension, ...], declared: Declared) -> tuple[Dimension, ...]:
    """The dimensions with those in front of a sparse input before that of its entries."""
    result: list[Dimension] = []
    for each in dimensions:
        sparse = declared.input(each.text) if each.kind is DimensionKind.ENTRIES else None
        result += [*(sparse.dimensions[:-2] if sparse is not None else ()), each]
    return tuple(result)


def _by_key_head(given: Input) -> Input:
    """Dimensions of key heads are lengths where an index reads them, and stand for query heads in coordinates."""
    if given.is_coordinate:
        return given
    return replace(given, dimensions=tuple(_as_length(each) for each in given.dimensions))


def _as_length(side: Dimension) -> Dimension:
    return Dimension(DimensionKind.FIXED, side.given_size, side.text) if side.text == "key_heads" else side


def _here(table: Input, heads: Heads) -> Input:
    """Limits an input with one value a token to the heads that are here; tables can be indexed by any head."""
    if heads.are_all or not table.is_coordinate:
        return table
    here = heads.first, heads.count
    dimensions = [replace(each, here=here if each.kind is DimensionKind.HEADS else None) for each in table.dimensions]
    return replace(table, dimensions=tuple(dimensions))


def _dimension(node: tree.Expression, frame: Frame, elaborate: Elaborate) -> Dimension | Bad:
    declared = frame.declared
    if isinstance(node, tree.Name):
        name = node.id
        if name in declared.bad_names:
            return BAD
        if name == "batch":
            return BATCH
        if name in ("dim", "_") and name not in frame.names:
            return Dimension(DimensionKind.DIM if name == "dim" else DimensionKind.FREE, None, name)
        known = declared.input(name)
        if known is not None and known.sparse:
            return Dimension(DimensionKind.ENTRIES, None, name)
        if name == "heads":
            return Dimension(DimensionKind.HEADS, declared.heads.whole, name)
        if name == "key_heads":
            shared = declared.heads.whole // key_heads(frame)
            return Dimension(DimensionKind.HEADS, declared.heads.whole, name, shared=shared)
        space = next((each for each in (*declared.spaces(), *declared.grouped()) if each.name == name), None)
        if space is not None:
            return Dimension(DimensionKind.TOKENS, space.size, name)
        if any(each.name == name for each in declared.sources()):
            what, hint = f"the space `{name}` is in no sequence", "other spaces are only pooled from it"
            return frame.add(WrongDimension(span=node.span, what=what, hint=hint))
        if name in ("tokens", "queries", "keys"):
            if name == "tokens" and not declared.self_attention:
                hint = "write `queries`, `keys` or the name of a space"
                what = "`tokens` has no meaning if queries and keys differ"
                return frame.add(WrongDimension(span=node.span, what=what, hint=hint))
            sequence = declared.keys.sequence if name == "keys" else declared.queries.sequence
            return Dimension(DimensionKind.TOKENS, sequence.length, name)
        if name not in frame.names and name not in declared.program.macros(node.span.source):
            nearest = DIMENSIONS_ELSEWHERE.get(name) or frame.nearest(name, frame.names, _WORDS)
            hint, advice = "no dimension of this name", f"the dimensions are {_DIMENSIONS}"
            return frame.add(UnknownName(span=node.span, name=name, hint=hint, advice=advice, nearest=nearest))
    value = elaborate(node, frame)
    if isinstance(value, Bad):
        return BAD
    if not isinstance(value, Term) or value.type is not Type.INT or value.constant is None:
        return frame.add(NotConstant(span=node.span, what="the length of a dimension", reason=why_unknown(value)))
    if value.constant < 1:
        return frame.add(BadLength(span=node.span, what="the length of a dimension", value=int(value.constant)))
    return Dimension(DimensionKind.FIXED, int(value.constant), node.span.text)


def heads_dimension(declared: Declared) -> Dimension:
    """The dimension of the heads that are here, for what routes find."""
    return Dimension(DimensionKind.HEADS, declared.heads.count, "heads")


def read_table(node: tree.Index, indices: Sequence[Value], frame: Frame) -> Term | Bad:
    """One element of an input that is read by indices."""
    name, span = node.base.id, node.span
    if name in frame.declared.bad_names:
        return BAD
    table = frame.declared.input(name)
    if table is None:
        return _no_table(name, node, frame.declared, frame)
    lists = None if table.lists is None else frame.declared.input(table.lists)
    dimensions = table.dimensions if lists is None else (*table.dimensions[:-1], *lists.dimensions[-2:])
    terms = _indices(table, dimensions, indices, span, frame)
    if terms is None:
        return BAD
    if table.sparse:
        return is_stored(table, terms, node, frame)
    if lists is not None:
        return number_of_entry(table, lists, terms, node, frame)
    side = _side_of(table, [term.expression for term in terms], frame)
    return _element(table, terms, span, frame) if side is None else read(frame, side, name, span)


def _element(table: Input, terms: Sequence[Term], span: Span, frame: Frame) -> Term | Bad:
    """The element at these indices. What key heads have is there once for each query head."""
    indices = [
        operate(frame, Op.MULTIPLY, span, term, constant(side.shared)) if side.shared > 1 else term
        for term, side in zip(terms, table.dimensions, strict=True)
    ]
    known = [each for each in indices if isinstance(each, Term)]
    name = table.name + INDEXED if table.is_coordinate else table.name
    return make(frame, span, Read(name, tuple(each.expression for each in known), table.type, span=span), known)


def _side_of(table: Input, indices: Sequence[Expression], frame: Frame) -> Side | None:
    """The side whose own values these indices read, where that is a coordinate: `document[q]` is `q.document`."""
    if not table.is_coordinate:
        return None
    token, head = None, head_number(frame.declared.heads).expression
    for index, dimension in zip(indices, table.dimensions, strict=True):
        match dimension.kind, index:
            case DimensionKind.BATCH, Batch():
                pass
            case DimensionKind.HEADS, _ if dimension.shared == 1 and index == head:
                pass
            case DimensionKind.TOKENS, Coordinate(side=side, name="i") if _is_whole(table, dimension, side, frame):
                token = side
            case _:
                return None
    return token


def _is_whole(table: Input, dimension: Dimension, side: Side, frame: Frame) -> bool:
    """Whether every token of the side has a value in the dimension, at its position."""
    sequence = frame.sequence(side)
    whole = dimension.text in ("tokens", side.plural) or len(sequence.spaces) == 1
    return whole and all(sequence.has(space, table.name) for space in sequence.spaces)


def read_row(base: tree.Name, indices: Sequence[Value], span: Span, frame: Frame) -> tuple[TableRow, Dimension] | Bad:
    """The vector of an input at one index for each dimension but the last, and the length of that dimension."""
    table = frame.declared.input(base.id)
    assert table is not None
    last = table.dimensions[-1]
    if table.type is not Type.FLOAT:
        return frame.add(NoVector(span=span, found=f"of the table `{base.id}`, whose entries are {table.type}s"))
    if table.sparse or table.lists is not None or len(indices) == len(table.dimensions):
        return frame.add(NoVector(span=span, found=f"an element of `{base.id}`"))
    terms = _indices(table, table.dimensions[:-1], indices, span, frame)
    if terms is None:
        return BAD
    if last.kind not in (DimensionKind.DIM, DimensionKind.FIXED):
        return frame.add(NoVectorLength(span=span, name=base.id, text=last.text))
    return TableRow(base.id, tuple(term.expression for term in terms)), last


def _indices(
    table: Input, dimensions: Sequence[Dimension], indices: Sequence[Value], span: Span, frame: Frame
) -> list[Term] | None:
    """The indices of these dimensions of a table; None, with a report, if they do not fit."""
    if len(indices) != len(dimensions):
        frame.add(_wrong_count(table, len(dimensions), len(indices), span, frame))
        return None
    terms = as_terms(frame, Op.RANDOM, span, indices)  # an operator of integers, so that all indices must be integers
    if terms is None:
        return None
    for term, dimension in zip(terms, dimensions, strict=True):
        at = term.expression.span or span
        if dimension.kind in (DimensionKind.DIM, DimensionKind.FREE):
            what, hint = f"the dimension `{dimension.text}` cannot be indexed", "its length is known in calls only"
            frame.add(WrongDimension(span=at, what=what, hint=hint))
            return None
        if dimension.size is None and not isinstance(term.expression, Batch):
            what, hint = "the index of the dimension `batch` must be `batch`", "another index"
            frame.add(WrongDimension(span=at, what=what, hint=hint))
            return None
    return terms


def _wrong_count(table: Input, count: int, given: int, span: Span, frame: Frame) -> IndexCount:
    expected, advice = f"{count} ind{'ices' if count != 1 else 'ex'}", ""
    last = table.dimensions[-1].kind if table.dimensions else None
    if count < len(table.dimensions) and not table.sparse and table.lists is None:
        expected += " where a vector is expected"
    elif table.name in frame.declared.routes:
        advice = f"a route is a relation: write its name alone, `{table.name}`"
    elif given == count - 1 and table.type is Type.FLOAT and last in (DimensionKind.DIM, DimensionKind.FIXED):
        advice = "with one index fewer it is a vector, which stands directly inside `dot`, or in a sum of `value`"
    shown = ", ".join(each.text for each in table.dimensions)
    text = f"{SPARSE if table.sparse else table.type}{f'[{shown}]' if shown else ''}"
    counted = f"{given} {'is' if given == 1 else 'are'}"
    return IndexCount(span=span, name=table.name, expected=expected, found=counted, declared=text, advice=advice)


def _no_table(name: str, node: tree.Index, declared: Declared, frame: Frame) -> Bad:
    if name in frame.names:
        return frame.add(NotIndexed(span=node.base.span, name=name, hint="neither a tuple nor an input"))
    hint = "not an input or a tuple"
    if any(each.name == name for each in declared.unread):  # which only a macro can name
        hint, advice = "a macro sees its own parameters alone", f"give it one, `{name}: input`, and pass `{name}`"
        return frame.add(UnknownName(span=node.base.span, name=name, hint=hint, advice=advice))
    nearest = frame.nearest(name, [each.name for each in (*declared.inputs, *declared.unread)])
    match node.indices:
        case (tree.Name(id="head" | "key_head" | "batch" as index),):
            kind = "int" if frame.statement is StatementKind.PAIR else "float"
            sides = {"head": "heads", "key_head": "key_heads", "batch": "batch"}
            advice = f"declare it, `input {name}: {kind}[{sides[index]}]`"
        case (tree.Name(),):
            advice = f"declare it, `input {name}: int[tokens]`, and read it as `q.{name}` and `k.{name}`"
        case (_,):
            advice = f"declare it, such as `input {name}: float[64]` for a table of 64 entries"
        case _:
            advice = f"declare it with its dimensions, such as `input {name}: float[heads, 64]`"
    advice = advice if nearest is None else ""
    return frame.add(UnknownName(span=node.base.span, name=name, hint=hint, advice=advice, nearest=nearest))
