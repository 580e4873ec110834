"""The invariants of a mask. Checked after `bind`, and in tests after every rewrite; a violation is a compiler bug."""

from dataclasses import replace
from typing import assert_never

from maskdsl.ir.declared.inputs import Dimension, DimensionKind, Input
from maskdsl.ir.declared.sequences import Along, Computed, Given, PoolBoxes, PoolGroups, Sequence, Shuffled, Space
from maskdsl.ir.expressions import (
    PAIR,
    Apply,
    Batch,
    Constant,
    Coordinate,
    Expression,
    Head,
    InSpace,
    Read,
    Score,
    Side,
    walk,
)
from maskdsl.ir.mask import MaskIR
from maskdsl.ir.ops import OPERATORS, Op, Type
from maskdsl.ir.routes import Balanced, Draw, Nearest, Pools, Rank, Route, Routed, route_expressions
from maskdsl.ir.values.group_scores import GROUP, GroupScores, Product
from maskdsl.ir.values.token_vectors import (
    OfGroup,
    OfToken,
    OfValue,
    TableRow,
    Vector,
    VectorProduct,
    vector_expressions,
    vector_leaves,
)

_TOKEN = (Side.TOKEN,)


def verify(mask: MaskIR) -> None:
    """Raises `AssertionError` with the offending node if a mask is malformed."""
    for branch in mask.branches:
        assert branch.branch and not branch.branches, branch.branch
        assert branch.heads == mask.heads and branch.self_attention == mask.self_attention, branch.branch
        verify(branch)
    assert not (mask.branches and (mask.pair_values or mask.query_values)), "a mask with branches changes no scores"
    if mask.self_attention:
        assert mask.queries == mask.keys, "self-attention with two sequences"
    assert mask.heads >= 1
    for sequence in (mask.queries, mask.keys):
        _verify_sequence(mask, sequence)
    for routed in mask.routed:
        _verify_routed(mask, routed)
    for product in mask.products:
        _verify_product(mask, product)
    for pair in mask.pairs:
        for vector, side in ((pair.query, Side.QUERY), (pair.key, Side.KEY)):
            _verify_vector(mask, vector, side)
    if mask.key_value is not None:
        _verify_vector(mask, mask.key_value, Side.KEY)
    for term in mask.values:
        declared = mask.input(term.name)
        assert declared is not None and len(declared.dimensions) == len(term.indices), term
        _expression(mask, term.weight, PAIR, Type.FLOAT)
        _verify_vector(mask, term.vector, Side.QUERY)
    _expression(mask, mask.relation, PAIR, Type.BOOL)
    for clause in (*mask.attend, *mask.require):
        _expression(mask, clause.relation, PAIR, Type.BOOL)
    for score in mask.scores:
        _expression(mask, score, PAIR, Type.FLOAT, score=True)
    for value in (mask.weight, mask.scale):
        if value is not None:
            _expression(mask, value, PAIR, Type.FLOAT)
    for value in mask.query_values:
        _expression(mask, value, (Side.QUERY,), Type.FLOAT)
    assert mask.has_sums or not mask.sinks, "sinks where there is no softmax by query"


def _verify_routed(mask: MaskIR, routed: Routed) -> None:
    assert mask.input(routed.name) is not None, routed
    match routed:
        case (
            Route(products=products, queries=queries, keys=keys)
            | GroupScores(products=products, queries=queries, keys=keys)
        ):
            assert queries.count >= 1 and keys.count >= 1, routed
            whole = replace(mask, inputs=(*mask.inputs, *(_product(each) for each in products)))
            _expression(whole, routed.score, PAIR, Type.FLOAT)
            for expression in set(route_expressions(routed)) - {routed.score}:
                _expression(mask, expression, PAIR, expression.type)
        case Rank(keys=keys):
            for key in keys:
                _expression(mask, key, _TOKEN, key.type)
        case Nearest(centroids=name) | Balanced(centroids=name):
            assert mask.input(name) is not None, routed
        case Draw(count=count, numbers=numbers, candidates=candidates):
            for number in (count, *numbers):
                _expression(mask, number, (), Type.INT)
            _expression(mask, candidates, PAIR, Type.BOOL)
        case Pools(side=side, space=name):
            pooled = mask.sequences[side].space(name)
            assert pooled is not None and pooled.groupings, routed
        case _:
            assert_never(routed)


def _verify_product(mask: MaskIR, product: VectorProduct) -> None:
    declared = mask.input(product.name)
    assert declared is not None and len(declared.dimensions) == len(product.indices), product
    sizes = [each.size for each in declared.dimensions][len(product.indices) - len(product.windows) :]
    assert sizes == [each.count for each in product.windows], product
    for vector in (product.left, product.right):
        _verify_vector(mask, vector, product.per)
    for window in product.windows:
        _expression(mask, window.index, PAIR, Type.INT)


def _verify_vector(mask: MaskIR, vector: Vector, side: Side | None) -> None:
    """What a vector reads of tokens is of one side, but for the indices of windows."""
    sides = () if side is None else (side,)
    for expression in vector_expressions(vector):
        _expression(mask, expression, sides, expression.type)
    for leaf in vector_leaves(vector):
        match leaf:
            case OfToken(side=of) | OfGroup(side=of):
                assert of is side, vector
            case OfValue():
                assert side is Side.KEY, vector
            case TableRow(input=name, indices=indices):
                declared = mask.input(name)
                assert declared is not None and len(declared.dimensions) == len(indices) + 1, vector


def _verify_sequence(mask: MaskIR, sequence: Sequence) -> None:
    assert sequence.spaces
    names = [space.name for space in sequence.spaces]
    assert len(set(names)) == len(names), names
    assert all(axis.length >= 0 for space in sequence.spaces for axis in space.axes)
    for pooled in sequence.spaces:
        _pooling(mask, pooled)
    assert len(sequence.order) in (0, len(sequence.spaces)), sequence.order
    _verify_coordinates(mask, sequence)
    for keys in sequence.order:
        for key in keys:
            _expression(mask, key, _TOKEN, key.type)


def _verify_coordinates(mask: MaskIR, sequence: Sequence) -> None:
    for definition in sequence.coordinates:
        for name, source in definition.sources:
            space = sequence.space(name)
            assert space is not None, definition
            match source:
                case Computed(value=value):
                    _expression(mask, value, _TOKEN, definition.type)
                case Along(axes=axes):
                    assert all(space.axis(axis) is not None for axis in axes), definition
                case Shuffled(of=of):
                    assert of == "i" or space.axis(of) is not None, definition
                case Given(input=given):
                    declared = mask.input(given)
                    assert declared is not None and declared.is_coordinate, definition
                case _:
                    assert_never(source)


def _pooling(mask: MaskIR, space: Space) -> None:
    if space.pooling is None:
        return
    source = space.pooling.source
    match space.pooling.pools:
        case PoolBoxes(sides=box):
            sizes = list(zip(source.lengths, box, strict=True))
            assert all(1 <= side <= max(length, 1) for length, side in sizes), space
            assert space.lengths == tuple(-(-length // side) for length, side in sizes), space
        case PoolGroups(by=by, tokens=tokens):
            assert tokens.spaces == (source,) and tokens.has(source, by), space
            assert len(space.axes) == 1, space
            _verify_coordinates(mask, tokens)
        case other:
            assert_never(other)
    _pooling(mask, source)


def _expression(mask: MaskIR, whole: Expression, sides: tuple[Side, ...], kind: Type, score: bool = False) -> None:
    assert whole.type is kind, (whole, kind)
    for node in walk(whole):
        match node:
            case Constant() | Head() | Batch():
                pass
            case Coordinate(side=side, name=name):
                assert side in sides, node
                assert _known(mask, side, name), node
            case InSpace(side=side, space=space):
                assert side in sides, node
                assert any(each.space(space) is not None for each in _sequences(mask, side)), node
            case Score():
                assert score, "a score outside scores"
            case Read(input=name, indices=indices):
                declared = mask.input(name)
                assert declared is not None and len(indices) == len(declared.dimensions), node
                assert all(index.type is Type.INT for index in indices), node
            case Apply():
                _operator(node)
            case _:
                assert_never(node)


def _product(product: Product) -> Input:
    """The table of a dot product, with a dimension for the groups of each side."""
    groups = Dimension(DimensionKind.FREE, None, "groups")
    return Input(product.name, Type.FLOAT, (groups,) * len(product.groupings))


def _known(mask: MaskIR, side: Side, name: str) -> bool:
    return name in ("i", GROUP) or any(
        sequence.definition(name) is not None or any(space.axis(name) is not None for space in sequence.spaces)
        for sequence in _sequences(mask, side)
    )


def _sequences(mask: MaskIR, side: Side) -> tuple[Sequence, ...]:
    """The sequences that a token of this side may belong to: TOKEN may be of either, or one that is pooled."""
    if side is not Side.TOKEN:
        return (mask.sequences[side],)
    return (*mask.sequences.values(), *(groups.tokens for _, groups in mask.groupings))


def _operator(node: Apply) -> None:
    operator = OPERATORS[node.op]
    types = [argument.type for argument in node.arguments]
    assert len(types) == operator.count or (operator.variadic and len(types) > operator.count), node
    if node.op is Op.SELECT:
        assert types.pop(0) is Type.BOOL, node
    assert len(set(types)) == 1 and types[0] in operator.types, node
    assert node.op is not Op.POWER or isinstance(node.arguments[1], Constant), node
