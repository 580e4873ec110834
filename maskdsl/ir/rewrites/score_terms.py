"""Scores and weights as expressions of the product and of terms, which do not read it: see `codegen/native_scores.c`.

A term is a number of one query, of one key, or of a pair of positions. What is between terms is arithmetic of floats.
"""

from enum import StrEnum
from typing import NamedTuple

from maskdsl.base.records import dataclass
from maskdsl.ir.expressions import (
    Apply,
    Constant,
    Expression,
    Read,
    Score,
    Side,
    apply,
    substitute,
    walk,
    with_children,
)
from maskdsl.ir.facts.reads import reads
from maskdsl.ir.facts.trace import token_trace
from maskdsl.ir.mask import MaskIR, Normalize
from maskdsl.ir.ops import COMPARISONS, OPERATORS, Op, Type

_LARGEST = 160
"""The most nodes between terms. Compilers take long for more, and passes over deep expressions call themselves."""


class TermKind(StrEnum):
    """What a term is a number of."""

    QUERY = "query"
    KEY = "key"
    PAIR = "pair"


class NamedTerm(NamedTuple):
    """What stands for a term in an expression, and the term."""

    leaf: Read
    value: Expression


@dataclass(frozen=True)
class ScoreTerms:
    """Final scores and weights. Their leaves are `Score()`, the product, and those of the terms."""

    score: Expression
    weight: Expression | None
    normalizes: bool
    """Whether scores go through the softmax of a query; otherwise they are probabilities."""
    terms: tuple[tuple[TermKind, tuple[NamedTerm, ...]], ...]
    """Those of each kind."""

    def of(self, kind: TermKind) -> tuple[NamedTerm, ...]:
        return dict(self.terms)[kind]

    @property
    def leaves(self) -> tuple[Read, ...]:
        """The leaves of all terms, kind by kind."""
        return tuple(term.leaf for _, terms in self.terms for term in terms)


def score_terms(mask: MaskIR) -> ScoreTerms | None:
    """The score and the weight of a mask by their terms; None where they have another form."""
    if mask.normalize is Normalize.BY_KEY:
        return None
    score: Expression = Score()
    if mask.scale is not None and not isinstance(mask.scale, Constant):
        score = apply(Op.MULTIPLY, score, mask.scale)
    for each in mask.scores:
        score = substitute(each, {Score(): score})
    finder = _Finder(mask)
    try:
        made = finder.split(score)
        weight = None if mask.weight is None else finder.split(mask.weight)
    except _OtherForm:
        return None
    terms = tuple((kind, tuple(each for each in finder.terms[kind].values())) for kind in TermKind)
    return ScoreTerms(made, weight, mask.normalize is Normalize.BY_QUERY, terms)


def reads_tables_of_tokens(expression: Expression) -> bool:
    """Whether it reads a table at one token of a pair alone: then few pairs are alike."""
    sides = (reads(node) for node in walk(expression) if isinstance(node, Read))
    return any(bool(each.names(Side.QUERY)) != bool(each.names(Side.KEY)) for each in sides)


class _OtherForm(Exception):
    """The expression is no arithmetic of floats between terms, or it is too large."""


class _Finder:
    """Finds the largest terms of expressions."""

    def __init__(self, mask: MaskIR) -> None:
        self.mask = mask
        self.made = {each.name for each in (*mask.routed, *mask.products)}
        self.terms: dict[TermKind, dict[Expression, NamedTerm]] = {kind: {} for kind in TermKind}
        self.known: dict[Expression, Expression] = {}
        self.nodes = 0

    def split(self, node: Expression) -> Expression:
        """The expression with its largest terms as leaves."""
        if node not in self.known:
            self.nodes += 1
            if self.nodes > _LARGEST:
                raise _OtherForm
            self.known[node] = self._split(node)
        return self.known[node]

    def _split(self, node: Expression) -> Expression:
        if isinstance(node, Constant | Score):
            return node
        kind = self.kind(node)
        if kind is not None:
            terms = self.terms[kind]
            leaf = Read(f"{kind} {len(terms)}", (), node.type)
            return terms.setdefault(node, NamedTerm(leaf, node)).leaf
        if not isinstance(node, Apply) or not _is_printed(node):
            raise _OtherForm
        return with_children(node, tuple(map(self.split, node.arguments)))

    def kind(self, node: Expression) -> TermKind | None:
        """The kind of a term; None for what is none."""
        read = reads(node)
        if read.score or node.type is Type.INT or any(isinstance(each, Read) and each.sparse for each in walk(node)):
            return None
        if not read.names(Side.KEY):
            return TermKind.QUERY
        if not read.names(Side.QUERY):
            return TermKind.KEY
        given = token_trace(self.mask, [node]).inputs
        is_drawn = any(isinstance(each, Apply) and each.op is Op.RANDOM for each in walk(node))
        is_of_positions = not given and not is_drawn and self.made.isdisjoint(read.inputs)
        return TermKind.PAIR if is_of_positions and not reads_tables_of_tokens(node) else None


def _is_printed(node: Apply) -> bool:
    """Whether the operator has a function of vectors of floats. Floats that no score is in are compared exactly."""
    if node.op in COMPARISONS:
        is_of_floats = all(each.type is Type.FLOAT for each in node.arguments)
        return is_of_floats and any(reads(each).score for each in node.arguments)
    if node.op in (Op.NOT, Op.AND, Op.OR):
        return True
    return node.type is Type.FLOAT and bool(OPERATORS[node.op].c)
