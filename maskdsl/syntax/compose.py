"""Patterns to one pattern, as a text: `a and b`, `a or b`, `not a`; and a pattern as a text of its own.

Works on trees, so that what it makes can be read, kept as a file and bound like any other pattern.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import fields

from maskdsl.base.diagnostics import AttnError, Diagnostic, Note
from maskdsl.base.errors.language.composition import NameClash, OrderClash, OtherTokens, ScoreClash, ValueClash
from maskdsl.base.errors.language.patterns import NoAttend
from maskdsl.base.records import dataclass
from maskdsl.base.source import Source, Span
from maskdsl.syntax import tree
from maskdsl.syntax.format import format_file
from maskdsl.syntax.format_expression import format_expression
from maskdsl.syntax.parse import parse
from maskdsl.syntax.program import Program

_TOKENS = (tree.SpaceStatement, tree.PooledSpaceStatement, tree.SequenceStatement)
_SCORES = (tree.ScoreStatement, tree.ScaleStatement, tree.WeightStatement)
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

    def parameters(self) -> dict[str, str]:
        """The parameters as they are written, with the values that they have for a default."""
        return {each.name.id: self._parameter(each) for each in self.declaration.parameters}

    def _parameter(self, parameter: tree.Parameter) -> str:
        if self.values is None:
            return parameter.span.text
        value = self.values[parameter.name.id]
        kind = parameter.type.id if parameter.type is not None else "axis" if isinstance(value, str) else ""
        return f"{parameter.name.id}{kind and f': {kind}'} = {_written(value)}"

    def declared(self) -> dict[str, tree.Node]:
        """What it declares, by name; coordinates with the space that they are declared for. Of bound ones no values."""
        parameters = self.declaration.parameters if self.values is None else ()
        names: dict[str, tree.Node] = {each.name.id: each for each in parameters}
        for each in self.declaration.statements:
            match each:
                case tree.CoordinateStatement(space=tree.Name(id=space), name=name):
                    names[f"{space}.{name.id}"] = each
                case tree.CoordinateStatement() | tree.InputStatement() | tree.LetStatement() | tree.RouteStatement():
                    names[each.name.id] = each
        return names

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


def standalone(operand: ComposedPattern) -> str:
    """A pattern with the macros that it calls, as the text of a file."""
    lines = (each.span.text for each in operand.declaration.statements)
    return _text([operand], operand.name, operand.declaration.doc, lines)


def complement(operand: ComposedPattern) -> str:
    """The text of a pattern that attends what this one does not."""
    if errors := [*_attending_nothing(operand)]:
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
    every = [each for operand in operands for each in operand.declaration.statements]
    once = [each for number, each in enumerate(every) if each not in every[:number]]
    yield from (each.span.text for each in once if not isinstance(each, (*_RELATIONS, *_SCORES, *_ORDERS)))
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
    match node:
        case tree.Name(id=name):
            yield name
        case tree.Node():
            for each in fields(node):
                yield from _names(getattr(node, each.name))
        case tuple():
            for item in node:
                yield from _names(item)


# What cannot be composed


def _check(first: ComposedPattern, second: ComposedPattern, scores_of_one: bool) -> None:
    """Raises `AttnError` with everything that two patterns say differently."""
    tokens = [each.statements(*_TOKENS) for each in (first, second)]
    errors: list[Diagnostic] = [*_attending_nothing(first), *_attending_nothing(second)]
    if tokens[0] != tokens[1]:
        note = Note(f"the tokens of `{first.name}`", first.declaration.name.span)
        span = _outer(tokens[1]) or second.declaration.name.span
        errors.append(OtherTokens(first=first.name, second=second.name, span=span, notes=(note,)))
    errors += [*_clashes(first, second), *_other_values(first, second)]
    scores = [each.statements(*_SCORES) for each in (first, second)]
    if scores[0] != scores[1] and not (scores_of_one and not all(scores)):
        errors.append(_clash(ScoreClash, first, second, scores))
    orders = [each.statements(*_ORDERS) for each in (first, second)]
    if orders[0] != orders[1] and all(orders):
        errors.append(_clash(OrderClash, first, second, orders))
    if errors:
        raise AttnError(*errors)


def _attending_nothing(operand: ComposedPattern) -> Iterator[Diagnostic]:
    if not operand.statements(tree.AttendStatement):
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
    means: list[Mapping[str, tree.Node]] = [{**each.macros(), **each.declared()} for each in (first, second)]
    for name in {**means[0], **means[1]}:
        one, other = (each.get(name) for each in means)
        if one is not None and other is not None and one != other:
            note = Note(f"in `{first.name}`", one.span)
            span = other.span
            yield NameClash(name=name, first=first.name, second=second.name, span=span, notes=(note,))
