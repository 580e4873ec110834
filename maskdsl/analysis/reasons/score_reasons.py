"""What becomes of scores: the lines that say it, with what is known put in, and what makes probabilities of them."""

import re
from collections.abc import Callable
from dataclasses import replace

from maskdsl.base.records import dataclass
from maskdsl.bind.bind_pattern import frame_at
from maskdsl.bind.context.bound_values import Term
from maskdsl.bind.context.frame import Frame, StatementKind
from maskdsl.bind.context.guards import assuming
from maskdsl.bind.expression.elaborate import elaborate
from maskdsl.ir.expressions import (
    Apply,
    Constant,
    Expression,
    Read,
    children,
    rebuild,
    substitute,
    walk,
    with_children,
)
from maskdsl.ir.mask import MaskIR, Normalize
from maskdsl.ir.mask_printer import print_expression
from maskdsl.ir.ops import Op, Type
from maskdsl.ir.simplify import simplify
from maskdsl.syntax import tree
from maskdsl.syntax.program import Program

_OfNumbers = tree.ScoreStatement | tree.ScaleStatement | tree.WeightStatement | tree.SinkStatement
_Statement = _OfNumbers | tree.ValueStatement | tree.NormalizeStatement


@dataclass(frozen=True)
class ScoreMeaning:
    """A line about scores, probabilities or values."""

    statement: _Statement
    meaning: Expression | None
    """What it says of a pair that attends; None where that is no number: of `value` and `normalize`."""


def _meaning(statement: _Statement, frame: Frame, mask: MaskIR) -> Expression | None:
    if not isinstance(statement, _OfNumbers):
        return None
    kind = StatementKind.SCORE if isinstance(statement, tree.ScoreStatement) else StatementKind.VALUE
    value = elaborate(statement.value, replace(frame, statement=kind))
    tables = {each.name for each in mask.inputs} - {each.name for each in mask.products}

    def as_written(node: Expression) -> Expression | None:
        """A product of vectors, without the indices of the table that it is."""
        return replace(node, indices=()) if isinstance(node, Read) and node.input not in tables else None

    return rebuild(simplify(value.expression), as_written) if isinstance(value, Term) else None


def _probability(mask: MaskIR) -> str:
    """What makes the probability of a pair of its score, in words."""
    match mask.normalize:
        case Normalize.NONE:
            made = "the final score itself"
        case Normalize.BY_KEY:
            made = "a softmax over the queries of the key"
        case Normalize.BY_QUERY:
            sinks = {0: "", 1: " and a sink"}.get(len(mask.sinks), f" and {len(mask.sinks)} sinks")
            made = f"a softmax over the keys of the query{sinks}"
    return made if mask.weight is None and mask.factor is None else f"{made}, times the weight"


@dataclass(frozen=True)
class Scored:
    """What a pattern, or one of its branches, says of scores."""

    branch: str
    """The name of the branch; empty for a whole pattern."""
    statements: tuple[ScoreMeaning, ...]
    """Those of the branch behind those outside of it, in the order of the text."""
    probability: str
    """What makes probabilities, in words; empty for a pattern that says nothing of scores."""


def scored(program: Program, mask: MaskIR) -> Scored:
    """What a mask without branches says of scores."""
    heads = mask.whole or mask.heads
    declaration, names, frame = frame_at(program, mask.name, dict(mask.parameters), heads, mask.branch)
    frame = assuming(frame, Term(mask.relation))
    lines = (each for each in declaration.statements if isinstance(each, _Statement))
    statements = tuple(ScoreMeaning(each, _meaning(each, names.at(each, frame), mask)) for each in lines)
    return Scored(mask.branch, statements, _probability(mask) if statements or mask.branch else "")


@dataclass(frozen=True)
class ByCondition:
    """A text that depends on a condition."""

    condition: Expression
    then: "Pieces"
    otherwise: "Pieces"


_MOST_CHOICES = 4
Pieces = tuple[str | Expression, ...] | ByCondition
"""The text of an expression, in pieces: the largest parts that are known stand for their values."""

_HOLE = re.compile("\0([0-9]+)\0")


def pieces_of(expression: Expression, is_known: Callable[[Expression], bool], choices: int = _MOST_CHOICES) -> Pieces:
    """The text of an expression of which some parts are known for every pair; of at most so many conditions at once."""
    for node in walk(expression) if choices else ():
        match node:
            case Apply(op=Op.SELECT, arguments=(condition, *ways)) if is_known(condition) and not is_known(node):
                each = (simplify(substitute(expression, {node: way})) for way in ways)
                then, otherwise = (pieces_of(one, is_known, choices - 1) for one in each)
                return ByCondition(condition, then, otherwise)
    known: list[Expression] = []

    def with_holes(node: Expression) -> Expression:
        if isinstance(node, Constant):
            return node
        if node.type is not Type.BOOL and not (isinstance(node, Read) and node.sparse) and is_known(node):
            known.append(node)
            return Read(f"\0{len(known) - 1}\0", (), node.type)
        return with_children(node, tuple(map(with_holes, children(node))))

    pieces = _HOLE.split(print_expression(with_holes(expression)))
    filled = (known[int(each)] if number % 2 else each for number, each in enumerate(pieces))
    return tuple(each for each in filled if each != "")


def has_values(pieces: Pieces) -> bool:
    """Whether a text depends on the pair."""
    return isinstance(pieces, ByCondition) or any(not isinstance(each, str) for each in pieces)
