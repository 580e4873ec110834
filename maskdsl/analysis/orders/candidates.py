"""Candidate orders of one space, the simplest first; ties in time go to the earlier candidate."""

from collections.abc import Iterator, Mapping
from itertools import permutations

from maskdsl.analysis.orders.layouts import Candidate, Keys, curve, quotient, token
from maskdsl.analysis.orders.order_hints import OrderHints
from maskdsl.ir.declared.sequences import CurveKind, Space
from maskdsl.ir.expressions import Constant, apply
from maskdsl.ir.ops import Op

SIMPLE = frozenset({"declared", "written", "axes", "coordinates"})
"""Kinds of orders that other orders are built on; there are few of them."""
_MOST_TILES = 60
"""The most shapes of tiles per size; on four axes there are many."""


def candidates(space: Space, hints: OrderHints, written: Keys, block: tuple[int, int]) -> tuple[Candidate, ...]:
    """The distinct candidates for tiles of `block` = (queries, keys); the first is the declared order."""
    distinct: dict[Keys, Candidate] = {}
    for each in _every(space, hints, written, block):
        distinct.setdefault(each.keys, each)
    return tuple(distinct.values())


def _every(space: Space, hints: OrderHints, written: Keys, block: tuple[int, int]) -> Iterator[Candidate]:
    yield Candidate((), "declared")
    if written:
        yield Candidate(written, "written")
    yield from (Candidate(keys, "axes") for keys in axis_orders(space))
    for several in (hints.coordinates, hints.groups):
        yield from (Candidate((key,), "coordinates") for key in several)
        if several:
            yield Candidate(several, "coordinates")
    residues = tuple(apply(Op.FLOOR_MODULO, token(name), Constant(step)) for name, step in hints.residues.items())
    for size in dict.fromkeys(block):
        yield from (Candidate(keys, "tiles") for keys in tile_orders(space, size, {}))
        if residues:
            yield from (Candidate((*residues, *keys), "tiles") for keys in tile_orders(space, size, hints.residues))
    yield from (Candidate(keys, "curve") for keys in curves(space))


def axis_orders(space: Space) -> Iterator[Keys]:
    """Every permutation of the axes but the declared one, without last keys that declared order implies."""
    names = tuple(axis.name for axis in space.axes if axis.length > 1)
    for order in permutations(names):
        rests = (tuple(sorted(order[count:], key=names.index)) for count in range(len(order)))
        needed = next((count for count, rest in enumerate(rests) if order[count:] == rest), 0)
        if needed:
            yield tuple(map(token, order[:needed]))


def tile_orders(space: Space, block: int, steps: Mapping[str, int]) -> Iterator[Keys]:
    """Orders by boxes of `block` tokens, boxes in row-major order, the most compact boxes first.

    Along an axis in `steps`, a box takes every step-th token.
    """
    names = [axis.name for axis in space.axes]
    lengths = [-(-axis.length // steps.get(axis.name, 1)) for axis in space.axes]
    fitting = [
        shape
        for shape in factorings(block, len(names))
        if all(size == 1 or size < 2 * length for size, length in zip(shape, lengths, strict=True))
    ]
    for shape in sorted(fitting, key=lambda shape: (sum(shape), shape))[:_MOST_TILES]:
        sizes = zip(names, shape, strict=True)
        yield tuple(quotient(token(name), size * steps.get(name, 1)) for name, size in sizes)


def factorings(number: int, count: int) -> Iterator[tuple[int, ...]]:
    """Yields all ways to write `number` as an ordered product of `count` factors."""
    if count == 1:
        yield (number,)
        return
    for size in (each for each in range(1, number + 1) if number % each == 0):
        yield from ((size, *rest) for rest in factorings(number // size, count - 1))


def curves(space: Space) -> Iterator[Keys]:
    """Orders along curves through all axes; on three axes or more, also through the last two, first or last."""
    axes = tuple(axis.name for axis in space.axes if axis.length > 1)
    if len(axes) < 2:
        return
    for kind in (CurveKind.SNAKE, CurveKind.MORTON, CurveKind.HILBERT):
        yield (curve(kind, axes),)
    if len(axes) > 2:
        plane = curve(CurveKind.HILBERT, axes[-2:])
        yield (plane,)
        yield (*map(token, axes[:-2]), plane)
