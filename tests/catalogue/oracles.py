"""The rules of the examples, written a second time: plain Python over one pair of tokens, from the papers' words.

Every rule is a function of the parameters that returns `allowed(head, q, k) -> bool`.
"""

from collections.abc import Callable
from itertools import product

Rule = Callable[[int, int, int], bool]


def dense(n: int) -> Rule:
    return lambda head, q, k: True


def causal(n: int) -> Rule:
    return lambda head, q, k: k <= q


def sliding_window(n: int, size: int) -> Rule:
    return lambda head, q, k: 0 <= q - k < size


def dilated_window(n: int, size: int, dilation: int) -> Rule:
    return lambda head, q, k: k in [q + step * dilation for step in range(-(size // 2), size // 2 + 1)]


def streaming(n: int, size: int, sinks: int) -> Rule:
    return lambda head, q, k: k <= q and (q - k < size or k < sinks)


def longformer(n: int, size: int, dilation: int, globals: int) -> Rule:
    near = dilated_window(n, size, dilation)
    return lambda head, q, k: near(head, q, k) or q < globals or k < globals


def sparse_strided(n: int, stride: int) -> Rule:
    return lambda head, q, k: k <= q and (q - k < stride or (q - k) % stride == 0)


def sparse_fixed(n: int, stride: int, summary: int) -> Rule:
    return lambda head, q, k: k <= q and (q // stride == k // stride or k % stride >= stride - summary)


def prefix_lm(n: int, prefix: int) -> Rule:
    return lambda head, q, k: k < prefix or k <= q


def aligned(targets: int, sources: int, size: int) -> Rule:
    return lambda head, q, k: abs(q * sources // targets - k) <= size // 2


def cells(*lengths: int) -> list[tuple[int, ...]]:
    """The coordinates of every token of a row-major grid."""
    return list(product(*(range(length) for length in lengths)))


def square_window(h: int, w: int, kernel: int) -> Rule:
    positions = cells(h, w)
    return lambda head, q, k: all(abs(a - b) <= kernel // 2 for a, b in zip(positions[q], positions[k], strict=True))


def t5_bucket(relative: int, buckets: int, distance: int) -> int:
    """T5's published function for bidirectional attention, on one relative position `k - q`."""
    from math import log

    half = buckets // 2
    bucket = half if relative > 0 else 0
    away = abs(relative)
    exact = half // 2
    if away < exact:
        return bucket + away
    step = int(log(away / exact) / log(distance / exact) * (half - exact) + 1e-9)
    return bucket + min(exact + step, half - 1)


def powers_of_two(n: int) -> set[int]:
    return {2**exponent for exponent in range(n.bit_length() + 1)}


def log_sparse(n: int) -> Rule:
    return lambda head, q, k: q - k in powers_of_two(n) | {0}


def power(n: int, block: int, local: int, sinks: int) -> Rule:
    def allowed(head: int, q: int, k: int) -> bool:
        near, far = q // block - k // block in range(local), q // block - k // block in powers_of_two(n)
        return k <= q and (near or far or k // block in range(sinks))

    return allowed


def s2(heads: int, n: int, block: int, local: int, stride: int) -> Rule:
    def allowed(head: int, q: int, k: int) -> bool:
        own_shard = (k // block - head) % stride == 0
        return k <= q and (q // block - k // block in range(local) or own_shard)

    return allowed


def shifted(n: int, group: int) -> list[list[int]]:
    """The groups of tokens after all have moved forward by half a group, in their order there."""
    moved = [*range(group // 2, n), *range(group // 2)]
    return [moved[start : start + group] for start in range(0, n, group)]


def longlora(heads: int, n: int, group: int) -> Rule:
    def allowed(head: int, q: int, k: int) -> bool:
        if head < heads // 2:
            return q // group == k // group and k <= q
        (own,) = (each for each in shifted(n, group) if q in each)
        return k in own[: own.index(q) + 1]

    return allowed


def sink_lora(heads: int, n: int, group: int, sinks: int) -> Rule:
    def allowed(head: int, q: int, k: int) -> bool:
        if k > q:
            return False
        if k < sinks:
            return True
        if head < heads // 2:
            return q // group == k // group
        across = (q < group // 2) != (k < group // 2)
        return not across and any(q in each and k in each for each in shifted(n, group))

    return allowed


def block_rank(instruction: int, documents: int, length: int, query: int) -> Rule:
    starts = [0, *range(instruction, instruction + documents * length + 1, length)]

    def segment(token: int) -> int:
        return max(number for number, start in enumerate(starts) if start <= token)

    def allowed(head: int, q: int, k: int) -> bool:
        if k > q:
            return False
        return segment(q) == documents + 1 or segment(k) in (0, segment(q))

    return allowed


def token_decoder(n: int, block: int) -> Rule:
    return lambda head, q, k: k in range(q - q % block, q + 1)


def block_decoder(n: int, block: int) -> Rule:
    return causal(-(-n // block))


def block_causal(n: int, block: int) -> Rule:
    return lambda head, q, k: k < (q // block + 1) * block


def block_diffusion(n: int, block: int) -> Rule:
    """The mask that the authors' code builds, by cases: their diagonal, their offset causal one, their causal one."""

    def allowed(head: int, q: int, k: int) -> bool:
        blocks = [token // block if token < n else (token - n) // block for token in (q, k)]
        if q < n and k < n:
            return blocks[0] == blocks[1]
        if q < n:
            return blocks[0] > blocks[1]
        return k >= n and blocks[0] >= blocks[1]

    return allowed


def shared_question(question: int, answers: int, length: int) -> Rule:
    def allowed(head: int, q: int, k: int) -> bool:
        if k < question:
            return k <= q
        start = question + (q - question) // length * length
        return q >= question and start <= k <= q

    return allowed


def global_sliding(n: int, size: int, globals: int) -> Rule:
    return lambda head, q, k: -size < q - k < size or min(q, k) < globals


def windows(size: int, length: int, shift: int = 0) -> list[list[int]]:
    """The positions of an axis in windows of `size`, after the first `shift` have moved to the end."""
    rolled = [*range(shift, length), *range(shift)]
    return [rolled[start : start + size] for start in range(0, length, size)]


def together(q: int, k: int, parts: list[list[int]]) -> bool:
    return any(q in part and k in part for part in parts)


# Pooled keys stand behind all others


def boxes_of(position: tuple[int, ...], size: int) -> tuple[int, ...]:
    return tuple(at // size for at in position)


def boxes(size: int, *lengths: int) -> list[tuple[int, ...]]:
    """The places of all boxes of `size` on a grid, row-major."""
    return sorted({boxes_of(position, size) for position in cells(*lengths)})


def combiner_fixed(n: int, block: int) -> Rule:
    def allowed(head: int, q: int, k: int) -> bool:
        own = range(q // block * block, q + 1)
        if k < n:
            return k in own
        pooled = range((k - n) * block, (k - n + 1) * block)
        return max(pooled) < min(own)

    return allowed


def core_context(n: int, group: int, size: int) -> Rule:
    def allowed(head: int, q: int, k: int) -> bool:
        near = range(q - size + 1, q + 1)
        if k < n:
            return k in near
        pooled = range((k - n) * group, (k - n + 1) * group)
        return all(token < near[0] for token in pooled)

    return allowed


def ultragen(heads: int, h: int, w: int, size: int, ratio: int) -> Rule:
    def window(head: int, token: int) -> tuple[int, int]:
        shift = size // 2 if head % 2 else 0
        return (token // w - shift) // size, (token % w - shift) // size

    return lambda head, q, k: k >= h * w or window(head, q) == window(head, k)


def near_boxes(box: tuple[int, ...], position: tuple[int, ...], size: int) -> bool:
    own = boxes_of(position, size)
    return box in [(own[0] + y, own[1] + x) for y in (-1, 0, 1) for x in (-1, 0, 1)]


def super_gather(h: int, w: int, size: int) -> Rule:
    return lambda head, q, k: near_boxes(boxes(size, h, w)[q], cells(h, w)[k], size)


def super_broadcast(h: int, w: int, size: int) -> Rule:
    return lambda head, q, k: near_boxes(boxes(size, h, w)[k], cells(h, w)[q], size)


def everything(**sizes: int) -> Rule:
    return lambda head, q, k: True
