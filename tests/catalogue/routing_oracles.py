"""The rules of content routing a second time, in plain loops: which keys each query of each head attends.

Every rule takes q [heads, queries, dim] and k [key heads, keys, dim] of one batch entry and the pattern's parameters
and inputs, and gives bool [heads, queries, keys]. Ties are not looked at: vectors are random.
"""

import math

import numpy as np


def of_head(q, k, head):
    """The vectors of a query head, and those of the keys that it sees."""
    return q[head], k[head * len(k) // len(q)]


def mean_of(vectors, members):
    return sum(vectors[i] for i in members) / len(members)


def blocks_of(n, block):
    """The tokens of each block."""
    return [list(range(start, min(start + block, n))) for start in range(0, n, block)]


def top(scores, count):
    """The keys of the `count` highest values of a dictionary."""
    return sorted(scores, key=lambda each: -scores[each])[: max(count, 0)]


def fewest(scores, mass):
    """The keys of the fewest values whose share of the softmax reaches `mass`."""
    highest = max(scores.values())
    weights = {each: math.exp(score - highest) for each, score in scores.items()}
    chosen, reached = [], 0.0
    for each in top(scores, len(scores)):
        if reached >= mass * sum(weights.values()):
            break
        chosen.append(each)
        reached += weights[each]
    return chosen


def empty(q, k):
    return np.zeros((len(q), q.shape[1], k.shape[1]), dtype=bool)


def nosa(q, k, n, block, top_count, sinks, size, fixed, worth):
    result, blocks = empty(q, k), blocks_of(n, block)
    heads, key_heads = len(q), len(k)
    for head in range(heads):
        own_key = head * key_heads // heads
        sharing = [other for other in range(heads) if other * key_heads // heads == own_key]
        kept = set(top({b: worth[head, b] for b in range(len(blocks))}, fixed))
        for i in range(n):
            scores = {
                b: sum(q[other, i] @ mean_of(k[own_key], blocks[b]) for other in sharing) for b in range(i // block)
            }
            chosen = {*top(scores, top_count), *kept}
            for j in range(i + 1):
                result[head, i, j] = j // block in chosen or j // block < sinks or i - j < size
    return result


def infllm(q, k, n, block, top_count, sinks, size):
    return nosa(q, k, n, block, top_count, sinks, size, 0, np.zeros((len(q), n)))


def antidiagonal(q, k, n, block, stride, mass):
    result, blocks = empty(q, k), blocks_of(n, block)
    for head in range(len(q)):
        queries, keys = of_head(q, k, head)
        for own, members in enumerate(blocks):
            scores = {
                b: sum(queries[i] @ keys[j] for i in members for j in blocks[b] if (i + j) % stride == stride - 1)
                for b in range(own + 1)
            }
            chosen = fewest(scores, mass)
            for i in members:
                for j in range(i + 1):
                    result[head, i, j] = j // block in chosen
    return result
