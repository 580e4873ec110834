"""Opens a pattern: its parameters, the names that its statements see, and its spaces and sequences."""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial

from maskdsl.bind.context.bound_values import Bad, Term, Value
from maskdsl.bind.context.frame import Declared, Frame, SideDeclared, StatementKind
from maskdsl.bind.context.report import MOST_SUGGESTIONS, Report, WorkSpent
from maskdsl.bind.expression.elaborate import elaborate
from maskdsl.bind.statement.empty_spaces import without_empty_spaces
from maskdsl.bind.statement.macro_names import macro_mistakes
from maskdsl.bind.statement.parameters import MOST_NAMES, check_name, check_number, parameter_names
from maskdsl.bind.statement.pool_groups import Alone
from maskdsl.bind.statement.spaces import declare_pooled_space, declare_sequences, declare_space
from maskdsl.bind.token_declarations import with_inputs_and_coordinates
from maskdsl.bind.visible_names import Names
from maskdsl.ir.declared.sequences import Sequence, Space
from maskdsl.ir.heads import Heads
from maskdsl.ir.ops import Type
from maskdsl.syntax import tree
from maskdsl.syntax.program import Program

MOST_STATEMENTS = (
    ((tree.SpaceStatement, tree.PooledSpaceStatement), "spaces", 64),
    ((tree.LetStatement,), "`let`s", MOST_NAMES),
    ((tree.InputStatement,), "inputs", MOST_NAMES),
    ((tree.CoordinateStatement,), "coordinates", 200),
    ((tree.RouteStatement,), "routes", 50),
    ((tree.ScoreStatement,), "scores", 100),
    ((tree.WeightStatement,), "weights", 100),
    ((tree.SinkStatement,), "sinks", 100),
)
"""The most statements of each kind in a pattern: generated code may grow with their square, or nest as deep."""


def with_tokens(
    program: Program, declaration: tree.PatternDeclaration, values: Mapping[str, object], heads: Heads
) -> tree.PatternDeclaration:
    """The pattern without its empty spaces, as far as their lengths are right; wrong ones are reported later."""
    nothing = SideDeclared(Sequence(()))
    trial = Report(is_trial=True, work=WorkSpent(suggestions=MOST_SUGGESTIONS))  # whose errors nobody sees
    start = Frame(Declared(program, heads, nothing, nothing), trial, StatementKind.CONSTANT, {})
    names = Names(declaration, replace(start, names=parameter_names(declaration, values, start, elaborate)))

    def length(statement: tree.Statement, node: tree.Expression) -> int | None:
        value = elaborate(node, names.at(statement, start))
        known = value.constant if isinstance(value, Term) and value.type is Type.INT else None
        return None if known is None else int(known)

    return without_empty_spaces(declaration, length)


def opened(
    program: Program,
    declaration: tree.PatternDeclaration,
    values: Mapping[str, object],
    heads: Heads,
    report: Report,
) -> tuple[Mapping[str, Value], Names, Frame]:
    """The values of the parameters, the names that statements see, and a frame with the spaces and all their pairs."""
    nothing = SideDeclared(Sequence(()))
    start = Frame(Declared(program, heads, nothing, nothing), report, StatementKind.CONSTANT, {})
    for mistake in macro_mistakes(program):
        report.add(mistake)
    check_counts(declaration, start)
    parameters = parameter_names(declaration, values, start, elaborate)
    names = Names(declaration, replace(start, names=parameters))
    declared = _with_spaces(declaration, names, start)
    frame = replace(start, declared=declared, statement=StatementKind.PAIR, pairs=_all_pairs(declared))
    return parameters, names, frame


def check_counts(declaration: tree.PatternDeclaration, frame: Frame) -> None:
    """Raises `AttnError` (E307) if a pattern or branch has too many statements of a kind."""
    for kinds, what, most in MOST_STATEMENTS:
        check_number([each for each in declaration.statements if isinstance(each, kinds)], what, frame, most)


def _with_spaces(declaration: tree.PatternDeclaration, names: Names, frame: Frame) -> Declared:
    """Adds spaces and sequences to the declarations. Nothing makes sense without them, so errors in them stop here."""
    spaces: dict[str, Space] = {}
    kinds = tree.SpaceStatement | tree.PooledSpaceStatement
    statements = [each for each in declaration.statements if isinstance(each, kinds)]
    for statement in statements:
        name = statement.name
        if check_name(name, spaces, frame, "a space"):
            at = names.at(statement, frame)
            space = (
                declare_space(statement, at, elaborate)
                if isinstance(statement, tree.SpaceStatement)
                else declare_pooled_space(statement, spaces, at, elaborate, partial(_alone, declaration, names, frame))
            )
            spaces[name.id] = Space(name.id, ()) if isinstance(space, Bad) else space
    frame.report.check()
    sequences = declare_sequences(declaration, spaces, frame)
    frame.report.check()
    assert not isinstance(sequences, Bad)
    queries, keys, alike = sequences
    return replace(frame.declared, queries=queries, keys=keys, self_attention=alike)


def _alone(declaration: tree.PatternDeclaration, names: Names, frame: Frame, space: Space) -> Alone:
    """What the pattern declares of the tokens of one space, bound before there are sequences."""
    tokens = SideDeclared(Sequence((space,)))
    declared = replace(frame.declared, queries=tokens, keys=tokens)
    alone = replace(frame, declared=declared, report=frame.report.trial(), statement=StatementKind.PAIR)
    alone = replace(alone, pairs=_all_pairs(declared))
    return Alone(declaration, with_inputs_and_coordinates(declaration, names, alone))


def _all_pairs(declared: Declared) -> frozenset[tuple[str, str]]:
    return frozenset((a.name, b.name) for a in declared.queries.sequence.spaces for b in declared.keys.sequence.spaces)
