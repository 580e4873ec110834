"""A pattern with branches as one mask: what they share, and the pairs that some branch attends."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Protocol, TypeVar

from maskdsl.ir.declared.sequences import Sequence as Tokens
from maskdsl.ir.expressions import FALSE, Constant, Expression, Read, apply, rebuild
from maskdsl.ir.mask import Clause, MaskIR, Normalize
from maskdsl.ir.ops import Op
from maskdsl.ir.routes import Routed, Scored
from maskdsl.ir.simplify import simplify


class _HasName(Protocol):
    @property
    def name(self) -> str: ...


_Item = TypeVar("_Item", bound=_HasName)


def with_branches(shared: MaskIR, branches: Sequence[MaskIR]) -> MaskIR:
    """The mask of these branches: its relation is their union, each branch one of its `attend` lines.

    `shared` says everything else, and the order of the inputs. Names mean the same in all branches.
    """
    queries, keys = (_tokens([each.sequences[side] for each in branches]) for side in shared.sequences)
    return replace(
        shared,
        queries=queries,
        keys=keys,
        inputs=_merged([shared.inputs, *(each.unmultiplied for each in branches)]),
        attend=tuple(Clause(each.relation, span=each.span, label=f"branch {each.branch}") for each in branches),
        require=(),
        relation=simplify(apply(Op.OR, FALSE, *(each.relation for each in branches))),
        scores=(),
        weight=None,
        factor=None,
        sinks=(),
        normalize=Normalize.BY_QUERY,
        scale=None,
        routed=_with_distinct_products(_merged(each.routed for each in branches)),
        products=(),
        pairs=(),
        key_value=None,
        values=(),
        branches=tuple(branches),
    )


def merged_weights(branches: Sequence[MaskIR]) -> tuple[tuple[MaskIR, ...], tuple[int, ...]]:
    """Masks with the same sum, each different attention once, and for each branch the number of its mask.

    The sum of equal attentions of different weights is one attention of the sum of their weights.
    """
    bare = [replace(each, weight=None, factor=None, branch="", inputs=(), unread=()) for each in branches]
    numbers = {each: number for number, each in enumerate(dict.fromkeys(bare))}
    of_branch = tuple(numbers[each] for each in bare)
    groups = ([each for each, other in zip(branches, of_branch, strict=True) if other == n] for n in numbers.values())
    return tuple(map(_as_one, groups)), of_branch


def _as_one(alike: Sequence[MaskIR]) -> MaskIR:
    """The sum of masks that differ in their weights: of weights of the query alone where no others differ."""
    first = alike[0]
    if len(alike) == 1:
        return first
    inputs = _merged([*(each.given for each in alike), *(each.passed for each in alike), first.inputs])
    factors = [Constant(1.0) if each.factor is None else each.factor for each in alike]
    if all(each.weight == first.weight for each in alike):
        return replace(first, factor=simplify(apply(Op.ADD, *factors)), inputs=inputs)
    weights = [Constant(1.0) if each.weight is None else each.weight for each in alike]
    products = (apply(Op.MULTIPLY, *each) for each in zip(weights, factors, strict=True))
    return replace(first, weight=simplify(apply(Op.ADD, *products)), factor=None, inputs=inputs)


def _tokens(sequences: Sequence[Tokens]) -> Tokens:
    """A sequence with the coordinates of all of these, which differ in nothing else."""
    return replace(sequences[0], coordinates=_merged(each.coordinates for each in sequences))


def _merged(of_branches: Iterable[Sequence[_Item]]) -> tuple[_Item, ...]:
    """Each item once, by its name, in the order of its first appearance."""
    named: dict[str, _Item] = {}
    for items in of_branches:
        for each in items:
            named.setdefault(each.name, each)
    return tuple(named.values())


def _with_distinct_products(routed: Sequence[Routed]) -> tuple[Routed, ...]:
    """The routes with names for their dot products that are different for different products."""
    names: dict[tuple[object, ...], str] = {}

    def named(route: Routed) -> Routed:
        if not isinstance(route, Scored):
            return route
        new: dict[str, str] = {}
        for each in route.products:
            key = each.left, each.right, each.queries, each.keys
            new[each.name] = names.setdefault(key, f"product {len(names)}")

        def renamed(node: Expression) -> Expression | None:
            return replace(node, input=new[node.input]) if isinstance(node, Read) and node.input in new else None

        renaming = route.mapped(lambda expression: rebuild(expression, renamed))
        return replace(renaming, products=tuple(replace(each, name=new[each.name]) for each in renaming.products))

    return tuple(map(named, routed))
