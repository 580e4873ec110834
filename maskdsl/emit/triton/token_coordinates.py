"""The names of a Triton kernel, and where it has coordinates from: computed from the position, or read from tables."""

from collections.abc import Callable, Iterable, Iterator
from functools import cached_property
from itertools import count

from maskdsl.base.records import dataclass
from maskdsl.emit.plan import HELPERS as TORCH_HELPERS
from maskdsl.emit.plan import OF_PYTHON, KernelPlan, unused
from maskdsl.emit.skeleton import skeleton_words
from maskdsl.emit.token_costs import LOAD_COST, cost
from maskdsl.emit.torch.pattern_functions import coordinate_function
from maskdsl.emit.torch.torch_printer import TorchPrinter
from maskdsl.emit.triton.kernel_helpers import HELPERS
from maskdsl.ir.declared.inputs import Input
from maskdsl.ir.declared.sequences import Computed, CoordinateDefinition, CoordinateSource, Sequence
from maskdsl.ir.expressions import (
    PAIR,
    Coordinate,
    Expression,
    Leaf,
    Side,
    in_space,
    of_side,
)
from maskdsl.ir.facts.distance_terms import DistanceTerm
from maskdsl.ir.facts.ranges import INT32, Range, mask_leaf
from maskdsl.ir.facts.reads import reads
from maskdsl.ir.ops import Type

_SKELETONS = (
    *("forward", "backward", "key_gradient", "pieces", "block_ends", "program_order", "device_tiles"),
    *("decode", "decode_pairs", "triton_functions"),
)
_CASTS = {Type.INT: ".to(torch.int32)", Type.BOOL: ".to(torch.int8)", Type.FLOAT: ""}
_GENERATED = {
    *("sinks", "sink_i", "sink_sums", "factors", "factors_grad", "factor_i", "factor_sum", "shares", "of_queries"),
    *("token_tables", "weights", "contribution", "ds_bound", "real_keys", "grad", "grad_inputs"),
    *("full_start", "full_end", "first_query", "last_query", "first_key", "last_key", "head_low", "head_high"),
    *("low", "high", "places", "APPROXIMATE", "distance"),
    *("listed", "listed_count", "listed_positions", "first_listed", "possible", "bits", "lowest", "member"),
    *("of_block", "of_block_low", "of_block_high", "in_blocks", "row_bits", "any_bits", "existing"),
}
"""Variables of generated code that are in no skeleton."""
_ENDS = ("_low", "_high", "_lows", "_highs", "_ends")
"""Behind the name of a coordinate: its bounds over a block, and their tables."""
MARGIN = 128
"""The most tokens of a block."""
LISTED = "listed_"
"""In front of the name of a coordinate of keys: that of the keys of several blocks, in the decoding kernel."""
HEAD_TABLE = "head_"
"""In front of a per-token table's name: the pointer to the table of one query head, in the dK, dV kernel."""
_LAUNCHED = {
    *(
        "self",
        "grid",
        "warmup",
        "num_warps",
        "num_stages",
        "num_ctas",
        "maxnreg",
        "launch_pdl",
        "launch_cooperative_grid",
    ),
    *("enable_fp_fusion", "enable_reflect_ftz", "extern_libs", "debug", "arch", "backend_name", "warp_size"),
    *("waves_per_eu", "kpack", "matrix_instr_nonkdim", "allow_flush_denorm", "schedule_hint", "sanitize_overflow"),
    *("ptx_version", "ptx_options", "ir_override", "supported_fp8_dtypes", "deprecated_fp8_dot_operand_dtypes"),
    *("default_dot_input_precision", "allowed_dot_input_precisions", "max_num_imprecise_acc_default"),
    "instrumentation_mode",
}
"""The options of a launch, which are passed by name beside a kernel's arguments."""


@dataclass(frozen=True)
class CoordinateTable:
    """The per-token table of one coordinate of one kind of tokens, [batch, heads, tokens] in laid-out order."""

    kind: str
    """`token` in self-attention, where both sides share it; else `query` or `key`."""
    name: str
    text: str
    """The name of its pointer."""
    dtype: str
    """The text of its torch dtype."""


@dataclass(frozen=True)
class DistanceTable:
    """The table by distance of a term of scores, int32. There are MARGIN entries more at each end, equal to the last.

    They are of queries and keys of a block that are no tokens.
    """

    term: DistanceTerm
    text: str
    """The name of its pointer. `first` behind it: the argument that is the number of the entry of distance 0."""


@dataclass(frozen=True)
class KernelNames:
    """The names and coordinates of a plan's kernels. The words of the skeletons are taken."""

    plan: KernelPlan

    @cached_property
    def leaf(self) -> Callable[[Leaf], Range]:
        """The static range of each leaf of expressions over pairs."""
        return mask_leaf(self.plan.mask)

    @cached_property
    def taken(self) -> frozenset[str]:
        return skeleton_words(*_SKELETONS) | {*HELPERS, *TORCH_HELPERS} | _GENERATED | _LAUNCHED

    @cached_property
    def coordinates(self) -> dict[tuple[Side, str], str]:
        """The variable of each coordinate of either side."""
        chosen: dict[tuple[Side, str], str] = {}
        for side in PAIR:
            for name, text in self.plan.identifiers.items():
                chosen[side, name] = unused(f"{side.letter}_{text}", {*self.taken, *chosen.values()})
        return chosen

    @cached_property
    def inputs(self) -> dict[str, str]:
        """The pointer of each input that pairs read by index."""
        chosen: dict[str, str] = {}
        taken = self.taken | self.token_names | OF_PYTHON
        for name, text in self.plan.input_identifiers.items():
            declared = self.plan.mask.input(name)
            assert declared is not None
            pointer = next(each for each in _numbered(text) if taken.isdisjoint(_input_names(each, declared)))
            taken |= _input_names(pointer, declared)
            chosen[name] = pointer
        return chosen

    @cached_property
    def token_names(self) -> frozenset[str]:
        """The variables and arguments of coordinates, of their bounds and of their tables."""
        coordinates = {f"{text}{end}" for text in self.coordinates.values() for end in ("", *_ENDS)}
        coordinates |= {f"{LISTED}{text}" for text in coordinates}
        tables = {f"{table.text}{end}" for table in self.tables for end in ("", "_batch_stride", "_head_stride")}
        tables |= {f"{table.text}{end}" for table in self.distance_tables for end in ("", "_first")}
        return frozenset({*coordinates, *tables, *(HEAD_TABLE + table.text for table in self.tables), *self.numbers})

    def sequence(self, side: Side) -> Sequence:
        return self.plan.mask.sequences[side]

    # Coordinates

    def needed(self, side: Side, expressions: Iterable[Expression]) -> tuple[str, ...]:
        """The coordinates of one side that expressions read, each after those that it is computed from."""
        ordered: dict[str, None] = {}

        def visit(name: str) -> None:
            if name in ordered or name in self.uncomputed:
                return
            if self.axis(side, name) is not None:
                ordered.setdefault("i")
            value = self.value(side, name)
            for other in reads(value).names(side) if value is not None else ():
                visit(other)
            ordered.setdefault(name)

        for name in reads(*expressions).coordinate_names(side):
            visit(name)
        return tuple(ordered)

    @property
    def uncomputed(self) -> frozenset[str]:
        """Names of `Coordinate` leaves that stand for something else."""
        return frozenset()

    def value(self, side: Side, name: str) -> Expression | None:
        """The coordinate as an expression of others, if the kernel computes it so."""
        return self.values[side].get(name)

    @cached_property
    def values(self) -> dict[Side, dict[str, Expression]]:
        """The coordinates of either side that the kernel computes from others."""
        values: dict[Side, dict[str, Expression]] = {}
        for side in PAIR:
            names = self.arithmetic[side]
            definitions = [each for each in self.sequence(side).coordinates if each.name in names]
            values[side] = {each.name: _value_of(each, side) for each in definitions}
        return values

    @cached_property
    def arithmetic(self) -> dict[Side, frozenset[str]]:
        """The coordinates of either side that a kernel computes from the position."""
        return {side: _arithmetic_names(self.sequence(side)) for side in PAIR}

    def kind(self, side: Side) -> str:
        """`token` in self-attention, where both sides share their tables; else `query` or `key`."""
        return self.plan.mask.kind(side)

    def axis(self, side: Side, name: str) -> str | None:
        """The text of the only axis of a space: the position."""
        is_axis = name != "i" and self.sequence(side).definition(name) is None and name in self.arithmetic[side]
        return self.coordinates[side, "i"] if is_axis else None

    @cached_property
    def numbers(self) -> dict[str, str]:
        """The integer arguments of the kernel for spaces, and the values that `attention` passes."""
        numbers: dict[str, str] = {}
        for side in PAIR:
            for space in self.spaces(side):
                start, end = _space_bounds(self.sequence(side), space)
                kind = self.kind(side)
                numbers |= {f"{kind}_{space}_start": str(start), f"{kind}_{space}_end": str(end)}
        return numbers

    def spaces(self, side: Side) -> tuple[str, ...]:
        """The spaces whose membership pairs test on one side."""
        return tuple(each.space for each in self.plan.reads.spaces if each.side is side)

    # Tables

    @cached_property
    def tables(self) -> tuple[CoordinateTable, ...]:
        tables: dict[tuple[str, str], CoordinateTable] = {}
        for side in PAIR:
            for name in self.needed(side, self.plan.expressions):
                if name not in self.arithmetic[side]:
                    kind = self.kind(side)
                    text = unused(f"{kind}_{self.plan.identifiers[name]}", {*self.taken, *self.numbers})
                    tables.setdefault((kind, name), CoordinateTable(kind, name, text, self.dtype(side, name)))
        return tuple(tables.values())

    @cached_property
    def distance_tables(self) -> tuple[DistanceTable, ...]:
        chosen: list[DistanceTable] = []
        for term in self.plan.distance_terms:
            taken = {
                *self.taken,
                *self.numbers,
                *(table.text for table in self.tables),
                *(each.text for each in chosen),
            }
            chosen.append(DistanceTable(term, unused("by_distance", taken)))
        return tuple(chosen)

    def distance_lines(self, table: DistanceTable) -> list[str]:
        """Statements in torch that make a table by distance."""
        (low, high), name = table.term.distances, table.text
        printer = TorchPrinter(lambda *_: "distance", {}, {}, relation=True, taken=self.token_names)
        printer.assign(name, table.term.of_distance)
        return [
            f"distance = torch.arange({low - MARGIN}, {high + MARGIN + 1}, device=device).clamp({low}, {high})",
            *printer.lines,
        ]

    def table(self, side: Side, name: str) -> CoordinateTable | None:
        return next((each for each in self.tables if (each.kind, each.name) == (self.kind(side), name)), None)

    def type(self, side: Side, name: str) -> Type:
        definition = self.sequence(side).definition(name)
        return definition.type if definition is not None else Type.INT

    def dtype(self, side: Side, name: str) -> str:
        match self.type(side, name):
            case Type.FLOAT:
                return "torch.float64"
            case Type.BOOL:
                return "torch.int8"
            case Type.INT:
                low, high = self.leaf(Coordinate(side, name))
                return "torch.int32" if low in INT32 and high in INT32 else "torch.int64"

    def functions(self) -> list[list[str]]:
        """The torch functions that compute the tables of each kind of token."""
        mask = self.plan.mask
        functions = []
        for kind, sequence in mask.kinds.items():
            names = [table.name for table in self.tables if table.kind == kind]
            if self.plan.finds_device_tiles:
                sides = [side for side in PAIR if self.kind(side) == kind]
                names += [name for side in sides for name in self.bounded(side)]
            if names:
                functions.append(coordinate_function(self.plan, kind, sequence, dict.fromkeys(names)))
        return functions

    def bounded(self, side: Side) -> list[str]:
        """The coordinates of a side whose bounds over blocks are in tables, where kernels find tiles.

        Those of laid-out positions are declared ones where a side has no order, and need none.
        """
        is_laid_out = any(self.sequence(side).order)
        return [name for name in reads(self.plan.mask.relation).coordinate_names(side) if name != "i" or is_laid_out]

    def coordinate_calls(self, device: str) -> list[str]:
        """Statements that compute the coordinates of all kinds of tokens."""
        functions = self.functions()
        lines = []
        if any(f" {word}," in function[0] for function in functions for word in ("head", "batch")):
            lines.append(f'inputs = {{**inputs, "batch": torch.arange(batch, device={device})[:, None, None]}}')
            lines.append(f'inputs["head"] = torch.arange(heads, device={device})[:, None]')
        kinds = [function[0].removeprefix("def ").partition("_")[0] for function in functions]
        return lines + [f"{kind}_values = {kind}_coordinates(device={device}, **inputs)" for kind in kinds]

    # Inputs that are read by index

    def input_numbers(self, inputs: Iterable[Input]) -> dict[str, str]:
        """The integer arguments of these inputs: widths of their offsets, sizes and strides."""
        return {
            name: value
            for each in inputs
            for name, value in sizes_and_strides(self.inputs[each.name], len(each.dimensions)).items()
        }

    def input_lines(self, inputs: Iterable[Input]) -> list[str]:
        """Statements that take these inputs, in the types that kernels read."""
        given = {each: f'inputs["{self.plan.input_identifiers[each.name]}"]' for each in inputs}
        return [
            f"{self.inputs[each.name]} = {text}{_CASTS[each.type]}{'.contiguous()' * each.sparse}"
            for each, text in given.items()
        ]


def _numbered(text: str) -> Iterator[str]:
    """`text`, then with numbers behind it."""
    yield text
    yield from (f"{text}_{number}" for number in count(2))


def _input_names(pointer: str, declared: Input) -> frozenset[str]:
    return frozenset({pointer, *sizes_and_strides(pointer, len(declared.dimensions))})


def sizes_and_strides(text: str, axes: int) -> dict[str, str]:
    """The integer arguments of a tensor, and their values. `width` stands for the integer type of its offsets."""
    numbers = {f"{text}_width": f"width_of({text})"}
    for axis in range(axes):
        numbers[f"{text}_size_{axis}"] = f"{text}.shape[{axis}]"
        numbers[f"{text}_stride_{axis}"] = f"{text}.stride({axis})"
    return numbers


def _arithmetic_names(sequence: Sequence) -> frozenset[str]:
    """The coordinates that kernels compute from the position, as that takes no longer than to load them.

    There are none where tokens are laid out in another order.
    """
    if any(sequence.order):
        return frozenset()
    if len(sequence.spaces) > 1:
        return frozenset({"i"})
    (space,) = sequence.spaces
    names = {"i", *(axis.name for axis in space.axes if len(space.axes) == 1)}
    for definition in sequence.coordinates:  # each after those that it reads
        is_light = definition.type is Type.INT and cost(sequence, Coordinate(Side.TOKEN, definition.name)) <= LOAD_COST
        if is_light and all(_follows(source, names) for _, source in definition.sources):
            names.add(definition.name)
    return frozenset(names)


def _follows(source: CoordinateSource, names: set[str]) -> bool:
    """Whether it is computed from these coordinates alone."""
    if not isinstance(source, Computed):
        return False
    read = reads(source.value)
    return not read.inputs and names.issuperset(read.names(Side.TOKEN))


def _value_of(definition: CoordinateDefinition, side: Side) -> Expression:
    """A computed coordinate of the only space, as an expression of one side's coordinates."""
    ((space, source),) = definition.sources
    assert isinstance(source, Computed)
    return of_side(in_space(source.value, space), side)


def _space_bounds(sequence: Sequence, name: str) -> tuple[int, int]:
    """The positions [start, end) of a space, in every layout."""
    index = [space.name for space in sequence.spaces].index(name)
    start = sequence.offsets[index]
    return start, start + sequence.spaces[index].size
