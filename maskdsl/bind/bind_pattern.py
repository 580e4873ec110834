"""A pattern of the tree and values for its parameters to a `MaskIR`: the statements, kind by kind."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from maskdsl.base.diagnostics import nearest_name
from maskdsl.base.errors.language.names import DuplicateName
from maskdsl.base.errors.language.patterns import AssertFailed, NoAttend, NoSuchPattern
from maskdsl.base.errors.language.stacks import StackAsPattern
from maskdsl.base.errors.language.types import NotConstant, TypeMismatch
from maskdsl.base.source import Source, Span
from maskdsl.bind.bound_heads import check_pools, checked_heads
from maskdsl.bind.context.bound_values import BAD, Abbreviation, Bad, Term, Value, describe
from maskdsl.bind.context.frame import Declared, Frame, SideWorld, StatementKind
from maskdsl.bind.context.guards import assuming
from maskdsl.bind.context.report import Report, Together, WorkSpent
from maskdsl.bind.context.terms import operate, promoted
from maskdsl.bind.expression.elaborate import elaborate
from maskdsl.bind.expression.macros import let_value
from maskdsl.bind.expression.names import OF_CALLS
from maskdsl.bind.expression.table_inputs import declare
from maskdsl.bind.statement.coord_statements import auto_spaces, with_coordinate, with_given, with_hidden, with_order
from maskdsl.bind.statement.macro_names import macro_mistakes
from maskdsl.bind.statement.parameters import (
    MOST_NAMES,
    check_argument,
    check_name,
    check_number,
    parameter_names,
    plain,
    unknown_axes,
)
from maskdsl.bind.statement.route_statements import with_route
from maskdsl.bind.statement.spaces import declare_pooled_space, declare_sequences, declare_space
from maskdsl.ir.expressions import FALSE, TRUE, Expression
from maskdsl.ir.facts.reads import reads
from maskdsl.ir.heads import Heads
from maskdsl.ir.invariants import verify
from maskdsl.ir.mask import Clause, MaskIR, Sequence, Space
from maskdsl.ir.ops import Op, Type
from maskdsl.ir.simplify import simplify
from maskdsl.syntax import tree
from maskdsl.syntax.parse import parse_statement
from maskdsl.syntax.program import Program

MOST_STATEMENTS = (
    ((tree.SpaceStatement, tree.PooledSpaceStatement), "spaces", 64),
    ((tree.LetStatement,), "`let`s", MOST_NAMES),
    ((tree.InputStatement,), "inputs", MOST_NAMES),
    ((tree.CoordinateStatement,), "coordinates", 200),
    ((tree.RouteStatement,), "routes", 50),
    ((tree.ScoreStatement,), "scores", 100),
    ((tree.WeightStatement,), "weights", 100),
)
"""How many of its kind a pattern may have: what is generated from them may grow with their square, or nest as deep."""


def bind(
    program: Program,
    pattern: str,
    values: Mapping[str, object],
    heads: int | Heads = 1,
    order: str | None = None,
    together: Together | None = None,
) -> MaskIR:
    """The mask of the pattern of this name at these values, for `heads` query heads, or for some of an attention's.

    `order` replaces the pattern's order: the text behind the word `order`, several joined by `; `, or `"declared"`.
    `together` is what others that are bound for the same answer have done. Raises `AttnError` with everything that is
    wrong.
    """
    declaration = find_pattern(program, pattern)
    report = Report(work=WorkSpent(together=together or Together()))
    whole = checked_heads(heads, report)
    parameters, names, frame = _opened(program, declaration, values, whole, report)
    unknown_axes(parameters, declaration, frame)
    mask = _mask(declaration, names, frame, _order_statements(declaration, order))
    report.check()
    shown = tuple((name, plain(value)) for name, value in parameters.items())
    cautions = tuple(each for each in report.cautions.values() if each not in program.allowed)
    here = None if whole == Heads(whole.whole) else whole
    mask = replace(mask, parameters=shown, whole=here, cautions=cautions)
    verify(mask)
    return mask


def declared(program: Program, pattern: str, heads: int = 1) -> "tuple[Names, Frame]":
    """What the expressions of a pattern see at its defaults, relations aside; for those who show values.

    Raises `AttnError` where its lengths are wrong. What else is wrong is in the frame's report.
    """
    declaration = find_pattern(program, pattern)
    _, names, frame = _opened(program, declaration, {}, Heads(heads), Report())
    return names, _with_coordinates(declaration, names, _with_inputs(declaration, names, frame))


def _opened(
    program: Program,
    declaration: tree.PatternDeclaration,
    values: Mapping[str, object],
    heads: Heads,
    report: Report,
) -> "tuple[Mapping[str, Value], Names, Frame]":
    """The values of the parameters, what statements see, and the spaces, with all of their pairs."""
    nothing = SideWorld(Sequence(()))
    start = Frame(Declared(program, heads, nothing, nothing), report, StatementKind.CONSTANT, {})
    for mistake in macro_mistakes(program):
        report.add(mistake)
    for kinds, what, most in MOST_STATEMENTS:
        check_number([each for each in declaration.statements if isinstance(each, kinds)], what, start, most)
    parameters = parameter_names(declaration, values, start, elaborate)
    names = Names(declaration, replace(start, names=parameters))
    world = _with_spaces(declaration, names, start)
    return parameters, names, replace(start, world=world, statement=StatementKind.PAIR, pairs=_all_pairs(world))


def find_pattern(program: Program, name: str) -> tree.PatternDeclaration:
    """The pattern of this name, of any of the program's files."""
    declaration = program.patterns.get(name)
    report = Report()
    if declaration is not None:
        return declaration
    if name in program.stacks:
        report.stop(StackAsPattern(span=program.stacks[name].name.span, name=name))
    known = [each for each, found in program.patterns.items() if found.span.source is not program.standard.span.source]
    hint = "there are " + ", ".join(f"`{each}`" for each in known) if known else "the file declares none"
    report.stop(NoSuchPattern(name=name, known=hint, nearest=nearest_name(name, program.patterns)))
    raise AssertionError


class Names:
    """Parameters and `let`s: what each statement of a pattern sees, which is what stands above it."""

    def __init__(self, declaration: tree.PatternDeclaration, frame: Frame) -> None:
        self.before: dict[int, Mapping[str, Value]] = {}
        self.lets: list[tree.LetStatement] = []
        names = dict(frame.names)
        for statement in declaration.statements:
            self.before[id(statement)] = names
            if isinstance(statement, tree.LetStatement):
                known = check_name(statement.name, names, frame, "a parameter or `let`")
                value = _let(statement, replace(frame, names=names)) if known else BAD
                names = {**names, statement.name.id: value}
                self.lets.append(statement)
        self.last: Mapping[str, Value] = names

    def at(self, statement: tree.Node, frame: Frame) -> Frame:
        return replace(frame, names=self.before.get(id(statement), self.last))


def _let(statement: tree.LetStatement, frame: Frame) -> Value:
    """Its value if it can be known before there are tokens, otherwise what it abbreviates."""
    trial = replace(frame, report=frame.report.trial())
    value = elaborate(statement.value, trial)
    return Abbreviation(statement, frame.names) if trial.report.found else value


def _with_spaces(declaration: tree.PatternDeclaration, names: Names, frame: Frame) -> Declared:
    """The world with spaces and sequences. Nothing else makes sense without them: what is wrong stops here."""
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
                else declare_pooled_space(statement, spaces, at, elaborate)
            )
            spaces[name.id] = Space(name.id, ()) if isinstance(space, Bad) else space
    frame.report.check()
    sequences = declare_sequences(declaration, spaces, frame)
    frame.report.check()
    assert not isinstance(sequences, Bad)
    queries, keys, alike = sequences
    return replace(frame.world, queries=queries, keys=keys, self_attention=alike)


def _all_pairs(world: Declared) -> frozenset[tuple[str, str]]:
    return frozenset((a.name, b.name) for a in world.queries.sequence.spaces for b in world.keys.sequence.spaces)


def _order_statements(declaration: tree.PatternDeclaration, order: str | None) -> tuple[tree.Statement, ...]:
    """Those of the pattern, or those in place of them."""
    if order == "declared":
        return ()
    if order is not None:
        return tuple(parse_statement(Source("<order>", f"order {each.strip()}")) for each in order.split(";"))
    return declaration.statements


def _mask(
    declaration: tree.PatternDeclaration, names: Names, frame: Frame, orders: tuple[tree.Statement, ...]
) -> MaskIR:
    """Everything behind the spaces. Expressions that are wrong are left out; the report knows them."""
    frame = _with_inputs(declaration, names, frame)
    frame = _with_coordinates(declaration, names, frame)
    frame = _with_routes(declaration, names, frame)
    relations = _relations(declaration, names, frame)
    known = assuming(frame, relations.whole)
    scoring = replace(known, statement=StatementKind.SCORE)
    scores = tuple(
        _float(statement.value, names.at(statement, scoring), "a score")
        for statement in declaration.statements
        if isinstance(statement, tree.ScoreStatement)
    )
    weights = [
        _float(statement.value, names.at(statement, known), "a weight")
        for statement in declaration.statements
        if isinstance(statement, tree.WeightStatement)
    ]
    scale = _scale(declaration, names, known)
    for order in orders:
        if isinstance(order, tree.OrderStatement):
            frame = replace(frame, world=with_order(order, names.at(order, frame), elaborate))
    auto = auto_spaces([each for each in orders if isinstance(each, tree.AutoOrderStatement)], frame)
    _check_asserts(declaration, names, frame)
    _check_lets(names, scoring)
    check_pools(frame)
    frame.report.check()
    weight = _product(weights, frame)
    relation = relations.whole.expression if isinstance(relations.whole, Term) else FALSE
    clauses = [clause.relation for clause in (*relations.attend, *relations.require)]
    expressions = [*clauses, *scores, *(each for each in (weight, scale) if each is not None)]
    world = with_hidden(frame.world, _used(frame.world, expressions))
    return MaskIR(
        name=declaration.name.id,
        parameters=(),
        heads=world.heads.count,
        queries=world.queries.sequence,
        keys=world.keys.sequence,
        self_attention=world.self_attention,
        inputs=world.inputs,
        attend=relations.attend,
        require=relations.require,
        relation=simplify(relation),
        scores=scores,
        weight=weight,
        scale=scale,
        auto=auto,
        routed=world.routed,
        doc=declaration.doc,
        span=declaration.name.span,
    )


def _with_inputs(declaration: tree.PatternDeclaration, names: Names, frame: Frame) -> Frame:
    statements = [each for each in declaration.statements if isinstance(each, tree.InputStatement)]
    taken = dict.fromkeys([*frame.world.queries.coordinate_names(), *frame.world.keys.coordinate_names()])
    for statement in statements:
        world, name = frame.world, statement.name.id
        fits = check_name(statement.name, taken, frame, "an input or a coordinate")
        fits &= check_argument(statement.name, OF_CALLS, "an input", frame)
        taken[name] = None
        declared = declare(statement, names.at(statement, replace(frame, statement=StatementKind.CONSTANT)), elaborate)
        if isinstance(declared, Bad) or not fits:
            frame = replace(frame, world=replace(world, bad_names=world.bad_names | {name}))
            continue
        world = replace(world, inputs=(*world.inputs, declared))
        frame = replace(frame, world=with_given(declared, world) if declared.is_coordinate else world)
    return frame


def _with_coordinates(declaration: tree.PatternDeclaration, names: Names, frame: Frame) -> Frame:
    statements = [each for each in declaration.statements if isinstance(each, tree.CoordinateStatement)]
    for statement in statements:
        frame = replace(frame, world=with_coordinate(statement, names.at(statement, frame), elaborate))
    return frame


def _with_routes(declaration: tree.PatternDeclaration, names: Names, frame: Frame) -> Frame:
    for statement in declaration.statements:
        if isinstance(statement, tree.RouteStatement):
            world, name = frame.world, statement.name
            coordinates = [*world.queries.coordinate_names(), *world.keys.coordinate_names()]
            known = dict.fromkeys([*coordinates, *(each.name for each in world.inputs), *names.last])
            if check_name(name, known, frame, "a coordinate, an input, a parameter or a `let`"):
                world = with_route(statement, names.at(statement, frame), elaborate)
            else:
                world = replace(world, bad_names=world.bad_names | {name.id})
            frame = replace(frame, world=world)
    return frame


@dataclass(frozen=True)
class _RelationBinder:
    attend: tuple[Clause, ...]
    require: tuple[Clause, ...]
    whole: Value


def _relations(declaration: tree.PatternDeclaration, names: Names, frame: Frame) -> _RelationBinder:
    """Any of the `attend` lines, and all of the `require` lines."""
    attends = [each for each in declaration.statements if isinstance(each, tree.AttendStatement)]
    requires = [each for each in declaration.statements if isinstance(each, tree.RequireStatement)]
    span = declaration.name.span
    if not attends:
        frame.add(NoAttend(span=span, name=declaration.name.id))
    attended = [_relation(each, names.at(each, frame)) for each in attends]
    whole: Value = operate(frame, Op.OR, span, *attended) if attended else Term(TRUE)
    required: list[Value] = []
    known = assuming(frame, whole)
    for each in requires:
        required.append(_relation(each, names.at(each, known)))
        known = assuming(known, required[-1])
    if required:
        whole = operate(frame, Op.AND, span, whole, *required)
    return _RelationBinder(tuple(_clauses(attends, attended)), tuple(_clauses(requires, required)), whole)


def _relation(statement: tree.AttendStatement | tree.RequireStatement, frame: Frame) -> Value:
    value = elaborate(statement.relation, frame)
    if isinstance(value, Bad) or (isinstance(value, Term) and value.type is Type.BOOL):
        return value
    span, found = statement.relation.span, describe(value)
    return frame.add(TypeMismatch(span=span, what="this", found=found, expected="a relation"))


def _clauses(
    statements: list[tree.AttendStatement] | list[tree.RequireStatement], values: list[Value]
) -> Iterator[Clause]:
    for statement, value in zip(statements, values, strict=True):
        if isinstance(value, Term):
            yield Clause(value.expression, span=statement.span)


def _float(node: tree.Expression, frame: Frame, what: str) -> Expression:
    value = elaborate(node, frame)
    if isinstance(value, Term) and value.type is not Type.BOOL:
        return simplify(promoted(frame, value).expression)
    if not isinstance(value, Bad):
        found, expected = describe(value), "a float"
        frame.add(TypeMismatch(span=node.span, what=what, found=found, expected=expected))
    return FALSE


def _scale(declaration: tree.PatternDeclaration, names: Names, frame: Frame) -> Expression | None:
    statements = [each for each in declaration.statements if isinstance(each, tree.ScaleStatement)]
    for again in statements[1:]:
        frame.add(DuplicateName(span=again.span, name="scale", kind="the pattern has a scale already"))
    if not statements:
        return None
    return _float(statements[0].value, names.at(statements[0], frame), "a scale")


def _product(factors: list[Expression], frame: Frame) -> Expression | None:
    if not factors:
        return None
    product: Value = Term(factors[0])
    for factor in factors[1:]:
        product = operate(frame, Op.MULTIPLY, factor.span or _anywhere(frame), product, Term(factor))
    assert isinstance(product, Term)
    return product.expression


def _anywhere(frame: Frame) -> Span:
    return frame.world.program.root.span


def _check_asserts(declaration: tree.PatternDeclaration, names: Names, frame: Frame) -> None:
    for statement in declaration.statements:
        if not isinstance(statement, tree.AssertStatement):
            continue
        span = statement.condition.span
        value = elaborate(statement.condition, names.at(statement, frame))
        match value:
            case Bad():
                pass
            case Term() if value.constant is False:
                frame.add(AssertFailed(span=span, text=statement.message.value))
            case Term() if value.constant is None:
                frame.add(NotConstant(span=span, what="an asserted condition", reason="this depends on the tokens"))
            case Term() if value.type is Type.BOOL:
                pass
            case _:
                found = describe(value)
                frame.add(TypeMismatch(span=span, what="this", found=found, expected="a condition"))


def _check_lets(names: Names, frame: Frame) -> None:
    """What is wrong with `let`s that nothing uses. Warnings are for where they are used."""
    for statement in names.lets:
        inside = replace(names.at(statement, frame), report=frame.report.trial())
        if isinstance(names.last.get(statement.name.id), Abbreviation):
            let_value(statement, inside, elaborate)
            frame.report.take(inside.report)


def _used(world: Declared, expressions: list[Expression]) -> frozenset[str]:
    """Names of all coordinates that are read anywhere."""
    found = list(expressions)
    for side in (world.queries, world.keys):
        found += (*side.sequence.computed, *side.sequence.sort_keys)
    return frozenset(each.name for each in reads(*found).coordinates)
