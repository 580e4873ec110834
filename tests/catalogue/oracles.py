"""The rules of the examples, written a second time: plain Python over one pair of tokens, from the papers' words.

Every rule is a function of the parameters that returns `allowed(head, q, k) -> bool`.
"""

import math
from collections.abc import Callable
from itertools import permutations, product

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


def neighbors(position: int, length: int, kernel: int, dilation: int, stride: int) -> set[int]:
    """One axis of (generalised, dilated) neighbourhood attention: the positions attended from `position`."""
    group = [each for each in range(length) if each % dilation == position % dilation]
    own = group.index(position)
    leader = min(own // stride * stride + stride // 2, len(group) - 1)
    start = max(0, min(leader - kernel // 2, len(group) - kernel))
    return set(group[start : start + kernel])


def grid_neighborhood(
    lengths: tuple[int, ...], kernel: tuple[int, ...], dilation: tuple[int, ...], stride: tuple[int, ...]
) -> Rule:
    positions = cells(*lengths)
    near = [
        [neighbors(position, length, *sizes) for position in range(length)]
        for length, sizes in zip(lengths, zip(kernel, dilation, stride, strict=True), strict=True)
    ]
    return lambda head, q, k: all(
        theirs in axis[own] for axis, own, theirs in zip(near, positions[q], positions[k], strict=True)
    )


def maxvit_block(h: int, w: int, size: int) -> Rule:
    positions = cells(h, w)
    return lambda head, q, k: all(a // size == b // size for a, b in zip(positions[q], positions[k], strict=True))


def clear(text: int, h: int, w: int, radius: int) -> Rule:
    positions = cells(h, w)

    def allowed(head: int, q: int, k: int) -> bool:
        if q < text or k < text:
            return True
        (qy, qx), (ky, kx) = positions[q - text], positions[k - text]
        return (qy - ky) ** 2 + (qx - kx) ** 2 <= radius**2

    return allowed


def scale_dit(text_length: int, h: int, w: int, tile: int, ratio: int) -> Rule:
    guided = text_length + len(cells(max(h // ratio, 1), max(w // ratio, 1)))
    near = maxvit_block(h, w, tile)

    def allowed(head: int, q: int, k: int) -> bool:
        if min(q, k) < text_length or k < guided:
            return True
        return q >= guided and near(head, q - guided, k - guided)

    return allowed


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


def on_grid(*lengths: int) -> Callable[[Callable[..., bool]], Rule]:
    """A rule over the coordinates of two cells: `rule(head, query, key)`."""
    positions = cells(*lengths)

    def made(rule: Callable[..., bool]) -> Rule:
        return lambda head, q, k: rule(head, positions[q], positions[k])

    return made


def windows(size: int, length: int, shift: int = 0) -> list[list[int]]:
    """The positions of an axis in windows of `size`, after the first `shift` have moved to the end."""
    rolled = [*range(shift, length), *range(shift)]
    return [rolled[start : start + size] for start in range(0, length, size)]


def together(q: int, k: int, parts: list[list[int]]) -> bool:
    return any(q in part and k in part for part in parts)


def axial(h: int, w: int) -> Rule:
    return on_grid(h, w)(lambda head, q, k: q[0] == k[0] or q[1] == k[1])


def hidiffusion(h: int, w: int, shift: int) -> Rule:
    return on_grid(h, w)(
        lambda head, q, k: all(
            together(a, b, windows(-(-n // 2), n, shift)) for a, b, n in zip(q, k, (h, w), strict=True)
        )
    )


def radial(frames: int, tokens_per_frame: int, block: int, text: int) -> Rule:
    size = 2 ** tokens_per_frame.bit_length()

    def allowed(head: int, q: int, k: int) -> bool:
        if max(q, k) >= frames * tokens_per_frame or k < tokens_per_frame:
            return True
        (i, a), (j, b) = divmod(q, tokens_per_frame), divmod(k, tokens_per_frame)
        apart = abs(i - j)
        if apart <= 1:
            return True
        reach = size / 2 ** apart.bit_length()
        if abs(a - b) > max(reach, block):
            return False
        return reach >= block or apart % int(block / reach) == 0

    return allowed


def moved_inward(position: int, length: int, size: int) -> range:
    """`size` positions around a place, within an axis."""
    start = max(min(position - size // 2, length - size), 0)
    return range(start, start + size)


def sliding_tile(t: int, h: int, w: int, tile: tuple[int, ...], window: tuple[int, ...]) -> Rule:
    tiles = [math.ceil(n / size) for n, size in zip((t, h, w), tile, strict=True)]

    def rule(head: int, q: tuple[int, ...], k: tuple[int, ...]) -> bool:
        sides = zip(q, k, tile, tiles, window, strict=True)
        return all(b // size in moved_inward(a // size, count, wide) for a, b, size, count, wide in sides)

    return on_grid(t, h, w)(rule)


def freeswim(t: int, h: int, w: int, window: tuple[int, int]) -> Rule:
    def rule(head: int, q: tuple[int, ...], k: tuple[int, ...]) -> bool:
        sides = zip(q[1:], k[1:], (h, w), window, strict=True)
        return all(b in moved_inward(a, n, size) for a, b, n, size in sides)

    return on_grid(t, h, w)(rule)


def paro_blocks(t: int, h: int, w: int, size: int) -> Callable[[int, int], int]:
    """The block of a token in the order of a head."""
    orders, positions, lengths = list(permutations(range(3))), cells(t, h, w), (t, h, w)

    def block(head: int, token: int) -> int:
        (a, b, c), cell = orders[head % 6], positions[token]
        return ((cell[a] * lengths[b] + cell[b]) * lengths[c] + cell[c]) // size

    return block


def paro(heads: int, t: int, h: int, w: int, size: int) -> Rule:
    block = paro_blocks(t, h, w, size)
    return lambda head, q, k: block(head, q) == block(head, k)


def svg_spatial(t: int, h: int, w: int, frames: int) -> Rule:
    return on_grid(t, h, w)(lambda head, q, k: k[0] in [0, *range(q[0] - frames, q[0] + frames + 1)])


def svg_temporal(t: int, h: int, w: int, width: int) -> Rule:
    return lambda head, q, k: k < h * w or abs(q % (h * w) - k % (h * w)) <= width


def video_gna(window: tuple[int, ...], stride: tuple[int, ...]) -> Callable[[int, int, int], Rule]:
    return lambda t, h, w: grid_neighborhood((t, h, w), window, (1, 1, 1), stride)


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
