"""Finds a pair of groups whose key group reads a token that the query group may not depend on.

By the descent that finds tiles, over groups in place of tokens: no work on all pairs.
"""

import numpy as np

from maskdsl.analysis.causal.token_reads import TokenReads
from maskdsl.analysis.tiles.head_classes import HeadClass, problems
from maskdsl.analysis.tiles.tile_classes import classify
from maskdsl.base.records import dataclass
from maskdsl.ir.declared.inputs import Dimension, DimensionKind, Input
from maskdsl.ir.declared.sequences import Axis, CoordinateDefinition, Given, Sequence, Space
from maskdsl.ir.expressions import (
    FALSE,
    PAIR,
    Batch,
    Constant,
    Coordinate,
    Expression,
    Head,
    InSpace,
    Leaf,
    Read,
    Side,
    apply,
    rebuild,
    walk,
)
from maskdsl.ir.facts.reads import reads
from maskdsl.ir.facts.route_candidates import CandidateBounds, bounded
from maskdsl.ir.mask import MaskIR
from maskdsl.ir.numpy_operators import evaluate
from maskdsl.ir.ops import Array, Op, Type
from maskdsl.ir.simplify import simplify
from maskdsl.ir.values.group_scores import GROUP, Grouping

_BLOCK = 16
Level = tuple[Grouping, Grouping]
_Columns = dict[tuple[Side, str], Array]
"""Values of the groups of a side, by the name of a coordinate."""
_TYPES = {"i": Type.INT, "f": Type.FLOAT, "b": Type.BOOL}
_LIMIT, _LAST, _EXISTS = "(limit)", "(last)", "(exists)"


@dataclass(frozen=True, eq=False)
class GroupPairs:
    """The pairs of groups of one level for which a relation holds, or may hold where inputs decide."""

    tokens: TokenReads
    level: Level
    relation: Expression

    def beyond(self, limits: Array, lasts: Array) -> tuple[int, int] | None:
        """Query group and key group of a pair with a limit below the last token of its keys; None if there is none."""
        if not (lasts.size and limits.size) or lasts.max() <= limits.min():
            return None
        columns: _Columns = {(Side.QUERY, _LIMIT): limits, (Side.KEY, _LAST): lasts}
        for side, grouping in zip(PAIR, self.level, strict=True):
            columns[side, _EXISTS] = self.tokens.search.exists(side, grouping)
        relation = apply(
            Op.AND,
            rebuild(
                bounded(self.relation, True, self._unknown, self._implied), lambda node: self._column(node, columns)
            ),
            apply(Op.LESS, Coordinate(Side.QUERY, _LIMIT), Coordinate(Side.KEY, _LAST)),
            *(Coordinate(side, _EXISTS, Type.BOOL) for side in PAIR),
        )
        return _pair(simplify(relation), columns)

    @property
    def is_certain(self) -> bool:
        """Whether the relation reads nothing that only calls know."""
        return not any(map(self._unknown, walk(self.relation)))

    def _implied(self, read: Read) -> Expression | None:
        return CandidateBounds.of(self.tokens.mask).candidates(read)

    def _unknown(self, node: Expression) -> bool:
        read = reads(node)
        return bool(read.inputs) or any(
            each.name != GROUP and not self._is_number(each) and not self.tokens.is_known(each.side, each.name)
            for each in read.coordinates
        )

    def _is_number(self, coordinate: Coordinate) -> bool:
        return self.level[coordinate.side is Side.KEY].by == coordinate.name

    def _column(self, node: Expression, columns: _Columns) -> Expression | None:
        """What stands for a leaf: a column of values of the groups, or a constant."""
        match node:
            case Head():
                return Constant(self.tokens.head)
            case Batch():
                return Constant(self.tokens.batch)
            case Coordinate(side=side, name=name, type=kind):
                grouping = self.level[side is Side.KEY]
                if name == GROUP or self._is_number(node):
                    values = np.arange(grouping.count)
                else:
                    values = self._of_tokens(self.tokens.coordinates[side].values(name), side, grouping)
                columns[side, f"{name} "] = values
                return Coordinate(side, f"{name} ", kind)
            case InSpace(side=side, space=space):
                grouping = self.level[side is Side.KEY]
                member = self.tokens.coordinates[side].member(space)
                columns[side, f"in {space} "] = self._of_tokens(member, side, grouping)
                return Coordinate(side, f"in {space} ", Type.BOOL)
            case _:
                return None

    def _of_tokens(self, values: Array, side: Side, grouping: Grouping) -> Array:
        return self.tokens.first(values, side, grouping)


def _pair(relation: Expression, columns: _Columns) -> tuple[int, int] | None:
    """A pair for which a relation over columns holds, in the first row of tiles that has one."""
    if relation == FALSE:
        return None
    mask = _mask_of(columns, relation)
    (problem,) = problems(mask, (HeadClass(relation, 0, 0),), (_BLOCK, _BLOCK), _arrays(columns))
    tile_map = classify(problem)
    tiles = [(int(runs.row[0]), int(runs.start[0])) for runs in (tile_map.full, tile_map.partial) if len(runs.row)]
    return _first_of_tile(relation, columns, *min(tiles)) if tiles else None


def _first_of_tile(relation: Expression, columns: _Columns, row: int, column: int) -> tuple[int, int]:
    """The first pair of a tile for which the relation holds."""
    begin = row * _BLOCK, column * _BLOCK

    def leaf(node: Leaf) -> Array:
        assert isinstance(node, Coordinate)
        values = columns[node.side, node.name]
        if node.side is Side.QUERY:
            return values[begin[0] : begin[0] + _BLOCK, None]
        return values[None, begin[1] : begin[1] + _BLOCK]

    query, key = np.argwhere(evaluate(relation, leaf, {}))[0]
    return begin[0] + int(query), begin[1] + int(key)


def _arrays(columns: _Columns) -> dict[str, Array]:
    return {f"{side}.{name}": values for (side, name), values in columns.items()}


def _mask_of(columns: _Columns, relation: Expression) -> MaskIR:
    """A mask over the groups, whose coordinates are columns."""
    sequences: list[Sequence] = []
    inputs: list[Input] = []
    for side in PAIR:
        of_side = {name: values for (of, name), values in columns.items() if of is side}
        length, space = len(of_side[_EXISTS]), side.plural
        types = {name: _TYPES[values.dtype.kind] for name, values in of_side.items()}
        definitions = (
            CoordinateDefinition(name, kind, ((space, Given(f"{side}.{name}")),)) for name, kind in types.items()
        )
        sequences.append(Sequence((Space(space, (Axis(space, length),)),), tuple(definitions)))
        tokens = Dimension(DimensionKind.TOKENS, length, space)
        inputs += (Input(f"{side}.{name}", kind, (tokens,)) for name, kind in types.items())
    return MaskIR(
        name="groups",
        parameters=(),
        heads=1,
        queries=sequences[0],
        keys=sequences[1],
        self_attention=False,
        inputs=tuple(inputs),
        attend=(),
        require=(),
        relation=relation,
    )
