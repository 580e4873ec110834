"""Plan to a Triton module of decoding and chunked prefill, by split-KV, from `codegen/decode.py`.

Where tables say what is attended, a kernel of `codegen/decode_pairs.py` writes it as bits before, for one query.
"""

from dataclasses import replace
from itertools import chain
from typing import NamedTuple

from maskdsl.base.records import dataclass
from maskdsl.emit.header import header
from maskdsl.emit.plan import KernelPlan, decode_plan
from maskdsl.emit.skeleton import fill, read_skeleton, words_of
from maskdsl.emit.triton.attention_module import Surroundings, shared_functions
from maskdsl.emit.triton.decoding.decode_body import DecodeBody, reads_rows
from maskdsl.emit.triton.decoding.listed_blocks import ListedBody
from maskdsl.emit.triton.forward_body import Holes
from maskdsl.emit.triton.unnormalized import decode_holes
from maskdsl.ir.expressions import TRUE, Expression, Side

_PRESENT = "present = tl.max(attends.to(tl.int32), 0) > 0"
_BITS = [
    "if ONE_QUERY:",
    "    blocks = tl.cdiv(key_length, KEY_BLOCK)",
    "    pair_bits += (wide_batch * heads + wide_head) * blocks",
    "    tile_bits += ((wide_batch * key_heads + key_head) * tiles + tile) * blocks",
]
_OF_PAIRS = ["attends &= has_bit(tl.load(pair_bits + block)[:, None], tl.arange(0, KEY_BLOCK)[None, :])"]
_OF_TILE = ["present &= has_bit(tl.load(tile_bits + block), tl.arange(0, KEY_BLOCK))"]
_LISTED_BLOCKS = [
    "for _ in range(listed_count):",
    "    lowest, bits = take_lowest(bits)",
    "    block = first_listed + splits * lowest",
]


def emit_decode(plan: KernelPlan) -> str:
    """The text of a module with `decode(q, k, v, inputs, query_starts, ...) -> (out, lse)`: torch and Triton only."""
    plan = decode_plan(plan)
    body = DecodeBody(plan)
    kernel = _kernel_holes(body)
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


def _kernel_holes(body: DecodeBody) -> dict[str, list[str] | None]:
    """The holes of the kernel of decoding."""
    everything = body.plan.expressions
    in_loop = [body.relation if each is body.plan.mask.relation else each for each in everything]
    weight = body.weight_lines()
    limits = body.plan.limits_of_all_heads
    lists = ListedBody(body.plan).list_lines(limits is None) if limits is None or body.has_pairs else []
    live = [] if limits is None else body.live_lines(limits)
    pairs = {
        "predicate": body.of_one(_OF_PAIRS, body.relation_lines()),
        "presence": body.of_one(_OF_TILE, [_PRESENT]),
        "row_predicate": body.row_relation_lines(),
        "score": body.score_lines(),
        "weight": [*weight, "p = tl.where(attends, p, 0.0)"] if weight else [],
        "query_values": body.query_value_lines("ROW_BLOCK"),
    }
    queries = [*body.table_lines(), *body.coordinate_lines(Side.QUERY, everything)]
    keys = body.coordinate_lines(Side.KEY, in_loop)
    lines = [*queries, *keys, *live, *lists, *(line for lines in pairs.values() for line in lines or ())]
    used = words_of("\n".join(lines))
    return {
        **decode_holes(body.plan),
        "query_coordinates": [
            *body.row_lines(used),
            *queries,
            *body.query_extremes(used),
            *(_BITS if body.has_pairs else ()),
        ],
        "live": live or None,
        "lists": lists or None,
        "blocks": _LISTED_BLOCKS if lists else None,
        "key_coordinates": [*body.position_lines(used), *keys],
        **pairs,
    }


@dataclass(frozen=True)
class _PairsBody(DecodeBody):
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


class LoopWork(NamedTuple):
    """What the loop over blocks of keys computes for a pair."""

    operations: int
    """How many distinct ones."""
    reads_pair_tables: bool
    """Whether it reads tables by both tokens, other than lists."""


def loop_work(plan: KernelPlan, one_query: bool) -> LoopWork:
    """For one query of each head, or for several."""
    plan = decode_plan(plan)
    relation = DecodeBody(plan).relation
    if one_query and reads_rows(relation):
        relation = TRUE
    loop = replace(plan, mask=replace(plan.mask, relation=relation))
    return LoopWork(loop.operations, loop.reads_pair_tables)
