"""Declarations and reads of sparse inputs, and of inputs with a number for each of their entries."""

from collections.abc import Sequence

from maskdsl.base.errors.language.sparse_inputs import ListOfTokens, WrongNumbers, WrongSparse
from maskdsl.bind.context.bound_values import Bad, Term, constant
from maskdsl.bind.context.frame import Frame
from maskdsl.bind.context.terms import make, operate
from maskdsl.ir.declared.inputs import DimensionKind, Input
from maskdsl.ir.expressions import Read
from maskdsl.ir.facts.reads import reads
from maskdsl.ir.ops import Op, Type
from maskdsl.syntax import tree

SPARSE = "sparse"
"""The type of a sparse input."""
_IN_FRONT = (DimensionKind.BATCH, DimensionKind.HEADS)
_SIDES = (DimensionKind.TOKENS, DimensionKind.FIXED)


def checked_sparse(declared: Input, statement: tree.InputStatement, frame: Frame) -> Input | Bad:
    """The sparse input; BAD, with a report, if its dimensions are not rows and columns with others in front."""
    if len(declared.dimensions) < 2:
        hint = f"here {'is one dimension' if declared.dimensions else 'are none'}"
        return frame.add(WrongSparse(span=statement.span, name=declared.name, hint=hint))
    sides = len(declared.dimensions) - 2
    for number, (dimension, node) in enumerate(zip(declared.dimensions, statement.dimensions, strict=True)):
        fits = dimension.kind in (_SIDES if number >= sides else _IN_FRONT)
        if not fits and not (number < sides and dimension.text == "key_heads"):
            hint = f"`{dimension.text}` cannot stand {'here' if number >= sides else 'in front'}"
            return frame.add(WrongSparse(span=node.span, name=declared.name, hint=hint))
    return declared


def checked_numbers(declared: Input, statement: tree.InputStatement, frame: Frame) -> bool:
    """Whether the entries of one sparse input are the last dimension, and no tokens in front; reports it if not."""
    kinds = declared.kinds
    name = next(each.text for each in declared.dimensions if each.kind is DimensionKind.ENTRIES)
    if (
        kinds.count(DimensionKind.ENTRIES) == 1
        and kinds[-1] is DimensionKind.ENTRIES
        and {*kinds[:-1]}
        <= {
            *_IN_FRONT,
            DimensionKind.FIXED,
        }
    ):
        return True
    hint = (
        "other dimensions than `batch`, `heads` and integers" if kinds[-1] is DimensionKind.ENTRIES else "not the last"
    )
    frame.add(WrongNumbers(span=statement.span, name=declared.name, sparse=name, type=str(declared.type), hint=hint))
    return False


def is_stored(table: Input, terms: Sequence[Term], node: tree.Index, frame: Frame) -> Term | Bad:
    """The condition that an entry is stored at these indices."""
    entry = _entry(table, terms, node, frame)
    return entry if isinstance(entry, Bad) else operate(frame, Op.LESS_EQUAL, node.span, constant(0, node.span), entry)


def number_of_entry(table: Input, lists: Input, terms: Sequence[Term], node: tree.Index, frame: Frame) -> Term | Bad:
    """The number that an input has for the entry at the last two indices."""
    before, in_front = len(table.dimensions) - 1, len(lists.dimensions) - 2
    entry = _entry(lists, terms[before - in_front :], node, frame)
    if isinstance(entry, Bad):
        return entry
    indices = (*(each.expression for each in terms[:before]), entry.expression)
    return make(frame, node.span, Read(table.name, indices, table.type, span=node.span), [*terms[:before], entry])


def _entry(table: Input, terms: Sequence[Term], node: tree.Index, frame: Frame) -> Term | Bad:
    """The number of the entry in a sparse input at these indices."""
    written = node.indices[len(node.indices) - len(terms) :]
    for term, dimension, index in zip(terms[:-2], table.dimensions, written, strict=False):
        read = reads(term.expression)
        if read.coordinates or read.spaces:
            example = ", ".join([*(each.text.removesuffix("s") for each in table.dimensions[:-2]), "q", "k"])
            error = ListOfTokens(span=index.span, name=table.name, dimension=dimension.text, example=example)
            return frame.add(error)
    entry = Read(table.name, tuple(each.expression for each in terms), Type.INT, sparse=True, span=node.span)
    return make(frame, node.span, entry, terms)
