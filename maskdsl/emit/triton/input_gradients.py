"""The float inputs that scores, weights and a scale read, as far as backward kernels give them gradients.

A token's value has one sum, over the keys of a query or the queries of a key, in one program. An element of a table is
read by pairs of many programs, which add to it in fixed point: integers have one sum in whatever order they come. The
kernel of queries runs first and finds how large these sums may become, which says how many bits they have to spare.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

from maskdsl.emit.triton.token_coordinates import KernelNames
from maskdsl.ir.expressions import Coordinate, Read, Side, walk
from maskdsl.ir.facts.reads import reads
from maskdsl.ir.mask import Given
from maskdsl.ir.ops import Type
from maskdsl.ir.rewrites.derive import derivative

_TABLE_ROLES = ("bounds", "bound", "sums", "scale")
_LEAF_ROLES = ("ds", "sum", "position", "weighted")


@dataclass(frozen=True)
class Leaf:
    """An element of a table at one index over pairs, or a float of the query or of the key."""

    node: Read | Coordinate
    input: str
    text: str
    """What names of its own begin with: see `_LEAF_ROLES`."""

    @cached_property
    def sides(self) -> frozenset[Side]:
        """Whose tokens it depends on."""
        return frozenset(side for side in Side if reads(self.node).names(side))


@dataclass(frozen=True)
class Leaves:
    """All leaves of a plan, and their names."""

    names: KernelNames

    @cached_property
    def nodes(self) -> tuple[Read | Coordinate, ...]:
        """What changes a result when it changes, in the order in which it is read."""
        mask = self.names.plan.mask
        changes = [each for each in (mask.scale, *mask.scores, mask.weight) if each is not None]
        pairs = ((each, node) for each in changes for node in dict.fromkeys(walk(each)))
        found = (
            node
            for each, node in pairs
            if isinstance(node, Read | Coordinate) and node.type is Type.FLOAT and derivative(each, node) is not None
        )
        return tuple(dict.fromkeys(found))

    @cached_property
    def tables(self) -> dict[str, str]:
        """What names for an input read by index begin with: see `_TABLE_ROLES`."""
        chosen: dict[str, str] = {}
        for node in self.nodes:
            if isinstance(node, Read) and node.input not in chosen:
                taken = self.taken | _own_names(chosen.values(), _TABLE_ROLES)
                chosen[node.input] = _stem(self.names.inputs[node.input], _TABLE_ROLES, taken)
        return chosen

    @cached_property
    def every(self) -> tuple[Leaf, ...]:
        found: list[Leaf] = []
        for node in self.nodes:
            if isinstance(node, Read):
                name, text = node.input, self.names.inputs[node.input]
            else:
                name, text = self.given(node), self.names.coordinates[node.side, node.name]
            taken = self.taken | _own_names(self.tables.values(), _TABLE_ROLES)
            taken |= _own_names((leaf.text for leaf in found), _LEAF_ROLES)
            found.append(Leaf(node, name, _stem(text, _LEAF_ROLES, taken)))
        return tuple(found)

    @cached_property
    def taken(self) -> set[str]:
        names = self.names
        tables = (table.text for table in names.tables)
        return {*names.taken, *names.coordinates.values(), *names.numbers, *names.inputs.values(), *tables}

    @cached_property
    def own_names(self) -> set[str]:
        leaves = _own_names((leaf.text for leaf in self.every), _LEAF_ROLES)
        return leaves | _own_names(self.tables.values(), _TABLE_ROLES)

    def given(self, node: Coordinate) -> str:
        """The input that holds the values of a float coordinate: no other coordinates are floats."""
        definition = self.names.sequence(node.side).definition(node.name)
        assert definition is not None
        source = definition.sources[0][1]
        assert isinstance(source, Given)
        return source.input

    def of_tokens(self, *sides: Side) -> Iterator[Leaf]:
        """Floats of the tokens of these sides."""
        return (leaf for leaf in self.every if isinstance(leaf.node, Coordinate) and leaf.node.side in sides)

    def of_tables(self) -> Iterator[Leaf]:
        """Elements of tables."""
        return (leaf for leaf in self.every if isinstance(leaf.node, Read))

    def of_columns(self) -> Iterator[Leaf]:
        """Elements that depend on no query: a block of keys has one sum for each of them."""
        return (leaf for leaf in self.of_tables() if Side.QUERY not in leaf.sides)


def _stem(text: str, roles: Iterable[str], taken: set[str]) -> str:
    """`text`, with a number if need be, such that no name made of it and a role is taken."""
    roles, chosen, number = tuple(roles), text, 1
    while _own_names([chosen], roles) & taken:
        number += 1
        chosen = f"{text}_{number}"
    return chosen


def _own_names(stems: Iterable[str], roles: Iterable[str]) -> set[str]:
    return {f"{text}_{role}" for text in stems for role in roles}
