"""Plan to a Triton module: the kernel of `codegen/forward.py` with the pattern's device functions in it.

Coordinates of tokens that lie in memory as declared, in one space, are arithmetic on their places; all others are small
tables, one value a token, that the module's `attention` makes.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace

from maskdsl.emit.header import header
from maskdsl.emit.skeleton import fill, read_skeleton
from maskdsl.emit.torch_functions import HELPERS as TORCH_HELPERS
from maskdsl.emit.torch_functions import LETTERS, coordinate_function, helper, helper_lines, pair_parameters, separated
from maskdsl.emit.triton_printer import TritonPrinter, reads_score
from maskdsl.ir.expressions import Constant, Coordinate, Expression, InSpace, Score, Side, rebuild, walk
from maskdsl.ir.mask import Computed, Sequence, Space
from maskdsl.ir.ops import Type
from maskdsl.ir.simplify import simplify
from maskdsl.plan import KernelPlan, tables_of

HELPERS = (
    *("floor_modulo", "floor_divide", "power", "integer_log2", "is_power_of_two", "random_word", "tanh", "inside"),
    "token_values",
)
WIDTH = 120
SIDES = (Side.QUERY, Side.KEY)
PLACES = {Side.QUERY: ("rows", "query_length", "[:, None]"), Side.KEY: ("columns", "key_length", "[None, :]")}
DTYPES = {Type.INT: "torch.int32", Type.FLOAT: "None", Type.BOOL: "torch.int8"}


def emit_triton(plan: KernelPlan) -> str:
    """A module with `attention(q, k, v, inputs, tiles, layout, choice, precision)`; see its docstring."""
    writer = Writer(plan)
    return fill(read_skeleton("forward"), writer.holes())


@dataclass(frozen=True)
class Function:
    """A device function over pairs, and the arguments that it is called with."""

    name: str
    parameters: tuple[str, ...]
    lines: tuple[str, ...]
    expressions: tuple[Expression, ...]

    def call(self, start: str, *first: str, end: str = "") -> list[str]:
        """The statement that calls it, inside the kernel's loops."""
        return wrapped(f"{start}{self.name}(", [*first, *self.parameters], f"){end}", 12)


class Writer:
    """The texts of all holes for one plan."""

    def __init__(self, plan: KernelPlan) -> None:
        self.plan, self.mask = plan, plan.mask
        mask = plan.mask
        self.computes_scale = mask.scale is not None and not isinstance(mask.scale, Constant)
        scores = ([mask.scale] if self.computes_scale and mask.scale is not None else []) + list(mask.scores)
        bare = isinstance(mask.relation, Constant) and mask.relation.value is True
        self.attends = None if bare else self.function("attends", "Whether the query attends the key.", [mask.relation])
        self.score = self.function("final_score", "The final score of a pair.", scores) if scores else None
        text = "What the probability of a pair is multiplied by."
        self.weight = None if mask.weight is None else self.function("pair_weight", text, [mask.weight])

    @property
    def functions(self) -> list[Function]:
        return [each for each in (self.attends, self.score, self.weight) if each is not None]

    def holes(self) -> dict[str, list[str] | None]:
        everywhere = [each for each in (self.score, self.weight) if each is not None]
        score = self.score.call("s = ", "s") if self.score else []
        weight = self.weight.call("weight = ") if self.weight else []
        arguments = self.arguments()
        return {
            "header": header(self.plan, "triton", "Attention over tiles as a Triton kernel."),
            "pattern": self.pattern(),
            "arguments": [f"{name}," for name in arguments],
            "query_coordinates": [*self.own_tables(), *self.loads(Side.QUERY, self.functions)],
            "full_score": [*self.loads(Side.KEY, everywhere), *score],
            "full_weight": [*weight, "p = p * weight"] if weight else [],
            "partial_score": [*self.loads(Side.KEY, self.functions), *score],
            "predicate": self.attends.call("attending = attending & ") if self.attends else [],
            "partial_weight": [*weight, "p = tl.where(attending, p * weight, 0.0)"] if weight else [],
            "coordinates": self.coordinates(),
            "values": self.values(),
            "scale": self.scale(),
            "launch": [f"{name}={value}," for name, value in arguments.items()],
        }

    def scale(self) -> list[str] | None:
        if self.mask.scale is None:
            return None
        return [f"{self.mask.scale.value!r},"] if isinstance(self.mask.scale, Constant) else ["1.0,"]

    # Device functions

    def function(self, name: str, text: str, expressions: Iterable[Expression]) -> Function:
        inlined = tuple(simplify(self.inlined(each)) for each in expressions)
        parameters = self.parameters(inlined)
        printer = TritonPrinter(
            coordinates=lambda side, each: f"{LETTERS[side]}_{self.plan.identifiers[each]}",
            inputs=self.plan.input_identifiers,
            mask=self.mask,
            sequences={Side.QUERY: self.mask.queries, Side.KEY: self.mask.keys},
            relation=name == "attends",
            taken=[*parameters, "scale", *HELPERS],
        )
        scored = ["s"] if name == "final_score" else []
        steps = list(inlined)
        if scored and self.computes_scale:
            printer.assign("scale", steps.pop(0))
            printer.lines.append("s = s * scale")
        last = steps.pop() if steps and (not scored or reads_score(steps[-1])) else Score()
        for step in steps:
            printer.assign_score(step)
        printer.result(last)
        signature = wrapped(f"def {name}(", [*scored, *parameters], "):", 0)
        lines = ["@triton.jit", *signature, f'    """{text}"""']
        return Function(name, tuple(parameters), (*lines, *(f"    {line}" for line in printer.lines)), inlined)

    def parameters(self, expressions: tuple[Expression, ...]) -> list[str]:
        """Coordinates, head, batch, tables with their sizes and steps, and where spaces begin and end."""
        parameters = pair_parameters(self.plan, expressions)
        for declared in self.mask.inputs:
            if declared.name in tables_of(expressions):
                table = self.plan.input_identifiers[declared.name]
                for axis in range(len(declared.dimensions)):
                    parameters += [f"{table}_size_{axis}", f"{table}_step_{axis}"]
        for node in self.memberships(expressions):
            parameters += [f"{LETTERS[node.side]}_{node.space}_{end}" for end in ("start", "stop")]
        return parameters

    def memberships(self, expressions: Iterable[Expression]) -> list[InSpace]:
        nodes = (node for each in expressions for node in walk(each))
        return list(dict.fromkeys(node for node in nodes if isinstance(node, InSpace)))

    def inlined(self, expression: Expression) -> Expression:
        """With computed coordinates of a plain sequence written out."""

        def definition(node: Expression) -> Expression | None:
            if not isinstance(node, Coordinate) or not self.is_plain(node.side):
                return None
            found = self.sequence(node.side).definition(node.name)
            match found.sources if found else ():
                case ((_, Computed(value=value)),):
                    return self.inlined(_of_side(value, node.side))
                case _:
                    return None

        return rebuild(expression, definition)

    def pattern(self) -> list[str]:
        """The device functions, behind the helpers that they call."""
        functions = [list(function.lines) for function in self.functions]
        text = read_skeleton("triton_functions")
        called = "\n".join(line for lines in functions for line in lines)
        used = {name for name in HELPERS if re.search(rf"\b{name}\(", called)}
        if "floor_divide" in used:
            used.add("floor_modulo")
        if any(self.tables(side) for side in SIDES):
            used.add("token_values")
        helpers = [["@triton.jit", *helper(text, name)] for name in HELPERS if name in used]
        lines = separated([*helpers, *functions])
        return [*lines, "", ""] if lines else []

    # Coordinates

    def sequence(self, side: Side) -> Sequence:
        return self.mask.keys if side is Side.KEY else self.mask.queries

    def is_plain(self, side: Side) -> bool:
        """Whether the tokens are those of one space, as declared."""
        sequence = self.sequence(side)
        return len(sequence.spaces) == 1 and not any(sequence.order)

    def is_arithmetic(self, side: Side, name: str) -> bool:
        """Whether a coordinate follows from the place in memory."""
        if name == "i":
            return not any(self.sequence(side).order)
        return self.is_plain(side) and self.sequence(side).definition(name) is None

    def names(self, side: Side, functions: Iterable[Function]) -> list[str]:
        """What these functions read of the tokens of one side."""
        nodes = {node for each in functions for part in each.expressions for node in walk(part)}
        names = {node.name for node in nodes if isinstance(node, Coordinate) and node.side is side}
        names |= {"i" for node in nodes if isinstance(node, InSpace) and node.side is side}
        return sorted(names)

    def variable(self, side: Side, name: str) -> str:
        return f"{LETTERS[side]}_{self.plan.identifiers[name]}"

    def loads(self, side: Side, functions: Iterable[Function]) -> list[str]:
        """Statements that find what is read of the tokens of one side, as a column or as a row."""
        places, length, shape = PLACES[side]
        lines = []
        for name in self.names(side, functions):
            text = self.variable(side, name)
            if self.is_arithmetic(side, name):
                lines.append(f"{text} = {self.arithmetic(side, name, places)}{shape}")
                continue
            boolean = " != 0" if self.type_of(side, name) is Type.BOOL else ""
            lines.append(f"{text} = token_values({text}_table, {places}, {length}){shape}{boolean}")
        return lines

    def own_tables(self) -> list[str]:
        """Statements that move the tables of both sides to the program's batch entry and head."""
        names = [self.variable(side, name) for side in SIDES for name in self.tables(side)]
        return [f"{name}_table += batch.to(tl.int64) * {name}_batch + head * {name}_head" for name in names]

    def arithmetic(self, side: Side, name: str, places: str) -> str:
        axes = [axis.name for axis in self.sequence(side).spaces[0].axes]
        if name == "i" or len(axes) == 1:
            return places
        text, index = self.variable(side, name), axes.index(name)
        divided = places if index == len(axes) - 1 else f"{places} // {text}_step"
        return f"({divided} % {text}_length)" if index else f"({divided})"

    def type_of(self, side: Side, name: str) -> Type:
        definition = self.sequence(side).definition(name)
        return Type.INT if definition is None else definition.type

    # Arguments of the kernel

    def arguments(self) -> dict[str, str]:
        """The kernel's arguments that the pattern needs, and what `attention` passes for them."""
        found: dict[str, str] = {}
        for side in SIDES:
            for name in self.names(side, self.functions):
                found |= self.coordinate_arguments(side, name)
        expressions = [part for each in self.functions for part in each.expressions]
        for declared in self.mask.inputs:
            if declared.name in tables_of(expressions):
                table = self.plan.input_identifiers[declared.name]
                found[table] = table
                for axis in range(len(declared.dimensions)):
                    found[f"{table}_size_{axis}"] = f"{table}.shape[{axis}]"
                    found[f"{table}_step_{axis}"] = f"{table}.stride({axis})"
        for node in self.memberships(expressions):
            start, space = self.place_of(node)
            found[f"{LETTERS[node.side]}_{node.space}_start"] = str(start)
            found[f"{LETTERS[node.side]}_{node.space}_stop"] = str(start + space.size)
        return found

    def coordinate_arguments(self, side: Side, name: str) -> dict[str, str]:
        text = self.variable(side, name)
        if not self.is_arithmetic(side, name):
            return {f"{text}_table": text, f"{text}_batch": f"step({text}, 0)", f"{text}_head": f"step({text}, 1)"}
        axes = self.sequence(side).spaces[0].axes
        if name == "i" or len(axes) == 1:
            return {}
        index = [axis.name for axis in axes].index(name)
        stride = Space("", axes[index + 1 :]).size
        step = {f"{text}_step": str(stride)} if index < len(axes) - 1 else {}
        return {**step, **({f"{text}_length": str(axes[index].length)} if index else {})}

    def place_of(self, node: InSpace) -> tuple[int, Space]:
        sequence = self.sequence(node.side)
        pairs = zip(sequence.spaces, sequence.offsets, strict=True)
        return next((offset, space) for space, offset in pairs if space.name == node.space)

    # The host side

    def tables(self, side: Side) -> list[str]:
        """Coordinates of one side that are read from tables."""
        return [name for name in self.names(side, self.functions) if not self.is_arithmetic(side, name)]

    def kinds(self) -> list[tuple[str, str, Sequence, list[str]]]:
        """Per function that finds coordinates: its kind of token, what it is called in `attention`, what it gives."""
        query, key = (self.tables(side) for side in SIDES)
        if self.mask.self_attention:
            return [("token", "tokens", self.mask.queries, sorted({*query, *key}))]
        return [("query", "queries", self.mask.queries, query), ("key", "keys", self.mask.keys, key)]

    def coordinates(self) -> list[str]:
        functions = [
            coordinate_function(self.plan, kind, sequence, names) for kind, _, sequence, names in self.kinds() if names
        ]
        if not functions:
            return []
        used = [name for name in TORCH_HELPERS if any(f"{name}(" in line for each in functions for line in each[1:])]
        table = helper(read_skeleton("triton_functions"), "token_table")
        return [*separated([*([helper_lines(used)] if used else []), *functions, table]), "", ""]

    def values(self) -> list[str]:
        lines = []
        if any(names for *_, names in self.kinds()):
            lines.append('inputs = {**inputs, "batch": torch.arange(batch, device=q.device)[:, None, None]}')
            lines.append('inputs["head"] = torch.arange(heads, device=q.device)[:, None]')
        for kind, called, _, names in self.kinds():
            if names:
                lines.append(f"{called} = {kind}_coordinates(device=q.device, **inputs)")
        for number, side in enumerate(SIDES):
            called = "tokens" if self.mask.self_attention else ("queries", "keys")[number]
            for name in self.tables(side):
                dtype = DTYPES[self.type_of(side, name)]
                source = f'{called}["{self.plan.identifiers[name]}"]'
                lines.append(f"{self.variable(side, name)} = token_table({source}, layout[{number}], {dtype})")
        expressions = [part for each in self.functions for part in each.expressions]
        for declared in self.mask.inputs:
            if declared.name in tables_of(expressions):
                table = self.plan.input_identifiers[declared.name]
                convert = "" if declared.type is Type.FLOAT else f".to({DTYPES[declared.type]})"
                lines.append(f'{table} = inputs["{table}"]{convert}')
        return lines


def wrapped(start: str, items: list[str], end: str, indent: int) -> list[str]:
    """A call or a signature on one line if it fits, else its items on one line, else each on its own."""
    line = f"{start}{', '.join(items)}{end}"
    if indent + len(line) <= WIDTH:
        return [line]
    inner = ", ".join(items)
    if indent + 4 + len(inner) <= WIDTH:
        return [start, f"    {inner}", end]
    return [start, *(f"    {item}," for item in items), end]


def _of_side(expression: Expression, side: Side) -> Expression:
    """An expression over one token as one over the token of a side of a pair."""

    def moved(node: Expression) -> Expression | None:
        match node:
            case Coordinate(side=Side.TOKEN) | InSpace(side=Side.TOKEN):
                return replace(node, side=side)
            case _:
                return None

    return rebuild(expression, moved)


TYPES = {Type.INT: "*i32", Type.FLOAT: "*fp32", Type.BOOL: "*i8"}


def pattern_types(plan: KernelPlan) -> dict[str, str]:
    """The pointers among the kernel's arguments that the pattern needs, with Triton's names of their types."""
    writer = Writer(plan)
    types = {
        f"{writer.variable(side, name)}_table": TYPES[writer.type_of(side, name)]
        for side in SIDES
        for name in writer.tables(side)
    }
    names = writer.arguments()
    tables = {plan.input_identifiers[each.name]: TYPES[each.type] for each in plan.mask.inputs}
    return types | {name: kind for name, kind in tables.items() if name in names}
