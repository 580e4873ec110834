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


def neighbors(position: int, length: int, kernel: int, dilation: int, stride: int) -> set[int]:
    """One axis of (generalised, dilated) neighbourhood attention: the positions attended from `position`."""
    group = [place for place in range(length) if place % dilation == position % dilation]
    own = group.index(position)
    leader = min(own // stride * stride + stride // 2, len(group) - 1)
    start = max(0, min(leader - kernel // 2, len(group) - kernel))
    return set(group[start : start + kernel])


def neighbors_causal(position: int, length: int, kernel: int, dilation: int, stride: int) -> set[int]:
    group = [place for place in range(length) if place % dilation == position % dilation]
    own = group.index(position)
    leader = min(own // stride * stride + stride - 1, len(group) - 1)
    return {place for at, place in enumerate(group) if at <= own and leader - at < kernel}


def grid_neighborhood(
    lengths: tuple[int, ...], kernel: tuple[int, ...], dilation: tuple[int, ...], stride: tuple[int, ...]
) -> Rule:
    places = cells(*lengths)
    near = [
        [neighbors(position, length, *sizes) for position in range(length)]
        for length, sizes in zip(lengths, zip(kernel, dilation, stride, strict=True), strict=True)
    ]
    return lambda head, q, k: all(
        theirs in axis[own] for axis, own, theirs in zip(near, places[q], places[k], strict=True)
    )


def na1(n: int, kernel: int, dilation: int, stride: int) -> Rule:
    return grid_neighborhood((n,), (kernel,), (dilation,), (stride,))


def na1_causal(n: int, kernel: int, dilation: int, stride: int) -> Rule:
    return lambda head, q, k: k in neighbors_causal(q, n, kernel, dilation, stride)


def na2(h: int, w: int, kernel: tuple[int, ...], dilation: tuple[int, ...], stride: tuple[int, ...]) -> Rule:
    return grid_neighborhood((h, w), kernel, dilation, stride)


def na3(t: int, h: int, w: int, kernel: tuple[int, ...], dilation: tuple[int, ...], stride: tuple[int, ...]) -> Rule:
    return grid_neighborhood((t, h, w), kernel, dilation, stride)


def na3_causal(t: int, h: int, w: int, kernel: tuple[int, ...]) -> Rule:
    places = cells(t, h, w)

    def allowed(head: int, q: int, k: int) -> bool:
        (qt, qy, qx), (kt, ky, kx) = places[q], places[k]
        return (
            kt in neighbors_causal(qt, t, kernel[0], 1, 1)
            and ky in neighbors(qy, h, kernel[1], 1, 1)
            and kx in neighbors(qx, w, kernel[2], 1, 1)
        )

    return allowed


def swin(h: int, w: int, size: int, shift: int) -> Rule:
    """Roll, cut into windows, and keep apart what the roll brought together: nine regions, as the released code has it
    for lengths that windows divide.
    """
    places = cells(h, w)

    def window_and_region(position: int, length: int) -> tuple[int, bool]:
        rolled = [*range(shift, length), *range(shift)].index(position)
        return rolled // size, rolled >= length - shift

    def allowed(head: int, q: int, k: int) -> bool:
        (qy, qx), (ky, kx) = places[q], places[k]
        return window_and_region(qy, h) == window_and_region(ky, h) and window_and_region(qx, w) == window_and_region(
            kx, w
        )

    return allowed


def maxvit_block(h: int, w: int, size: int) -> Rule:
    places = cells(h, w)
    return lambda head, q, k: all(a // size == b // size for a, b in zip(places[q], places[k], strict=True))


def maxvit_grid(h: int, w: int, size: int) -> Rule:
    places = cells(h, w)
    steps = (h // size, w // size)
    return lambda head, q, k: all(a % step == b % step for a, b, step in zip(places[q], places[k], steps, strict=True))


def cswin(heads: int, h: int, w: int, stripe: int) -> Rule:
    places = cells(h, w)

    def allowed(head: int, q: int, k: int) -> bool:
        axis = 0 if head < heads // 2 else 1
        return places[q][axis] // stripe == places[k][axis] // stripe

    return allowed


def clear(text: int, h: int, w: int, radius: int) -> Rule:
    places = cells(h, w)

    def allowed(head: int, q: int, k: int) -> bool:
        if q < text or k < text:
            return True
        (qy, qx), (ky, kx) = places[q - text], places[k - text]
        return (qy - ky) ** 2 + (qx - kx) ** 2 <= radius**2

    return allowed


def square_window(h: int, w: int, kernel: int) -> Rule:
    places = cells(h, w)
    return lambda head, q, k: all(abs(a - b) <= kernel // 2 for a, b in zip(places[q], places[k], strict=True))


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
