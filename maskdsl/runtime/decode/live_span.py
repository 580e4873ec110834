"""The keys that some queries can attend, where tiles follow from the pattern alone. Time follows them, not the cache.

Blocks of queries are looked at once, and serve all steps of decoding that are in them.
"""

from collections.abc import Sequence
from weakref import WeakKeyDictionary

from maskdsl.analysis.tiles.mask_tiles import tiles
from maskdsl.runtime.base.kept import in_no_mode
from maskdsl.runtime.compiled.compiled_mask import Bound
from maskdsl.runtime.compiled.mask_calls import remember

_QUERIES, _KEYS = 64, 64
"""Those of a tile."""
_SHORTEST = 512
"""As many keys, or fewer, are looked at together sooner than spans are."""


def live_span(compiled: Bound, starts: Sequence[int], queries: int, keys: int) -> tuple[int, int]:
    """The first key, and their number, of a stretch of the first `keys` that has all that these queries can attend.

    Each batch entry has `queries`, from its position in `starts` on. Numbers of keys are powers of two, or all of them.
    """
    plan = compiled.plan
    if plan.tile_inputs or plan.varies_by_batch or keys <= _SHORTEST:
        return 0, keys
    blocks = {each for start in starts for each in range(start // _QUERIES, (start + queries - 1) // _QUERIES + 1)}
    spans = [_span_of(compiled, block) for block in blocks]
    first, last = min(low for low, _ in spans), min(max(high for _, high in spans), keys)
    count = 1 << max(last - first - 1, 0).bit_length()
    return (0, keys) if count >= keys else (min(first, keys - count), count)


_SPANS: WeakKeyDictionary[Bound, dict[object, tuple[int, int]]] = WeakKeyDictionary()
"""The first key of each block of queries, and the one behind the last."""


def _span_of(compiled: Bound, block: int) -> tuple[int, int]:
    spans = _SPANS.setdefault(compiled, {})
    if block not in spans:
        mask = compiled.plan.mask.declared
        rows = slice(block * _QUERIES, min((block + 1) * _QUERIES, mask.queries.length))
        with in_no_mode():
            block_map = tiles(mask, (_QUERIES, _KEYS), {}, 1, (rows, slice(None)))
        runs = [each for one in block_map.head_classes for each in (one.full, one.partial) if len(each.start)]
        low = min((int(each.start.min()) for each in runs), default=0)
        high = max((int(each.end.max()) for each in runs), default=0)
        remember(spans, block, (low * _KEYS, high * _KEYS))
    return spans[block]
