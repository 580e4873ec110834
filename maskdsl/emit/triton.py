"""Plan to a Triton module: the forward pass over tiles, from the skeleton `codegen/forward.py`."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

from maskdsl.emit.header import header
from maskdsl.emit.skeleton import fill, read_skeleton
from maskdsl.emit.torch_functions import HELPERS as TORCH_HELPERS
from maskdsl.emit.torch_functions import helper, helper_lines, separated
from maskdsl.emit.triton_coordinates import KernelNames, words_of
from maskdsl.emit.triton_printer import TritonPrinter
from maskdsl.ir.expressions import TRUE, Constant, Expression, Score, Side, walk
from maskdsl.ir.mask import Input
from maskdsl.ir.ops import Type
from maskdsl.plan import KernelPlan, tables_of

LOG2_E = "1.4426950408889634"
HELPERS = ("floor_divide", "floor_modulo", "inside", "power", "integer_log2", "is_power_of_two", "mix", "tanh")
CASTS = {Type.INT: ".to(torch.int32)", Type.BOOL: ".to(torch.int8)", Type.FLOAT: ""}

Holes = dict[str, list[str]]


def emit_triton(plan: KernelPlan) -> str:
    """A module with `attention(q, k, v, inputs, tiles, block, ...) -> (out, lse)`; it needs torch and Triton alone."""
    body = Body(plan)
    kernel = body.holes()
    around = Surroundings(plan, body.names, [line for lines in kernel.values() for line in lines])
    return fill(read_skeleton("forward"), {**kernel, **around.holes()})


@dataclass(frozen=True)
class Body:
    """The pattern's code inside the kernel."""

    plan: KernelPlan

    @cached_property
    def names(self) -> KernelNames:
        return KernelNames(self.plan)

    def holes(self) -> Holes:
        changes = [each for each in self.plan.pair_expressions if each is not self.plan.mask.relation]
        score, weight = self.score_lines(), self.weight_lines()
        return {
            "query_coordinates": [*self.table_lines(), *self.coordinate_lines(Side.QUERY, self.plan.pair_expressions)],
            "full_score": [*self.coordinate_lines(Side.KEY, changes), *score],
            "full_weight": weight,
            "partial_score": [*self.coordinate_lines(Side.KEY, self.plan.pair_expressions), *score],
            "predicate": self.relation_lines(),
            "partial_weight": [*weight, "p = tl.where(attends, p, 0.0)"] if weight else [],
        }

    def printer(self, relation: bool) -> TritonPrinter:
        names = self.names
        return TritonPrinter(
            self.plan.mask,
            names.leaf,
            coordinates=lambda side, name: names.coordinates[side, name],
            spaces=lambda side, space: f"{names.kind(side)}_{space}",
            inputs=names.inputs,
            relation=relation,
            taken={*names.taken, *names.coordinates.values(), *names.numbers, *names.inputs.values()},
        )

    def table_lines(self) -> list[str]:
        """Tables of tokens begin at those of the head."""
        names = [table.text for table in self.names.tables]
        return [f"{name} += wide_batch * {name}_batch_stride + wide_head * {name}_head_stride" for name in names]

    def coordinate_lines(self, side: Side, expressions: Iterable[Expression]) -> list[str]:
        """What these expressions read of the tokens of one side, as a column or as a row."""
        names, printer = self.names, self.printer(relation=True)
        places, axes = ("query_places", "[:, None]") if side is Side.QUERY else ("key_places", "[None, :]")
        for name in names.needed(side, expressions):
            text, table, value = names.coordinates[side, name], names.table(side, name), names.value(side, name)
            if table is not None:
                truth = " != 0" if names.type(side, name) is Type.BOOL else ""
                printer.lines.append(f"{text} = tl.load({table.text} + {places}){axes}{truth}")
            elif isinstance(value, Constant):
                printer.lines.append(f"{text} = tl.full([1, 1], {value.value}, tl.int64)")
            elif value is not None:
                printer.assign(text, value)
            else:
                printer.lines.append(f"{text} = {names.axis(side, name) or places + axes}")
        return printer.lines

    def relation_lines(self) -> list[str]:
        if self.plan.mask.relation == TRUE:
            return []
        printer = self.printer(relation=True)
        printer.statement("attends &= ", self.plan.mask.relation)
        return printer.lines

    def score_lines(self) -> list[str]:
        """From products of queries and keys, `s`, to the final scores; a constant scale alone is part of the unit."""
        mask, printer = self.plan.mask, self.printer(relation=False)
        if mask.scale is None and mask.scores:
            printer.lines.append("s *= DIM**-0.5")
        elif mask.scale is not None and constant_unit(self.plan) is None and mask.scale != Constant(1.0):
            printer.statement("s *= ", mask.scale)
        for expression in mask.scores:
            if isinstance(expression, Constant) or any(isinstance(node, Score) for node in walk(expression)):
                printer.assign_score(expression)
            else:
                printer.statement("s = tl.zeros_like(s) + ", expression)
        return printer.lines

    def weight_lines(self) -> list[str]:
        if self.plan.mask.weight is None:
            return []
        printer = self.printer(relation=False)
        printer.statement("p *= ", self.plan.mask.weight)
        return printer.lines


def constant_unit(plan: KernelPlan) -> float | None:
    """The pattern's own scale, where it is a positive number and nothing else happens to scores."""
    scale = plan.mask.scale
    if isinstance(scale, Constant) and scale.value > 0 and not plan.mask.scores:
        return float(scale.value)
    return None


@dataclass(frozen=True)
class Surroundings:
    """What the kernel's code needs around it: functions, arguments, and the tensors that they are."""

    plan: KernelPlan
    names: KernelNames
    kernel: list[str]

    def holes(self) -> Holes:
        pointers, numbers = self.pointers(), self.numbers()
        values = {**{name: name for name in pointers}, **numbers}
        listed = ", ".join(f'"{name}"' for name in numbers)
        return {
            "header": header(self.plan, "triton", "Attention over tiles in Triton."),
            "pattern": self.functions(),
            "numbers": wrapped(f"NUMBERS += [{listed}]", [f'"{name}"' for name in numbers]) if numbers else [],
            "parameters": [f"{name}," for name in values],
            "prepare": self.preparation(),
            "arguments": [f"{name}={value}," for name, value in values.items()],
            "unit": [f"UNIT={self.unit()},"],
        }

    @cached_property
    def read_inputs(self) -> tuple[Input, ...]:
        """Inputs that pairs read by index."""
        read = tables_of(self.plan.pair_expressions)
        return tuple(each for each in self.plan.mask.inputs if each.name in read)

    def pointers(self) -> list[str]:
        return [table.text for table in self.names.tables] + [self.names.inputs[each.name] for each in self.read_inputs]

    def numbers(self) -> dict[str, str]:
        """Integer arguments that the kernel reads, and what `attention` passes for them."""
        found = dict(self.names.numbers)
        for table in self.names.tables:
            for axis, name in enumerate(("batch", "head")):
                found[f"{table.text}_{name}_stride"] = f"{table.text}.stride({axis})"
        for each in self.read_inputs:
            text = self.names.inputs[each.name]
            for axis in range(len(each.dimensions)):
                found[f"{text}_size_{axis}"] = f"{text}.shape[{axis}]"
                found[f"{text}_stride_{axis}"] = f"{text}.stride({axis})"
        words = words_of("\n".join(self.kernel))
        return {name: value for name, value in found.items() if name in words}

    def functions(self) -> list[str]:
        """Functions that the pattern needs, followed by two empty lines."""
        functions = self.names.functions()
        own = [name for name in TORCH_HELPERS if any(f"{name}(" in line for lines in functions for line in lines[1:])]
        text = read_skeleton("triton_functions")
        used = [name for name in HELPERS if any(f"{name}(" in line for line in self.kernel)]
        parts = [
            *([helper_lines(own)] if own else []),
            *functions,
            *([helper(text, "token_table")] if functions else []),
            *(["@triton.jit", *helper(text, name)] for name in used),
        ]
        return [*separated(parts), "", ""] if parts else []

    def preparation(self) -> list[str]:
        """Tables in laid-out order, and inputs as the kernel reads them."""
        lines = []
        heads = [lines[0] for lines in self.names.functions()]
        if any(f" {word}," in line for line in heads for word in ("head", "batch")):
            lines.append('inputs = {**inputs, "batch": torch.arange(batch, device=q.device)[:, None, None]}')
            lines.append('inputs["head"] = torch.arange(heads, device=q.device)[:, None]')
        for kind in dict.fromkeys(table.kind for table in self.names.tables):
            lines.append(f"{kind}_values = {kind}_coordinates(device=q.device, **inputs)")
        for table in self.names.tables:
            values = f'{table.kind}_values["{self.plan.identifiers[table.name]}"]'
            layout = f"layout[{int(table.kind == 'key')}]"
            lines.append(f"{table.text} = token_table({values}, {layout}, batch, heads, {table.dtype})")
        for each in self.read_inputs:
            given = f'inputs["{self.plan.input_identifiers[each.name]}"]'
            lines.append(f"{self.names.inputs[each.name]} = {given}{CASTS[each.type]}")
        return lines

    def unit(self) -> str:
        own = constant_unit(self.plan)
        if own is not None:
            return f"{own!r} * {LOG2_E}"
        return LOG2_E if self.plan.mask.scores or self.plan.mask.scale is not None else f"dim**-0.5 * {LOG2_E}"


def wrapped(line: str, items: list[str]) -> list[str]:
    """A statement that ends in a list, as it is or one item a line."""
    if len(line) <= 120:
        return [line]
    return [line[: line.index("[") + 1], *(f"    {item}," for item in items), "]"]
