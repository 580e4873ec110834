"""The float inputs that scores, weights and the scale read, with the names of their gradients in backward kernels.

The gradient of a per-token value is a sum over one row or one column of tiles: one program computes it. An element of a
table is read by pairs of many programs, which add to it atomically in fixed point: integer sums have the same bits in
any order. The dQ kernel runs first and computes a bound of these sums, which sets the scale of the fixed point.
"""

from collections.abc import Iterable, Iterator
from functools import cached_property

from maskdsl.base.records import dataclass
from maskdsl.emit.triton.token_coordinates import KernelNames
from maskdsl.ir.declared.sequences import Given
from maskdsl.ir.expressions import Coordinate, Read, Side, walk
from maskdsl.ir.facts.reads import reads
from maskdsl.ir.ops import Type
from maskdsl.ir.rewrites.derive import derivative

_TABLE_ROLES = ("bounds", "bound", "sums", "scale")
"""The dQ kernel accumulates `bound` and stores it to `bounds`; the dK, dV kernel adds to `sums` with `scale`."""
_LEAF_ROLES = ("grad", "sum", "offset", "weight_term")
"""Kernels accumulate `sum` and store it to `grad`; `offset` is a table element's, `weight_term` comes of the weight."""


@dataclass(frozen=True)
class Leaf:
    """A float that pairs read: an element of a table at one index expression, or a per-token value of one side."""

    node: Read | Coordinate
    input: str
    text: str
    """The stem of its variables: see `_LEAF_ROLES`."""

    @cached_property
    def sides(self) -> frozenset[Side]:
        """The sides whose tokens it depends on."""
        return frozenset(side for side in Side if reads(self.node).names(side))


@dataclass(frozen=True)
class Leaves:
    """All leaves of a plan, and the stems of their variables."""

    names: KernelNames

    @cached_property
    def nodes(self) -> tuple[Read | Coordinate, ...]:
        """The floats on which some result depends, in the order in which they are read."""
        mask = self.names.plan.mask
        changes = [each for each in (mask.scale, *mask.scores, mask.weight) if each is not None]
        pairs = ((each, node) for each in changes for node in dict.fromkeys(walk(each)))
        floats = (
            node
            for each, node in pairs
            if isinstance(node, Read | Coordinate) and node.type is Type.FLOAT and derivative(each, node) is not None
        )
        return tuple(dict.fromkeys(floats))

    @cached_property
    def tables(self) -> dict[str, str]:
        """The stem of the variables of each table: see `_TABLE_ROLES`."""
        chosen: dict[str, str] = {}
        for node in self.nodes:
            if isinstance(node, Read) and node.input not in chosen:
                taken = self.taken | _with_roles(chosen.values(), _TABLE_ROLES)
                chosen[node.input] = _stem(self.names.inputs[node.input], _TABLE_ROLES, taken)
        return chosen

    @cached_property
    def every(self) -> tuple[Leaf, ...]:
        leaves: list[Leaf] = []
        for node in self.nodes:
            if isinstance(node, Read):
                name, text = node.input, self.names.inputs[node.input]
            else:
                name, text = self.given(node), self.names.coordinates[node.side, node.name]
            taken = self.taken | _with_roles(self.tables.values(), _TABLE_ROLES)
            taken |= _with_roles((leaf.text for leaf in leaves), _LEAF_ROLES)
            leaves.append(Leaf(node, name, _stem(text, _LEAF_ROLES, taken)))
        return tuple(leaves)

    @cached_property
    def taken(self) -> set[str]:
        names = self.names
        tables = (table.text for table in names.tables)
        return {*names.taken, *names.coordinates.values(), *names.numbers, *names.inputs.values(), *tables}

    @cached_property
    def kernel_names(self) -> set[str]:
        """The variables of all leaves and tables."""
        leaves = _with_roles((leaf.text for leaf in self.every), _LEAF_ROLES)
        return leaves | _with_roles(self.tables.values(), _TABLE_ROLES)

    def given(self, node: Coordinate) -> str:
        """The input that a float coordinate is: coordinates that are computed are integers."""
        definition = self.names.sequence(node.side).definition(node.name)
        assert definition is not None
        source = definition.sources[0][1]
        assert isinstance(source, Given)
        return source.input

    def of_tokens(self, *sides: Side) -> Iterator[Leaf]:
        """The per-token values of these sides."""
        return (leaf for leaf in self.every if isinstance(leaf.node, Coordinate) and leaf.node.side in sides)

    def of_tables(self) -> Iterator[Leaf]:
        """The elements of tables."""
        return (leaf for leaf in self.every if isinstance(leaf.node, Read))

    def of_columns(self) -> Iterator[Leaf]:
        """The elements of tables that depend on no query: a key block has one sum a key for each of them."""
        return (leaf for leaf in self.of_tables() if Side.QUERY not in leaf.sides)


def _stem(text: str, roles: Iterable[str], taken: set[str]) -> str:
    """`text`, with a number if need be, so that it is free with every role behind it."""
    roles, free, number = tuple(roles), text, 1
    while _with_roles([free], roles) & taken:
        number += 1
        free = f"{text}_{number}"
    return free


def _with_roles(stems: Iterable[str], roles: Iterable[str]) -> set[str]:
    return {f"{text}_{role}" for text in stems for role in roles}
