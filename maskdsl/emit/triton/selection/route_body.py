"""Route to the code that fills `codegen/selection.py` and `codegen/selection_rows.py`: kernels that select key groups.

One stores the scores of tiles, the other selects in their rows. A threshold needs the first alone: it says who is a
candidate, and all candidates are selected.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import cached_property, reduce

from maskdsl.base.records import dataclass
from maskdsl.emit.plan import KernelPlan
from maskdsl.emit.route_text import product_leaves, score_of_products
from maskdsl.emit.skeleton import fill, read_skeleton, words_of
from maskdsl.emit.triton.forward_body import Body, MaybeHoles
from maskdsl.emit.triton.selection.route_names import AXES, EXISTS, FIRSTS, RouteNames, product_name, vector_names
from maskdsl.emit.triton.triton_printer import QUERIES_BY_KEYS
from maskdsl.ir.declared.inputs import Input
from maskdsl.ir.expressions import FALSE, PAIR, TRUE, Apply, Constant, Coordinate, Expression, Side
from maskdsl.ir.facts.reads import reads
from maskdsl.ir.ops import Op
from maskdsl.ir.routes import Above, Route, TopCount, TopMass, selector_argument

_POSITION = {
    "row": "(first + block) % blocks",
    "entry": "(first + block) // blocks % entries",
    "batch": "(first + block) // blocks // entries",
}
"""Where the tile of a program is."""
_PRELUDE = {
    "wide_batch": "batch.to(tl.int64)",
    "head": "entry * sharing",
    "wide_head": "(entry * sharing).to(tl.int64)",
    "query_rows": "tl.minimum(row * QUERY_BLOCK + tl.arange(0, QUERY_BLOCK), query_groups - 1)",
    "key_rows": "tl.minimum(column * KEY_BLOCK + tl.arange(0, KEY_BLOCK), key_groups - 1)",
}
"""Variables that are computed in front of lines that read them."""
_SOFTMAX = """
most = tl.full([QUERY_BLOCK, KEY_BLOCK], float("-inf"), dtype=WIDE)
for column in range(columns):
    if not HELD:
        s = stored(scores, column, key_groups, KEY_BLOCK)
    most = tl.maximum(most, s)
m_i = tl.max(most, 1)
# Rows without candidates: -inf - -inf would be NaN.
m_i = tl.where(m_i == float("-inf"), 0.0, m_i)
sums = tl.zeros([QUERY_BLOCK, KEY_BLOCK], dtype=WIDE)
for column in range(columns):
    if not HELD:
        s = stored(scores, column, key_groups, KEY_BLOCK)
    sums += weigh(s, m_i, SHARE)
l_i = tl.sum(sums, 1)
""".strip().split("\n")
"""The maximum and the softmax sum of the candidates of each query group."""
_CHOSEN = """
queries += row * QUERY_BLOCK
result += ((batch.to(tl.int64) * entries + entry) * query_groups + queries)[:, None] * key_groups
real = (queries < query_groups)[:, None] & (keys < key_groups)[None, :]
tl.store(result + keys[None, :], (s != float("-inf")).to(tl.int8), mask=real)
""".strip().split("\n")
"""Stores all candidates as chosen: `result` is the table."""


@dataclass(frozen=True, kw_only=True)
class RouteBody(Body):
    """The code of one route: a mask with its candidates for a relation and its score, over pairs of groups."""

    route: Route

    @staticmethod
    def of(plan: KernelPlan, route: Route) -> "RouteBody":
        scores = score_of_products(route), selector_argument(route.selector), route.always
        mask = replace(plan.mask.declared, relation=route.candidates, scores=scores)
        mask = replace(mask, weight=None, scale=None)
        return RouteBody(plan=replace(plan, mask=mask), route=route)

    @cached_property
    def names(self) -> RouteNames:
        return RouteNames(self.plan, self.route)

    def token_names(self, side: Side) -> set[str]:
        """The coordinates from which the kernel's tables are computed."""
        names = {each.name for each in self.names.tables if each.kind == side} - {FIRSTS, EXISTS}
        by = self.route.grouping(side).by
        if by is None or not self.names.is_irregular(side):
            return names
        return names | {by} | {each.name for each in reads(*self.names.sequence(side).counted).coordinates}

    # The kernel

    def text(self, stem: str) -> str:
        """The text of the kernels and of the function that launches them; `stem` replaces `route` in their names."""
        coordinates = self.group_coordinates(PAIR, self.plan.pair_expressions)
        candidates, forced, wanted = self.candidate_lines(), self.forced_lines(), self.wanted_lines()
        score = self.with_prelude([*coordinates, *self.score_lines()], [*candidates, *forced])
        whole = isinstance(self.route.selector, Above)
        words = words_of("\n".join([*score, *candidates, *forced, *(_CHOSEN if whole else ())]))
        values, asked = self.arguments(words), self.arguments(words_of("\n".join(wanted)))
        holes: MaybeHoles = {
            "above": [],
            "numbers": [f"NUMBERS += {_strides_of(name)}".replace("'", '"') for name in self.vectors],
            "parameters": [f"{name}: tl.constexpr," if name == "STRIDE_UNIT" else f"{name}," for name in values],
            "position": [f"{name} = {text}" for name, text in _POSITION.items() if name in words],
            "score": score,
            "candidates": candidates,
            "forced": forced,
            "result": _CHOSEN if whole else None,
            "prepare": self.preparation(),
            "arguments": _added("tile", values),
            "rows": [] if whole else None,
            "row_arguments": _added("row", asked),
            "launches": ["route_scores_kernel[(whole * columns,)](table, 0, blocks, **sizes, **tile)"]
            if whole
            else None,
        }
        texts = [fill(read_skeleton("selection"), holes)]
        if not whole:
            chosen = ["chosen |= s != s"] if forced else []
            holes = {"above": [], "parameters": [f"{name}," for name in asked], "wanted": wanted, "chosen": chosen}
            texts.insert(0, fill(read_skeleton("selection_rows"), holes))
        text = "\n\n\n".join(each.strip("\n") for each in texts)
        return re.sub(r"\broute_(?=(scores_kernel|kernel|select)\b)", f"{stem}_", text)

    @property
    def reserved_names(self) -> set[str]:
        return {product_name(each) for each in product_leaves(self.route)}

    def group_coordinates(self, sides: Iterable[Side], expressions: Iterable[Expression]) -> list[str]:
        """Statements for the coordinates that expressions read: those of the first token of each group."""
        statements: list[str] = []
        for side in sides:
            lines = self.coordinate_lines(side, expressions)
            spaces = any(each.side is side for each in reads(*expressions).spaces)
            statements += [*(self.position_lines(side) if lines or spaces else []), *lines]
        return statements

    def position_lines(self, side: Side) -> list[str]:
        """The statement for the position of the first token of each group."""
        size = self.names.run_size(side)
        if self.names.is_irregular(side):
            return [f"{side}_positions = tl.load({side}_firsts + {side}_rows)"]
        return [f"{side}_positions = {side}_rows" + (f" * {size}" if size else "")]

    @cached_property
    def added(self) -> tuple[list[Coordinate], list[Expression]]:
        """The terms of the score: the products among them, and all others."""
        leaves, terms = product_leaves(self.route), list(_terms(self.plan.mask.scores[0]))
        added = [each for each in terms if isinstance(each, Coordinate) and each in leaves]
        return added, [each for each in terms if each not in leaves]

    @cached_property
    def products(self) -> list[tuple[str, list[int]]]:
        """The variables of products and the products in each: a sum is one product of concatenated vectors."""
        leaves, (added, others) = product_leaves(self.route), self.added
        read = reads(*others)
        named = [(product_name(leaf), [number]) for number, leaf in enumerate(leaves) if leaf in read.leaves]
        return [*named, ("s", [leaves.index(each) for each in added])] if added else named

    def score_lines(self) -> list[str]:
        lines: list[str] = []
        for number, (name, summed) in enumerate(self.products):
            lines += _product_lines(number, name, f"{len(summed)} * DIM" if len(summed) > 1 else "DIM")
        _, others = self.added
        if others:
            printer = self.printer(relation=False)
            printer.statement("s += ", reduce(lambda one, other: Apply(Op.ADD, (one, other)), others))
            lines += printer.lines
        return lines

    def candidate_lines(self) -> list[str]:
        printer = self.printer(relation=True)
        if self.route.candidates != TRUE:
            printer.statement("eligible &= ", self.route.candidates)
        if isinstance(self.route.selector, Above):
            printer.assign("threshold", self.route.selector.threshold)
            printer.lines.append("eligible &= s.to(tl.float64) > threshold")
        return [*self.existing("eligible"), *printer.lines]

    def forced_lines(self) -> list[str]:
        """Statements that give NaN to the pairs that are selected before all others: no candidate has it."""
        if self.route.always == FALSE:
            return []
        printer = self.printer(relation=True)
        printer.assign("forced", self.route.always)
        return [*printer.lines, *self.existing("forced"), 's = tl.where(forced, float("nan"), s)']

    def existing(self, name: str) -> list[str]:
        """Statements that take the groups without tokens out of a variable."""
        kinds = [side for side in PAIR if self.names.is_irregular(side)]
        return [f"{name} &= (tl.load({kind}_exists + {kind}_rows) != 0){QUERIES_BY_KEYS[kind]}" for kind in kinds]

    def wanted_lines(self) -> list[str]:
        """Statements for the weight to select: a count, or a mass of the softmax."""
        match self.route.selector:
            case TopCount(count=count):
                lines = ["SHARE: tl.constexpr = False", "m_i = tl.zeros([QUERY_BLOCK], dtype=WIDE)"]
                return lines + self.rows_of("wanted", "tl.int32", count)
            case TopMass(mass=mass):
                lines = [*_SOFTMAX, *self.rows_of("wanted", "tl.float64", mass)]
                return ["SHARE: tl.constexpr = True", *lines, "wanted *= l_i"]
            case Above():
                return []

    def rows_of(self, name: str, dtype: str, value: Expression) -> list[str]:
        """Statements for a value of each query group."""
        if isinstance(value, Constant):
            number = min(value.value, 2**31 - 1)
            return [f"{name} = tl.full([QUERY_BLOCK], {number}, dtype={dtype})"]
        printer = self.printer(relation=True)
        printer.assign("asked", value)
        lines = self.with_prelude([*self.group_coordinates([Side.QUERY], [value]), *printer.lines])
        limited = "asked" if dtype == "tl.float64" else "tl.minimum(asked, key_groups)"
        return [
            *lines,
            f"{name} = tl.reshape(({limited} + tl.zeros([QUERY_BLOCK, 1], {dtype})).to({dtype}), [QUERY_BLOCK])",
        ]

    def with_prelude(self, lines: list[str], others: Iterable[str] = ()) -> list[str]:
        """The lines, behind what they or others read: the pointers of tables, moved, and variables of `_PRELUDE`."""
        words = words_of("\n".join([*lines, *others]))
        lines = [*(line for line in self.table_lines() if line.partition(" ")[0] in words), *lines]
        words |= words_of("\n".join(lines))
        return [*(f"{name} = {text}" for name, text in _PRELUDE.items() if name in words), *lines]

    # The launch

    def arguments(self, words: set[str]) -> dict[str, str]:
        """The kernel's parameters that occur in `words`, and their arguments."""
        names = self.names
        pointers = [table.text for table in names.tables] + [names.inputs[each.name] for each in self.read_inputs]
        numbers = {**names.numbers, **names.input_numbers(self.read_inputs)}
        for table in names.tables:
            numbers |= {f"{table.text}_{axis}_stride": f"{table.text}.stride({n})" for n, axis in enumerate(AXES[:2])}
        pointers += self.vectors
        strides = [each for name in self.vectors for each in _strides_of(name)]
        numbers |= {name: f"strides[{n}]" for n, name in enumerate(strides)}
        numbers |= {f"{name}_sharing": f"heads // {name}.shape[1]" for name in self.vectors}
        numbers["STRIDE_UNIT"] = "stride_unit"
        return {
            name: value for name, value in {**{each: each for each in pointers}, **numbers}.items() if name in words
        }

    @cached_property
    def vectors(self) -> list[str]:
        """The pointers to the vectors of all products."""
        return [name for number in range(len(self.products)) for name in vector_names(number)]

    @cached_property
    def read_inputs(self) -> tuple[Input, ...]:
        return self.plan.mask.named(self.plan.reads.inputs)

    def preparation(self) -> list[str]:
        """Statements that make the tables, the inputs and the vectors that the kernel reads."""
        lines = []
        for table in self.names.tables:
            of_groups = {FIRSTS: f"{table.kind}_groups.positions", EXISTS: f"{table.kind}_groups.exists"}
            tokens = "queries" if table.kind == "query" else "keys"
            values = of_groups.get(table.name) or f'{tokens}["{self.plan.identifiers[table.name]}"]'
            lines.append(f"{table.text} = token_table({values}, None, batch, heads, {table.dtype})")
        lines += self.names.input_lines(self.read_inputs)
        for number, (_, summed) in enumerate(self.products):
            pairs = ", ".join(f"pairs[{each}]" for each in summed)
            lines.append(f"{', '.join(vector_names(number))} = joined(heads, {pairs})")
        if self.vectors:
            lines.append(f"stride_unit, strides = strides_in_units({', '.join(self.vectors)})")
        return lines


def _strides_of(vectors: str) -> list[str]:
    """The arguments of a kernel that are strides of vectors, in units."""
    return [f"{vectors}_{axis}_stride" for axis in AXES]


def _product_lines(number: int, name: str, dim: str) -> list[str]:
    """Statements for one product: the pointers of its vectors, then the product."""
    lines = []
    for side, pointer in zip(PAIR, vector_names(number), strict=True):
        lines += [
            f"{side}_vectors = {pointer} + wide_batch * {pointer}_batch_stride * STRIDE_UNIT",
            f"{side}_vectors += wide_head // {pointer}_sharing * {pointer}_head_stride * STRIDE_UNIT",
            f"{side}_vectors += {side}_rows{QUERIES_BY_KEYS[side]}.to(tl.int64) * {pointer}_token_stride * STRIDE_UNIT",
        ]
    return [
        *lines,
        f"{name} = products(tl.zeros_like(s), query_vectors, key_vectors, {dim}, STEP, PRECISION)",
    ]


def _added(options: str, values: dict[str, str]) -> list[str]:
    """Statements that add arguments to the options of a kernel."""
    return [f"{options} |= {{", *(f'    "{name}": {value},' for name, value in values.items()), "}"] if values else []


def _terms(expression: Expression) -> Iterator[Expression]:
    """The terms of a sum."""
    match expression:
        case Apply(Op.ADD, operands):
            for each in operands:
                yield from _terms(each)
        case _:
            yield expression
