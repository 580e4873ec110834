"""Spaces, and the sequences that they make."""

from collections.abc import Mapping, Sequence

from maskdsl.bind.frame import Frame, SideWorld
from maskdsl.bind.macros import Elaborate
from maskdsl.bind.names import RESERVED
from maskdsl.bind.reading import unknown_space
from maskdsl.bind.values import BAD, Bad, Term
from maskdsl.errors import binding as errors
from maskdsl.ir import mask as ir
from maskdsl.ir.ops import Type
from maskdsl.syntax import tree

MOST_TOKENS = 2**31 - 1
MOST_AXES = 4
MOST_SPACES = 64


def declare_space(statement: tree.SpaceStatement, frame: Frame, elaborate: Elaborate) -> ir.Space | Bad:
    name = statement.name.id
    if len(statement.axes) > MOST_AXES:
        count = len(statement.axes)
        return frame.add(errors.TooManyAxes(span=statement.name.span, name=name, count=count, limit=MOST_AXES))
    axes: list[ir.Axis] = []
    for axis in statement.axes:
        own = axis.name or statement.name
        if axis.name is None and len(statement.axes) > 1:
            what, hint = "an axis has no name", "each of several axes needs one: `y = 8`"
            frame.add(errors.BadSequences(span=axis.span, what=what, hint=hint))
        elif own.id in RESERVED or own.id == "i":
            frame.add(errors.ReservedName(span=own.span, name=own.id))
        elif any(each.name == own.id for each in axes):
            frame.add(errors.DuplicateName(span=own.span, name=own.id, kind="the space has such an axis already"))
        else:
            length = _length(axis, frame, elaborate)
            axes.append(ir.Axis(own.id, 1 if isinstance(length, Bad) else length))
    space = ir.Space(name, tuple(axes), span=statement.span)
    if space.size > MOST_TOKENS:
        what = f"the space `{name}`"
        return frame.add(errors.TooManyTokens(span=statement.span, what=what, count=space.size, limit=MOST_TOKENS))
    return space


def _length(axis: tree.Axis, frame: Frame, elaborate: Elaborate) -> int | Bad:
    value = elaborate(axis.length, frame)
    if isinstance(value, Bad):
        return BAD
    if not isinstance(value, Term) or value.type is not Type.INT or value.constant is None:
        depends = "something else than integers"
        return frame.add(errors.NotConstant(span=axis.length.span, what="the length of an axis", depends=depends))
    if value.constant < 1:
        what = "the length of an axis"
        return frame.add(errors.BadLength(span=axis.length.span, what=what, value=int(value.constant)))
    return int(value.constant)


def declare_sequences(
    pattern: tree.PatternDeclaration, spaces: Mapping[str, ir.Space], frame: Frame
) -> tuple[SideWorld, SideWorld, bool] | Bad:
    """The queries, the keys, and whether they are the same tokens."""
    statements = {
        kind: [each for each in pattern.statements if isinstance(each, tree.SequenceStatement) and each.kind == kind]
        for kind in ("tokens", "queries", "keys")
    }
    for kind, several in statements.items():
        for again in several[1:]:
            frame.add(errors.DuplicateName(span=again.span, name=kind, kind="the pattern has such a line already"))
    made = {kind: _sequence(several[0], spaces, frame) if several else None for kind, several in statements.items()}
    names = ", ".join(f"`{name}`" for name in spaces)
    span = pattern.name.span
    if any(isinstance(each, Bad) for each in made.values()):
        return BAD
    match made["tokens"], made["queries"], made["keys"]:
        case None, None, None if len(spaces) == 1:
            whole = SideWorld(ir.Sequence(tuple(spaces.values())))
            return whole, whole, True
        case None, None, None if not spaces:
            what, hint = "the pattern has no space", "`space tokens[n]` declares one"
            return frame.add(errors.BadSequences(span=span, what=what, hint=hint))
        case None, None, None:
            what, hint = "the pattern has several spaces", f"say in which order: `tokens {' ++ '.join(spaces)}`"
            return frame.add(errors.BadSequences(span=span, what=what, hint=hint))
        case ir.Sequence() as sequence, None, None:
            used = sequence.spaces
            first, second = SideWorld(sequence), None
        case None, ir.Sequence() as queries, ir.Sequence() as keys:
            used = (*queries.spaces, *keys.spaces)
            first, second = SideWorld(queries), SideWorld(keys)
        case _:
            what = "`tokens` stands alone, and `queries` and `keys` together"
            at = next(several[0] for several in statements.values() if several)
            return frame.add(errors.BadSequences(span=at.span, what=what, hint=f"the spaces are {names}"))
    for space in spaces.values():
        if space not in used:
            what, hint = f"the space `{space.name}` is in no sequence", "it has no tokens"
            frame.add(errors.BadSequences(span=space.span, what=what, hint=hint))
    return first, second or first, second is None


def _sequence(statement: tree.SequenceStatement, spaces: Mapping[str, ir.Space], frame: Frame) -> ir.Sequence | Bad:
    found: list[ir.Space] = []
    for name in statement.spaces:
        if name.id not in spaces:
            unknown_space(frame, name.id, name.span, spaces)
        elif spaces[name.id] in found:
            frame.add(errors.DuplicateName(span=name.span, name=name.id, kind="once in a sequence is possible"))
        else:
            found.append(spaces[name.id])
    sequence = ir.Sequence(tuple(found))
    if len(found) < len(statement.spaces):
        return BAD
    if sequence.length > MOST_TOKENS:
        return frame.add(
            errors.TooManyTokens(span=statement.span, what="the sequence", count=sequence.length, limit=MOST_TOKENS)
        )
    return sequence


def check_count(spaces: Sequence[tree.Statement], frame: Frame) -> None:
    if len(spaces) > MOST_SPACES:
        span, count = spaces[MOST_SPACES].span, len(spaces)
        frame.report.stop(errors.TooMany(span=span, count=count, what="spaces", limit=MOST_SPACES))
