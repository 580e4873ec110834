"""Scores with products of vectors, once they are whole: what attention multiplies, and what a call computes before.

Attention computes one product of a vector of the query and a vector of the key for each pair. So the products of such
vectors that a score reads must be terms of one sum, each times what depends on one of the two tokens: it is the product
of the joined vectors.
"""

from collections.abc import Iterable, Iterator, Mapping
from functools import reduce

from maskdsl.base.errors.language.tables import SeparateProducts
from maskdsl.base.records import dataclass
from maskdsl.bind.context.frame import Declared, Frame
from maskdsl.bind.expression.table_inputs import BATCH, heads_dimension
from maskdsl.ir.declared.inputs import HEAD_DIM, Dimension, DimensionKind, Input
from maskdsl.ir.expressions import (
    Apply,
    Constant,
    Expression,
    Read,
    Score,
    Side,
    apply,
    children,
    substitute,
    walk,
)
from maskdsl.ir.facts.reads import reads
from maskdsl.ir.ops import Op, Type
from maskdsl.ir.simplify import simplify
from maskdsl.ir.values.token_vectors import PLAIN, Multiple, OfToken, PairProduct, Sum, Vector, VectorProduct

_ONE = Constant(1.0)
_ZERO = Constant(0.0)


@dataclass(frozen=True)
class BoundScores:
    """The scores of a mask, its scale, and the products that they read."""

    scores: tuple[Expression, ...]
    scale: Expression | None
    products: tuple[VectorProduct, ...] = ()
    pairs: tuple[PairProduct, ...] = ()
    """What attention multiplies, as one sum; empty for the query and the key."""

    @property
    def vectors(self) -> Iterator[Vector]:
        """All vectors of the products."""
        for each in self.products:
            yield from (each.left, each.right)
        for pair in self.pairs:
            yield from (pair.query, pair.key)


def product_input(product: VectorProduct, declared: Declared) -> Input:
    """The declaration of the table that a product is."""
    dimensions = [BATCH, heads_dimension(declared)]
    if product.per is not None:
        length = declared.side(product.per).sequence.length
        dimensions.append(Dimension(DimensionKind.FIXED, length, product.per.plural))
    dimensions += (Dimension(DimensionKind.FIXED, each.count, str(each.count)) for each in product.windows)
    return Input(product.name, Type.FLOAT, tuple(dimensions))


def with_products(scores: tuple[Expression, ...], scale: Expression | None, frame: Frame) -> BoundScores:
    """The scores with the sum of their products of pairs in place of the score before the first line."""
    dots, read = frame.declared.dots, reads(*scores).inputs
    tables = tuple(each for name, each in dots.items() if isinstance(each, VectorProduct) and name in read)
    pairs = {name: each for name, each in dots.items() if isinstance(each, PairProduct) and name in read}
    if not pairs:
        return BoundScores(scores, scale, tables)
    before: Expression = Score()
    if scale is not None:
        before = apply(Op.MULTIPLY, _product(scores, PLAIN, pairs), scale)
    elif PLAIN in pairs.values():
        root = apply(Op.SQUARE_ROOT, apply(Op.TO_FLOAT, Read(HEAD_DIM, (), Type.INT)))
        before = apply(Op.DIVIDE, _product(scores, PLAIN, pairs), root)
    whole = reduce(lambda score, line: substitute(line, {Score(): score}), scores, before)
    gathered = _ScorePairs(pairs).gathered(whole)
    if gathered is None:
        spans = (node.span for node in walk(whole) if isinstance(node, Read) and node.input in pairs)
        frame.add(SeparateProducts(span=next(each for each in spans if each is not None)))
        return BoundScores((), scale)
    score, terms = gathered
    terms = _joined(terms)
    return BoundScores((simplify(score),), _ONE, tables, () if terms == (PLAIN,) else terms)


def _joined(terms: Iterable[PairProduct]) -> tuple[PairProduct, ...]:
    """The terms of a sum, those with an equal vector as one: `dot(a, c) + dot(b, c)` is `dot(a + b, c)`."""
    by_key: dict[Vector, list[Vector]] = {}
    for each in terms:
        by_key.setdefault(each.key, []).append(each.query)
    by_query: dict[Vector, list[Vector]] = {}
    for key, queries in by_key.items():
        by_query.setdefault(_sum(queries), []).append(key)
    return tuple(PairProduct(query, _sum(keys)) for query, keys in by_query.items())


def _sum(vectors: list[Vector]) -> Vector:
    return vectors[0] if len(vectors) == 1 else Sum(tuple(vectors))


def _product(scores: tuple[Expression, ...], product: PairProduct, pairs: dict[str, PairProduct]) -> Expression:
    """The read of a product in these scores, which get it if they have it not."""
    for node in (node for each in scores for node in walk(each)):
        if isinstance(node, Read) and pairs.get(node.input) == product:
            return node
    pairs["dot(q, k)"] = product
    return Read("dot(q, k)", (), Type.FLOAT)


@dataclass(frozen=True)
class _PairSum:
    """Products of pairs by name, each with its factor, and the other terms."""

    factors: Mapping[str, Expression]
    rest: Expression

    def plus(self, other: "_PairSum") -> "_PairSum":
        """The sum of both."""
        factors = dict(self.factors)
        for name, factor in other.factors.items():
            factors[name] = apply(Op.ADD, factors[name], factor) if name in factors else factor
        return _PairSum(factors, apply(Op.ADD, self.rest, other.rest))

    def times(self, factor: Expression) -> "_PairSum":
        """The multiple by what depends on one of the two tokens."""
        factors = {name: apply(Op.MULTIPLY, each, factor) for name, each in self.factors.items()}
        return _PairSum(factors, apply(Op.MULTIPLY, self.rest, factor))


_BEFORE = "s"
"""The score before the first line, among the products of pairs: no `dot` has this name."""
_SCALED = PairProduct(OfToken(Side.QUERY, scaled=True), OfToken(Side.KEY))


@dataclass(frozen=True)
class _ScorePairs:
    """The products of pairs in a score."""

    pairs: Mapping[str, PairProduct]

    def gathered(self, score: Expression) -> tuple[Expression, tuple[PairProduct, ...]] | None:
        """The score with one `Score()` for its sum of products, and the terms of that; None if there are several."""
        names = {name for name, _ in self.of(score)}
        if len(names) == 1 and _BEFORE not in names:  # any function of a single product
            (name,) = names
            atoms: dict[Expression, Expression] = {node: Score() for _, node in self.of(score)}
            return substitute(score, atoms), (self.pairs[name],)
        sums = list(self.sums(score))
        factors = [{name: simplify(each) for name, each in one.factors.items()} for _, one in sums]
        if any(each != factors[0] for each in factors):
            return None
        terms = [self.term(name, factor) for name, factor in factors[0].items()]
        if any(each is None for each in terms):
            return None
        replaced = {node: apply(Op.ADD, Score(), one.rest) for node, one in sums}
        return _replaced(score, replaced), tuple(each for each in terms if each is not None)

    def term(self, name: str, factor: Expression) -> PairProduct | None:
        """A term of the sum, its factor among its vectors; None if the factor depends on both tokens together."""
        halves = _separated(factor)
        if halves is None:
            return None
        product = _SCALED if name == _BEFORE else self.pairs[name]
        return PairProduct(_multiple(halves[0], product.query), _multiple(halves[1], product.key))

    def of(self, score: Expression) -> Iterator[tuple[str, Expression]]:
        """Yields the products in a score."""
        for node in walk(score):
            if isinstance(node, Score):
                yield _BEFORE, node
            if isinstance(node, Read) and node.input in self.pairs:
                yield node.input, node

    def has(self, node: Expression) -> bool:
        read = reads(node)
        return read.score or any(name in self.pairs for name in read.inputs)

    def sums(self, node: Expression) -> Iterator[tuple[Expression, _PairSum]]:
        """Yields the largest operands that are sums of products and of other terms."""
        if self.has(node):
            whole = self.sum_of(node)
            if whole is None:
                for each in children(node):
                    yield from self.sums(each)
            else:
                yield node, whole

    def sum_of(self, node: Expression) -> _PairSum | None:
        """An expression as a sum; None if it is another function of products."""
        if not self.has(node):
            return _PairSum({}, node)
        match node:
            case Score():
                return _PairSum({_BEFORE: _ONE}, _ZERO)
            case Read(input=name) if name in self.pairs:
                return _PairSum({name: _ONE}, _ZERO)
            case Apply(op=Op.ADD | Op.SUBTRACT as op, arguments=(left, right)):
                one, two = self.sum_of(left), self.sum_of(right)
                if one is None or two is None:
                    return None
                return one.plus(two if op is Op.ADD else two.times(Constant(-1.0)))
            case Apply(op=Op.NEGATE, arguments=(inner,)):
                return self.multiple(inner, Constant(-1.0))
            case Apply(op=Op.MULTIPLY, arguments=(left, right)) if not self.has(left):
                return self.multiple(right, left)
            case Apply(op=Op.MULTIPLY, arguments=(left, right)) if not self.has(right):
                return self.multiple(left, right)
            case Apply(op=Op.DIVIDE, arguments=(inner, divisor)) if not self.has(divisor):
                return self.multiple(inner, apply(Op.DIVIDE, _ONE, divisor))
            case _:
                return None

    def multiple(self, node: Expression, factor: Expression) -> _PairSum | None:
        """A multiple of a sum; None if the factor depends on both tokens together."""
        inner = self.sum_of(node)
        return None if inner is None or _separated(factor) is None else inner.times(factor)


def _separated(factor: Expression) -> tuple[Expression, Expression] | None:
    """A factor as one of the query and one of the key; None if it depends on both tokens together."""
    read = reads(factor)
    if not read.names(Side.KEY):
        return factor, _ONE
    if not read.names(Side.QUERY):
        return _ONE, factor
    match factor:
        case Apply(op=Op.MULTIPLY | Op.DIVIDE as op, arguments=(left, right)):
            one, two = _separated(left), _separated(right)
            if one is not None and two is not None:
                return simplify(apply(op, one[0], two[0])), simplify(apply(op, one[1], two[1]))
        case Apply(op=Op.NEGATE, arguments=(inner,)):
            halves = _separated(inner)
            return None if halves is None else (apply(Op.NEGATE, halves[0]), halves[1])
    return None


def _multiple(factor: Expression, vector: Vector) -> Vector:
    return vector if factor == _ONE else Multiple(factor, vector)


def _replaced(score: Expression, sums: Mapping[Expression, Expression]) -> Expression:
    """The score with these operands replaced, the largest first."""

    def replaced(node: Expression) -> Expression:
        if node in sums:
            return sums[node]
        if isinstance(node, Apply):
            return Apply(node.op, tuple(map(replaced, node.arguments)), span=node.span)
        return node

    return replaced(score)
