"""Plan to a Triton module: forward and backward over tiles, from `codegen/forward.py`, `backward.py`, `key_gradient`.

`codegen/block_ends.py`, `program_order.py` and `device_tiles.py` join them where inputs decide the tiles.
"""

from functools import cached_property

from maskdsl.analysis.cost.tile_table import KernelName
from maskdsl.base.records import dataclass
from maskdsl.emit.header import header
from maskdsl.emit.plan import KernelPlan
from maskdsl.emit.skeleton import fill, read_skeleton, words_of
from maskdsl.emit.statement_printer import literal
from maskdsl.emit.torch.pattern_functions import helper, helpers_of, separated
from maskdsl.emit.torch.pooling_function import pooling_functions
from maskdsl.emit.torch.query_functions import GUARDS, query_functions
from maskdsl.emit.triton.backward_body import GradientBody
from maskdsl.emit.triton.device_orders import Orders
from maskdsl.emit.triton.forward_body import Holes, changes_scores, constant_unit, scores_may_be_large
from maskdsl.emit.triton.gradients.gradient_sums import GradientSums, QueryEnds
from maskdsl.emit.triton.gradients.input_gradients import Leaves
from maskdsl.emit.triton.kernel_helpers import kernel_helpers
from maskdsl.emit.triton.tile_finder import TileBody
from maskdsl.emit.triton.tile_loops import (
    Loops,
    forward_piece_holes,
    piece_holes,
    splits,
    wrapped_tuple,
)
from maskdsl.emit.triton.token_coordinates import MARGIN, KernelNames
from maskdsl.ir.declared.inputs import Input
from maskdsl.ir.expressions import Constant, Side
from maskdsl.ir.mask import Normalize

_LOG2_E = "1.4426950408889634"
_OF_TILES = ("block_ends", "program_order", "device_tiles")
"""The skeletons that find tiles on the device."""


def emit_triton(plan: KernelPlan) -> str:
    """The text of a module with `attention(q, k, v, inputs, tiles, block, ...) -> (out, lse)` and `gradients(...)`.

    It imports torch and Triton only.
    """
    plan = plan.coded
    body = GradientBody(plan)
    loops = Loops(body.names)
    forward = {**body.holes(), **loops.holes()}
    backward = {**body.gradient_holes(), **body.probability_holes(), **loops.gradient_holes()}
    tiles = TileBody(body.names).holes() if plan.finds_device_tiles else {}
    lines = [line for lines in (*forward.values(), *backward.values(), *tiles.values()) for line in lines or ()]
    around = Surroundings(plan, body.names, lines)
    top = header(plan, "triton", "Attention over tiles in Triton.")
    pieces = [
        fill(
            read_skeleton("forward"),
            {
                **forward,
                **forward_piece_holes(plan, around.unit()),
                **around.holes(),
                "functions": shared_functions(plan),
                "header": top,
            },
        ),
        fill(
            "\n\n".join(map(read_skeleton, ("backward", "key_gradient"))),
            {**backward, **around.gradient_holes(GradientSums(body.leaves))},
        ),
        *([fill(read_skeleton("pieces"), piece_holes(plan))] if any(splits(plan, each) for each in KernelName) else []),
        *([fill("\n\n".join(map(read_skeleton, _OF_TILES)), tiles)] if tiles else []),
    ]
    return "\n\n".join(pieces)


def shared_functions(plan: KernelPlan, exactly: bool = False) -> list[str]:
    """The lines of the functions that skeletons call, the online softmax and strides, for the hole `functions`."""
    names = ["online_softmax_step", "online_softmax_step_exactly"]
    if plan.mask.normalize is Normalize.NONE:
        names = []
    elif exactly or scores_may_be_large(plan):
        names = names[1:]
    text = read_skeleton("triton_functions")
    functions = [helper(text, "strides_in_units"), *(["@triton.jit", *helper(text, name)] for name in names)]
    return ["", *separated(functions), "", ""]


@dataclass(frozen=True)
class Surroundings:
    """The code around a kernel: the functions it calls, its parameters, and their arguments."""

    plan: KernelPlan
    names: KernelNames
    kernel: list[str]
    """The lines of the pattern in the kernel."""
    laid_out: bool = True
    """Per-token tables are gathered into laid-out order."""

    def values(self) -> dict[str, str]:
        """The parameters of the pattern, pointers and numbers, and their arguments."""
        return {**{name: name for name in self.pointers()}, **self.numbers()}

    def holes(self) -> Holes:
        values = self.values()
        listed = [f'"{name}"' for name in self.numbers() if name not in self.last_strides]
        return {
            "pattern": self.functions(),
            "numbers": _wrapped(f"NUMBERS += [{', '.join(listed)}]", listed) if listed else [],
            "parameters": [f"{name}," for name in values] + self.constant_parameters(),
            "prepare": self.preparation(),
            "arguments": [f"{name}={value}," for name, value in values.items()],
            "unit": [f"UNIT={self.unit()},", *(f"{name}={value}," for name, value in self.constants().items())],
        }

    def gradient_holes(self, sums: GradientSums) -> Holes:
        """The holes of the backward pass, which follows the forward pass in the module."""
        values = self.values()
        parameters = [f"{name}," for name in values] + self.constant_parameters()
        correction = ["correction"] if scores_may_be_large(self.plan) else []
        ends = QueryEnds(self.plan)
        queries = [*correction, *sums.query_parameters(), *ends.query_parameters()]
        keys = [*correction, *sums.key_parameters(), *ends.key_parameters()]
        return {
            "forward": self.gradient_functions(sums.leaves),
            "key_imports": [],
            "query_parameters": [*parameters, *(f"{name}," for name in queries)],
            "key_parameters": [*parameters, *(f"{name}," for name in keys)],
            "prepare": [
                *(f"{name} = torch.zeros_like(kernel_lse)" for name in correction),
                *self.preparation(),
                *ends.before_queries(),
                *sums.before_queries(),
            ],
            "arguments": wrapped_tuple("arguments = ", list(values.values())),
            "query_arguments": [f"{name}={name}," for name in queries],
            "between": sums.between(),
            "key_arguments": [f"{name}={name}," for name in keys],
            "results": _results([*sums.results(), *ends.results()]),
            "unit": [f'"UNIT": {self.unit()},', *(f'"{name}": {value},' for name, value in self.constants().items())],
            "scale": [f'"SCALE": {self.scale()},'],
        }

    def scale(self) -> str:
        """The factor from dS to the gradient of q @ k^T; a scale that is computed is in dS already."""
        match self.plan.mask.scale:
            case None:
                return "dim**-0.5"
            case Constant(value=value):
                return literal(value)
            case _:
                return "1.0"

    @cached_property
    def read_inputs(self) -> tuple[Input, ...]:
        """The inputs that pairs read by index."""
        return self.plan.mask.named(self.plan.reads.inputs)

    @property
    def tables(self) -> list[str]:
        """The names of the tables that `token_tables` makes."""
        tables, by_distance = self.names.tables, self.names.distance_tables
        return [each.text for each in tables] + [each.text for each in by_distance]

    @property
    def last_strides(self) -> set[str]:
        """The strides of last axes of inputs. Triton may know that they are 1."""
        return {f"{self.names.inputs[each.name]}_stride_{len(each.dimensions) - 1}" for each in self.read_inputs}

    def pointers(self) -> list[str]:
        return self.tables + [self.names.inputs[each.name] for each in self.read_inputs]

    def numbers(self) -> dict[str, str]:
        """The integer arguments that the kernel reads, and the values that `attention` passes."""
        numbers = dict(self.names.numbers)
        for table in self.names.tables:
            for axis, name in enumerate(("batch", "head")):
                numbers[f"{table.text}_{name}_stride"] = f"{table.text}.stride({axis})"
        for each in self.names.distance_tables:
            numbers[f"{each.text}_first"] = str(MARGIN - each.term.distances.low)
        numbers |= self.names.input_numbers(self.read_inputs)
        words = words_of("\n".join(self.kernel))
        return {name: value for name, value in numbers.items() if name in words}

    def constants(self) -> dict[str, str]:
        """The further constants of the kernel, and the values that `attention` passes."""
        reads_it = any("APPROXIMATE)" in line for line in self.kernel)
        return {"APPROXIMATE": "approximates(q)"} if reads_it else {}

    def constant_parameters(self) -> list[str]:
        return [f"{name}: tl.constexpr," for name in self.constants()]

    def functions(self) -> list[str]:
        """The lines of all functions that the pattern needs, followed by two empty lines."""
        orders = Orders(self.plan).functions() if self.laid_out else []
        functions = [*self.names.functions(), *orders]
        text, pooling = read_skeleton("triton_functions"), pooling_functions(self.plan)
        of_queries = query_functions(self.plan) if self.laid_out else []
        definitions = [
            *helpers_of([*functions, *pooling, *of_queries, self.table_function()]),
            *functions,
            *([helper(text, "token_table")] if self.names.functions() else []),
            *([self.table_function()] if self.tables else []),
            *([helper(text, "width_of")] if any("_width.dtype" in line for line in self.kernel) else []),
            *([helper(text, "approximates")] if self.constants() else []),
            *([helper(text, "sorted_positions")] if orders else []),
            *([helper(text, "counts_before")] if any("counts_before(" in line for line in self.kernel) else []),
            *kernel_helpers(self.kernel),
            *pooling,
            *([helper(read_skeleton("functions"), name) for name in GUARDS] if of_queries else []),
            *of_queries,
        ]
        return [*separated(definitions), "", ""] if definitions else []

    def table_function(self) -> list[str]:
        """The generated `token_tables`, which makes all per-token tables, and those by distance."""
        if not self.tables:
            return []
        tables = []
        for table in self.names.tables:
            values = f'{table.kind}_values["{self.plan.identifiers[table.name]}"]'
            layout = f"layout[{int(table.kind == 'key')}]" if self.laid_out else "None"
            tables.append(f"token_table({values}, {layout}, batch, heads, {table.dtype})")
        parameter, order = (", layout", " in laid-out order") if self.laid_out else ("", "")
        text = f"per-token tables of the kernels, each [batch, heads, tokens]{order}"
        if self.names.distance_tables:
            text = f"{text}, and those by distance" if self.names.tables else "tables of the kernels by distance, int32"
        lines = self.names.coordinate_calls("device")
        for each in self.names.distance_tables:
            lines += self.names.distance_lines(each)
            tables.append(f"{each.text}.to(torch.int32)")
        return [
            f"def token_tables(device, batch, heads, inputs{parameter}):",
            f'    """The {text}: they depend on inputs only."""',
            *(f"    {line}" for line in lines),
            *(f"    {line}" for line in wrapped_tuple("return ", tables)),
        ]

    def gradient_functions(self, leaves: Leaves) -> list[str]:
        """The lines of the functions that gradients of inputs need, followed by two empty lines."""
        text, used = read_skeleton("triton_functions"), list[list[str]]()
        if any(leaves.of_tokens(*Side)):
            used.append(helper(text, "token_sums"))
        if self.plan.mask.sinks:
            used.append(helper(text, "sink_share"))
        if leaves.tables:
            used += [helper(text, "fixed_point"), ["@triton.jit", *helper(text, "add_to_table")]]
        return [*separated(used), "", ""] if used else []

    def preparation(self) -> list[str]:
        """Statements that make the per-token tables and take the inputs."""
        names = ", ".join(self.tables)
        target = names if len(self.tables) > 1 else f"({names},)"
        layout = ", layout" if self.laid_out else ""
        lines = [f"{target} = tables or token_tables(q.device, batch, heads, inputs{layout})"] if names else []
        return lines + self.names.input_lines(self.read_inputs)

    def unit(self) -> str:
        """The factor from the kernel's scores to logarithms of base 2."""
        scale = constant_unit(self.plan)
        if scale is not None:
            return f"{scale!r} * {_LOG2_E}"
        return _LOG2_E if changes_scores(self.plan) else f"dim**-0.5 * {_LOG2_E}"


def _results(lines: list[str]) -> list[str]:
    """The return of the generated `gradients`, behind statements that fill the dict of the gradients of inputs."""
    if not lines:
        return ["return grad_q, grad_k, grad_v, {}"]
    return ["grad_inputs = {}", *lines, "return grad_q, grad_k, grad_v, grad_inputs"]


def _wrapped(line: str, items: list[str]) -> list[str]:
    """A statement that ends in a list: on one line if it fits, else one item a line."""
    if len(line) <= 120:
        return [line]
    return [line[: line.index("[") + 1], *(f"    {item}," for item in items), "]"]
