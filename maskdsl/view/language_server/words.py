"""The help that editors show for the words of the language. Data only; tests compare it with the grammar and `bind`."""

from maskdsl.ir.ops import OPERATORS as CALCULATIONS

DECLARATIONS = {
    "use": 'use "other.attn"\n\nBrings the declarations of another file into scope.',
    "def": "def name(parameters) = expression\n\nA macro, expanded where it is used.",
    "pattern": "pattern name(parameters) { ... }\n\nWhich tokens attend to which.",
    "stack": "stack name(parameters) = 5 * local(n) + dense(n)\n\nThe layers of a model, first to last.",
}

STATEMENTS = {
    "space": "space image[y = h, x = w]\n\nTokens on a grid of one to four axes, the last axis fastest; or tokens "
    "pooled from others: `space coarse = mean(image, (4, 4))`, `space groups = mean(tokens by cluster, 64)`.",
    "tokens": "tokens text ++ image\n\nThe sequence of self-attention, its spaces one after the other.",
    "queries": "queries image\n\nThe sequence of the queries, in cross-attention.",
    "keys": "keys text ++ image\n\nThe sequence of the keys, in cross-attention.",
    "input": "input document: int[tokens]\n\nA tensor that a call gives by name.",
    "coord": "coord tile = y // 8\n\nA new coordinate of each token, computed from its others.",
    "let": "let name = expression\n\nA name for an expression.",
    "route": "route past = topk(3, dot(q, mean(k by chunk))) where k.chunk < q.chunk\n\nA relation that the queries "
    "and keys of a call decide.",
    "attend": "attend relation\n\nPairs of a query and a key that attend. Several lines are joined by `or`.",
    "require": "require relation\n\nOf the pairs that the `attend` lines allow, only these attend.",
    "score": "score s - slope[head] * (q - k)\n\nReplaces the scaled score `s` of a pair.",
    "scale": "scale 0.125\n\nThe factor of `q . k`, in place of 1 / sqrt(head dimension).",
    "weight": "weight expression\n\nMultiplies the probability of a pair, without renormalising.",
    "value": "value v + table[head, k - q]\n\nThe vector that a pair adds to the output, in place of the value `v` of "
    "its key.",
    "sink": "sink logit[head]\n\nA key that each query attends with this score, and whose value is zero.",
    "normalize": "normalize softmax by k\n\nOne softmax for each key, not for each query; `normalize none` takes "
    "scores for probabilities.",
    "branch": "branch local { attend window(8)  weight 0.5 }\n\nOne attention of several, each normalised by itself, "
    "whose outputs add up. `branch part for o in 0 .. 9 { ... }` is nine of them.",
    "order": "order image by hilbert(y, x)\n\nLays tokens out sorted by these keys, or by the best ones: `order auto`. "
    "Never changes the result.",
    "assert": 'assert condition, "message"\n\nBinding fails with the message if the condition does not hold.',
}

OPERATORS = {
    "and": "Both hold.",
    "or": "At least one of both holds.",
    "not": "It does not hold.",
    "if": "a if condition else b",
    "else": "a if condition else b",
    "where": "A -> B where condition\n\nBoth hold. An `or`, an `if` or an arrow behind it stands in brackets.",
    "for": "any(... for j in 0 .. 8), all(...), sum(...)",
    "in": "any(... for j in 0 .. 8), all(...), sum(...)",
    "by": "order image by hilbert(y, x)\n\nspace groups = mean(tokens by cluster, 64)",
    "always": "route picked = topk(3, ...) where ... always same(chunk)\n\nThese groups are selected first, and count.",
    "auto": "order auto\n\nThe order of tokens in which the pattern takes the least time.",
    "True": "The condition that always holds.",
    "False": "The condition that never holds.",
}

RESERVED = {
    "q": "The query. Alone it is its position `q.i`; `q.y` is a coordinate of it.",
    "k": "The key. Alone it is its position `k.i`; `k.y` is a coordinate of it.",
    "head": "The number of the query head, from 0.",
    "heads": "How many query heads there are.",
    "key_head": "The number of the key head that the query head reads, from 0.",
    "key_heads": "How many key heads there are.",
    "dim": "The head dimension, in what a call computes of a pair: `score`, `scale`, `weight`.",
    "batch": "The number of the batch entry, from 0.",
    "all": "Every space, as in `all -> text`; every axis, as the value of a parameter of type `axes`.",
    "s": "The scaled score of the pair, inside `score`.",
    "v": "The value of the key, inside `value`.",
    "inf": "Infinity.",
}

FUNCTIONS = {
    "softmax": "softmax(score where condition)\n\nIn a route, a score's share among the candidates of a query group.",
    **{each.function: f"{each.call}\n\n{each.help}" for each in CALCULATIONS.values() if each.function},
    "clamp": "clamp(x, low, high)\n\n`min(max(x, low), high)`.",
    "shuffle": "shuffle(i, seed)\n\nThe position in a fixed pseudo-random permutation.",
    "hilbert": "hilbert(y, x)\n\nThe position of a cell along a Hilbert curve, in boxes of any lengths.",
    "morton": "morton(y, x)\n\nThe position of a cell along a Morton curve.",
    "snake": "snake(y, x)\n\nThe position of a cell along a curve that runs back and forth.",
    "len": "len(axis)\n\nThe length of an axis, of the sequence (`i`), or the entries of a tuple.",
    "same": "same(a, b, ...)\n\nThese coordinates of the query and of the key are equal.",
    "rank": "rank(key, ...)\n\nIn `coord`: the rank of a token among the tokens of its space, sorted by these keys.",
    "dot": "dot(q + u[head], k)\n\nIn a score or a route: the product of two vectors, of tokens, groups or rows of "
    "inputs.",
}

QUANTIFIERS = {
    "any": "any(condition for j in 0 .. 8)\n\nIt holds for at least one.",
    "all": "all(condition for j in 0 .. 8)\n\nIt holds for each.",
    "sum": "sum(x for j in 0 .. 8)\n\nThe sum of all. In a route, `sum(k by c)` adds up a group of vectors.",
}

SELECTORS = {
    "topk": "topk(count, score)\n\nThe `count` best key groups of each query group.",
    "topp": "topp(mass, score)\n\nThe fewest key groups whose share of the softmax reaches `mass`.",
    "above": "above(threshold, score)\n\nThe key groups that score more.",
    "nearest": "nearest(centroids)\n\nQuery and key have the same nearest row of the input.",
    "balanced": "balanced(size, centroids)\n\nEach row of the input takes its best `size` queries and `size` keys.",
    "draw": "draw(count, seed, head)\n\n`count` candidates at random, others for each query group and each head.",
}

POOLINGS = {
    "mean": "mean(k by c)\n\nThe mean of a group; of a box of tokens in `space coarse = mean(image, (4, 4))`.",
    "max": "max(k by c)\n\nThe largest of each element in a group; in `space coarse = max(image, (4, 4))` of a box.",
    "min": "space coarse = min(image, (4, 4))\n\nThe least of each element in a box, or in a group of tokens.",
    "sum": "sum(k by c)\n\nThe sum of a group of vectors.",
    "root": "root(q by c)\n\nThe sum of a group of vectors over the square root of their number.",
}
"""What pools tokens or vectors: where a word is a function, too, this is what it means before `by` and in spaces."""

OF_POOLS = {
    "first": "The position of the first token of the pool.",
    "last": "The position of the last token of the pool.",
    "count": "The number of tokens of the pool.",
}
"""The coordinates that pooled tokens have."""

NORMALIZATIONS = {
    "none": "normalize none\n\nThe final score of a pair is its probability.",
    "softmax": "normalize softmax by k\n\nOne softmax for each key, over the queries that attend it.",
}

DIMENSIONS = {
    "tokens": "Every token.",
    "queries": "Every query.",
    "keys": "Every key.",
    "batch": "Every entry of the batch.",
    "heads": "Every query head.",
    "key_heads": "Every key head.",
    "dim": "The head dimension.",
    "_": "Any length, which no index reads.",
}
"""What may stand as a dimension of an input, beside spaces and integers."""

TYPES = {
    "int": "An integer, the type of parameters without a type or a default.",
    "float": "A float.",
    "bool": "`True` or `False`.",
    "axis": "The name of a coordinate.",
    "axes": "Several coordinates, `(y, x)`, or `all`.",
    "tuple": "Integers, one for each axis.",
    "input": "In macros: the name of an input, which the body reads.",
}

SPARSE_TYPE = {
    "sparse": "sparse[tokens, tokens]\n\nA relation given as a list of entries: pairs, or row starts and columns.",
}
"""The type that only inputs have."""

_PER = {
    "per": "per = head\n\nWhich pairs compete: those of a query; or else of a key group (`k.c`), of a head, of all "
    "heads (`batch`), or of a key group in all heads (`(batch, k.c)`)."
}
_TOGETHER = {
    "heads": "heads = key_head\n\nHeads of an equal value are put together; with `all`, all heads.",
    "span": "span = 2\n\nGroups overlap: a group has the tokens of its number and of the next ones, of so many in all.",
}
ARGUMENTS = {
    "mean": _TOGETHER,
    "sum": _TOGETHER,
    "root": _TOGETHER,
    "max": {**_TOGETHER, **_PER},
    "min": {**_TOGETHER, **_PER},
    "softmax": _PER,
    "topk": {
        "count": "topk(count, score)\n\nHow many key groups a query group selects.",
        "score": "topk(count, score)\n\nThe score of a pair of groups.",
        **_PER,
    },
    "topp": {
        "mass": "topp(mass, score)\n\nThe share of the softmax, or of the weights, from 0 to 1.",
        "score": "topp(mass, score)\n\nThe score of a pair of groups.",
        "weights": "topp(mass, weights = w)\n\nThe shares are those of the sum of these, without the negative ones.",
        "reach": "topp(mass, score, reach = False)\n\nThe most that stay within `mass`, at least one.",
        **_PER,
    },
    "above": {
        "threshold": "above(threshold, score)\n\nWhat a score has to exceed.",
        "score": "above(threshold, score)\n\nThe score of a pair of groups.",
    },
}
"""The arguments of functions that may be written with their names."""

CALLED = {**POOLINGS, **FUNCTIONS, **QUANTIFIERS, **SELECTORS}
KEYWORDS = {**DECLARATIONS, **STATEMENTS, **OPERATORS}
