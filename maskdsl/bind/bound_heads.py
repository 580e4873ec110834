"""Checks the heads that a pattern is bound for, and that heads which routes pool together are all here."""

from collections.abc import Iterator

import numpy as np

from maskdsl.base.errors.language import heads as errors
from maskdsl.base.errors.language.limits import TooManyHeads
from maskdsl.base.limits import MOST_HEADS
from maskdsl.bind.context.frame import Frame
from maskdsl.bind.context.report import Report
from maskdsl.ir.expressions import Constant
from maskdsl.ir.heads import Heads
from maskdsl.ir.numpy_operators import evaluate
from maskdsl.ir.routes import Scored
from maskdsl.ir.values.group_scores import OF_ALL_HEADS, Gather, GatherHeads, GroupScores, route_of
from maskdsl.ir.values.token_vectors import OfGroup, Pool, vector_leaves


def checked_heads(given: int | Heads, report: Report) -> Heads:
    """The heads that `bind` was given, checked. Raises `AttnError` (E306, E340 to E343)."""
    heads = given if isinstance(given, Heads) else Heads(given)
    if not _is_between(1, heads.whole, MOST_HEADS):
        report.stop(TooManyHeads(count=heads.whole, limit=MOST_HEADS))
    limits = {
        "key_heads": (heads.key_heads, 1, heads.whole),
        "first_head": (heads.first, 0, heads.whole - 1),
        "local_heads": (heads.local, 1, heads.whole),
    }
    for name, (value, low, high) in limits.items():
        if value is not None and not _is_between(low, value, high):
            expected = f"from {low} to {high}: there are {heads.whole} heads"
            report.add(errors.WrongHeadNumber(name=name, found=repr(value), expected=expected))
    report.check()
    first, last = heads.first, heads.first + heads.count - 1
    if last >= heads.whole:
        report.stop(errors.NoSuchHeads(first=first, last=last, heads=heads.whole))
    if heads.key_heads is not None and heads.whole % heads.key_heads:
        report.stop(errors.IndivisibleKeyHeads(key_heads=heads.key_heads, heads=heads.whole))
    if heads.key_heads is not None and not heads.keep_key_heads_together:
        shared = heads.whole // heads.key_heads
        report.stop(
            errors.SplitKeyHeads(first=first, last=last, heads=heads.whole, key_heads=heads.key_heads, shared=shared)
        )
    return heads


def _is_between(low: int, value: object, high: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def check_pools(frame: Frame) -> None:
    """Reports routes that pool vectors of heads that are here with vectors of heads that are not."""
    heads = frame.declared.heads
    for route in frame.declared.routed if not heads.are_all else ():
        if isinstance(route, Scored) and any(_is_split(pool, heads) for pool in _pools(route)):
            known = "" if heads.key_heads else ", and which heads share a key head is not known: give `key_heads`"
            first, last = heads.first, heads.first + heads.count - 1
            frame.add(
                errors.SplitPool(
                    span=route.span, name=route_of(route.name), first=first, last=last, heads=heads.whole, known=known
                )
            )


def _pools(route: Scored) -> Iterator[Pool]:
    """The pools of a route's vectors, and those that its scores are put together as."""
    vectors = (vector for product in route.products for vector in (product.left, product.right))
    yield from (leaf.pool for vector in vectors for leaf in vector_leaves(vector) if isinstance(leaf, OfGroup))
    steps = route.steps if isinstance(route, GroupScores) else (route.selector,)
    for step in steps:
        if isinstance(step, GatherHeads) and step.by_key_head:
            yield Pool(None, by_key_head=True)
        elif isinstance(step, GatherHeads) or (not isinstance(step, Gather) and step.per in OF_ALL_HEADS):
            yield Pool(None, heads=Constant(0))


def _is_split(pool: Pool, heads: Heads) -> bool:
    if pool.by_key_head:
        return heads.key_heads is None or heads.count * heads.key_heads < heads.whole
    if pool.heads is None:
        return False
    every = np.arange(heads.whole) - heads.first  # expressions number the heads from the first one that is here
    numbers = np.broadcast_to(evaluate(pool.heads, lambda _: every, {}), heads.whole)
    here = slice(heads.first, heads.first + heads.count)
    return bool(np.isin(np.delete(numbers, here), numbers[here]).any())
