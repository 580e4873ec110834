"""Plan to the code that fills the loops of the forward kernel; `backward_body.py` derives that of the backward pass."""

from collections.abc import Iterable, Mapping
from functools import cached_property

from maskdsl.base.records import dataclass
from maskdsl.emit.plan import KernelPlan, unused
from maskdsl.emit.triton.token_coordinates import DistanceTable, KernelNames
from maskdsl.emit.triton.triton_printer import KEYS_BY_QUERIES, POSITIONS, QUERIES_BY_KEYS, TritonPrinter
from maskdsl.emit.triton.unnormalized import forward_holes
from maskdsl.ir.expressions import PAIR, TRUE, Constant, Expression, Score, Side, substitute
from maskdsl.ir.facts.ranges import Range, largest_magnitude, mask_leaf
from maskdsl.ir.facts.reads import reads
from maskdsl.ir.mask import Normalize
from maskdsl.ir.ops import Type

Holes = dict[str, list[str]]
MaybeHoles = dict[str, list[str] | None]
"""The lines of holes by name; None keeps the code of the skeleton."""
_EXACTLY: Holes = {
    "full_softmax": [
        "p, rescale, m_i = online_softmax_step_exactly(s, m_i, UNIT)",
        "l_i = l_i * rescale + tl.sum(p, 1)",
    ]
}
"""The softmax of full tiles, of scores of any size."""
_LARGEST_SCALE = 2 / 1.4426950408889634
_LARGE = 2.0**10
"""Differences of logarithms of base 2 of smaller scores are as exact as their probabilities need."""


@dataclass(frozen=True)
class Body:
    """The code of a pattern inside a kernel."""

    plan: KernelPlan
    transposed: bool = False
    """Scores are [keys, queries]."""

    @cached_property
    def names(self) -> KernelNames:
        return KernelNames(self.plan)

    @property
    def reserved_names(self) -> set[str]:
        """Further variables of its kernels, which printed ones must avoid."""
        return set()

    def holes(self) -> MaybeHoles:
        score, weight = self.score_lines(), self.weight_lines()
        return {
            **forward_holes(self.plan),
            **(_EXACTLY if scores_may_be_large(self.plan) else {}),
            "query_coordinates": [
                *self.table_lines(),
                *self.coordinate_lines(Side.QUERY, [*self.of_partial_tiles(), *self.plan.mask.query_values]),
            ],
            "full_score": [*self.coordinate_lines(Side.KEY, self.changes()), *score],
            "full_weight": weight,
            "partial_score": [*self.coordinate_lines(Side.KEY, self.of_partial_tiles()), *score],
            "predicate": self.relation_lines(),
            "partial_weight": [*weight, "p = tl.where(attends, p, 0.0)"] if weight else [],
            "query_values": self.query_value_lines("QUERY_BLOCK"),
        }

    def changes(self) -> list[Expression]:
        """The expressions that full tiles evaluate too: all but the relation."""
        return [each for each in self.plan.pair_expressions if each is not self.plan.mask.relation]

    def of_partial_tiles(self) -> list[Expression]:
        """The expressions that partial tiles evaluate. Limits in closed form take the place of the relation."""
        limits = self.plan.column_limits if self.transposed else self.plan.row_limits
        return list(self.plan.pair_expressions) if limits is None else self.changes()

    @property
    def axes(self) -> Mapping[Side, str]:
        return KEYS_BY_QUERIES if self.transposed else QUERIES_BY_KEYS

    def printer(
        self,
        relation: bool,
        offsets: Mapping[Expression, str] | None = None,
        prefix: str = "",
        approximates: bool = False,
        loads: Mapping[Expression, tuple[str, Range]] | None = None,
    ) -> TritonPrinter:
        names = self.names
        return TritonPrinter(
            self.plan.mask,
            names.leaf,
            coordinates=lambda side, name: names.coordinates[side, name],
            spaces=lambda side, space: f"{names.kind(side)}_{space}",
            inputs=names.inputs,
            relation=relation,
            taken={
                *names.taken,
                *names.coordinates.values(),
                *names.numbers,
                *names.inputs.values(),
                *self.reserved_names,
            },
            axes=self.axes,
            offsets=offsets,
            prefix=prefix,
            approximates=approximates,
            loads=loads,
        )

    def score_printer(self, offsets: Mapping[Expression, str] | None = None) -> TritonPrinter:
        """A printer of scores and weights of pairs."""
        loads: dict[Expression, tuple[str, Range]] = {
            each.term.value: (self.distance_load(each), each.term.range) for each in self.names.distance_tables
        }
        return self.printer(relation=False, offsets=offsets, approximates=True, loads=loads)

    def distance_load(self, table: DistanceTable) -> str:
        """The load of a term from its table by distance.

        Of positions, places in the block are added last: they are constants, which loads take in their addresses.
        """
        names, name, coordinate = self.names, table.text, table.term.coordinate
        query, key = (names.coordinates[side, coordinate] for side in PAIR)
        if coordinate != "i" or not all("i" in names.arithmetic[side] for side in PAIR):
            return f"tl.load({name} + {name}_first + ({key} - {query}))"
        if self.transposed:
            end = "- block * QUERY_BLOCK - tl.arange(0, QUERY_BLOCK)[None, :]"
            return f"tl.load({name} + ({name}_first + {key}) {end})"
        end = "+ block * KEY_BLOCK + tl.arange(0, KEY_BLOCK)[None, :]"
        return f"tl.load({name} + ({name}_first - {query}) {end})"

    def table_lines(self) -> list[str]:
        """Statements that move the pointers of per-token tables to the batch entry and the head."""
        names = [table.text for table in self.names.tables]
        return [f"{name} += wide_batch * {name}_batch_stride + wide_head * {name}_head_stride" for name in names]

    def coordinate_lines(self, side: Side, expressions: Iterable[Expression], prefix: str = "") -> list[str]:
        """Statements for the coordinates of one side that expressions read, shaped to broadcast over scores.

        `prefix` is that of the variables that hold the moved pointers of tables, where these are no arguments.
        """
        # A variable keeps its type through a Triton loop, so queries, keys and pairs share none.
        names, printer = self.names, self.printer(relation=True, prefix=self.values_prefix(side))
        for name in names.needed(side, expressions):
            text, table, value = names.coordinates[side, name], names.table(side, name), names.value(side, name)
            if table is not None:
                truth = " != 0" if names.type(side, name) is Type.BOOL else ""
                printer.lines.append(f"{text} = {self.loaded(side, name, f'{prefix}{table.text}')}{truth}")
            elif isinstance(value, Constant):
                printer.lines.append(f"{text} = tl.full([1, 1], {value.value}, tl.int64)")
            elif value is not None:
                printer.assign(text, value)
            else:
                printer.lines.append(f"{text} = {names.axis(side, name) or self.token_positions(side)}")
        return printer.lines

    def values_prefix(self, side: Side) -> str:
        """In front of the names of what coordinates of one side are computed from."""
        return f"{side.letter}_"

    def token_positions(self, side: Side) -> str:
        """The positions of the tokens of one side, shaped to broadcast over scores."""
        return f"{POSITIONS[side]}{self.axes[side]}"

    def loaded(self, side: Side, name: str, table: str) -> str:
        """The load of a coordinate from a per-token table."""
        return f"tl.load({table} + {POSITIONS[side]}){self.axes[side]}"

    def relation_lines(self) -> list[str]:
        if self.plan.mask.relation == TRUE:
            return []
        printer = self.printer(relation=True)
        printer.statement("attends &= ", self.plan.mask.relation)
        return printer.lines

    def score_lines(self) -> list[str]:
        """Statements from `s`, the products of queries and keys, to final scores. A constant scale may be in UNIT."""
        printer = self.score_printer()
        self.scale_products(printer)
        for expression in self.plan.mask.scores:
            replace_score(printer, expression)
        return printer.lines

    def scale_products(self, printer: TritonPrinter) -> None:
        mask = self.plan.mask
        if mask.scale is None and (mask.scores or mask.normalize is Normalize.NONE):
            printer.lines.append("s *= DIM**-0.5")
        elif mask.scale is not None and constant_unit(self.plan) is None and mask.scale != Constant(1.0):
            printer.statement("s *= ", mask.scale)

    def weight_lines(self) -> list[str]:
        """Statements that multiply p by the weight; p = 0 stays 0, even for an infinite weight."""
        weight = self.plan.mask.weight
        if weight is None:
            return []
        printer = self.score_printer()
        if isinstance(weight, Constant):
            printer.statement("p *= ", weight)
            return printer.lines
        printer.assign("weights", weight)
        return [*printer.lines, "p = tl.where(p == 0, 0.0, p * weights)"]

    def query_value_lines(self, block: str) -> list[str]:
        """Statements that add sinks to l_i, and multiply the output, which l_i will divide, by the factor."""
        mask, printer = self.plan.mask, self.printer(relation=False)
        printer.lines += [f"s = tl.zeros([{block}, 1], dtype=WIDE)"] if mask.query_values else []
        for sink in mask.sinks:
            name = self.assigned("sink", sink, printer)
            printer.lines += [
                f"sink_i = {self.counted_sink(f'tl.sum(s + {name}, 1)')} * (1.4426950408889634 / UNIT)",
                *self.of_first_piece("sink_i"),
                "l_i, rescale, m_i = join_sink(sink_i, m_i, l_i, UNIT)",
                self.scaled_result("rescale[:, None]"),
            ]
        if mask.factor is not None:
            name = self.assigned("factor", mask.factor, printer)
            printer.lines.append(self.weighed_result(name))
        return printer.lines

    def assigned(self, word: str, expression: Expression, printer: TritonPrinter) -> str:
        """The name of a variable that holds an expression, like `s` in its shape or in WIDE: constants have 32 bits."""
        name = unused(word, printer.taken)
        if isinstance(expression, Constant):
            printer.lines.append(f"{name} = {printer.filled(expression)}")
            printer.taken.add(name)
        else:
            printer.assign(name, expression)
        return name

    def scaled_result(self, factor: str) -> str:
        """The statement that multiplies the output."""
        return f"result = scaled(result, {factor})"

    def weighed_result(self, factor: str) -> str:
        """The same for a factor that may be infinite; zeros stay zeros."""
        return f"result = scaled_but_zeros(result, {factor})"

    def of_first_piece(self, score: str) -> list[str]:
        """Statements by which, of the programs that compute pieces of a row, the first alone counts this score."""
        return []

    def counted_sink(self, score: str) -> str:
        """The score of a sink in this program."""
        return score


def constant_unit(plan: KernelPlan) -> float | None:
    """The pattern's scale if UNIT can hold it: a positive constant, then a softmax, and a unit up to 2.

    `online_softmax_step` needs a unit of at most 2.
    """
    scale = plan.mask.scale
    in_unit = not plan.mask.scores and plan.mask.normalize is not Normalize.NONE
    if isinstance(scale, Constant) and 0 < scale.value <= _LARGEST_SCALE and in_unit:
        return float(scale.value)
    return None


def changes_scores(plan: KernelPlan) -> bool:
    """Whether a softmax is of changed scores; UNIT is log2(e) alone in this case."""
    if plan.mask.normalize is Normalize.NONE:
        return False
    return constant_unit(plan) is None and (bool(plan.mask.scores) or plan.mask.scale is not None)


def scores_may_be_large(plan: KernelPlan) -> bool:
    """Whether a softmax is of changed scores, and these may be of any size: a soft cap, say, bounds them."""
    score: Expression = Score()
    for each in plan.mask.scores:
        score = substitute(each, {Score(): score})
    return changes_scores(plan) and largest_magnitude(score, mask_leaf(plan.mask)) > _LARGE


def replace_score(printer: TritonPrinter, expression: Expression) -> None:
    """Adds the statement of one `score` line; a value that does not read `s` is broadcast to all pairs."""
    if isinstance(expression, Constant) or reads(expression).score:
        printer.assign_score(expression)
    else:
        printer.statement("s = tl.zeros_like(s) + ", expression)
