"""What routes may find, before there are queries and keys: bounds of a mask that find nothing.

One attends every pair that some call could attend, the other those that every call does.
"""

from collections.abc import Callable
from dataclasses import replace

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
from maskdsl.ir.mask import Clause, MaskIR, Sequence
from maskdsl.ir.ops import Op
from maskdsl.ir.routes import GROUP, Rank, Route
from maskdsl.ir.simplify import simplify


def selects(mask: MaskIR) -> bool:
    """Whether pairs are found in queries and keys."""
    return any(not isinstance(each, Rank) for each in mask.routed)


def most(mask: MaskIR) -> MaskIR:
    """All pairs that a call may attend."""
    return _bound(mask, True)


def least(mask: MaskIR) -> MaskIR:
    """The pairs that every call attends."""
    return _bound(mask, False)


def unscored(mask: MaskIR) -> MaskIR:
    """With the same candidates and numbers of selected groups, and scores that read nothing."""
    found = (
        replace(each, score=Constant(0.0), products=()) if isinstance(each, Route) else each for each in mask.routed
    )
    return replace(mask, routed=tuple(found))


def with_all(mask: MaskIR, route: Route) -> MaskIR:
    """As if one route selected all of its candidates."""

    def replaced(node: Expression) -> Expression | None:
        match node:
            case Read(input=name, indices=(*_, key)) if name == route.name:
                return substitute(route.candidates, {Coordinate(Side.KEY, GROUP): key})
            case _:
                return None

    return replace(mask, relation=rebuild(mask.relation, replaced))


def monotone(mask: MaskIR) -> bool:
    """Whether a pair that attends does so whatever else is selected: nothing denies what is found."""
    bounds = CandidateBounds.of(mask)

    def only_adds(relation: Expression) -> bool:
        match relation:
            case _ if not bounds.depends(relation):
                return True
            case Apply(op=Op.AND | Op.OR, arguments=parts):
                return all(map(only_adds, parts))
            case Apply(op=Op.SELECT, arguments=(condition, *parts)):
                return not bounds.depends(condition) and all(map(only_adds, parts))
            case Read():
                return True
            case Apply(op=Op.EQUAL | Op.SHARE_BIT, arguments=parts):
                return all(isinstance(part, Coordinate) for part in parts)
            case _:
                return False

    return only_adds(mask.relation)


def _bound(mask: MaskIR, widest: bool) -> MaskIR:
    kept = tuple(each for each in mask.routed if isinstance(each, Rank))
    bounds = CandidateBounds.of(mask)
    gone = bounds.gone

    def known(value: Expression | None) -> Expression | None:
        """What pairs are worth, where nothing that is gone says so: it does not decide which attend."""
        return None if value is None or bounds.depends(value) else value

    def clauses(of: tuple[Clause, ...]) -> tuple[Clause, ...]:
        return tuple(Clause(bounds.bound(each.relation, widest), span=each.span) for each in of)

    return replace(
        mask,
        routed=kept,
        inputs=tuple(each for each in mask.inputs if each.name not in gone),
        queries=bounds.without(mask.queries),
        keys=bounds.without(mask.keys),
        attend=clauses(mask.attend),
        require=clauses(mask.require),
        relation=simplify(bounds.bound(mask.relation, widest)),
        scores=tuple(each for each in map(known, mask.scores) if each is not None),
        weight=known(mask.weight),
        scale=known(mask.scale),
    )


class CandidateBounds:
    """Expressions without the inputs that are `gone`."""

    def __init__(self, mask: MaskIR, gone: frozenset[str]) -> None:
        self.mask = mask
        self.gone = gone
        self.routes = {each.name: each for each in mask.routed if isinstance(each, Route)}

    @staticmethod
    def of(mask: MaskIR) -> "CandidateBounds":
        """Of what is found in queries and keys."""
        return CandidateBounds(mask, frozenset(each.name for each in mask.routed if not isinstance(each, Rank)))

    def without(self, sequence: Sequence) -> Sequence:
        """The tokens without coordinates that are not there, and in declared order where these decide it."""
        lost = [each for each in sequence.coordinates if self.reads_gone(sequence, Coordinate(Side.TOKEN, each.name))]
        order = tuple(() if any(self.reads_gone(sequence, key) for key in keys) else keys for keys in sequence.order)
        return replace(
            sequence, coordinates=tuple(each for each in sequence.coordinates if each not in lost), order=order
        )

    def reads_gone(self, sequence: Sequence, expression: Expression) -> bool:
        return not self.gone.isdisjoint(trace(sequence, [expression]).inputs)

    def depends(self, relation: Expression) -> bool:
        return not self.gone.isdisjoint(pair_trace(self.mask, [relation]).inputs)

    def bound(self, relation: Expression, widest: bool) -> Expression:
        """A relation that this one implies (`widest`), or that implies it."""
        return bounded(relation, widest, self.depends, self.candidates)

    def candidates(self, read: Read) -> Expression | None:
        """Of a table that a route finds: what it selects from."""
        route = self.routes.get(read.input)
        return None if route is None else substitute(route.candidates, {Coordinate(Side.KEY, GROUP): read.indices[-1]})


def bounded(
    relation: Expression,
    widest: bool,
    depends: Callable[[Expression], bool],
    found: Callable[[Read], Expression | None] = lambda read: None,
) -> Expression:
    """A relation that this one implies (`widest`), or that implies it, without what `depends` on what is not known.

    `found` has what the elements of a table that routes find imply.
    """

    def bound(part: Expression, widest: bool) -> Expression:
        if not depends(part):
            return part
        match part:
            case Apply(op=Op.AND | Op.OR as op, arguments=parts):
                return apply(op, *(bound(each, widest) for each in parts), span=part.span)
            case Apply(op=Op.NOT, arguments=(inner,)):
                return apply(Op.NOT, bound(inner, not widest), span=part.span)
            case Apply(op=Op.SELECT, arguments=(condition, *parts)) if not depends(condition):
                return apply(Op.SELECT, condition, *(bound(each, widest) for each in parts), span=part.span)
            case Read() if widest and (implied := found(part)) is not None:
                return bound(implied, widest)
            case _:
                return TRUE if widest else FALSE

    return bound(relation, widest)
