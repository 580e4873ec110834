"""Random relations over the coordinates of two small sides, and their plain meaning on all pairs."""

from dataclasses import dataclass

import numpy as np
from hypothesis import strategies as st

from maskdsl.analysis.tiles.descent import Problem
from maskdsl.analysis.tiles.interval_program import Column, compile_program
from maskdsl.analysis.tiles.separation import separate
from maskdsl.analysis.tiles.trees import Tree
from maskdsl.ir.expressions import Apply, Constant, Coordinate, Side, apply
from maskdsl.ir.facts.intervals import point
from maskdsl.ir.numpy_operators import apply_operator
from maskdsl.ir.ops import OF_INTEGERS, OPERATORS, Op, Type

NAMES = ("i", "y", "x", "c")
DIVISORS = st.sampled_from([-7, -3, -1, 1, 2, 5, 8]).map(Constant)
BLOCKS = st.sampled_from([1, 2, 3, 7, 8, 16, 17, 20, 33, 64, 128])


def of(side, name):
    return Coordinate(side, name)


def both(op, left, right=None):
    return st.builds(lambda *parts: apply(op, *parts), left, left if right is None else right)


def applied(op, operands):
    return st.tuples(*[operands] * OPERATORS[op].count).map(lambda parts: apply(op, *parts))


def integers(depth):
    """Expressions of int type."""
    leaves = st.one_of(
        st.integers(-6, 9).map(Constant), st.builds(of, st.sampled_from([Side.QUERY, Side.KEY]), st.sampled_from(NAMES))
    )
    if depth == 0:
        return leaves
    inner = integers(depth - 1)
    return st.one_of(
        leaves,
        *(both(op, inner) for op in (Op.ADD, Op.SUBTRACT, Op.MINIMUM, Op.MAXIMUM)),
        both(Op.MULTIPLY, inner, st.integers(-3, 3).map(Constant)),
        *(both(op, inner, DIVISORS) for op in (Op.FLOOR_DIVIDE, Op.FLOOR_MODULO)),
        both(Op.FLOOR_DIVIDE, inner, inner.map(lambda part: apply(Op.MINIMUM, part, Constant(-1)))),
        both(Op.FLOOR_MODULO, inner, inner.map(lambda part: apply(Op.MAXIMUM, part, Constant(1)))),
        *(inner.map(lambda part, op=op: apply(op, part)) for op in (Op.NEGATE, Op.ABSOLUTE)),
        *(applied(op, inner) for op in OF_INTEGERS[None] if op is not Op.RANDOM),
        both(Op.SUBTRACT, leaves).map(lambda part: apply(Op.POWER, part, Constant(2))),
        inner.map(lambda part: apply(Op.FLOOR_MODULO, apply(Op.RANDOM, Constant(3), part), Constant(9))),
        st.builds(lambda c, a, b: apply(Op.SELECT, c, a, b), booleans(depth - 1), inner, inner),
    )


def booleans(depth):
    """Relations."""
    numbers = integers(max(depth - 1, 0))
    comparisons = st.one_of(*(both(op, numbers) for op in (Op.EQUAL, Op.NOT_EQUAL, Op.LESS, Op.LESS_EQUAL)))
    if depth == 0:
        return comparisons
    inner = booleans(depth - 1)
    congruence = both(Op.FLOOR_MODULO, both(Op.SUBTRACT, numbers), DIVISORS)
    return st.one_of(
        comparisons,
        congruence.map(lambda part: apply(Op.EQUAL, part, Constant(0))),
        *(applied(op, numbers) for op in OF_INTEGERS[Type.BOOL]),
        inner.map(lambda part: apply(Op.NOT, part)),
        *(
            st.lists(inner, min_size=2, max_size=4).map(lambda parts, op=op: apply(op, *parts))
            for op in (Op.AND, Op.OR)
        ),
    )


@dataclass(frozen=True)
class Setting:
    """Coordinates of the tokens of one side, in laid-out order."""

    values: dict[str, np.ndarray]

    @property
    def length(self):
        return len(next(iter(self.values.values())))

    def column(self, expression):
        leaves = {}

        def leaf(node):
            match node:
                case Coordinate(side=side):
                    return Column(side, leaves.setdefault(node, len(leaves)))
            return None

        program = compile_program(expression, {}, leaf)
        names = [node.name for node in leaves]
        return program.run(lambda column: point(self.values[names[column.index]])).low


@st.composite
def settings(draw, longest=80):
    length, width = draw(st.integers(1, longest)), draw(st.integers(1, 12))
    i = np.arange(length)
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    values = {"i": i, "y": i // width, "x": i % width, "c": random.integers(-3, 4, length)}
    order = draw(st.sampled_from([i, np.lexsort((i, i % width // 2)), random.permutation(length)]))
    return Setting({name: column[order] for name, column in values.items()})


def problem(relation, query, key, block):
    separated = separate(relation, {})
    sides = (separated.query, query, block[0]), (separated.key, key, block[1])
    trees = [Tree.of(tuple(map(side.column, parts)), side.length, size) for parts, side, size in sides]
    return Problem.of(separated, *trees)


def dense(relation, query, key):
    """bool [queries, keys], without any of the analysis."""

    def value(node):
        match node:
            case Constant():
                return np.asarray(node.value)
            case Coordinate(side=Side.QUERY, name=name):
                return query.values[name][:, None]
            case Coordinate(name=name):
                return key.values[name][None, :]
            case Apply(op=op, arguments=parts):
                return apply_operator(op, *map(value, parts))

    return np.broadcast_to(value(relation), (query.length, key.length))


def dense_classes(attended, block):
    """int8 [query blocks, key blocks] by looking at every pair."""
    rows, columns = (range(0, length, size) for length, size in zip(attended.shape, block, strict=True))
    tiles = [[attended[row : row + block[0], column : column + block[1]] for column in columns] for row in rows]
    return np.array([[2 if tile.all() else int(tile.any()) for tile in row] for row in tiles], dtype=np.int8)
