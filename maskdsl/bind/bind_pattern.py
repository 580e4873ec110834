"""Binds a pattern of the tree and values for its parameters to a `MaskIR`, one kind of statement after the other."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial

from maskdsl.base.diagnostics import AttnError, nearest_name
from maskdsl.base.errors.language.names import DuplicateName
from maskdsl.base.errors.language.patterns import AssertFailed, NoAttend, NoOrder, NoSuchPattern
from maskdsl.base.errors.language.stacks import StackAsPattern
from maskdsl.base.errors.language.types import NotConstant, TypeMismatch
from maskdsl.base.records import dataclass
from maskdsl.base.source import Source, Span
from maskdsl.bind.bound_heads import check_pools, checked_heads
from maskdsl.bind.context.bound_values import BAD, Abbreviation, Bad, Term, Value, depends_on, describe
from maskdsl.bind.context.frame import Declared, Frame, SideDeclared, StatementKind
from maskdsl.bind.context.guards import assuming
from maskdsl.bind.context.report import Report, Together, WorkSpent
from maskdsl.bind.context.terms import operate, promoted
from maskdsl.bind.expression.elaborate import elaborate
from maskdsl.bind.expression.macros import let_value
from maskdsl.bind.expression.names import OF_CALLS
from maskdsl.bind.expression.table_inputs import declare
from maskdsl.bind.statement.branch_statements import BranchPattern, branch_patterns
from maskdsl.bind.statement.coord_statements import auto_spaces, with_coordinate, with_given, with_hidden, with_order
from maskdsl.bind.statement.empty_spaces import inputs_left_out, without_empty_spaces
from maskdsl.bind.statement.macro_names import macro_mistakes
from maskdsl.bind.statement.made_inputs import made_inputs
from maskdsl.bind.statement.normalization import bound_normalization, by_what_they_read, of_query
from maskdsl.bind.statement.parameters import (
    MOST_NAMES,
    check_argument,
    check_name,
    check_number,
    parameter_names,
    plain,
    unknown_axes,
)
from maskdsl.bind.statement.pool_groups import Alone, check_sources
from maskdsl.bind.statement.pool_members import guards, with_facts, without_unread
from maskdsl.bind.statement.route_statements import with_route
from maskdsl.bind.statement.score_products import product_input, with_products
from maskdsl.bind.statement.spaces import declare_pooled_space, declare_sequences, declare_space
from maskdsl.bind.statement.unread_inputs import unread_inputs
from maskdsl.bind.statement.value_statements import bound_values
from maskdsl.ir.declared.sequences import Sequence, Space
from maskdsl.ir.expressions import FALSE, TRUE, Expression, apply
from maskdsl.ir.facts.reads import reads
from maskdsl.ir.heads import Heads
from maskdsl.ir.invariants import verify
from maskdsl.ir.mask import Clause, MaskIR
from maskdsl.ir.meaning.idle_routes import without_idle_routes
from maskdsl.ir.ops import Op, Type
from maskdsl.ir.rewrites.branch_union import with_branches
from maskdsl.ir.simplify import simplify
from maskdsl.ir.values.token_vectors import vector_expressions
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
    ((tree.SinkStatement,), "sinks", 100),
)
"""The most statements of each kind in a pattern: generated code may grow with their square, or nest as deep."""
_ORDER_WORDS = {"by", "auto"}
"""One of them is in every `order` statement."""


def bind(
    program: Program,
    pattern: str,
    values: Mapping[str, object],
    heads: int | Heads = 1,
    order: str | None = None,
    together: Together | None = None,
) -> MaskIR:
    """The mask of the named pattern at these values, for `heads` query heads, or for some heads of an attention.

    `order` replaces the pattern's order: the text after the word `order`, several joined by `; `, or `"declared"`.
    `together` counts the work of all patterns that are bound for the same answer. Raises `AttnError` with all mistakes.
    """
    report = Report(work=WorkSpent(together=together or Together()))
    whole = checked_heads(heads, report)
    written = find_pattern(program, pattern)
    declaration = with_tokens(program, written, values, whole)
    parameters, names, frame = _opened(program, declaration, values, whole, report)
    unknown_axes(parameters, declaration, frame)
    orders = order_statements(declaration, order)
    if any(isinstance(each, tree.BranchStatement) for each in declaration.statements):
        mask = _branched(declaration, names, frame, orders)
    else:
        mask = _mask(declaration, names, frame, orders)
    report.check()
    shown = tuple((name, plain(value)) for name, value in parameters.items())
    cautions = tuple(each for each in report.cautions.values() if each not in program.allowed)
    if "key_heads" in frame.declared.of_call and whole.key_heads is None:
        whole = replace(whole, key_heads=whole.whole)
    here = None if whole == Heads(whole.whole) else whole
    if declaration is not written:
        mask = replace(mask, unread=(*mask.unread, *inputs_left_out(written, declaration)))
    mask = replace(mask.throughout(lambda each: replace(each, parameters=shown, whole=here)), cautions=cautions)
    verify(mask)
    return mask


def frame_at(
    program: Program, pattern: str, values: Mapping[str, object], heads: int | Heads = 1, branch: str = ""
) -> "tuple[tree.PatternDeclaration, Names, Frame]":
    """A pattern or its branch, and the names and declarations that its expressions see, for tools that show values.

    Raises `AttnError` if lengths are wrong. All other errors are in the frame's report.
    """
    report = Report()
    whole = checked_heads(heads, report)
    declaration = with_tokens(program, find_pattern(program, pattern), values, whole)
    _, names, frame = _opened(program, declaration, values, whole, report)
    for each in branch_patterns(declaration, replace(frame, names=names.last)) if branch else ():
        if branch in (each.name, each.statement.name.id):
            declaration, names = each.declaration, names.of(each.declaration)
            break
    frame = _with_coordinates(declaration, names, _with_inputs(declaration, names, frame))
    return declaration, names, _with_routes(declaration, names, frame)


def branches_of(
    program: Program, pattern: str, values: Mapping[str, object], heads: int | Heads = 1
) -> tuple[BranchPattern, ...]:
    """The branches of a pattern at these values; none of a pattern without any. Raises `AttnError` for wrong ones."""
    declaration, report = find_pattern(program, pattern), Report()
    if not any(isinstance(each, tree.BranchStatement) for each in declaration.statements):
        return ()
    whole = checked_heads(heads, report)
    declaration = with_tokens(program, declaration, values, whole)
    _, names, frame = _opened(program, declaration, values, whole, report)
    branches = branch_patterns(declaration, replace(frame, names=names.last))
    report.check()
    return branches


def with_tokens(
    program: Program, declaration: tree.PatternDeclaration, values: Mapping[str, object], heads: Heads
) -> tree.PatternDeclaration:
    """The pattern without its empty spaces, as far as their lengths are right; wrong ones are reported later."""
    nothing = SideDeclared(Sequence(()))
    trial = Report(is_trial=True)
    start = Frame(Declared(program, heads, nothing, nothing), trial, StatementKind.CONSTANT, {})
    if not any(isinstance(each, tree.SequenceStatement) for each in declaration.statements):
        return declaration
    names = Names(declaration, replace(start, names=parameter_names(declaration, values, start, elaborate)))

    def length(statement: tree.Statement, node: tree.Expression) -> int | None:
        value = elaborate(node, names.at(statement, start))
        known = value.constant if isinstance(value, Term) and value.type is Type.INT else None
        return None if known is None else int(known)

    return without_empty_spaces(declaration, length)


def _opened(
    program: Program,
    declaration: tree.PatternDeclaration,
    values: Mapping[str, object],
    heads: Heads,
    report: Report,
) -> "tuple[Mapping[str, Value], Names, Frame]":
    """The values of the parameters, the names that statements see, and a frame with the spaces and all their pairs."""
    nothing = SideDeclared(Sequence(()))
    start = Frame(Declared(program, heads, nothing, nothing), report, StatementKind.CONSTANT, {})
    for mistake in macro_mistakes(program):
        report.add(mistake)
    for kinds, what, most in MOST_STATEMENTS:
        check_number([each for each in declaration.statements if isinstance(each, kinds)], what, start, most)
    parameters = parameter_names(declaration, values, start, elaborate)
    names = Names(declaration, replace(start, names=parameters))
    declared = _with_spaces(declaration, names, start)
    return (
        parameters,
        names,
        replace(start, declared=declared, statement=StatementKind.PAIR, pairs=_all_pairs(declared)),
    )


def find_pattern(program: Program, name: str) -> tree.PatternDeclaration:
    """The pattern of this name, from any of the program's files. Raises `AttnError` (E201, E270)."""
    declaration = program.patterns.get(name)
    report = Report()
    if declaration is not None:
        return declaration
    if name in program.stacks:
        report.stop(StackAsPattern(span=program.stacks[name].name.span, name=name))
    standard = program.standard.span.source
    known = [each for each, pattern in program.patterns.items() if pattern.span.source is not standard]
    hint = "the patterns are " + ", ".join(f"`{each}`" for each in known) if known else "the file declares no pattern"
    report.stop(NoSuchPattern(name=name, known=hint, nearest=nearest_name(name, program.patterns)))
    raise AssertionError


class Names:
    """Parameters and `let`s. Each statement of a pattern sees those above it."""

    def __init__(self, declaration: tree.PatternDeclaration, frame: Frame) -> None:
        self.frame = frame
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

    def of(self, branch: tree.PatternDeclaration) -> "Names":
        """The names in a branch of the pattern."""
        return Names(branch, self.frame)

    def at(self, statement: tree.Node, frame: Frame) -> Frame:
        return replace(frame, names=self.before.get(id(statement), self.last))


def _let(statement: tree.LetStatement, frame: Frame) -> Value:
    """The value of a `let` if it is known before the tokens are; otherwise an abbreviation."""
    trial = replace(frame, report=frame.report.trial())
    value = elaborate(statement.value, trial)
    return Abbreviation(statement, frame.names) if trial.report.errors else value


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
    return Alone(declaration, _with_coordinates(declaration, names, _with_inputs(declaration, names, alone)))


def _all_pairs(declared: Declared) -> frozenset[tuple[str, str]]:
    return frozenset((a.name, b.name) for a in declared.queries.sequence.spaces for b in declared.keys.sequence.spaces)


def order_statements(declaration: tree.PatternDeclaration, order: str | None) -> tuple[tree.Statement, ...]:
    """The statements with the orders to apply: the pattern's own, or those that replace them."""
    if order == "declared":
        return ()
    if order is None:
        return declaration.statements
    texts = [each.strip() for each in order.split(";")]
    wrong = [NoOrder(text=each) for each in texts if not _ORDER_WORDS & {*each.split()}]
    if wrong:
        raise AttnError(*wrong)
    return tuple(parse_statement(Source("<order>", f"order {each}")) for each in texts)


def _branched(
    declaration: tree.PatternDeclaration, names: Names, frame: Frame, orders: tuple[tree.Statement, ...]
) -> MaskIR:
    """Binds the branches of a pattern, each as a pattern of its own. Of an unrolled one, the first mistakes suffice."""
    branches = branch_patterns(declaration, replace(frame, names=names.last))
    orders = tuple(each for each in orders if isinstance(each, tree.OrderStatement | tree.AutoOrderStatement))
    masks: list[MaskIR] = []
    wrong: list[tree.BranchStatement] = []
    for each in branches:
        if any(each.statement is other for other in wrong):
            continue
        inside = replace(frame, report=frame.report.trial())
        inner = Names(each.declaration, replace(names.frame, report=inside.report))
        for kinds, what, most in MOST_STATEMENTS:
            check_number([line for line in each.declaration.statements if isinstance(line, kinds)], what, frame, most)
        try:
            mask = _mask(each.declaration, inner, inside, orders)
            masks.append(replace(without_idle_routes(mask), branch=each.name, span=each.statement.name.span))
        except AttnError:
            wrong.append(each.statement)
        frame.report.take(inside.report)
        frame.report.adopt(inside.report)
    frame.report.check()
    known = {each.name: each for mask in masks for each in mask.given}
    declared = (each.name.id for each in declaration.statements if isinstance(each, tree.InputStatement))
    inputs = tuple(known[name] for name in declared if name in known)
    unread = unread_inputs(declaration, orders)
    whole = replace(masks[0], branch="", span=declaration.name.span, unread=unread, inputs=inputs)
    return with_branches(whole, masks)


def _mask(
    declaration: tree.PatternDeclaration, names: Names, frame: Frame, orders: tuple[tree.Statement, ...]
) -> MaskIR:
    """Binds everything after the spaces. Wrong expressions are left out; the report has their errors."""
    unread = unread_inputs(declaration, orders)
    frame = _with_inputs(declaration, names, frame, unread)
    frame = _with_coordinates(declaration, names, frame)
    check_sources(frame)
    frame = _with_routes(declaration, names, frame)
    relations = _relations(declaration, names, frame)
    known = assuming(frame, relations.whole)
    scoring = replace(known, statement=StatementKind.SCORE)
    scores = tuple(
        _float(statement.value, names.at(statement, scoring), "a score")
        for statement in declaration.statements
        if isinstance(statement, tree.ScoreStatement)
    )
    valuing = replace(known, statement=StatementKind.VALUE)
    weights = [
        _float(statement.value, names.at(statement, valuing), "a weight")
        for statement in declaration.statements
        if isinstance(statement, tree.WeightStatement)
    ]
    sinks = [
        of_query(_float(statement.value, names.at(statement, valuing), "a sink"), statement, valuing)
        for statement in declaration.statements
        if isinstance(statement, tree.SinkStatement)
    ]
    normalize = bound_normalization(declaration, frame)
    bound = with_products(scores, _scale(declaration, names, valuing), frame)
    scores, scale = bound.scores, bound.scale
    lines = [each for each in declaration.statements if isinstance(each, tree.ValueStatement)]
    values = bound_values(lines, names.at(lines[0], known) if lines else known, elaborate)
    for order in orders:
        if isinstance(order, tree.OrderStatement):
            frame = replace(frame, declared=with_order(order, names.at(order, frame), elaborate))
    auto = auto_spaces([each for each in orders if isinstance(each, tree.AutoOrderStatement)], frame)
    _check_asserts(declaration, names, frame)
    _check_lets(names, scoring)
    check_pools(frame)
    frame.report.check()
    factors, weights = by_what_they_read(weights, frame)
    weight, factor = _product(weights, frame), _product(factors, frame)
    relation = relations.whole.expression if isinstance(relations.whole, Term) else FALSE
    guarded = tuple(guards(frame.declared))
    required = (*relations.require, *guarded)
    if guarded:
        relation = apply(Op.AND, relation, *(each.relation for each in guarded))
    clauses = [clause.relation for clause in (*relations.attend, *required)]
    expressions = [*clauses, *scores, *(each for each in (weight, factor, scale) if each is not None), *sinks]
    expressions += [each.weight for each in values.values]
    expressions += [each for vector in (*bound.vectors, *values.vectors) for each in vector_expressions(vector)]
    declared = without_unread(frame.declared, expressions)
    declared = with_hidden(declared, _used(declared, expressions))
    return MaskIR(
        name=declaration.name.id,
        parameters=(),
        heads=declared.heads.count,
        queries=declared.queries.sequence,
        keys=declared.keys.sequence,
        self_attention=declared.self_attention,
        inputs=(
            *declared.inputs,
            *(product_input(each, declared) for each in bound.products),
            *values.inputs(declared),
        ),
        attend=relations.attend,
        require=required,
        relation=simplify(relation),
        scores=scores,
        weight=weight,
        factor=factor,
        sinks=tuple(sinks),
        normalize=normalize,
        scale=scale,
        auto=auto,
        routed=declared.routed,
        products=bound.products,
        pairs=bound.pairs,
        key_value=values.key_value,
        values=values.values,
        unread=unread,
        doc=declaration.doc,
        span=declaration.name.span,
    )


def _with_inputs(
    declaration: tree.PatternDeclaration, names: Names, frame: Frame, unread: tuple[str, ...] = ()
) -> Frame:
    """Declares the inputs, except those that nothing reads."""
    statements = [each for each in declaration.statements if isinstance(each, tree.InputStatement)]
    taken = dict.fromkeys([*frame.declared.queries.coordinate_names(), *frame.declared.keys.coordinate_names()])
    for statement in statements:
        declared, name = frame.declared, statement.name.id
        fits = check_name(statement.name, taken, frame, "an input or a coordinate")
        fits &= check_argument(statement.name, OF_CALLS, "an input", frame)
        taken[name] = None
        given = declare(statement, names.at(statement, replace(frame, statement=StatementKind.CONSTANT)), elaborate)
        if isinstance(given, Bad) or not fits:
            frame = replace(frame, declared=replace(declared, bad_names=declared.bad_names | {name}))
            continue
        if name in unread:
            frame = replace(frame, declared=replace(declared, unread=(*declared.unread, given)))
            continue
        declared = replace(declared, inputs=(*declared.inputs, given))
        frame = replace(frame, declared=with_given(given, declared) if given.is_coordinate else declared)
    declared = frame.declared
    made = made_inputs(declared.program, declaration, declared.inputs)
    return replace(frame, declared=replace(declared, inputs=(*declared.inputs, *made)))


def _with_coordinates(declaration: tree.PatternDeclaration, names: Names, frame: Frame) -> Frame:
    frame = replace(frame, declared=with_facts(declaration, frame.declared))
    statements = [each for each in declaration.statements if isinstance(each, tree.CoordinateStatement)]
    for statement in statements:
        frame = replace(frame, declared=with_coordinate(statement, names.at(statement, frame), elaborate))
    return frame


def _with_routes(declaration: tree.PatternDeclaration, names: Names, frame: Frame) -> Frame:
    for statement in declaration.statements:
        if isinstance(statement, tree.RouteStatement):
            declared, name = frame.declared, statement.name
            coordinates = [*declared.queries.coordinate_names(), *declared.keys.coordinate_names()]
            known = dict.fromkeys([*coordinates, *(each.name for each in declared.inputs), *names.last])
            if check_name(name, known, frame, "a coordinate, an input, a parameter or a `let`"):
                declared = with_route(statement, names.at(statement, frame), elaborate)
            else:
                declared = replace(declared, bad_names=declared.bad_names | {name.id})
            frame = replace(frame, declared=declared)
    return frame


@dataclass(frozen=True)
class _BoundRelations:
    attend: tuple[Clause, ...]
    require: tuple[Clause, ...]
    whole: Value


def _relations(declaration: tree.PatternDeclaration, names: Names, frame: Frame) -> _BoundRelations:
    """The relation of the pattern: any of the `attend` lines, and all of the `require` lines."""
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
    return _BoundRelations(tuple(_clauses(attends, attended)), tuple(_clauses(requires, required)), whole)


def _relation(statement: tree.AttendStatement | tree.RequireStatement, frame: Frame) -> Value:
    value = elaborate(statement.relation, frame)
    if isinstance(value, Bad) or (isinstance(value, Term) and value.type is Type.BOOL):
        return value
    span, result = statement.relation.span, describe(value)
    return frame.add(TypeMismatch(span=span, what="this", found=result, expected="a relation"))


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
        result, expected = describe(value), "a float"
        frame.add(TypeMismatch(span=node.span, what=what, found=result, expected=expected))
    return FALSE


def _scale(declaration: tree.PatternDeclaration, names: Names, frame: Frame) -> Expression | None:
    statements = [each for each in declaration.statements if isinstance(each, tree.ScaleStatement)]
    for again in statements[1:]:
        frame.add(DuplicateName(span=again.span, name="scale", kind="the pattern already has a scale"))
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
    return frame.declared.program.root.span


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
                frame.add(NotConstant(span=span, what="an asserted condition", reason=depends_on(value)))
            case Term() if value.type is Type.BOOL:
                pass
            case _:
                result = describe(value)
                frame.add(TypeMismatch(span=span, what="this", found=result, expected="a condition"))


def _check_lets(names: Names, frame: Frame) -> None:
    """Reports errors in `let`s that nothing uses. Warnings are given where a `let` is used."""
    for statement in names.lets:
        inside = replace(names.at(statement, frame), report=frame.report.trial())
        if isinstance(names.last.get(statement.name.id), Abbreviation):
            let_value(statement, inside, elaborate)
            frame.report.take(inside.report)


def _used(declared: Declared, expressions: list[Expression]) -> frozenset[str]:
    """The names of all coordinates that these expressions, coordinates and orders read."""
    every = list(expressions)
    for side in (declared.queries, declared.keys):
        every += (*side.sequence.computed, *side.sequence.sort_keys)
    return frozenset(each.name for each in reads(*every).coordinates)
