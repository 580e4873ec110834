"""Mask to one frozen `KernelPlan`: all that generators know of a mask. Imports `ir`; read by `emit` and `runtime`."""

import builtins
import keyword
import re
from collections.abc import Iterable
from dataclasses import replace
from functools import cached_property

from maskdsl.analysis.closed.closed_form import Limits, closed_limits
from maskdsl.analysis.cost.tile_table import TileWork
from maskdsl.analysis.orders.clique_tiles import clique_tiles
from maskdsl.base.records import dataclass
from maskdsl.emit.token_codes import coded
from maskdsl.ir.declared.inputs import DimensionKind, Input
from maskdsl.ir.declared.sequences import Given, Sequence, Space
from maskdsl.ir.expressions import PAIR, Apply, Coordinate, Expression, Read, Side, walk
from maskdsl.ir.facts.distance_terms import DistanceTerm, distance_terms
from maskdsl.ir.facts.reads import Reads, reads, reads_lists
from maskdsl.ir.facts.trace import dependencies, pair_trace, tile_trace, token_trace, trace
from maskdsl.ir.mask import MaskIR, Normalize
from maskdsl.ir.meaning.inputs import relation_inputs
from maskdsl.ir.ops import TORCH_HELPERS, Type
from maskdsl.ir.rewrites.chosen_pairs import ChosenPairs, chosen_pairs
from maskdsl.ir.rewrites.route_rows import for_some_queries
from maskdsl.ir.rewrites.score_bias import ScoreBias, score_bias
from maskdsl.ir.rewrites.score_terms import ScoreTerms, score_terms
from maskdsl.ir.routes import Scored, route_expressions
from maskdsl.ir.values.group_scores import GROUP
from maskdsl.ir.values.token_vectors import vector_expressions

HELPERS = ("find_entry", "read", "read_open", "nonzero", "rounded", "integers", "join", "token_value", *TORCH_HELPERS)
"""Functions of `codegen/functions.py` that generated functions may call."""
SKELETON_NAMES = {
    "products": "Finite Multiply Times at find joined numbers_of of_all of_each of_groups of_heads products rows"
    " shared_by times token_coordinates with_rows",
    "routing": "Groups OutsideGroups Tokens find finished multiplied nearest of_one on_device pooled ranks rows_of"
    " shared_by sharing taken viewed whole_heads with_overlaps",
    "scores": "Scored Steps as_pairs by_extent columns competing counted extremes largest least of_members rows_at_once"
    " select select_list selected_scores shares table_of together",
    "selectors": "above argument best best_columns best_one_by_one chosen_best chosen_columns heaviest members"
    " top_columns",
    "pooling": "BoxPools GroupPools box_numbers in_boxes pool_facts pool_numbers pooled",
}
"""The functions and classes of skeletons whose generated functions call them."""
_VARIABLES = ("torch", "tl", "s", "q", "k", "v", "head", "batch", "device", "values", "attends")
_RESERVED = frozenset({*_VARIABLES, *HELPERS, *" ".join(SKELETON_NAMES.values()).split()})
"""Names in generated functions that no coordinate and no input has there."""
OF_PYTHON = frozenset({"_", *keyword.kwlist, *dir(builtins)})
"""Names that generated code must not bind: keywords, builtins, and `_`, which collects unused arguments."""
_BLOCK = 64, 64
"""Queries and keys of a tile on the CPU, unless it is told otherwise."""
_MANY_OPERATIONS = 16
"""With this many distinct operations a pair, their registers leave no room for the largest tiles."""
_LIGHT_OPERATIONS = 8
"""Up to this many distinct operations a pair, kernels with long rows take wider tiles."""


@dataclass(frozen=True)
class KernelPlan:
    """A mask and the settings of its kernels. Lengths and tiles are arguments of kernels, not part of their text."""

    mask: MaskIR
    query_block: int
    key_block: int
    refine: bool = False
    """Tiles that depend on inputs are found exactly on the host, not conservatively by a kernel."""
    tune: bool = False
    """Kernels take the fastest tile choice as measured, not that of the table."""

    @cached_property
    def coded(self) -> "KernelPlan":
        """The plan of kernels, which read codes of tokens from tables. Closed forms and tiles of inputs have none."""
        if self.row_limits is not None or self.column_limits is not None or self.finds_device_tiles:
            return self
        names = {*self.identifiers, *self.identifiers.values(), *self.input_identifiers.values()}
        return replace(
            self, mask=coded(self.mask, {*names, *(each.removeprefix("q_").removeprefix("k_") for each in names)})
        )

    @cached_property
    def row_limits(self) -> Limits | None:
        """The limits of a query's keys in closed form, or None. With limits, kernels need no lists of runs."""
        return closed_limits(self.mask, Side.QUERY)

    @cached_property
    def column_limits(self) -> Limits | None:
        """The limits of a key's queries in closed form, or None."""
        return closed_limits(self.mask, Side.KEY)

    @property
    def limits_of_all_heads(self) -> Limits | None:
        """The limits of a query's keys in closed form, if all heads have the same; or None."""
        return None if reads(self.mask.relation).head else self.row_limits

    @property
    def pair_expressions(self) -> tuple[Expression, ...]:
        """All expressions that are evaluated for a pair of tokens: relation, scale, scores and weight."""
        return self.mask.pair_expressions

    @property
    def expressions(self) -> tuple[Expression, ...]:
        """These, and those that are evaluated for a query: sinks and the factor."""
        return self.mask.expressions

    @cached_property
    def score_bias(self) -> ScoreBias | None:
        """The cap and the bias that its scores are; None where they have another form."""
        return score_bias(self.mask)

    @cached_property
    def score_terms(self) -> ScoreTerms | None:
        """Scores and weights by their terms, where they are more than that; None where they have another form."""
        return score_terms(self.mask) if self.score_bias is None else None

    @cached_property
    def distance_terms(self) -> tuple[DistanceTerm, ...]:
        """The integers in scores that kernels read from tables by distance."""
        return distance_terms(self.mask)

    @cached_property
    def chosen_pairs(self) -> ChosenPairs | None:
        """The pairs that a table of choices adds; None where the relation has another form."""
        return chosen_pairs(self.mask)

    @property
    def reads(self) -> Reads:
        """What pairs and queries read."""
        return reads(*self.expressions)

    @cached_property
    def is_plain(self) -> bool:
        """Whether it is one softmax for each query, of scaled products alone, without inputs."""
        mask = self.mask
        changes = mask.scores or mask.query_values or mask.weight is not None or mask.scale is not None
        return mask.normalize is Normalize.BY_QUERY and not (mask.inputs or changes)

    @cached_property
    def work(self) -> TileWork:
        """How much work pairs are beside the products of tiles. Not by lengths: each length would be another kernel."""
        if len(_pair_reads(self.mask.scores)) > 1:
            return TileWork.HEAVY
        if self.operations > _MANY_OPERATIONS or self.reads_pairs:
            return TileWork.BUSY
        limits = self.row_limits
        is_open = limits is not None and not (limits.low and limits.high)
        return TileWork.WIDE if is_open and self.operations <= _LIGHT_OPERATIONS else TileWork.USUAL

    @cached_property
    def reads_pairs(self) -> bool:
        """Whether tables are read by both tokens of a pair."""
        return bool(_pair_reads(self.pair_expressions))

    @cached_property
    def reads_pair_tables(self) -> bool:
        """Whether they are read other than as lists, which a kernel searches."""
        return self.reads_pairs and not self.tiles_read_lists

    @cached_property
    def operations(self) -> int:
        """The number of distinct operations of a pair."""
        return len({node for each in self.coded.pair_expressions for node in walk(each) if isinstance(node, Apply)})

    @cached_property
    def query_names(self) -> tuple[str, ...]:
        """The names of the query's coordinates that pairs read, sorted."""
        return self.reads.names(Side.QUERY)

    @cached_property
    def key_names(self) -> tuple[str, ...]:
        return self.reads.names(Side.KEY)

    def names_of(self, kind: Side) -> frozenset[str]:
        """The names of the coordinates that pairs read of a kind of tokens."""
        sides = (side for side in PAIR if self.mask.kind(side) is kind)
        return frozenset().union(*map(self.reads.names, sides))

    @cached_property
    def table_names(self) -> tuple[str, ...]:
        """The names of the inputs that pairs or coordinates read by index, in declared order."""
        read = pair_trace(self.mask, self.expressions).reads.inputs
        return tuple(each.name for each in self.mask.named(read))

    @cached_property
    def identifiers(self) -> dict[str, str]:
        """A Python identifier for each coordinate, all different, also with `q_` or `k_` in front."""
        names = []
        for sequence in self.mask.sequences.values():
            names += [axis.name for space in sequence.spaces for axis in space.axes]
            names += [definition.name for definition in sequence.coordinates]
        for _, groups in self.mask.groupings:
            names += [axis.name for each in groups.tokens.spaces for axis in each.axes]
            names += [definition.name for definition in groups.tokens.coordinates]
        chosen: dict[str, str] = {"i": "i"}
        for name in dict.fromkeys(names):
            if name not in chosen:
                chosen[name] = unused(identifier(name), {*chosen.values(), *_RESERVED})
        return chosen

    @cached_property
    def input_identifiers(self) -> dict[str, str]:
        """A Python identifier for each input, different from those of coordinates, also with `q_` or `k_` in front."""
        taken = set(_RESERVED)
        for name in self.identifiers.values():
            taken |= {name, f"q_{name}", f"k_{name}"}
        chosen: dict[str, str] = {}
        for each in self.mask.inputs:
            is_coordinate = self.is_given_whole(each.name)
            name = identifier(each.name)
            chosen[each.name] = self.identifiers[each.name] if is_coordinate else unused(name, taken)
            taken.add(chosen[each.name])
        return chosen

    def is_given_whole(self, name: str) -> bool:
        """Whether the coordinate of this name is the input of this name in all spaces that have it."""
        definitions = (sequence.definition(name) for sequence in self.mask.sequences.values())
        sources = [source for each in definitions if each is not None for _, source in each.sources]
        return bool(sources) and all(source == Given(name) for source in sources)

    @cached_property
    def tile_inputs(self) -> tuple[str, ...]:
        """The names of the inputs that the relation or the order reads: those on which tiles depend."""
        deciding = relation_inputs(self.mask, {each.name for each in self.mask.routed})
        return tuple(each.name for each in self.mask.named(deciding))

    @cached_property
    def finds_device_tiles(self) -> bool:
        """Whether kernels find the tiles, on the device of the inputs on which they depend."""
        return bool(self.tile_inputs) and not self.refine and not self.tiles_read_lists

    @cached_property
    def tiles_read_lists(self) -> bool:
        """Whether the relation reads a sparse input: its list becomes tiles on the host."""
        return reads_lists(self.mask.relation)

    @cached_property
    def finds_device_order(self) -> bool:
        """Whether tokens are sorted on the device of the inputs on which their order depends."""
        return self.order_reads_inputs and not self.refine and not self.tiles_read_lists

    @cached_property
    def coordinates_read_inputs(self) -> bool:
        """Whether the coordinates that pairs read depend on inputs; otherwise their tables serve all calls."""
        return bool(token_trace(self.mask, self.expressions).inputs)

    @cached_property
    def copied_inputs(self) -> tuple[Input, ...]:
        """The inputs from which calls make tensors: tiles, the order, per-token tables, integers of 64 bits."""
        made = {*self.tile_inputs, *token_trace(self.mask, self.expressions).inputs}
        return tuple(each for each in self.mask.inputs if each.name in made or each.type is Type.INT)

    @cached_property
    def viewed_inputs(self) -> tuple[Input, ...]:
        """The other inputs, of which kernels read the elements themselves."""
        return tuple(each for each in self.mask.inputs if each not in self.copied_inputs)

    @cached_property
    def uncomputed_integers(self) -> frozenset[str]:
        """The names of the inputs of integers with which no function of torch in a module of kernels computes."""
        mask = self.mask
        traced = token_trace(mask, self.expressions, ordered=True).expressions
        computed = [*mask.query_values, *(each for each in traced if not isinstance(each, Coordinate))]
        if any(each.is_pooled for each in mask.sequences.values()):
            return frozenset()
        used = frozenset().union(*(trace(sequence, computed).inputs for sequence in mask.sequences.values()))
        return frozenset(each.name for each in mask.inputs if each.type is Type.INT and each.name not in used)

    @cached_property
    def order_reads_inputs(self) -> bool:
        return bool(token_trace(self.mask, (), ordered=True).inputs)

    @cached_property
    def curve_names(self) -> tuple[tuple[str, Sequence, tuple[str, ...]], ...]:
        """The coordinates along curves and shuffles that calls need: (kind of token, its sequence, their names)."""
        sorted_by = self.order_keys if self.order_reads_inputs else ()
        others = self.route_names.union(reads(*sorted_by).names(Side.TOKEN))
        curves: list[tuple[str, Sequence, tuple[str, ...]]] = [
            (kind, each, dependencies(each, others | self.names_of(kind))) for kind, each in self.mask.kinds.items()
        ]
        curves += [
            (source_kind(space), groups.tokens, dependencies(groups.tokens, [groups.by]))
            for space, groups in self.mask.groupings
        ]
        return tuple((kind, each, tuple(filter(each.is_permutation, names))) for kind, each, names in curves)

    @cached_property
    def route_names(self) -> frozenset[str]:
        """The names of the coordinates, of either side, that routes, ranks and vectors read."""
        vectors = (each for vector in self.mask.vectors for each in vector_expressions(vector))
        read = reads(*(each for routed in self.mask.routed for each in route_expressions(routed)), *vectors)
        groups = (
            grouping.by
            for routed in self.mask.routed
            if isinstance(routed, Scored)
            for level in routed.levels
            for grouping in level
        )
        names = (each.name for each in read.coordinates if each.name != GROUP)
        return frozenset([*names, *(name for name in groups if name is not None)])

    @cached_property
    def varies_by_batch(self) -> bool:
        """Whether tiles or order may differ between batch entries."""
        return DimensionKind.BATCH in self.tiles_vary

    @cached_property
    def tiles_vary(self) -> frozenset[DimensionKind]:
        """The dimensions, of batch and heads, along which tiles or order may differ."""
        return tile_trace(self.mask).varies(self.mask)

    @cached_property
    def order_varies(self) -> frozenset[DimensionKind]:
        """The dimensions, of batch and heads, along which the order may differ."""
        return token_trace(self.mask, (), ordered=True).varies(self.mask)

    @cached_property
    def order_keys(self) -> tuple[Expression, ...]:
        return tuple(key for sequence in self.mask.sequences.values() for key in sequence.sort_keys)

    @cached_property
    def serves_any_heads(self) -> bool:
        """Whether the plan serves any number of heads: bound with one, and nothing depends on the head."""
        by_head = any(each.kind is DimensionKind.HEADS for declared in self.mask.inputs for each in declared.dimensions)
        is_plain = self.mask.heads == 1 and self.mask.whole is None
        return is_plain and not by_head and not pair_trace(self.mask, self.expressions).reads.head

    @cached_property
    def reads_batch(self) -> bool:
        """Whether anything depends on the index of the batch entry, other than through inputs."""
        values = (value for sequence in self.mask.sequences.values() for value in sequence.computed)
        return reads(*self.expressions, *self.order_keys, *values).batch


def make_plan(
    mask: MaskIR,
    query_block: int = _BLOCK[0],
    key_block: int = _BLOCK[1],
    refine: bool = False,
    tune: bool = False,
) -> KernelPlan:
    """The plan of a mask. `query_block` and `key_block` are the tokens of a tile, on the CPU."""
    return KernelPlan(mask, query_block, key_block, refine, tune)


def clique_plan(plan: KernelPlan, panel: int = 1) -> KernelPlan:
    """The plan with the blocks and the order of the mask's cliques, where they save time on a CPU; else the plan.

    Kernels compute `panel` keys at a time.
    """
    if (plan.query_block, plan.key_block) != _BLOCK or plan.tiles_read_lists:
        return plan
    chosen = clique_tiles(plan.mask, _BLOCK, panel)
    return (
        plan
        if chosen is None
        else replace(plan, mask=chosen.mask, query_block=chosen.block[0], key_block=chosen.block[1])
    )


def declared_plan(plan: KernelPlan) -> KernelPlan:
    """The plan of the mask without an order: tokens lie as declared."""
    return replace(plan, mask=plan.mask.declared)


def decode_plan(plan: KernelPlan) -> KernelPlan:
    """The plan of decoding: tokens as declared, as queries at any positions may be far apart in an order."""
    plan = declared_plan(plan)
    return replace(plan, mask=for_some_queries(plan.mask), refine=True)


def source_kind(space: Space) -> str:
    """The word for the tokens that a space is pooled from, in names of generated code."""
    return f"source_of_{space.name}"


def identifier(name: str) -> str:
    """A readable identifier: `hilbert(y, x)` gives `hilbert_y_x`."""
    text = re.sub(r"\W+", "_", name).strip("_") or "value"
    return f"_{text}" if text[0].isdigit() else text


def unused(name: str, taken: Iterable[str]) -> str:
    """`name`, or with the first number behind it that is not taken."""
    occupied = {*taken, *OF_PYTHON}
    if name not in occupied:
        return name
    number = 2
    while f"{name}_{number}" in occupied:
        number += 1
    return f"{name}_{number}"


def _pair_reads(expressions: Iterable[Expression]) -> frozenset[Read]:
    """The reads of tables by both tokens of a pair."""
    nodes = (node for each in expressions for node in walk(each))
    return frozenset(node for node in nodes if isinstance(node, Read) and reads(node).is_of_pair)
