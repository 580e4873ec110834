"""Route to the expressions that its torch functions and its kernel are both printed from."""

from collections.abc import Iterator

from maskdsl.ir.expressions import Apply, Coordinate, Expression, Read, Side, of_side, substitute
from maskdsl.ir.facts.reads import reads
from maskdsl.ir.ops import Op, Type
from maskdsl.ir.routes import Scored
from maskdsl.ir.values.token_vectors import OfGroup, vector_leaves


def product_leaves(scored: Scored) -> list[Coordinate]:
    """The leaf that stands for each product in the score, as if it were a coordinate."""
    return [Coordinate(Side.QUERY, f"product {number}", Type.FLOAT) for number in range(len(scored.products))]


def score_of_products(scored: Scored) -> Expression:
    """The score with a leaf of `product_leaves` for each product."""
    products: dict[Expression, Expression] = {
        Read(each.name, each.indices, Type.FLOAT): leaf
        for each, leaf in zip(scored.products, product_leaves(scored), strict=True)
    }
    return substitute(scored.score, products)


def terms_of_score(scored: Scored) -> list[tuple[Expression, list[int]]]:
    """The terms that add up to the score, and the numbers of the products that each reads.

    One term, where several would read one product, or only one reads any.
    """
    score = score_of_products(scored)
    numbers = {leaf: number for number, leaf in enumerate(product_leaves(scored))}

    def read(expression: Expression) -> list[int]:
        return [numbers[each] for each in reads(expression).coordinates if each in numbers]

    terms = [(each, read(each)) for each in _terms(score)]
    numbered = [number for _, of_term in terms for number in of_term]
    is_one = len({*numbered}) < len(numbered) or sum(bool(of_term) for _, of_term in terms) < 2
    return [(score, read(score))] if is_one else terms


def _terms(expression: Expression) -> Iterator[Expression]:
    """The operands of sums of sums."""
    match expression:
        case Apply(Op.ADD, arguments):
            for each in arguments:
                yield from _terms(each)
        case _:
            yield expression


def pools(scored: Scored) -> tuple[OfGroup, ...]:
    """The different pools among the vectors that are scored."""
    vectors = (vector for product in scored.products for vector in (product.left, product.right))
    leaves = (leaf for vector in vectors for leaf in vector_leaves(vector))
    return tuple(dict.fromkeys(leaf for leaf in leaves if isinstance(leaf, OfGroup)))


def amongs(scored: Scored) -> Iterator[tuple[int, Expression]]:
    """The conditions of pools that take only some tokens, over one token, with the numbers of the pools."""
    for number, each in enumerate(pools(scored)):
        if each.pool.among is not None:
            yield number, of_side(each.pool.among, Side.TOKEN)
