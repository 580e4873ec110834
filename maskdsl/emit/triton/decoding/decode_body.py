"""The code of a pattern in kernels of decoding, where the rows of a tile are queries of several heads."""

from collections.abc import Sequence
from functools import cached_property

from maskdsl.analysis.closed.closed_form import Limits
from maskdsl.base.records import dataclass
from maskdsl.emit.plan import KernelPlan
from maskdsl.emit.triton.forward_body import Body
from maskdsl.emit.triton.tile_loops import Ends
from maskdsl.emit.triton.token_coordinates import KernelNames
from maskdsl.ir.declared.inputs import DimensionKind
from maskdsl.ir.expressions import TRUE, Coordinate, Expression, Read, Side, walk
from maskdsl.ir.facts.block_conditions import CONDITION, BlockCondition, block_condition
from maskdsl.ir.facts.reads import reads
from maskdsl.ir.facts.trace import trace
from maskdsl.ir.ops import Type

EXTREMES = (("low", "min"), ("high", "max"))
_MOST_KEYS = 64
"""Of a block."""
_OF_BLOCK = "of_block = (({} >> lowest) & 1) != 0"


@dataclass(frozen=True)
class DecodeNames(KernelNames):
    """The names of a kernel, and that of the condition of blocks."""

    @cached_property
    def coordinates(self) -> dict[tuple[Side, str], str]:
        return {**KernelNames(self.plan).coordinates, (CONDITION.side, CONDITION.name): "of_block"}

    @property
    def uncomputed(self) -> frozenset[str]:
        return frozenset({CONDITION.name})


@dataclass(frozen=True)
class DecodeBody(Body):
    """The code of a pattern where a tile's rows belong to several heads: `head` and `wide_head` hold one a row."""

    @cached_property
    def names(self) -> KernelNames:
        return DecodeNames(self.plan)

    @cached_property
    def condition(self) -> BlockCondition | None:
        return _listed_condition(self.plan)

    @cached_property
    def has_pairs(self) -> bool:
        """Whether a kernel before this one writes which keys one query attends."""
        return reads_rows(self.relation)

    @property
    def relation(self) -> Expression:
        """What the loop evaluates for pairs."""
        return self.plan.mask.relation if self.condition is None else self.condition.rest

    def row_lines(self, used: set[str]) -> list[str]:
        """Statements for what rows are: their positions and heads."""
        of_rows = {
            "query_positions": "tl.minimum(tl.maximum(start + query, 0), query_length - 1)",
            "head": "row_head[:, None]",
            "first_query": "tl.min(query_positions, 0)",
            "last_query": "tl.max(query_positions, 0)",
        }
        if used & {"first_query", "last_query"}:
            used = {*used, "query_positions"}
        return [f"{name} = {text}" for name, text in of_rows.items() if name in used]

    def position_lines(self, used: set[str]) -> list[str]:
        return ["key_positions = tl.minimum(keys, key_length - 1)"] if "key_positions" in used else []

    def of_one(self, lines: Sequence[str], others: list[str]) -> list[str]:
        """Statements for one query whose pairs are known as bits, and for others."""
        if not self.has_pairs:
            return others
        return ["if ONE_QUERY:", *(f"    {line}" for line in lines), "else:", *(f"    {line}" for line in others)]

    def relation_lines(self) -> list[str]:
        if self.condition is None:
            return self.printed_relation()
        if not self.is_of_some_row:
            return [_OF_BLOCK.format("row_bits"), *self.printed_relation()]
        of_block = _OF_BLOCK.format("(any_bits if ONE_QUERY else row_bits)")
        return ["existing = attends", of_block, *self.printed_relation()]

    def row_relation_lines(self) -> list[str]:
        """Statements that narrow pairs down to those of each row, where one of any row stood for all."""
        if not self.is_of_some_row:
            return []
        lines = ["attends = existing", _OF_BLOCK.format("row_bits"), *self.printed_relation()]
        return ["if ONE_QUERY:", *(f"    {line}" for line in lines)]

    @property
    def is_of_some_row(self) -> bool:
        """Whether rows of one query differ in the condition of blocks alone, so that one of any row tells which keys
        some row attends."""
        if self.condition is None or self.has_pairs or not self.condition.is_monotone:
            return False
        read = reads(self.condition.rest)
        others = [each for each in read.coordinates if each != CONDITION]
        return not (read.head or any(self.varies(each.side, each.name) for each in others))

    def printed_relation(self) -> list[str]:
        if self.relation == TRUE:
            return []
        printer = self.printer(relation=True)
        printer.statement("attends &= ", self.relation)
        return printer.lines

    def scaled_result(self, factor: str) -> str:
        """The output is one tensor here, not in chunks."""
        return f"result *= {factor}"

    def weighed_result(self, factor: str) -> str:
        return f"result = tl.where(result == 0, 0.0, result * {factor})"

    def counted_sink(self, score: str) -> str:
        """The first of the programs that share keys has the sinks."""
        return f'tl.where(split == 0, {score}, float("-inf"))'

    def table_lines(self) -> list[str]:
        return [f"{table.text} += wide_batch * {table.text}_batch_stride" for table in self.names.tables]

    def loaded(self, side: Side, name: str, table: str) -> str:
        """The load of a coordinate; where heads differ, from the table of each row's head."""
        by_head = f" + wide_head[:, None] * {table}_head_stride" if self.varies(side, name) else ""
        return f"tl.load({table}{by_head} + {self.token_positions(side)})"

    def varies(self, side: Side, name: str) -> bool:
        """Whether heads differ in a coordinate."""
        return DimensionKind.HEADS in trace(self.names.sequence(side), [Coordinate(side, name)]).varies(self.plan.mask)

    def live_lines(self, limits: Limits) -> list[str]:
        """Statements for the range of key blocks that a tile attends, from limits in closed form."""
        printed = Ends(self.names, "first_query", "last_query")
        low, _ = printed.extremes("maximum", limits.low)
        _, high = printed.extremes("minimum", limits.high)
        end = f"tl.minimum({high}, cached - 1) + 1" if high else "cached"
        return [
            *printed.lines,
            f"live_start = tl.maximum({low}, 0) // KEY_BLOCK" if low else "live_start = 0",
            f"live_end = tl.cdiv({end}, KEY_BLOCK)",
        ]

    def query_extremes(self, used: set[str]) -> list[str]:
        """Statements for the minimum and maximum in a tile of each coordinate of queries, and of the head: [1, 1]."""
        lines = [f"head_{end} = tl.{name}(row_head, 0)[None, None]" for end, name in EXTREMES if f"head_{end}" in used]
        for name in reads(self.plan.mask.relation).coordinate_names(Side.QUERY):
            text, is_bool = self.names.coordinates[Side.QUERY, name], self.names.type(Side.QUERY, name) is Type.BOOL
            value, truth = (f"{text}.to(tl.int32)", " != 0") if is_bool else (text, "")
            for end, function in EXTREMES:
                if f"{text}_{end}" in used:
                    lines.append(f"{text}_{end} = tl.{function}({value}, 0)[None, :]{truth}")
        return lines


def reads_rows(relation: Expression) -> bool:
    """Whether it reads tables in which rows differ: by both tokens, or by a head and a key."""
    tables = (reads(node) for node in walk(relation) if isinstance(node, Read))
    return any(each.is_of_pair or (each.head and each.names(Side.KEY)) for each in tables)


def _listed_condition(plan: KernelPlan) -> BlockCondition | None:
    """What is evaluated once a block, where blocks are listed."""
    return None if plan.limits_of_all_heads is not None else block_condition(plan.mask, _MOST_KEYS)
