"""Patterns to one pattern, as a text: `a and b`, `a or b`, `not a`; and a pattern as a text of its own.

Works on trees, so that what it makes can be read, kept as a file and bound like any other pattern.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import fields, replace

from maskdsl.base.diagnostics import AttnError, Diagnostic, Note
from maskdsl.base.errors.language.composition import (
    BranchedOperand,
    NameClash,
    OrderClash,
    OtherTokens,
    ScoreClash,
    ValueClash,
)
from maskdsl.base.errors.language.patterns import NoAttend
from maskdsl.base.records import dataclass
from maskdsl.base.source import Source, Span
from maskdsl.syntax import tree
from maskdsl.syntax.format import format_file
from maskdsl.syntax.format_expression import format_expression
from maskdsl.syntax.parse import parse
from maskdsl.syntax.program import Program, program_from_text

_TOKENS = (tree.SpaceStatement, tree.PooledSpaceStatement, tree.SequenceStatement)
_SCORES = (
    tree.ScoreStatement,
    tree.ScaleStatement,
    tree.WeightStatement,
    tree.ValueStatement,
    tree.SinkStatement,
    tree.NormalizeStatement,
)
_ORDERS = (tree.OrderStatement, tree.AutoOrderStatement)
_RELATIONS = (tree.AttendStatement, tree.RequireStatement)


@dataclass(frozen=True)
class ComposedPattern:
    """An operand: a pattern of a program, and values of its parameters if it is bound."""

    program: Program
    declaration: tree.PatternDeclaration
    values: Mapping[str, object] | None = None

    @property
    def name(self) -> str:
        """The pattern's name."""
        return self.declaration.name.id

    def statements(self, *kinds: type[tree.Node]) -> list[tree.Statement]:
        """Its statements of these kinds, in the order of the text."""
        return [each for each in self.declaration.statements if isinstance(each, kinds)]

    def setup(self) -> list[tree.Statement]:
        """Its statements but relations, scores and orders."""
        others = (*_RELATIONS, *_SCORES, *_ORDERS)
        return [each for each in self.declaration.statements if not isinstance(each, others)]

    def parameters(self) -> dict[str, str]:
        """The parameters as they are written, with the values that they have for a default."""
        return {each.name.id: self._parameter(each) for each in self.declaration.parameters}

    def _parameter(self, parameter: tree.Parameter) -> str:
        if self.values is None:
            return parameter.span.text
        kind = self._type(parameter)
        return f"{parameter.name.id}{kind and f': {kind}'} = {_written(self.values[parameter.name.id])}"

    def _type(self, parameter: tree.Parameter) -> str:
        """The type that a bound parameter has to be written with; nothing if its value says it."""
        assert self.values is not None
        if parameter.type is not None:
            return parameter.type.id
        return "axis" if isinstance(self.values[parameter.name.id], str) else ""

    def meanings(self) -> dict[str, list[tree.Node]]:
        """What each name may be read as: all that is declared by it, or else its macro, or variables of quantifiers."""
        names: dict[str, list[tree.Node]] = {}
        for name, node in self._declared():
            if node not in names.setdefault(name, []):
                names[name].append(node)
        others: dict[str, tree.Node] = {each.id: each for each in _variables(self.declaration)}
        others |= self.macros()
        return {**{name: [node] for name, node in others.items()}, **names}

    def _declared(self) -> Iterator[tuple[str, tree.Node]]:
        """Parameters, bound ones with the types of their values, and what statements declare."""
        for parameter in self.declaration.parameters:
            name = parameter.name.id
            if self.values is None:
                yield name, parameter
            else:
                kind = self._type(parameter) or type(self.values[name]).__name__
                yield name, replace(parameter, type=tree.Name(kind, span=parameter.span), default=None)
        for each in self.declaration.statements:
            match each:
                case tree.SpaceStatement():
                    yield each.name.id, each
                    yield from ((axis.name.id, axis) for axis in each.axes if axis.name is not None)
                case (
                    tree.PooledSpaceStatement()
                    | tree.CoordinateStatement()
                    | tree.InputStatement()
                    | tree.LetStatement()
                    | tree.RouteStatement()
                ):
                    yield each.name.id, each

    def macros(self) -> dict[str, tree.MacroDeclaration]:
        """The macros that it calls, those that these call included, by name."""
        known = self.program.macros(self.declaration.span.source)
        reached: dict[str, tree.MacroDeclaration] = {}
        waiting = [*_names(self.declaration)]
        while waiting:
            name = waiting.pop()
            if name in known and name not in reached:
                reached[name] = known[name]
                if not self.is_standard(known[name]):
                    waiting += _names(known[name])
        return reached

    def is_standard(self, macro: tree.MacroDeclaration) -> bool:
        """Whether a macro is one of the standard library, which needs no declaration."""
        return macro.span.source is self.program.standard.span.source

    @property
    def relation(self) -> str:
        """Everything that it attends, as one expression."""
        attended = [each.relation for each in self.statements(tree.AttendStatement)]  # type: ignore[union-attr]
        required = [each.relation for each in self.statements(tree.RequireStatement)]  # type: ignore[union-attr]
        whole = " or ".join(f"({format_expression(each)})" for each in attended)
        return " and ".join([f"({whole})", *(f"({format_expression(each)})" for each in required)])


def composed(how: Callable[..., str], *operands: ComposedPattern) -> ComposedPattern:
    """The pattern of the text that `how` makes of its operands."""
    program = program_from_text(how(*operands), name="<composed>")
    (declaration,) = (each for each in program.root.declarations if isinstance(each, tree.PatternDeclaration))
    return ComposedPattern(program, declaration)


def standalone(operand: ComposedPattern) -> str:
    """A pattern with the macros that it calls, as the text of a file."""
    lines = (each.span.text for each in operand.declaration.statements)
    return _text([operand], operand.name, operand.declaration.doc, lines)


def soft_capped(operand: ComposedPattern, cap: float) -> str:
    """The text of a pattern whose scores are in the end `cap * tanh(s / cap)`."""
    return _with_line(operand, f"score {_written(cap)} * tanh(s / {_written(cap)})")


def scaled(operand: ComposedPattern, scale: float) -> str:
    """The text of a pattern whose products of query and key are multiplied by a scale."""
    return _with_line(operand, f"scale {_written(float(scale))}")


def _with_line(operand: ComposedPattern, line: str) -> str:
    """The text of a pattern with one more line."""
    lines = (each.span.text for each in operand.declaration.statements)
    return _text([operand], operand.name, operand.declaration.doc, [*lines, line])


def complement(operand: ComposedPattern) -> str:
    """The text of a pattern that attends what this one does not."""
    if errors := [*_not_composed(operand)]:
        raise AttnError(*errors)
    doc = f"What `{operand.name}` does not attend."
    return _text([operand], f"not_{operand.name}", doc, _around([operand], [f"attend not ({operand.relation})"]))


def intersection(first: ComposedPattern, second: ComposedPattern) -> str:
    """The text of a pattern that attends what both do. Scores and orders may be those of one of them."""
    _check(first, second, scores_of_one=True)
    relations = [*(each.span.text for each in first.statements(*_RELATIONS)), f"require {second.relation}"]
    doc = f"What `{first.name}` and `{second.name}` both attend."
    operands = [first, second]
    return _text(operands, f"{first.name}_and_{second.name}", doc, _around(operands, relations))


def union(first: ComposedPattern, second: ComposedPattern) -> str:
    """The text of a pattern that attends what one of them does. Both must change scores alike."""
    _check(first, second, scores_of_one=False)
    relations: list[str] = []
    for each in (first, second):
        if each.statements(tree.RequireStatement):
            relations.append(f"attend {each.relation}")
        else:
            relations += [attend.span.text for attend in each.statements(tree.AttendStatement)]
    doc = f"What `{first.name}` attends, and what `{second.name}` attends."
    operands = [first, second]
    return _text(operands, f"{first.name}_or_{second.name}", doc, _around(operands, relations))


def _around(operands: Sequence[ComposedPattern], relations: Sequence[str]) -> Iterator[str]:
    """The statements of some patterns, each once, with these in place of their relations."""
    every = [each for operand in operands for each in operand.setup()]
    yield from (each.span.text for number, each in enumerate(every) if each not in every[:number])
    yield from dict.fromkeys(relations)
    for kinds in (_SCORES, _ORDERS):
        for operand in operands:
            if lines := [each.span.text for each in operand.statements(*kinds)]:
                yield from lines
                break


def _text(operands: Sequence[ComposedPattern], name: str, doc: str, lines: Iterable[str]) -> str:
    """The formatted text of a pattern of these statements, with the parameters and the macros of its operands."""
    reached = [(operand, macro) for operand in operands for macro in operand.macros().values()]
    macros = {macro.name.id: macro for operand, macro in reached if not operand.is_standard(macro)}
    parameters = {name: text for operand in operands for name, text in operand.parameters().items()}
    written = ", ".join(parameters.values())
    allowed = sorted({code for operand in operands for code in _allowed(operand)})
    declarations = [
        *(_documented(each.doc, each.span.text) for each in macros.values()),
        _documented(doc, f"pattern {name}({written}) {{\n" + "\n".join(lines) + "\n}", allowed),
    ]
    return format_file(parse(Source("<composed>", "\n\n".join(declarations))))


def _documented(doc: str, text: str, allowed: Sequence[str] = ()) -> str:
    comments = [f"# allow: {', '.join(allowed)}"] if allowed else []
    return "\n".join([*comments, *(f"## {line}".rstrip() for line in doc.splitlines()), text])


def _allowed(operand: ComposedPattern) -> Iterator[str]:
    """The codes of warnings that comments in or above a pattern silence."""
    span = operand.declaration.span
    for each in operand.program.allowances:
        if each.reach is not None and each.reach.source is span.source and span.start <= each.reach.start < span.end:
            yield each.code


def _written(value: object) -> str:
    """The value of a parameter in the language."""
    match value:
        case tuple():
            return f"({', '.join(map(_written, value))}{',' * (len(value) == 1)})"
        case float():
            text = repr(value)
            return text if "." in text or "e" not in text else text.replace("e", ".0e")
        case _:
            return str(value)


def _names(node: object) -> Iterator[str]:
    """All names in a tree."""
    return (each.id for each in _nodes(node) if isinstance(each, tree.Name))


def _variables(node: object) -> Iterator[tree.Name]:
    """The variables of all quantifiers in a tree."""
    return (each.variable for each in _nodes(node) if isinstance(each, tree.Quantifier))


def _nodes(node: object) -> Iterator[tree.Node]:
    """A tree and all that is in it."""
    match node:
        case tree.Node():
            yield node
            for each in fields(node):
                yield from _nodes(getattr(node, each.name))
        case tuple():
            for item in node:
                yield from _nodes(item)


# What cannot be composed


def _check(first: ComposedPattern, second: ComposedPattern, scores_of_one: bool) -> None:
    """Raises `AttnError` with everything that two patterns say differently."""
    tokens = [each.statements(*_TOKENS) for each in (first, second)]
    errors: list[Diagnostic] = [*_not_composed(first), *_not_composed(second)]
    if tokens[0] != tokens[1]:
        note = Note(f"the tokens of `{first.name}`", first.declaration.name.span)
        span = _outer(tokens[1]) or second.declaration.name.span
        errors.append(OtherTokens(first=first.name, second=second.name, span=span, notes=(note,)))
    else:  # other tokens have other axes, which is no news
        errors += _clashes(first, second)
    errors += _other_values(first, second)
    scores = [each.statements(*_SCORES) for each in (first, second)]
    if scores[0] != scores[1] and not (scores_of_one and not all(scores)):
        errors.append(_clash(ScoreClash, first, second, scores))
    orders = [each.statements(*_ORDERS) for each in (first, second)]
    if orders[0] != orders[1] and all(orders):
        errors.append(_clash(OrderClash, first, second, orders))
    if errors:
        raise AttnError(*errors)


def _not_composed(operand: ComposedPattern) -> Iterator[Diagnostic]:
    if operand.statements(tree.BranchStatement):
        yield BranchedOperand(name=operand.name, span=operand.declaration.name.span)
    elif not operand.statements(tree.AttendStatement):
        yield NoAttend(name=operand.name, span=operand.declaration.name.span)


def _other_values(first: ComposedPattern, second: ComposedPattern) -> Iterator[Diagnostic]:
    """Errors of parameters that are bound to different values."""
    for name, value in (first.values or {}).items():
        other = (second.values or {}).get(name, value)
        if other != value:
            values = f"{_written(value)} in `{first.name}` and {_written(other)} in `{second.name}`"
            yield ValueClash(what=f"`{name}` is", values=values)


def _clash(
    kind: type[ScoreClash] | type[OrderClash],
    first: ComposedPattern,
    second: ComposedPattern,
    nodes: Sequence[Sequence[tree.Node]],
) -> Diagnostic:
    spans = [
        _outer(each) or operand.declaration.name.span for each, operand in zip(nodes, (first, second), strict=True)
    ]
    return kind(first=first.name, second=second.name, span=spans[1], notes=(Note(f"in `{first.name}`", spans[0]),))


def _outer(nodes: Sequence[tree.Node]) -> Span | None:
    """The span of the first of some nodes."""
    return nodes[0].span if nodes else None


def _clashes(first: ComposedPattern, second: ComposedPattern) -> Iterator[Diagnostic]:
    """Errors of names that mean one thing in one pattern and another in the other."""
    meanings = first.meanings(), second.meanings()
    alike = first.setup() == second.setup()
    for name in [each for each in meanings[0] if each in meanings[1]]:
        one, other = (each[name] for each in meanings)
        if {*one} != {*other} or (_depends_on_line(one) and not alike):
            note = Note(f"in `{first.name}`", one[-1].span)
            span = other[-1].span
            yield NameClash(name=name, first=first.name, second=second.name, span=span, notes=(note,))


def _depends_on_line(meanings: Sequence[tree.Node]) -> bool:
    """Whether a name is a value in lines above the one that declares a coordinate of this name, and that below."""
    kinds = {type(each) for each in meanings}
    return tree.CoordinateStatement in kinds and len(kinds) > 1
