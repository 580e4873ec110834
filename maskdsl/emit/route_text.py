"""Route to the expressions that its torch functions and its kernel are both printed from."""

from collections.abc import Iterator

from maskdsl.ir.expressions import PAIR, Coordinate, Expression, Read, Side, substitute
from maskdsl.ir.ops import Type
from maskdsl.ir.routes import Scored


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


def amongs(scored: Scored) -> Iterator[tuple[Side, int, Expression]]:
    """The conditions of pools that take only some tokens: (side, number of the plain product, condition)."""
    for number, product in enumerate(scored.products):
        for side in PAIR if product.is_plain else ():
            among = product.pool(side).among
            if among is not None:
                yield side, number, among
