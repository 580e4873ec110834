"""Plan to the functions that all generated torch modules share: coordinates of tokens, and functions of pairs.

A generated function takes what it reads by keyword, as tensors that broadcast, and ignores other keywords. Helpers come
from `codegen/functions.py`.
"""

import ast
import re
from collections.abc import Iterable, Mapping, Sequence

from maskdsl.emit.plan import HELPERS, KernelPlan
from maskdsl.emit.skeleton import read_skeleton
from maskdsl.emit.statement_printer import literal
from maskdsl.emit.torch.torch_printer import TorchPrinter
from maskdsl.ir.declared.sequences import Along, Computed, CoordinateSource, Given, Shuffled, Space
from maskdsl.ir.declared.sequences import Sequence as Tokens
from maskdsl.ir.expressions import (
    PAIR,
    Constant,
    Expression,
    in_space,
    substitute,
    walk,
)
from maskdsl.ir.facts.reads import reads
from maskdsl.ir.ops import Type
from maskdsl.ir.rewrites.branches import guard_branches

_NOTHING: Mapping[Expression, str] = {}
_DTYPES = {Type.INT: "torch.int64", Type.FLOAT: "torch.float64", Type.BOOL: "torch.bool"}


def pattern_functions(
    plan: KernelPlan, others: Iterable[list[str]] = (), given: Mapping[Expression, str] = _NOTHING
) -> list[str]:
    """The lines of all functions of the pattern, helpers first and `others` last.

    Functions of scores take the values of the `given` expressions, by these names.
    """
    return with_helpers([*coordinate_functions(plan), *_pair_functions(plan, given), *others])


def with_helpers(functions: Sequence[Sequence[str]], others: Sequence[Sequence[str]] = ()) -> list[str]:
    """The lines of these functions, behind the helpers that they and `others` call."""
    return separated([*helpers_of([*functions, *others]), *functions])


def helpers_of(functions: Iterable[Sequence[str]]) -> list[list[str]]:
    """The functions of `codegen/functions.py` that these functions call."""
    text, lines = read_skeleton("functions"), [line for function in functions for line in function[1:]]
    return [helper(text, name) for name in HELPERS if any(f"{name}(" in line for line in lines)]


def helper_lines(names: Iterable[str]) -> list[str]:
    """The lines of these functions and classes of `codegen/functions.py`."""
    text = read_skeleton("functions")
    return separated(helper(text, name) for name in names)


def definitions(name: str) -> list[str]:
    """The lines of `codegen/<name>.py` after its imports."""
    text = read_skeleton(name)
    statements = ast.parse(text).body[1:]
    first = next(each for each in statements if not isinstance(each, ast.Import | ast.ImportFrom))
    return text.splitlines()[first.lineno - 1 :]


def separated(functions: Iterable[Sequence[str]]) -> list[str]:
    """The lines of functions with two empty lines between them, none at the end."""
    lines: list[str] = []
    for function in functions:
        lines += [*(["", ""] if lines else []), *function]
    return lines


def helper(text: str, name: str) -> list[str]:
    """The lines of one function or class in the text of a module."""
    match = re.search(rf"^(def|class) {name}\b.*?(?=\n\n\n|\Z)", text, re.MULTILINE | re.DOTALL)
    assert match is not None, f"no helper {name}"
    return match[0].rstrip().split("\n")


# Functions of pairs


def _pair_functions(plan: KernelPlan, given: Mapping[Expression, str]) -> list[list[str]]:
    """The lines of `allowed`, and of `score`, `weight` and `scale` if the pattern has them."""
    mask = plan.mask
    functions = [function_of_pairs(plan, "allowed", "Whether the query attends the key.", (mask.relation,))]
    if mask.scores:
        functions.append(
            function_of_pairs(plan, "score", "The final score of a pair, from its scaled score.", mask.scores, given)
        )
    if mask.weight is not None:
        text = "The factor of the probability of a pair, in the type of `s`."
        functions.append(function_of_pairs(plan, "weight", text, (mask.weight,), given))
    if mask.scale is not None:
        text = "The factor of the product of query and key, in the type of `s`."
        functions.append(function_of_pairs(plan, "scale", text, (mask.scale,), given))
    return functions


def function_of_pairs(
    plan: KernelPlan,
    name: str,
    text: str,
    expressions: tuple[Expression, ...],
    given: Mapping[Expression, str] = _NOTHING,
) -> list[str]:
    """The lines of a function of pairs, or of queries alone: all but `allowed` take `s`, for its type.

    It takes the values of the `given` expressions, which are no floats, by these names.
    """
    if name != "allowed":
        expressions = tuple(map(guard_branches, expressions))
    nodes = {node for each in expressions for node in walk(each)}
    others = [substitute(each, {node: Constant(0) for node in given}) for each in expressions]
    parameters = [*(each for node, each in given.items() if node in nodes), *pair_parameters(plan, others)]
    if name != "allowed":
        parameters.insert(0, "s")
    printer = pair_printer(plan, parameters, relation=name == "allowed")
    printer.known |= given
    printer.known_elsewhere |= given
    if name == "score":
        for expression in expressions:
            printer.assign_score(expression)
        printer.lines.append("return s")
    else:
        return_pairs(printer, expressions[0])
    signature = ", ".join([*parameters, "**_"])
    return [f"def {name}({signature}):", f'    """{text}"""', *(f"    {line}" for line in printer.lines)]


def pair_printer(plan: KernelPlan, parameters: Iterable[str], relation: bool) -> TorchPrinter:
    """A printer of a function of pairs with these parameters; of a `relation`, floats are float64."""
    return TorchPrinter(
        coordinates=lambda side, each: f"{side.letter}_{plan.identifiers[each]}",
        inputs=plan.input_identifiers,
        sequences=plan.mask.sequences,
        relation=relation,
        taken=parameters,
    )


def return_pairs(printer: TorchPrinter, expression: Expression) -> None:
    if isinstance(expression, Constant):
        dtype = "" if expression.type is Type.BOOL else ", dtype=s.dtype"
        printer.lines.append(f"return torch.tensor({literal(expression.value)}{dtype})")
    else:
        printer.result(expression)


def pair_parameters(plan: KernelPlan, expressions: Iterable[Expression]) -> list[str]:
    """The parameters that expressions read: coordinates of query and key, head, batch and inputs."""
    read = reads(*expressions)
    parameters = []
    for side in PAIR:
        parameters += sorted(f"{side.letter}_{plan.identifiers[name]}" for name in read.names(side))
    parameters += ["head"] * read.head + ["batch"] * read.batch
    return parameters + [plan.input_identifiers[each.name] for each in plan.mask.named(read.inputs)]


# Coordinates of tokens


def coordinate_functions(plan: KernelPlan, without: str | None = None) -> list[list[str]]:
    """The lines of `token_coordinates`, or of `query_coordinates` and `key_coordinates` in cross-attention.

    They return all coordinates that pairs read, except `without`.
    """
    return [
        coordinate_function(plan, kind, tokens, sorted(plan.names_of(kind) - {without}))
        for kind, tokens in plan.mask.kinds.items()
    ]


def coordinate_calls(plan: KernelPlan) -> list[str]:
    """The statements that call the functions of `coordinate_functions`."""
    mask = plan.mask
    targets = {kind: " = ".join(side.plural for side in PAIR if mask.kind(side) is kind) for kind in mask.kinds}
    return [f"{target} = {kind}_coordinates(device=q.device, **inputs)" for kind, target in targets.items()]


def coordinate_function(
    plan: KernelPlan, kind: str, tokens: Tokens, names: Iterable[str], function: str | None = None
) -> list[str]:
    """The lines of a function that returns these coordinates of one sequence, in declared order."""
    names = tuple(names)
    writer = _CoordinateWriter(plan, kind, tokens)
    for space, offset in zip(tokens.spaces, tokens.offsets, strict=True):
        writer.space(space, offset, names)
    values = [f'"{plan.identifiers[name]}": {writer.joined(name)}' for name in names]
    signature = ", ".join(["device", *sorted(writer.parameters), "**_"])
    return [
        f"def {function or f'{kind}_coordinates'}({signature}):",
        f'    """Coordinates of each {kind}, in declared order: [batch or 1, heads or 1, tokens] or fewer axes."""',
        *(f"    {line}" for line in writer.lines),
        *_returned(values),
    ]


def _returned(values: list[str]) -> list[str]:
    line = f"    return {{{', '.join(values)}}}"
    if len(line) <= 112:
        return [line]
    return ["    return {", *(f"        {value}," for value in values), "    }"]


class _CoordinateWriter:
    """Collects the statements of one coordinate function, space by space."""

    def __init__(self, plan: KernelPlan, kind: str, tokens: Tokens) -> None:
        self.plan = plan
        self.kind = kind
        self.tokens = tokens
        self.lines: list[str] = []
        self.parameters: set[str] = set()

    def name(self, space: Space, name: str) -> str:
        """The variable of a coordinate in one space."""
        text = self.plan.identifiers[name]
        return text if len(self.tokens.spaces) == 1 else f"{space.name}_{text}"

    def space(self, space: Space, offset: int, names: tuple[str, ...]) -> None:
        if len(self.tokens.spaces) > 1:  # `joined` adds the position
            names = tuple(name for name in names if name != "i")
        wanted = self.needed(space, [name for name in names if self.tokens.has(space, name)])
        axes = [name for name in wanted if space.axis(name) is not None]
        if not wanted:
            return
        if len(self.tokens.spaces) > 1:
            self.lines.append(f"# {space.name}")
        if "i" in wanted or axes:
            start = f"{offset}, {offset + space.size}" if offset else f"{space.size}"
            self.lines.append(f"{self.name(space, 'i')} = torch.arange({start}, device=device)")
        for name in wanted:
            if name in axes:
                self.lines.append(f"{self.name(space, name)} = {self.axis(space, offset, name)}")
            elif name != "i":
                self.define(space, offset, name)

    def needed(self, space: Space, names: Iterable[str]) -> tuple[str, ...]:
        """These coordinates of a space and those that they are computed from, each after those that it reads."""
        ordered: dict[str, None] = {}

        def visit(name: str) -> None:
            if name in ordered:
                return
            source = self.source(space, name)
            if isinstance(source, Computed):
                for other in reads(source.value).coordinates:
                    visit(other.name)
            ordered.setdefault(name)

        for name in names:
            visit(name)
        return tuple(ordered)

    def source(self, space: Space, name: str) -> CoordinateSource | None:
        definition = self.tokens.definition(name)
        return dict(definition.sources).get(space.name) if definition is not None else None

    def axis(self, space: Space, offset: int, name: str) -> str:
        """The text of an axis of a row-major grid, from the position."""
        index = [axis.name for axis in space.axes].index(name)
        stride = 1
        for axis in space.axes[index + 1 :]:
            stride *= axis.length
        position = self.name(space, "i")
        if offset:
            position = f"({position} - {offset})" if stride > 1 or index else f"{position} - {offset}"
        divided = f"{position} // {stride}" if stride > 1 else position
        return f"{divided} % {space.axes[index].length}" if index else divided

    def define(self, space: Space, offset: int, name: str) -> None:
        source = self.source(space, name)
        tokens = f"[..., {offset}:{offset + space.size}]"
        variable = self.name(space, name)
        match source:
            case Given(input_name):
                text = self.plan.input_identifiers[input_name]
                self.parameters.add(text)
                declared = self.plan.mask.input(input_name)
                assert declared is not None
                whole = all(each.text != space.name for each in declared.dimensions)
                if len(self.tokens.spaces) > 1 or text != variable:
                    self.lines.append(f"{variable} = {text}{tokens if whole and len(self.tokens.spaces) > 1 else ''}")
            case Along() | Shuffled():
                table = f"{self.kind}_{self.plan.identifiers[name]}"
                self.parameters.add(table)
                self.lines.append(f"{variable} = {table}{tokens if len(self.tokens.spaces) > 1 else ''}")
            case Computed(value):
                self.compute(space, variable, value)
            case None:
                raise AssertionError(name)

    def compute(self, space: Space, variable: str, value: Expression) -> None:
        value = in_space(value, space.name)
        printer = TorchPrinter(
            coordinates=lambda _, name: self.name(space, name),
            inputs=self.plan.input_identifiers,
            sequences={},
            relation=True,
            taken={self.name(space, name) for name in self.plan.identifiers},
        )
        if isinstance(value, Constant):
            printer.lines.append(f"{variable} = torch.full(({space.size},), {value.value}, device=device)")
        else:
            printer.assign(variable, value)
        read = reads(value)
        if not isinstance(value, Constant) and not read.coordinates:
            printer.lines.append(f"{variable} = {variable}.expand(*{variable}.shape[:-1], {space.size})")
        self.parameters.update(["head"] * read.head, ["batch"] * read.batch)
        self.parameters.update(self.plan.input_identifiers[name] for name in read.inputs)
        self.lines += printer.lines

    def joined(self, name: str) -> str:
        """The text of the values of all spaces, concatenated; zeros for tokens that lack the coordinate."""
        spaces = self.tokens.spaces
        if name == "i" and len(spaces) > 1:
            return f"torch.arange({self.tokens.length}, device=device)"
        if len(spaces) == 1:
            return self.name(spaces[0], name)
        return f"join({', '.join(self.values(space, name) for space in spaces)})"

    def values(self, space: Space, name: str) -> str:
        if self.tokens.has(space, name):
            return self.name(space, name)
        definition = self.tokens.definition(name)
        kind = definition.type if definition is not None else Type.INT
        return f"torch.zeros({space.size}, dtype={_DTYPES[kind]}, device=device)"
