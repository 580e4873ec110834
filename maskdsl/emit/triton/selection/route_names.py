"""The names of a selection kernel, and the groups of tokens that it computes without tables."""

from collections.abc import Callable, Iterable
from functools import cached_property

from maskdsl.base.records import dataclass
from maskdsl.emit.plan import identifier
from maskdsl.emit.route_text import product_leaves
from maskdsl.emit.skeleton import skeleton_words
from maskdsl.emit.triton.token_coordinates import CoordinateTable, KernelNames
from maskdsl.ir.declared.sequences import Computed, Sequence
from maskdsl.ir.expressions import PAIR, Apply, Constant, Coordinate, Leaf, Side
from maskdsl.ir.facts.ranges import Range
from maskdsl.ir.ops import Op
from maskdsl.ir.routes import Route
from maskdsl.ir.values.group_scores import GROUP

AXES = ("batch", "head", "token")
_ENDS = ("", "_sharing", *(f"_{axis}_stride" for axis in AXES))
"""Behind the name of a pointer to vectors: its arguments."""
FIRSTS, EXISTS = "first of group", "group exists"
"""The tables of groups: names that no coordinate can have."""
_GENERATED = frozenset(
    {
        *("asked", "forced", "threshold", *PAIR),
        *(f"{side}_{each}" for side in PAIR for each in ("positions", "rows", "vectors")),
    }
)
"""Variables of generated code that are in no skeleton."""
_SKELETONS = ("routing", "scores", "selectors", "selection", "selection_rows", "selection_functions")


def run_size(route: Route, side: Side, sequence: Sequence) -> int | None:
    """The tokens of a group if groups are consecutive runs of one size, pooled per query head; else None."""
    pools = [each.pool(side) for each in route.products]
    if any(pool.by_key_head or pool.heads is not None for pool in pools) or len(sequence.spaces) > 1:
        return None
    if sequence.counts is not None:
        return None
    by = route.grouping(side).by
    definition = None if by is None else sequence.definition(by)
    sources = () if definition is None else definition.sources
    for _, source in sources:
        match source:
            case Computed(value=Apply(Op.FLOOR_DIVIDE, (Coordinate(name="i"), Constant(value=int() as size)))):
                return size if -(-sequence.length // size) == route.grouping(side).count else None
    return None


@dataclass(frozen=True)
class RouteNames(KernelNames):
    """The names of a selection kernel; coordinates are those of the first token of each group."""

    route: Route

    @cached_property
    def taken(self) -> frozenset[str]:
        words = skeleton_words(*_SKELETONS) | super().taken | _GENERATED
        vectors = (f"{each}{end}" for n in range(len(self.route.products)) for each in vector_names(n) for end in _ENDS)
        functions = (f"{identifier(self.route.name)}_{each}" for each in ("scores_kernel", "kernel", "select"))
        return words.union(vectors, functions)

    @cached_property
    def leaf(self) -> Callable[[Leaf], Range]:
        of_tokens, groups = super().leaf, Range(0, self.route.keys.count - 1)
        return lambda node: groups if node == Coordinate(Side.KEY, GROUP) else of_tokens(node)

    @cached_property
    def coordinates(self) -> dict[tuple[Side, str], str]:
        products = {(each.side, each.name): product_name(each) for each in product_leaves(self.route)}
        return {**super().coordinates, **products, (Side.KEY, GROUP): "key_rows[None, :]"}

    @cached_property
    def tables(self) -> tuple[CoordinateTable, ...]:
        return (*super().tables, *self.group_tables())

    def group_tables(self) -> Iterable[CoordinateTable]:
        for side in PAIR:
            if self.is_irregular(side):
                yield CoordinateTable(side, FIRSTS, f"{side}_firsts", "torch.int32")
                yield CoordinateTable(side, EXISTS, f"{side}_exists", "torch.int8")

    def run_size(self, side: Side) -> int | None:
        return run_size(self.route, side, self.sequence(side))

    def is_irregular(self, side: Side) -> bool:
        """Whether a table holds the first token of each group."""
        by = self.route.grouping(side).by
        is_each = by == "i" and self.sequence(side).counts is None
        return by is not None and not is_each and self.run_size(side) is None

    def kind(self, side: Side) -> str:
        return side

    @cached_property
    def uncomputed(self) -> frozenset[str]:
        """The leaves that stand for products and for the number of a group."""
        return frozenset({GROUP, *(each.name for each in product_leaves(self.route))})


def vector_names(number: int) -> tuple[str, str]:
    """The pointers of the vectors of one product."""
    return f"query_vectors_{number}", f"key_vectors_{number}"


def product_name(leaf: Coordinate) -> str:
    return leaf.name.replace(" ", "_")
