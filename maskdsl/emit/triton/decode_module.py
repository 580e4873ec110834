"""Plan to a Triton module of decoding and chunked prefill, by split-KV, from `codegen/decode.py`.

Where tables say what is attended, a kernel of `codegen/decode_pairs.py` writes it as bits before, for one query.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from itertools import chain
from typing import NamedTuple

from maskdsl.analysis.closed.closed_form import Limits
from maskdsl.base.records import dataclass
from maskdsl.emit.header import header
from maskdsl.emit.plan import KernelPlan, decode_plan
from maskdsl.emit.skeleton import fill, read_skeleton, words_of
from maskdsl.emit.triton.attention_module import Surroundings, shared_functions
from maskdsl.emit.triton.block_bounds import HEAD, BoundNames, ends
from maskdsl.emit.triton.forward_body import Body, Holes
from maskdsl.emit.triton.tile_loops import Ends
from maskdsl.emit.triton.token_coordinates import LISTED, KernelNames
from maskdsl.emit.triton.unnormalized import decode_holes
from maskdsl.ir.declared.inputs import DimensionKind
from maskdsl.ir.expressions import TRUE, Coordinate, Expression, Head, Leaf, Read, Side, walk
from maskdsl.ir.facts.block_conditions import CONDITION, BlockCondition, block_condition
from maskdsl.ir.facts.bounds import ANYTHING, Bounder, Bounds
from maskdsl.ir.facts.reads import reads
from maskdsl.ir.facts.trace import trace
from maskdsl.ir.mask import Normalize
from maskdsl.ir.ops import Type

_EXTREMES = (("low", "min"), ("high", "max"))
_MOST_KEYS = 64
"""Of a block."""
_OF_BLOCK = "of_block = (({} >> lowest) & 1) != 0"
_AS_SCORES = 'row_bits |= (m_i[:, None] > float("inf")).to(tl.int64)  # nothing: registers hold rows as those of scores'
_PRESENT = "present = tl.max(attends.to(tl.int32), 0) > 0"
_POSSIBLE = "possible = listed < live_end"
_BITS = [
    "if ONE_QUERY:",
    "    blocks = tl.cdiv(key_length, KEY_BLOCK)",
    "    pair_bits += (wide_batch * heads + wide_head) * blocks",
    "    tile_bits += ((wide_batch * key_heads + key_head) * tiles + tile) * blocks",
]
_OF_PAIRS = ["attends &= has_bit(tl.load(pair_bits + block)[:, None], tl.arange(0, KEY_BLOCK)[None, :])"]
_OF_TILE = ["present &= has_bit(tl.load(tile_bits + block), tl.arange(0, KEY_BLOCK))"]
_POSSIBLE_OF_TILE = ["possible = tl.load(tile_bits + listed, mask=listed < live_end, other=0) != 0"]
_LISTED_BLOCKS = [
    "for _ in range(listed_count):",
    "    lowest, bits = take_lowest(bits)",
    "    block = first_listed + splits * lowest",
]


def emit_decode(plan: KernelPlan) -> str:
    """The text of a module with `decode(q, k, v, inputs, query_starts, ...) -> (out, lse)`: torch and Triton only."""
    plan = decode_plan(plan)
    body = _DecodeBody(plan)
    kernel = body.decode_holes()
    of_pairs = _PairsBody(plan).pairs_holes() if body.has_pairs else {}
    lines = [line for lines in (*kernel.values(), *of_pairs.values()) for line in lines or ()]
    around = Surroundings(plan, body.names, lines, laid_out=False)
    holes = around.holes()
    if body.has_pairs:
        read = [name for name in around.values() if name in words_of("\n".join(chain(*of_pairs.values())))]
        of_pairs["parameters"] = [f"{name}," for name in read]
        holes |= _bits_holes(holes, {name: around.values()[name] for name in read})
    top = header(plan, "triton", "Decoding and chunked prefill in Triton.")
    functions = shared_functions(plan, exactly=True)
    pieces = [fill(read_skeleton("decode"), {**kernel, **holes, "functions": functions, "header": top})]
    if body.has_pairs:
        pieces.append(fill(read_skeleton("decode_pairs"), {"above": [], **of_pairs}))
    return "\n\n".join(pieces)


def _bits_holes(holes: Holes, read: dict[str, str]) -> Holes:
    """The holes around a kernel that reads bits of pairs, from those of one that does not."""
    names = ("pair_bits", "tile_bits")
    call = "attended_pairs(q, key_heads, query_starts, key_lengths, lengths, block, read)"
    return {
        "parameters": [*(f"{name}," for name in names), *holes["parameters"]],
        "arguments": [*(f"{name}={name}," for name in names), *holes["arguments"]],
        "prepare": [
            *holes["prepare"],
            f"{', '.join(names)} = None, None",
            "if queries == 1:",
            "    read = {",
            *(f'        "{name}": {value},' for name, value in read.items()),
            "    }",
            f"    {', '.join(names)} = {call}",
        ],
    }


@dataclass(frozen=True)
class _DecodeBody(Body):
    """The code of a pattern where a tile's rows belong to several heads: `head` and `wide_head` hold one a row."""

    @cached_property
    def names(self) -> KernelNames:
        return _DecodeNames(self.plan)

    @cached_property
    def condition(self) -> BlockCondition | None:
        return _listed_condition(self.plan)

    @cached_property
    def has_pairs(self) -> bool:
        """Whether a kernel before this one writes which keys one query attends."""
        return _reads_rows(self.relation)

    @property
    def relation(self) -> Expression:
        """What the loop evaluates for pairs."""
        return self.plan.mask.relation if self.condition is None else self.condition.rest

    def decode_holes(self) -> dict[str, list[str] | None]:
        everything = self.plan.expressions
        in_loop = [self.relation if each is self.plan.mask.relation else each for each in everything]
        weight = self.weight_lines()
        limits = self.plan.limits_of_all_heads
        lists = _ListedBody(self.plan).list_lines(limits is None) if limits is None or self.has_pairs else []
        live = [] if limits is None else self.live_lines(limits)
        pairs = {
            "predicate": self.of_one(_OF_PAIRS, self.relation_lines()),
            "presence": self.of_one(_OF_TILE, [_PRESENT]),
            "row_predicate": self.row_relation_lines(),
            "score": self.score_lines(),
            "weight": [*weight, "p = tl.where(attends, p, 0.0)"] if weight else [],
            "query_values": self.query_value_lines("ROW_BLOCK"),
        }
        queries = [*self.table_lines(), *self.coordinate_lines(Side.QUERY, everything)]
        keys = self.coordinate_lines(Side.KEY, in_loop)
        lines = [*queries, *keys, *live, *lists, *(line for lines in pairs.values() for line in lines or ())]
        used = words_of("\n".join(lines))
        return {
            **decode_holes(self.plan),
            "query_coordinates": [
                *self.row_lines(used),
                *queries,
                *self.query_extremes(used),
                *(_BITS if self.has_pairs else ()),
            ],
            "live": live or None,
            "lists": lists or None,
            "blocks": _LISTED_BLOCKS if lists else None,
            "key_coordinates": [*self.position_lines(used), *keys],
            **pairs,
        }

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
        lines = [f"head_{end} = tl.{name}(row_head, 0)[None, None]" for end, name in _EXTREMES if f"head_{end}" in used]
        for name in reads(self.plan.mask.relation).coordinate_names(Side.QUERY):
            text, is_bool = self.names.coordinates[Side.QUERY, name], self.names.type(Side.QUERY, name) is Type.BOOL
            value, truth = (f"{text}.to(tl.int32)", " != 0") if is_bool else (text, "")
            for end, function in _EXTREMES:
                if f"{text}_{end}" in used:
                    lines.append(f"{text}_{end} = tl.{function}({value}, 0)[None, :]{truth}")
        return lines


class LoopWork(NamedTuple):
    """What the loop over blocks of keys computes for a pair."""

    operations: int
    """How many distinct ones."""
    reads_pair_tables: bool
    """Whether it reads tables by both tokens, other than lists."""


def loop_work(plan: KernelPlan, one_query: bool) -> LoopWork:
    """For one query of each head, or for several."""
    plan = decode_plan(plan)
    relation = _DecodeBody(plan).relation
    if one_query and _reads_rows(relation):
        relation = TRUE
    loop = replace(plan, mask=replace(plan.mask, relation=relation))
    return LoopWork(loop.operations, loop.reads_pair_tables)


def _reads_rows(relation: Expression) -> bool:
    """Whether it reads tables in which rows differ: by both tokens, or by a head and a key."""
    tables = (reads(node) for node in walk(relation) if isinstance(node, Read))
    return any(each.is_of_pair or (each.head and each.names(Side.KEY)) for each in tables)


def _listed_condition(plan: KernelPlan) -> BlockCondition | None:
    """What is evaluated once a block, where blocks are listed."""
    return None if plan.limits_of_all_heads is not None else block_condition(plan.mask, _MOST_KEYS)


@dataclass(frozen=True)
class _PairsBody(_DecodeBody):
    """The code of the kernel that writes which keys one query attends."""

    @property
    def relation(self) -> Expression:
        return self.plan.mask.relation

    def pairs_holes(self) -> Holes:
        """All but `parameters`."""
        lines = {side: self.coordinate_lines(side, [self.relation]) for side in Side}
        predicate = self.printed_relation()
        used = words_of("\n".join([*chain(*lines.values()), *predicate]))
        return {
            "query_coordinates": [
                *self.row_lines(used),
                *(line for line in self.table_lines() if line.split()[0] in used),
                *lines[Side.QUERY],
            ],
            "key_coordinates": [*self.position_lines(used), *lines[Side.KEY]],
            "predicate": predicate,
        }


@dataclass(frozen=True)
class _DecodeNames(KernelNames):
    """The names of a kernel, and that of the condition of blocks."""

    @cached_property
    def coordinates(self) -> dict[tuple[Side, str], str]:
        return {**KernelNames(self.plan).coordinates, (CONDITION.side, CONDITION.name): "of_block"}

    @property
    def uncomputed(self) -> frozenset[str]:
        return frozenset({CONDITION.name})


@dataclass(frozen=True)
class _ListedNames(_DecodeNames):
    """The names of a kernel, with others for coordinates of the keys of listed blocks."""

    @cached_property
    def coordinates(self) -> dict[tuple[Side, str], str]:
        of_pairs = _DecodeNames(self.plan).coordinates
        return {each: f"{LISTED}{text}" if each[0] is Side.KEY else text for each, text in of_pairs.items()}

    @cached_property
    def token_names(self) -> frozenset[str]:
        return KernelNames(self.plan).token_names


@dataclass(frozen=True)
class _ListedBody(_DecodeBody):
    """The code that lists those of several blocks that may have pairs. Coordinates of their keys are [keys, blocks]."""

    @cached_property
    def names(self) -> KernelNames:
        return _ListedNames(self.plan)

    @property
    def blocks(self) -> int:
        """How many are listed at a time: half as many where each row looks at them, which takes registers."""
        return 64 if self.condition is None else 32

    def values_prefix(self, side: Side) -> str:
        return LISTED if side is Side.KEY else super().values_prefix(side)

    def token_positions(self, side: Side) -> str:
        return "listed_positions" if side is Side.KEY else super().token_positions(side)

    def loaded(self, side: Side, name: str, table: str) -> str:
        """The load of a coordinate of keys; where heads differ, from the table of one head."""
        head = "(key_head * heads_per_key_head + member).to(tl.int64)"
        by_head = f" + {head} * {table}_head_stride" if self.varies(side, name) else ""
        return f"tl.load({table}{by_head} + listed_positions)"

    def list_lines(self, by_bounds: bool) -> list[str]:
        """Statements that list blocks by bits of pairs, or by the bounds of the relation; none if all are possible."""
        bounds = self.bound_lines() if by_bounds else []
        if not (bounds or self.has_pairs):
            return []
        lines = [
            f"listed = (first_listed + splits * tl.arange(0, {self.blocks}))[None, :]",
            *self.of_one(_POSSIBLE_OF_TILE, bounds or [_POSSIBLE]),
            "bits, listed_count = as_bits(possible)",
        ]
        return [
            f"# Of {self.blocks} blocks at a time, bits say which may have pairs; one loop goes through these.",
            f"for first_listed in range(live_start + split, live_end, splits * {self.blocks}):",
            *(f"    {line}" for line in lines),
        ]

    def bound_lines(self) -> list[str]:
        """Statements for which of the listed blocks are possible by bounds; none if these exclude no block."""
        bound = Bounder(_ends_over_heads, self.names.leaf).bounds(self.relation).high
        if bound == TRUE:
            return []
        printer = BoundNames(self.names).printer(taken=self.names.coordinates.values())
        printer.statement("possible &= ", bound)
        conditions = self.condition_lines(words_of("\n".join(printer.lines)))
        used = words_of("\n".join([*printer.lines, *conditions]))
        return [*self.key_extremes(used), _POSSIBLE, *conditions, *printer.lines]

    def condition_lines(self, used: set[str]) -> list[str]:
        """Statements that evaluate the condition of the listed blocks for each row: bits of rows, and of any row."""
        if self.condition is None:
            return []
        of_keys = {each: f"{text}_low" for each, text in self.names.coordinates.items() if each[0] is Side.KEY}
        names = {**self.names.coordinates, **of_keys}
        printer = self.printer(relation=True, prefix=LISTED)
        without_softmax = self.plan.mask.normalize is Normalize.NONE
        printer.coordinates = lambda side, name: names[side, name]
        printer.statement("in_blocks &= ", self.condition.condition)
        return [
            "in_blocks = possible",
            *printer.lines,
            "row_bits, any_bits = bits_of_rows(in_blocks)",
            *([] if without_softmax else [_AS_SCORES]),
            *(
                f"of_block_{end} = tl.{function}(in_blocks.to(tl.int32), 0)[None, :] != 0"
                for end, function in _EXTREMES
                if f"of_block_{end}" in used
            ),
        ]

    def key_extremes(self, used: set[str]) -> list[str]:
        """Statements for the minimum and maximum in each block of each coordinate that is used."""
        low = "tl.minimum(listed * KEY_BLOCK, key_length - 1)"
        high = "tl.minimum(listed * KEY_BLOCK + KEY_BLOCK, key_length) - 1"
        variables = self.names.coordinates
        i = variables[Side.KEY, "i"]
        of_positions = {"first_key": low, "last_key": high, f"{i}_low": low, f"{i}_high": high}
        lines = [f"{name} = {text}" for name, text in of_positions.items() if name in used]
        others = [
            name
            for (side, name), text in variables.items()
            if side is Side.KEY and name != "i" and used & {f"{text}_{end}" for end, _ in _EXTREMES}
        ]
        if others:
            keys = "listed * KEY_BLOCK + tl.arange(0, KEY_BLOCK)[:, None]"
            lines.append(f"listed_positions = tl.minimum({keys}, key_length - 1)")
        alike = [name for name in others if not self.varies(Side.KEY, name)]
        lines += self.coordinate_lines(Side.KEY, [self.coordinate(name) for name in alike])
        for name in others:
            lines += self.extremes(name, variables[Side.KEY, name])
        return lines

    def extremes(self, name: str, text: str) -> list[str]:
        """Statements for the minimum and maximum of one coordinate in each block, and over heads where they differ."""
        is_bool = self.names.type(Side.KEY, name) is Type.BOOL
        value = f"{text}.to(tl.int32)" if is_bool else text
        if self.varies(Side.KEY, name):
            kind = "int32" if is_bool else self.names.dtype(Side.KEY, name).removeprefix("torch.")
            limit = 2 ** (int(kind.removeprefix("int")) - 1)
            lines = [
                f"{text}_low = tl.full([1, {self.blocks}], {limit - 1}, tl.{kind})",
                f"{text}_high = tl.full([1, {self.blocks}], {-limit}, tl.{kind})",
                "for member in range(heads_per_key_head):",
                *(f"    {line}" for line in self.coordinate_lines(Side.KEY, [self.coordinate(name)])),
                *(f"    {text}_{end} = tl.{f}imum({text}_{end}, tl.{f}({value}, 0)[None, :])" for end, f in _EXTREMES),
            ]
        else:
            lines = [f"{text}_{end} = tl.{function}({value}, 0)[None, :]" for end, function in _EXTREMES]
        return lines + [f"{text}_{end} = {text}_{end} != 0" for end, _ in _EXTREMES if is_bool]

    def coordinate(self, name: str) -> Coordinate:
        return Coordinate(Side.KEY, name, self.names.type(Side.KEY, name))


def _ends_over_heads(node: Leaf) -> Bounds:
    """As `ends`, with bounds of the head. Floats have none: Triton's minimum ignores NaN."""
    match node:
        case Head():
            return Bounds(Coordinate(Side.QUERY, f"{HEAD} low"), Coordinate(Side.QUERY, f"{HEAD} high"))
        case Coordinate(type=Type.FLOAT):
            return ANYTHING[Type.FLOAT]
        case _:
            return ends(node)
