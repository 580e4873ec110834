"""Binds a stack of the tree and values for its parameters to a `StackIR`. Every layer is bound as a pattern."""

from collections.abc import Iterator, Mapping
from dataclasses import replace

from maskdsl.base.diagnostics import AttnError, Note
from maskdsl.base.errors.language import stacks
from maskdsl.base.errors.language.types import TypeMismatch
from maskdsl.base.records import dataclass
from maskdsl.base.source import Span
from maskdsl.bind.bind_pattern import bind
from maskdsl.bind.bound_heads import checked_heads
from maskdsl.bind.context.bound_values import Bad, Term, TupleValue, Value, describe
from maskdsl.bind.context.call_arguments import match_arguments, parameter_kind
from maskdsl.bind.context.frame import Declared, Frame, SideDeclared, StatementKind
from maskdsl.bind.context.report import Report, Together, WorkSpent
from maskdsl.bind.expression.elaborate import chain, elaborate, integers
from maskdsl.bind.expression.functions import FUNCTIONS
from maskdsl.bind.expression.macros import EXPECTED
from maskdsl.bind.statement.parameters import constant_value, parameter_names, plain
from maskdsl.ir.declared.inputs import Input
from maskdsl.ir.declared.sequences import Sequence
from maskdsl.ir.heads import Heads
from maskdsl.ir.mask import MaskIR
from maskdsl.ir.ops import Type
from maskdsl.ir.stack import StackIR
from maskdsl.syntax import tree
from maskdsl.syntax.program import Program

_MOST_LAYERS = 1000


@dataclass(frozen=True)
class _BoundLayer:
    mask: MaskIR
    span: Span
    """The call of the pattern."""


_Layers = tuple[_BoundLayer, ...]


def bind_stack(
    program: Program,
    name: str,
    values: Mapping[str, object],
    heads: int | Heads = 1,
    together: Together | None = None,
) -> StackIR:
    """The masks of the layers at these values, for `heads` query heads. Raises `AttnError` with all mistakes.

    `together` counts the work of all patterns that are bound for the same answer.
    """
    declaration = program.stacks[name]
    report = Report(work=WorkSpent(together=together or Together()))
    whole = checked_heads(heads, report)
    nothing = SideDeclared(Sequence(()))
    start = Frame(Declared(program, whole, nothing, nothing), report, StatementKind.CONSTANT, {})
    names = parameter_names(declaration, values, start, elaborate)
    report.check()
    layers = _Binder(program, whole).layers(declaration.layers, replace(start, names=names), (name,))
    report.check()
    if "key_heads" in start.declared.of_call and whole.key_heads is None:  # then every layer is for so many
        return bind_stack(program, name, values, replace(whole, key_heads=whole.whole), together)
    if not layers:
        report.stop(stacks.NoLayers(span=declaration.layers.span, name=name))
    _check_lengths(layers, start)
    _check_inputs(layers, start)
    report.check()
    masks = list({id(layer.mask): layer.mask for layer in layers}.values())
    numbers = {id(mask): number for number, mask in enumerate(masks)}
    return StackIR(
        name=name,
        parameters=tuple((each, plain(value)) for each, value in names.items()),
        heads=whole.count,
        different=tuple(masks),
        index=tuple(numbers[id(layer.mask)] for layer in layers),
        doc=declaration.doc,
        span=declaration.name.span,
    )


class _Binder:
    """Elaborates layers. Equal calls are expanded and bound once. `around` holds the stacks being expanded."""

    def __init__(self, program: Program, heads: Heads) -> None:
        self.program = program
        self.heads = heads
        self.called: dict[tuple[object, ...], MaskIR | None] = {}
        self.masks: dict[tuple[object, ...], MaskIR] = {}
        self.expanded: dict[tuple[object, ...], _Layers] = {}
        """Layers by stack and parameter values: nested stacks may have few different layers in very many calls."""

    def layers(self, node: tree.Expression, frame: Frame, around: tuple[str, ...]) -> _Layers:
        """The layers that an expression stands for; none, with a report, if it is wrong."""
        frame.report.enter(node.span, frame.calls)
        layers = self._meaning(node, frame, around)
        frame.report.leave()
        return layers

    def _meaning(self, node: tree.Expression, frame: Frame, around: tuple[str, ...]) -> _Layers:
        match node:
            case tree.Binary(operator="+"):
                return self._joined(((operand, frame) for operand in chain(node)), node.span, around)
            case tree.Binary(operator="*"):
                if self._is_layer(node.left, frame):
                    frame.add(stacks.LayersAsNumber(span=node.left.span))
                    return ()
                count, once = _count(node.left, frame), self.layers(node.right, frame, around)
                _check_count(count * len(once), node.span, frame)
                return count * once
            case tree.Conditional():
                condition = elaborate(node.condition, frame)
                if isinstance(condition, Term) and isinstance(condition.constant, bool):
                    return self.layers(node.then if condition.constant else node.otherwise, frame, around)
                _mismatch(node.condition, condition, "this", "a condition", frame)
                return ()
            case tree.Quantifier(kind="sum", domain=tree.HalfOpenRange() as domain):
                values = integers(domain, frame) or []
                name = node.variable.id
                return self._joined(((node.body, frame.naming(**{name: value})) for value in values), node.span, around)
            case tree.Call():
                return self._call(node, frame, around)
            case tree.Name(id=name) if name in self.program.patterns or name in self.program.stacks:
                return self._call(tree.Call(node, (), span=node.span), frame, around)
            case tree.Name(id=name) if name not in frame.names:
                return self._unknown(node, frame)
            case _:
                frame.add(stacks.NotALayer(span=node.span, found=_kind(node)))
                return ()

    def _joined(self, nodes: Iterator[tuple[tree.Expression, Frame]], span: Span, around: tuple[str, ...]) -> _Layers:
        layers: _Layers = ()
        for node, frame in nodes:
            layers += self.layers(node, frame, around)
            _check_count(len(layers), span, frame)
        return layers

    def _is_layer(self, node: tree.Expression, frame: Frame) -> bool:
        called = node.function if isinstance(node, tree.Call) else node
        if not isinstance(called, tree.Name) or called.id in (*frame.names, *FUNCTIONS):
            return False
        return called.id in self.program.patterns or called.id in self.program.stacks

    def _call(self, call: tree.Call, frame: Frame, around: tuple[str, ...]) -> _Layers:
        name = call.function.id
        if name in self.program.stacks:
            return self._stack(call, self.program.stacks[name], frame, around)
        if name not in self.program.patterns:
            return self._unknown(call.function, frame)
        declaration = self.program.patterns[name]
        given = _arguments(call, declaration, frame)
        mask = None if given is None else self._bound(call, declaration, given, frame)
        return () if mask is None else (_BoundLayer(mask, call.span),)

    def _stack(
        self, call: tree.Call, declaration: tree.StackDeclaration, frame: Frame, around: tuple[str, ...]
    ) -> _Layers:
        name = declaration.name.id
        if name in around:
            frame.add(stacks.StackRecursion(span=call.span, name=name))
            return ()
        given = _arguments(call, declaration, frame)
        if given is None:
            return ()
        inside = replace(frame, names={}, calls=(*frame.calls, Note(f"in this call of `{name}`", call.span)))
        names = parameter_names(declaration, given, inside, elaborate)
        if any(isinstance(value, Bad) for value in names.values()):
            return ()
        key = name, *((each, plain(value)) for each, value in names.items())
        if key not in self.expanded:
            self.expanded[key] = self.layers(declaration.layers, replace(inside, names=names), (*around, name))
        return self.expanded[key]

    def _bound(
        self, call: tree.Call, declaration: tree.PatternDeclaration, values: dict[str, object], frame: Frame
    ) -> MaskIR | None:
        """The mask of a call; calls with the same result share one mask."""
        name = declaration.name.id
        key = name, tuple(sorted(values.items()))
        if key not in self.called:
            self.called[key] = None
            try:
                mask = bind(self.program, name, values, self.heads, together=frame.report.work.together)
            except AttnError as error:
                for each in error.diagnostics:
                    frame.add(each.with_notes(Note("in this layer", call.span)))
                return None
            if not mask.is_layer:
                kind, reason = "cross-attention", "its queries and keys are different tokens"
                if mask.queries.is_pooled:
                    kind, reason = "attention of pools", "its output has rows for pools, and its input has none"
                frame.add(stacks.CrossAttentionLayer(span=call.span, pattern=name, kind=kind, reason=reason))
                return None
            self.called[key] = self.masks.setdefault((name, mask.parameters), mask)
        return self.called[key]

    def _unknown(self, name: tree.Name, frame: Frame) -> _Layers:
        program = self.program
        if name.id in FUNCTIONS or name.id in program.macros(name.span.source):
            frame.add(stacks.NotALayer(span=name.span, found=f"the function `{name.id}`"))
            return ()
        standard = program.standard.span.source
        here = [each for each, pattern in program.patterns.items() if pattern.span.source is not standard]
        shown = ", ".join(f"`{each}`" for each in here)
        nearest = frame.nearest(name.id, program.patterns, program.stacks)
        known = f"the patterns here are {shown}" if here else "the file declares no pattern"
        frame.add(stacks.UnknownLayer(span=name.span, name=name.id, known=known, nearest=nearest))
        return ()


def _count(node: tree.Expression, frame: Frame) -> int:
    """How often layers are repeated; 0, with a report, if that is wrong."""
    value = elaborate(node, frame)
    if not isinstance(value, Term) or value.type is not Type.INT or value.constant is None:
        _mismatch(node, value, "the number of layers", "an integer", frame)
        return 0
    if value.constant < 0:
        frame.add(stacks.NegativeLayers(span=node.span, count=int(value.constant)))
    return max(int(value.constant), 0)


def _arguments(
    call: tree.Call, declaration: tree.PatternDeclaration | tree.StackDeclaration, frame: Frame
) -> dict[str, object] | None:
    """The Python values of the parameters that a call gives; None, with a report, if it is wrong."""
    names = [each.name.id for each in declaration.parameters]
    optional = frozenset(each.name.id for each in declaration.parameters if each.default is not None)
    note = Note(f"`{declaration.name.id}` is declared here", declaration.name.span)
    given = match_arguments(frame, call, names, optional, note)
    if given is None:
        return None
    values = {
        parameter.name.id: _argument(parameter, given[parameter.name.id], frame)
        for parameter in declaration.parameters
        if parameter.name.id in given
    }
    if any(isinstance(value, Bad) for value in values.values()):
        return None
    return {name: plain(value) for name, value in values.items()}


def _argument(parameter: tree.Parameter, node: tree.Expression, frame: Frame) -> Value:
    what, kind = f"the argument `{parameter.name.id}`", parameter_kind(parameter)
    if kind not in ("int", "tuple"):
        return constant_value(parameter, node, what, frame, elaborate)
    value = elaborate(node, frame)
    number = isinstance(value, Term) and value.type is Type.INT  # one number stands for every entry of a tuple
    if number or isinstance(value, Bad) or (kind == "tuple" and isinstance(value, TupleValue)):
        return value
    return _mismatch(node, value, what, EXPECTED[kind], frame)


def _mismatch(node: tree.Expression, value: Value, what: str, expected: str, frame: Frame) -> Bad:
    if isinstance(value, Bad):
        return value
    return frame.add(TypeMismatch(span=node.span, what=what, found=describe(value), expected=expected))


def _kind(node: tree.Expression) -> str:
    match node:
        case tree.Integer():
            return "an integer"
        case tree.Float():
            return "a float"
        case tree.Boolean():
            return "a boolean"
        case tree.String():
            return "a string"
        case tree.Name(id=name):
            return f"the parameter `{name}`"
        case tree.Binary(operator=operator) | tree.Unary(operator=operator):
            return f"an expression with `{operator}`"
        case _:
            return "an expression"


def _check_count(count: int, span: Span, frame: Frame) -> None:
    if count > _MOST_LAYERS:
        frame.report.stop(stacks.TooManyLayers(span=span, count=count, limit=_MOST_LAYERS), frame.calls)


def _check_lengths(layers: _Layers, frame: Frame) -> None:
    first = layers[0]
    expected = first.mask.queries.length
    for layer in layers:
        result = layer.mask.queries.length
        if result != expected:
            note = Note("the first layer", first.span)
            frame.add(stacks.DifferentLengths(span=layer.span, found=result, expected=expected, notes=(note,)))


def _check_inputs(layers: _Layers, frame: Frame) -> None:
    """Layers with an input of the same name share its tensor, so the declarations must agree."""
    known: dict[str, Input] = {}
    for layer in layers:
        for each in layer.mask.given:
            other = known.setdefault(each.name, each)
            if _shape(other) != _shape(each):
                notes = (Note("and differently here", other.span),)
                frame.add(stacks.DifferentInputs(span=each.span, name=each.name, notes=notes))


def _shape(each: Input) -> tuple[object, ...]:
    return each.type, *((dimension.kind, dimension.size) for dimension in each.dimensions)
