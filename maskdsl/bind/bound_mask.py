"""Binds the lines of a pattern, one kind after the other, and puts them together as a `MaskIR`."""

from collections.abc import Iterator
from dataclasses import replace

from maskdsl.base.records import dataclass
from maskdsl.bind.bound_heads import check_pools
from maskdsl.bind.context.frame import Declared, Frame
from maskdsl.bind.context.guards import assuming
from maskdsl.bind.expression.elaborate import elaborate
from maskdsl.bind.line_checks import causal_claims, check_asserts, check_lets
from maskdsl.bind.relation_lines import BoundRelations, bound_relations, with_guards
from maskdsl.bind.score_lines import BoundProbabilities, bound_probabilities, weight_and_factor
from maskdsl.bind.statement.coord_statements import auto_spaces, with_hidden, with_order
from maskdsl.bind.statement.pool_groups import check_sources
from maskdsl.bind.statement.pool_members import without_unread
from maskdsl.bind.statement.score_products import product_input
from maskdsl.bind.statement.unread_inputs import unread_inputs
from maskdsl.bind.statement.value_statements import BoundValues, bound_values
from maskdsl.bind.token_declarations import with_inputs_and_coordinates, with_routes
from maskdsl.bind.visible_names import Names
from maskdsl.ir.expressions import Expression
from maskdsl.ir.facts.reads import reads
from maskdsl.ir.mask import MaskIR
from maskdsl.ir.simplify import simplify
from maskdsl.ir.values.token_vectors import vector_expressions
from maskdsl.syntax import tree


@dataclass(frozen=True)
class _BoundLines:
    """What the lines of a pattern say, once none of them is wrong."""

    relations: BoundRelations
    probabilities: BoundProbabilities
    weight: Expression | None
    factor: Expression | None
    values: BoundValues

    def expressions(self) -> Iterator[Expression]:
        """Yields the expressions of all lines. What they read stays declared."""
        yield from (each.relation for each in (*self.relations.attend, *self.relations.require))
        scored = self.probabilities.scored
        yield from scored.scores
        yield from (each for each in (self.weight, self.factor, scored.scale) if each is not None)
        yield from self.probabilities.sinks
        yield from (each.weight for each in self.values.values)
        for vector in (*scored.vectors, *self.values.vectors):
            yield from vector_expressions(vector)


def bound_mask(
    declaration: tree.PatternDeclaration, names: Names, frame: Frame, orders: tuple[tree.Statement, ...]
) -> MaskIR:
    """Binds everything after the spaces. Wrong expressions are left out; the report has their errors."""
    unread = unread_inputs(declaration, orders)
    frame = with_inputs_and_coordinates(declaration, names, frame, unread)
    check_sources(frame)
    frame = with_routes(declaration, names, frame)
    relations = bound_relations(declaration, names, frame)
    attending = assuming(frame, relations.whole)
    probabilities = bound_probabilities(declaration, names, attending)
    values = _values(declaration, names, attending)
    frame = _with_orders(orders, names, frame)
    auto = auto_spaces([each for each in orders if isinstance(each, tree.AutoOrderStatement)], frame)
    check_asserts(declaration, names, frame)
    claims = tuple(causal_claims(declaration, frame))
    check_lets(names, attending)
    check_pools(frame)
    frame.report.check()
    weight, factor = weight_and_factor(probabilities.weights, frame)
    lines = _BoundLines(with_guards(relations, frame.declared), probabilities, weight, factor, values)
    return replace(_put_together(declaration, frame.declared, lines), auto=auto, unread=unread, claims=claims)


def _values(declaration: tree.PatternDeclaration, names: Names, frame: Frame) -> BoundValues:
    lines = [each for each in declaration.statements if isinstance(each, tree.ValueStatement)]
    return bound_values(lines, names.at(lines[0], frame) if lines else frame, elaborate)


def _with_orders(orders: tuple[tree.Statement, ...], names: Names, frame: Frame) -> Frame:
    for order in orders:
        if isinstance(order, tree.OrderStatement):
            frame = replace(frame, declared=with_order(order, names.at(order, frame), elaborate))
    return frame


def _put_together(declaration: tree.PatternDeclaration, declared: Declared, lines: _BoundLines) -> MaskIR:
    """The mask of these lines, with those of the declarations that it needs."""
    expressions = [*lines.expressions()]
    declared = without_unread(declared, expressions)
    declared = with_hidden(declared, _used(declared, expressions))
    scored, values = lines.probabilities.scored, lines.values
    tables = (*(product_input(each, declared) for each in scored.products), *values.inputs(declared))
    return MaskIR(
        name=declaration.name.id,
        parameters=(),
        heads=declared.heads.count,
        queries=declared.queries.sequence,
        keys=declared.keys.sequence,
        self_attention=declared.self_attention,
        inputs=(*declared.inputs, *tables),
        attend=lines.relations.attend,
        require=lines.relations.require,
        relation=simplify(lines.relations.expression),
        scores=scored.scores,
        weight=lines.weight,
        factor=lines.factor,
        sinks=lines.probabilities.sinks,
        normalize=lines.probabilities.normalize,
        scale=scored.scale,
        routed=declared.routed,
        products=scored.products,
        pairs=scored.pairs,
        key_value=values.key_value,
        values=values.values,
        doc=declaration.doc,
        span=declaration.name.span,
    )


def _used(declared: Declared, expressions: list[Expression]) -> frozenset[str]:
    """The names of all coordinates that these expressions, coordinates and orders read."""
    every = list(expressions)
    for side in (declared.queries, declared.keys):
        every += (*side.sequence.computed, *side.sequence.sort_keys)
    return frozenset(each.name for each in reads(*every).coordinates)
