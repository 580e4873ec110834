"""Bounds of a routed mask before there are queries and keys: masks without routes that imply it, or that it implies.

`most` attends every pair that some call may attend, `least` the pairs that every call attends.
"""

from collections.abc import Callable
from dataclasses import replace

from maskdsl.ir.declared.sequences import Sequence
from maskdsl.ir.expressions import (
    FALSE,
    TRUE,
    Apply,
    Constant,
    Coordinate,
    Expression,
    Read,
    Side,
    apply,
    rebuild,
    substitute,
)
from maskdsl.ir.facts.trace import pair_trace, trace
from maskdsl.ir.mask import Clause, MaskIR
from maskdsl.ir.ops import Op
from maskdsl.ir.routes import OfInputs, Route
from maskdsl.ir.simplify import simplify
from maskdsl.ir.values.group_scores import GROUP, GroupScores


def selects(mask: MaskIR) -> bool:
    """Whether attending pairs depend on the vectors of queries and keys."""
    return any(not isinstance(each, OfInputs) for each in mask.routed)


def most(mask: MaskIR) -> MaskIR:
    """The mask of all pairs that some call may attend."""
    return _bound(mask, True)


def least(mask: MaskIR) -> MaskIR:
    """The mask of the pairs that every call attends."""
    return _bound(mask, False)


def unscored(mask: MaskIR) -> MaskIR:
    """The mask with constant route scores: the same candidates and counts, and no dot products."""
    tables = {each.name for each in mask.routed if isinstance(each, GroupScores)}
    routed = (
        replace(each, score=Constant(0.0), products=()) if isinstance(each, Route) else each
        for each in mask.routed
        if each.name not in tables
    )
    inputs = tuple(each for each in mask.inputs if each.name not in tables)
    return replace(mask, routed=tuple(routed), inputs=inputs, branches=tuple(map(unscored, mask.branches)))


def with_all(mask: MaskIR, route: Route) -> MaskIR:
    """The mask in which `route` selects all of its candidates."""

    def replaced(node: Expression) -> Expression | None:
        match node:
            case Read(input=name, indices=(*_, key)) if name == route.name:
                return substitute(possible(route), {Coordinate(Side.KEY, GROUP): key})
            case _:
                return None

    return replace(mask, relation=rebuild(mask.relation, replaced))


def possible(route: Route) -> Expression:
    """The pairs of groups that a route may select."""
    return route.candidates if route.always == FALSE else apply(Op.OR, route.candidates, route.always)


def monotone(mask: MaskIR) -> bool:
    """Whether selecting more groups never removes a pair: no selection is negated."""
    bounds = CandidateBounds.of(mask)

    def only_adds(relation: Expression) -> bool:
        match relation:
            case _ if not bounds.depends(relation):
                return True
            case Apply(op=Op.AND | Op.OR, arguments=operands):
                return all(map(only_adds, operands))
            case Apply(op=Op.SELECT, arguments=(condition, *branches)):
                return not bounds.depends(condition) and all(map(only_adds, branches))
            case Read():
                return True
            case Apply(op=Op.EQUAL | Op.SHARE_BIT, arguments=operands):
                return all(isinstance(each, Coordinate) for each in operands)
            case _:
                return False

    return only_adds(mask.relation)


def _bound(mask: MaskIR, widest: bool) -> MaskIR:
    kept = tuple(each for each in mask.routed if isinstance(each, OfInputs))
    bounds = CandidateBounds.of(mask)

    def known(value: Expression | None) -> Expression | None:
        """A score, weight or scale, if no removed input decides it. It does not decide which pairs attend."""
        return None if value is None or bounds.depends(value) else value

    def clauses(of: tuple[Clause, ...]) -> tuple[Clause, ...]:
        return tuple(replace(each, relation=bounds.bound(each.relation, widest)) for each in of)

    return replace(
        mask,
        routed=kept,
        inputs=tuple(each for each in mask.inputs if each.name not in bounds.removed),
        queries=bounds.without(mask.queries),
        keys=bounds.without(mask.keys),
        attend=clauses(mask.attend),
        require=clauses(mask.require),
        relation=simplify(bounds.bound(mask.relation, widest)),
        scores=tuple(each for each in map(known, mask.scores) if each is not None),
        branches=tuple(_bound(each, widest) for each in mask.branches),
        weight=known(mask.weight),
        factor=known(mask.factor),
        sinks=tuple(each for each in map(known, mask.sinks) if each is not None),
        scale=known(mask.scale),
    )


class CandidateBounds:
    """Rewrites expressions so that they read none of the inputs `removed`."""

    def __init__(self, mask: MaskIR, removed: frozenset[str]) -> None:
        self.mask = mask
        self.removed = removed
        self.routes = {each.name: each for each in mask.routed if isinstance(each, Route)}

    @staticmethod
    def of(mask: MaskIR) -> "CandidateBounds":
        """Removes the inputs that are computed from the vectors of queries and keys."""
        return CandidateBounds(mask, frozenset(each.name for each in mask.routed if not isinstance(each, OfInputs)))

    def without(self, sequence: Sequence) -> Sequence:
        """The sequence without removed coordinates; a space whose sort keys read them is in declared order."""
        kept = (
            each for each in sequence.coordinates if not self.reads_removed(sequence, Coordinate(Side.TOKEN, each.name))
        )
        order = tuple(() if any(self.reads_removed(sequence, key) for key in keys) else keys for keys in sequence.order)
        return replace(sequence, coordinates=tuple(kept), order=order)

    def reads_removed(self, sequence: Sequence, expression: Expression) -> bool:
        """Whether an expression over a token depends on a removed input."""
        return not self.removed.isdisjoint(trace(sequence, [expression]).inputs)

    def depends(self, relation: Expression) -> bool:
        """Whether an expression over a pair depends on a removed input."""
        return not self.removed.isdisjoint(pair_trace(self.mask, [relation]).inputs)

    def bound(self, relation: Expression, widest: bool) -> Expression:
        """A relation without removed inputs: one that this one implies (`widest`), or one that implies it."""
        return bounded(relation, widest, self.depends, self.candidates)

    def candidates(self, read: Read) -> Expression | None:
        """The condition that an element of a route's table implies: its candidates. None for other tables."""
        route = self.routes.get(read.input)
        return None if route is None else substitute(possible(route), {Coordinate(Side.KEY, GROUP): read.indices[-1]})


def bounded(
    relation: Expression,
    widest: bool,
    depends: Callable[[Expression], bool],
    implication: Callable[[Read], Expression | None] = lambda read: None,
) -> Expression:
    """A relation that this one implies (`widest`), or that implies it, without the subexpressions that `depends` names.

    `implication` gives a condition that a table element implies, or None.
    """

    def bound(node: Expression, widest: bool) -> Expression:
        if not depends(node):
            return node
        match node:
            case Apply(op=Op.AND | Op.OR as op, arguments=operands):
                return apply(op, *(bound(each, widest) for each in operands), span=node.span)
            case Apply(op=Op.NOT, arguments=(inner,)):
                return apply(Op.NOT, bound(inner, not widest), span=node.span)
            case Apply(op=Op.SELECT, arguments=(condition, *branches)) if not depends(condition):
                return apply(Op.SELECT, condition, *(bound(each, widest) for each in branches), span=node.span)
            case Read() if widest and (implied := implication(node)) is not None:
                return bound(implied, widest)
            case _:
                return TRUE if widest else FALSE

    return bound(relation, widest)
