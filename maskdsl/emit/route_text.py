"""Route to the expressions that its torch functions and its kernel are both printed from."""

from collections.abc import Iterator

from maskdsl.ir.expressions import Coordinate, Expression, Read, Side, substitute
from maskdsl.ir.ops import Type
from maskdsl.ir.routes import Route


def product_leaves(route: Route) -> list[Coordinate]:
    """The leaf that stands for each product in the score, as if it were a coordinate."""
    return [Coordinate(Side.QUERY, f"product {number}", Type.FLOAT) for number in range(len(route.products))]


def score_of_products(route: Route) -> Expression:
    """The score with a leaf of `product_leaves` for each product."""
    indices = route.queries.index(Side.QUERY), route.keys.index(Side.KEY)
    products: dict[Expression, Expression] = {
        Read(each.name, indices, Type.FLOAT): leaf
        for each, leaf in zip(route.products, product_leaves(route), strict=True)
    }
    return substitute(route.score, products)


def amongs(route: Route) -> Iterator[tuple[Side, int, Expression]]:
    """The conditions of pools that take only some tokens: (side, number of the product, condition)."""
    for number, product in enumerate(route.products):
        for side, pool in ((Side.QUERY, product.query), (Side.KEY, product.key)):
            if pool.among is not None:
                yield side, number, pool.among
