"""Plan to a Triton module of decoding and chunked prefill, by split-KV, from `codegen/decode.py`."""

from functools import cached_property

from maskdsl.base.records import dataclass
from maskdsl.emit.header import header
from maskdsl.emit.plan import KernelPlan, decode_plan
from maskdsl.emit.skeleton import fill, read_skeleton, words_of
from maskdsl.emit.triton.attention_module import Surroundings, shared_functions
from maskdsl.emit.triton.block_bounds import HEAD, BoundNames, ends
from maskdsl.emit.triton.forward_body import Body
from maskdsl.emit.triton.tile_loops import Ends
from maskdsl.emit.triton.unnormalized import decode_holes
from maskdsl.ir.declared.inputs import DimensionKind
from maskdsl.ir.expressions import TRUE, Coordinate, Head, Leaf, Side
from maskdsl.ir.facts.bounds import ANYTHING, Bounder, Bounds
from maskdsl.ir.facts.reads import reads
from maskdsl.ir.facts.trace import trace
from maskdsl.ir.ops import Type

_EXTREMES = (("low", "min"), ("high", "max"))


def emit_decode(plan: KernelPlan) -> str:
    """The text of a module with `decode(q, k, v, inputs, query_starts, ...) -> (out, lse)`: torch and Triton only."""
    plan = decode_plan(plan)
    body = _DecodeBody(plan)
    kernel = body.decode_holes()
    lines = [line for lines in kernel.values() for line in lines or ()]
    around = Surroundings(plan, body.names, lines, laid_out=False)
    top = header(plan, "triton", "Decoding and chunked prefill in Triton.")
    holes = {**kernel, **around.holes(), "functions": shared_functions(plan, exactly=True), "header": top}
    return fill(read_skeleton("decode"), holes)


@dataclass(frozen=True)
class _DecodeBody(Body):
    """The code of a pattern where a tile's rows belong to several heads: `head` and `wide_head` hold one a row."""

    def decode_holes(self) -> dict[str, list[str] | None]:
        everything = self.plan.expressions
        weight = self.weight_lines()
        possible = [] if self.is_closed else self.possible_lines()
        live = self.live_lines() if self.is_closed else []
        pairs = {
            "possible": possible or None,
            "predicate": self.relation_lines(),
            "score": self.score_lines(),
            "weight": [*weight, "p = tl.where(attends, p, 0.0)"] if weight else [],
            "query_values": self.query_value_lines("ROW_BLOCK"),
        }
        queries = [*self.table_lines(), *self.coordinate_lines(Side.QUERY, everything)]
        keys = self.coordinate_lines(Side.KEY, everything)
        lines = [*queries, *keys, *live, *(line for lines in pairs.values() for line in lines or ())]
        used = words_of("\n".join(lines))
        of_rows = {
            "query_positions": "tl.minimum(tl.maximum(start + query, 0), query_length - 1)",
            "head": "row_head[:, None]",
            "first_query": "tl.min(query_positions, 0)",
            "last_query": "tl.max(query_positions, 0)",
        }
        if used & {"first_query", "last_query"}:
            used.add("query_positions")
        positions = {"key_positions": "tl.minimum(keys, key_length - 1)"}
        if used & {"first_key", "last_key"}:
            used.add("key_positions")
        return {
            **decode_holes(self.plan),
            "query_coordinates": [
                *(f"{name} = {text}" for name, text in of_rows.items() if name in used),
                *queries,
                *self.extreme_lines(Side.QUERY, used),
            ],
            "live": live or None,
            "key_coordinates": [
                *(f"{name} = {text}" for name, text in positions.items() if name in used),
                *keys,
                *self.extreme_lines(Side.KEY, used),
            ],
            **pairs,
        }

    def counted_sink(self, score: str) -> str:
        """The first of the programs that share keys has the sinks."""
        return f'tl.where(split == 0, {score}, float("-inf"))'

    def table_lines(self) -> list[str]:
        return [f"{table.text} += wide_batch * {table.text}_batch_stride" for table in self.names.tables]

    def loaded(self, side: Side, name: str, table: str) -> str:
        """The load of a coordinate: each row from its head's table; keys too, where heads differ."""
        if side is Side.QUERY:
            return f"tl.load({table} + wide_head * {table}_head_stride + query_positions)[:, None]"
        if DimensionKind.HEADS in trace(self.names.sequence(side), [Coordinate(side, name)]).varies(self.plan.mask):
            return f"tl.load({table} + wide_head[:, None] * {table}_head_stride + key_positions[None, :])"
        return f"tl.load({table} + key_positions)[None, :]"

    @cached_property
    def is_closed(self) -> bool:
        """Whether the keys of a tile have limits in closed form, the same for all heads."""
        return self.plan.row_limits is not None and not reads(self.plan.mask.relation).head

    def live_lines(self) -> list[str]:
        """Statements for the range of key blocks that a tile attends, from limits in closed form."""
        limits = self.plan.row_limits
        assert limits is not None
        printed = Ends(self.names, "first_query", "last_query")
        low, _ = printed.extremes("maximum", limits.low)
        _, high = printed.extremes("minimum", limits.high)
        end = f"tl.minimum({high}, cached - 1) + 1" if high else "cached"
        return [
            *printed.lines,
            f"live_start = tl.maximum({low}, 0) // KEY_BLOCK" if low else "live_start = 0",
            f"live_end = tl.cdiv({end}, KEY_BLOCK)",
        ]

    def possible_lines(self) -> list[str]:
        """Statements for `possible`, whether some pair of the tile may attend; none if bounds cannot exclude it."""
        bound = Bounder(_ends_over_heads, self.names.leaf).bounds(self.plan.mask.relation).high
        if bound == TRUE:
            return []
        printer = BoundNames(self.names).printer(taken=self.names.coordinates.values())
        printer.statement("possible = ", bound)
        return printer.lines

    def extreme_lines(self, side: Side, used: set[str]) -> list[str]:
        """Statements for the minimum and maximum in a block of each coordinate, and of the head, that is used."""
        lines = []
        if side is Side.QUERY:
            lines += [f"head_{end} = tl.{name}(row_head, 0)" for end, name in _EXTREMES if f"head_{end}" in used]
        else:
            ends = {"first_key": "min", "last_key": "max"}
            lines += [f"{name} = tl.{function}(key_positions, 0)" for name, function in ends.items() if name in used]
        for name in reads(self.plan.mask.relation).coordinate_names(side):
            text, is_bool = self.names.coordinates[side, name], self.names.type(side, name) is Type.BOOL
            value, truth = (f"{text}.to(tl.int32)", " != 0") if is_bool else (text, "")
            for end, function in _EXTREMES:
                if f"{text}_{end}" in used:
                    lines.append(f"{text}_{end} = tl.{function}({value}){truth}")
        return lines


def _ends_over_heads(node: Leaf) -> Bounds:
    """As `ends`, with bounds of the head. Floats have none: Triton's minimum ignores NaN."""
    match node:
        case Head():
            return Bounds(Coordinate(Side.QUERY, f"{HEAD} low"), Coordinate(Side.QUERY, f"{HEAD} high"))
        case Coordinate(type=Type.FLOAT):
            return ANYTHING[Type.FLOAT]
        case _:
            return ends(node)
