"""The orders of one space that are worth a look, the simplest first: ties go to the earlier."""

from collections.abc import Iterator, Mapping
from itertools import permutations

from maskdsl.analysis.orders.clues import Clues
from maskdsl.analysis.orders.layouts import Candidate, Keys, curve, quotient, token
from maskdsl.ir.expressions import Constant, apply
from maskdsl.ir.mask import CurveKind, Space
from maskdsl.ir.ops import Op

SIMPLE = frozenset({"declared", "written", "axes", "coordinates"})
"""Kinds of orders that are few, and good bases for others."""
_MOST_TILES = 60
"""Shapes of tiles; those of four axes are many."""


def candidates(space: Space, clues: Clues, written: Keys, block: tuple[int, int]) -> tuple[Candidate, ...]:
    """For tiles of so many queries and keys. Without repetitions; the first is the declared order."""
    found: dict[Keys, Candidate] = {}
    for each in _every(space, clues, written, block):
        found.setdefault(each.keys, each)
    return tuple(found.values())


def _every(space: Space, clues: Clues, written: Keys, block: tuple[int, int]) -> Iterator[Candidate]:
    yield Candidate((), "declared")
    if written:
        yield Candidate(written, "written")
    yield from (Candidate(keys, "axes") for keys in axis_orders(space))
    for several in (clues.coordinates, clues.groups):
        yield from (Candidate((key,), "coordinates") for key in several)
        if several:
            yield Candidate(several, "coordinates")
    residues = tuple(apply(Op.FLOOR_MODULO, token(name), Constant(step)) for name, step in clues.residues.items())
    for size in dict.fromkeys(block):
        yield from (Candidate(keys, "tiles") for keys in tile_orders(space, size, {}))
        if residues:
            yield from (Candidate((*residues, *keys), "tiles") for keys in tile_orders(space, size, clues.residues))
    yield from (Candidate(keys, "curve") for keys in curves(space))


def axis_orders(space: Space) -> Iterator[Keys]:
    """Every permutation of the axes but the declared one, without the keys at its end that go without saying."""
    names = tuple(axis.name for axis in space.axes if axis.length > 1)
    for order in permutations(names):
        rests = (tuple(sorted(order[count:], key=names.index)) for count in range(len(order)))
        said = next((count for count, rest in enumerate(rests) if order[count:] == rest), 0)
        if said:
            yield tuple(map(token, order[:said]))


def tile_orders(space: Space, block: int, steps: Mapping[str, int]) -> Iterator[Keys]:
    """Tiles of `block` tokens, row by row of tiles, the most compact first. Along an axis in `steps` they take every
    step-th token.
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
    """All ways to write a number as a product of so many."""
    if count == 1:
        yield (number,)
        return
    for size in (each for each in range(1, number + 1) if number % each == 0):
        yield from ((size, *rest) for rest in factorings(number // size, count - 1))


def curves(space: Space) -> Iterator[Keys]:
    """Through all axes; on three axes and more, also through the last two of them, before and behind the others."""
    axes = tuple(axis.name for axis in space.axes if axis.length > 1)
    if len(axes) < 2:
        return
    for kind in (CurveKind.SNAKE, CurveKind.MORTON, CurveKind.HILBERT):
        yield (curve(kind, axes),)
    if len(axes) > 2:
        plane = curve(CurveKind.HILBERT, axes[-2:])
        yield (plane,)
        yield (*map(token, axes[:-2]), plane)
