"""Inputs that a call makes of those that it gives: coordinates that are also read by index, and the head dimension.

By the text alone, so that a pattern whose lengths are not known yet has the same ones.
"""

from collections.abc import Iterator, Sequence
from dataclasses import fields, is_dataclass, replace

from maskdsl.ir.declared.inputs import HEAD_DIM, HEAD_DIMS, INDEXED, Dimension, DimensionKind, Input
from maskdsl.ir.heads import Heads
from maskdsl.ir.ops import Type
from maskdsl.syntax import tree
from maskdsl.syntax.program import Program


def made_inputs(program: Program, declaration: tree.PatternDeclaration, given: tuple[Input, ...]) -> tuple[Input, ...]:
    """The inputs that are made of the given ones and of q, in the order in which calls make them."""
    if made_inputs not in program.kept:
        macros = (each for file in program.files for each in file.declarations)
        program.kept[made_inputs] = _read(program, [each for each in macros if isinstance(each, tree.MacroDeclaration)])
    read = _read(program, declaration.statements) | program.kept[made_inputs]
    tables = [
        replace(each, name=each.name + INDEXED, source=each.name)
        for each in given
        if each.is_coordinate and each.name in read
    ]
    reads_dim = HEAD_DIM in read or {_PRODUCT, _SCORE} <= read
    return (*tables, *([Input(HEAD_DIM, Type.INT, (), HEAD_DIMS, source=HEAD_DIM)] if reads_dim else []))


_PRODUCT, _SCORE = "dot(...)", "s, the score"
"""Stand for products of vectors and the scaled score: a score that reads both reads by what the latter is scaled."""


def _read(program: Program, texts: Sequence[tree.Node]) -> frozenset[str]:
    """The names that stand in front of an index, or are given to macros that take inputs; `dim`, `dot` and `s`."""
    nodes = [node for text in texts for node in _nodes(text)]
    indexed = {node.base.id for node in nodes if isinstance(node, tree.Index)}
    given = {name for node in nodes if isinstance(node, tree.Call) for name in _given_to_macros(node, program)}
    names = {node.id for node in nodes if isinstance(node, tree.Name)}
    products = {_PRODUCT for node in nodes if isinstance(node, tree.Call) and node.function.id == "dot"}
    return frozenset(indexed | given | (names & {HEAD_DIM}) | products | ({_SCORE} if "s" in names else set()))


def declared_at_any_length(statement: tree.InputStatement, declaration: tree.PatternDeclaration, heads: Heads) -> Input:
    """The declaration of an input before lengths are known: token dimensions and other lengths have no size."""
    spaces = {
        each.name.id
        for each in declaration.statements
        if isinstance(each, tree.SpaceStatement | tree.PooledSpaceStatement)
    }
    dimensions = tuple(_dimension(each, spaces, heads) for each in statement.dimensions)
    kind = next((each for each in Type if each.value == statement.type.id), Type.INT)
    given = Input(statement.name.id, kind, dimensions, span=statement.span)
    if given.is_coordinate:
        return given
    return replace(given, dimensions=tuple(replace(each, shared=1) for each in dimensions))


def _dimension(node: tree.Expression, spaces: set[str], heads: Heads) -> Dimension:
    match node:
        case tree.Name(id="batch"):
            return Dimension(DimensionKind.BATCH, None, "batch")
        case tree.Name(id="heads"):
            return Dimension(DimensionKind.HEADS, heads.whole, "heads")
        case tree.Name(id="key_heads"):
            shared = heads.whole // (heads.key_heads or heads.whole)
            return Dimension(DimensionKind.HEADS, heads.whole, "key_heads", shared=max(shared, 1))
        case tree.Name(id=name) if name in spaces | {"tokens", "queries", "keys"}:
            return Dimension(DimensionKind.TOKENS, None, name)
        case _:
            return Dimension(DimensionKind.FREE, None, node.span.text)


def _given_to_macros(call: tree.Call, program: Program) -> Iterator[str]:
    """The names that a call of a macro passes on, where the macro takes inputs."""
    macro = program.macros(call.span.source).get(call.function.id)
    if macro is not None and any(each.type is not None and each.type.id == "input" for each in macro.parameters):
        for argument in call.arguments:
            if isinstance(argument.value, tree.Name):
                yield argument.value.id


def _nodes(value: object) -> Iterator[tree.Node]:
    """All nodes of a text but those of the dimensions of inputs."""
    match value:
        case tree.InputStatement():
            pass
        case tuple():
            for each in value:
                yield from _nodes(each)
        case _ if is_dataclass(value) and isinstance(value, tree.Node):
            yield value
            for field in fields(value):
                yield from _nodes(getattr(value, field.name))
