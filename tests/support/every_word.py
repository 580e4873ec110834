"""Words of branches, scores, pools and lists, and what people see of each: in editors, in explanations and on the page.

Texts are as the formatter writes them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Seen:
    """What is to be seen of some words in a pattern, of one pair in the first of two heads."""

    text: str
    hover: Mapping[str, str]
    """Pieces of the text, at whose beginning editors say this."""
    completion: Mapping[str, set[str]]
    """Pieces of the text, at whose end editors offer these words and others."""
    pair: tuple[int, int]
    explained: tuple[str, ...]
    """Parts of the explanation of the pair."""
    page: tuple[str, ...] | None = None
    """Parts of what the page says of the pair and its query; None for the same as in the explanation."""
    inputs: Mapping[str, Any] = field(default_factory=dict)
    """Those of the pattern, and queries and keys of those that select by them."""


def pattern(*lines: str, head: str = "n = 8", before: str = "") -> str:
    """The text of a pattern of these lines."""
    return f"{before}pattern p({head}) {{\n" + "".join(f"    {line}\n" if line else "\n" for line in lines) + "}\n"


NEAR = """## The place of a key.
def near(table: input, size) = table[head, clamp(q - k, -size, size) + size]

"""
SOFTMAX = "probability: a softmax over the keys of the query"

SEEN = {
    "where": Seen(
        pattern(
            "space text[n]",
            "space image[y = 2, x = 3]",
            "tokens text ++ image",
            "attend image -> text where (k.text < 2 or q.y == 0)",
            "attend (image -> image where q.y == k.y) if head < 1 else image -> image",
        ),
        {"where (": "Both hold. An `or`, an `if` or an arrow behind it stands in brackets."},
        {"(k.": {"i", "text", "y", "x"}},
        (8, 1),
        ("attend image -> text where (k.text < 2 or q.y == 0)",),
    ),
    "empty spaces": Seen(
        pattern(
            "space words[0]",
            "space tokens[n]",
            "tokens words ++ tokens",
            "input hint: float[words]",
            "attend tokens -> tokens",
            "attend words -> all",
            "score s + (k.hint if all -> words else 1.0)",
        ),
        {"hint:": "input hint: float[words]"},
        {"float[": {"words", "tokens", "batch", "heads", "key_heads", "dim", "_"}},
        (5, 4),
        ("attend tokens -> tokens", SOFTMAX),
    ),
    "pools": Seen(
        pattern(
            "space tokens[n]",
            "input cluster: int[tokens]",
            "space parts = min(tokens by cluster, 2)",
            "queries tokens",
            "keys tokens ++ parts",
            "attend tokens -> parts where k.last < q and k.first < k.count",
            "score s + (log(k.count) if tokens -> parts else 0.0)",
        ),
        {
            "min(": "The least of each element in a box, or in a group of tokens.",
            "by ": "space groups = mean(tokens by cluster, 64)",
            "last ": "The position of the last token of the pool.",
            "first ": "The position of the first token of the pool.",
            "count)": "The number of tokens of the pool.",
        },
        {"k.": {"i", "tokens", "parts", "cluster", "first", "last", "count"}},
        (6, 9),
        ("attend tokens -> parts where k.last < q and k.first < k.count", "s + 1.386"),
        inputs={"cluster": np.array([0, 1, 1, 1, 1, 0, 0, -1])},
    ),
    "pools that ask": Seen(
        pattern(
            "space tokens[n]",
            "space blocks = max(tokens, 3)",
            "queries blocks",
            "keys tokens",
            "attend q.first <= k <= q.last",
        ),
        {"blocks = ": "space blocks = max(tokens, 3)", "max(": "The largest of each element in a group"},
        {"q.": {"blocks", "tokens", "first", "last", "count"}},
        (2, 7),
        ("attend q.first <= k <= q.last",),
    ),
    "inputs": Seen(
        pattern(
            "space tokens[n]",
            "input gain: float",
            "input decay: float[batch, heads, tokens]",
            "attend causal",
            "score s * gain + decay[batch, head, q // 4 * 4]",
        ),
        {"gain:": "input gain: float", "batch, head, q": "The number of the batch entry, from 0."},
        {": ": {"float", "sparse"}, "heads, ": {"tokens", "batch"}},
        (5, 4),
        ("s * 2 + 7.5", SOFTMAX),
        # The page shows both heads, which differ in `decay`.
        ("s * 2 + decay[0, head, 4]", SOFTMAX),
        inputs={"gain": np.array(2.0), "decay": np.full((1, 2, 8), [[[7.5]], [[8.5]]][0])},
    ),
    "heads": Seen(
        pattern(
            "space tokens[n]",
            "input slope: float[key_heads]",
            "attend backward(sizes[head]) and (q - k) % 2 ** head == 0",
            "score s / sqrt(dim) - slope[key_head] * (q - k) + (1.0 if key_heads > 1 else -inf)",
            head="n = 8, sizes = (4, 5)",
        ),
        {
            "key_head]": "The number of the key head that the query head reads",
            "key_heads > 1": "How many key heads there are.",
            "dim)": "The head dimension, in what a call computes of a pair",
            "inf)": "Infinity.",
        },
        {"s / ": {"dim", "key_head", "key_heads", "inf", "head", "sizes"}},
        (5, 3),
        ("attend backward(sizes[head]) and (q - k) % 2 ** head == 0", "s / sqrt(float(dim)) - 1 + 1.0"),
        inputs={"slope": np.array([0.5, 0.25])},
    ),
    "macros": Seen(
        pattern(
            "space tokens[n]",
            "input places: float[heads, 5]",
            "attend causal",
            "score s + near(places, 2)",
            before=NEAR,
        ),
        {"near(places": "The place of a key.", "input, size": "In macros: the name of an input"},
        {"table: ": {"input"}, "+ near(": {"table = ", "size = ", "places"}},
        (5, 4),
        ("score s + near(places, 2)", SOFTMAX),
    ),
    "draw": Seen(
        pattern(
            "space tokens[n]",
            "coord b = tokens // 2",
            "route some = draw(1, 7, head) where q.b != k.b",
            "attend same(b) or some",
        ),
        {"draw(": "candidates at random", "some\n": "route some = draw(1, 7, head)"},
        {"or ": {"some"}},
        (5, 4),
        ("attend same(b) or some",),
    ),
    "routes": Seen(
        pattern(
            "space tokens[n]",
            "coord b = tokens // 2",
            "let share = softmax(dot(q, mean(k by b, span = 2)) where k.b <= q.b)",
            "route best = topk(2, max(sum(share, heads = key_head) by k.b)) where k.b < q.b always same(b)",
            "route much = topp(0.5, dot(mean(q by b), max(k by b)), reach = False) where k.b < q.b",
            "route rare = topp(0.5, weights = max(dot(q, k) - min(dot(q, k), per = q), 0.1))",
            "route high = above(0.5, dot(q, k))",
            "attend causal and (best or much or rare or high)",
        ),
        {
            "topk(": "The `count` best key groups",
            "always": "These groups are selected first",
            "softmax(": "a score's share",
            "span =": "Groups overlap",
            "heads =": "Heads of an equal value are put together",
            "reach =": "The most that stay within `mass`",
            "weights =": "without the negative ones",
            "per =": "Which pairs compete",
            "above(": "The key groups that score more.",
            "best or": "route best = topk(2",
        },
        {
            "topk(": {"count = ", "score = ", "per = "},
            "0.5, dot(mean(q by b), max(k by b)), ": {"reach = ", "weights = ", "per = "},
            "mean(k by b, ": {"heads = ", "span = "},
            "sum(share, ": {"heads = "},
            "by k.": {"b", "i", "tokens"},
            "attend causal and (": {"best", "much", "rare", "high"},
        },
        (5, 4),
        ("attend causal and (best or much or rare or high)",),
        inputs={name: np.random.default_rng(3).normal(size=(1, 2, 8, 4)) for name in ("q", "k")},
    ),
    "sink": Seen(
        pattern(
            "space tokens[n]",
            "input logit: float[heads]",
            "attend causal",
            "sink logit[head]",
            "sink 0.0",
            "weight 0.5 if q == k else -1.0",
        ),
        {"sink l": "A key that each query attends with this score", "weight": "Multiplies the probability of a pair"},
        {"\n    sink": {"sink", "weight", "normalize", "value", "branch"}},
        (5, 4),
        ("sink logit[head]", "-1", f"{SOFTMAX} and 2 sinks, times the weight"),
        inputs={"logit": np.array([3.25, 1.0])},
    ),
    "value": Seen(
        pattern(
            "space tokens[n]",
            "input rows: float[5, dim]",
            "attend all -> all",
            "value v + (rows[k - q + 2] if abs(k - q) <= 2 else 0.0)",
        ),
        {"value v": "The vector that a pair adds to the output", "v +": "The value of the key, inside `value`."},
        {"value ": {"v", "rows"}},
        (5, 4),
        ("value v + (rows[k - q + 2] if abs(k - q) <= 2 else 0.0)", SOFTMAX),
    ),
    "normalize none": Seen(
        pattern("space tokens[n]", "attend causal", "score sigmoid(s - 1.0)", "normalize none"),
        {"none": "The final score of a pair is its probability.", "normalize": "One softmax for each key"},
        {"normalize ": {"none", "softmax"}},
        (5, 4),
        ("normalize none", "probability: the final score itself"),
    ),
    "normalize softmax by k": Seen(
        pattern("space tokens[n]", "attend window(5)", "normalize softmax by k"),
        {"softmax": "One softmax for each key, over the queries that attend it."},
        {"normalize ": {"none", "softmax"}},
        (5, 4),
        ("normalize softmax by k", "probability: a softmax over the queries of the key"),
    ),
    "branch": Seen(
        pattern(
            "space image[y = 2, x = 4]",
            "input gate: float[heads]",
            "score s * 2.0",
            "",
            "branch content {",
            "    attend all -> all",
            "    weight -gate[head]",
            "}",
            "",
            "branch near for o in 0 .. 2 {",
            "    attend q.x - k.x == o",
            "    normalize none",
            "}",
            head="",
        ),
        {"branch content": "One attention of several, each normalised by itself", "o\n": "branch near for o in 0 .. 2"},
        {"== ": {"o", "gate"}},
        (5, 4),
        (
            "branch content",
            "score s * 2.0",
            f"{SOFTMAX}, times the weight",
            "branch near[0]",
            "branch near[1]",
            "attend q.x - k.x == o",
            "probability: the final score itself",
        ),
    ),
    "dot": Seen(
        pattern(
            "space tokens[n]",
            "input u: float[heads, dim]",
            "input rows: float[batch, tokens, 4]",
            "coord cube = tokens // 4",
            "attend causal",
            "score (dot(q + u[head], k) + dot(q.rows, k.rows) + dot(mean(q by cube), k)) / sqrt(dim)",
        ),
        {
            "dot(q +": "In a score or a route: the product of two vectors",
            "mean(q": "The mean of a group",
            "rows, k": "input rows: float[batch, tokens, 4]",
        },
        {"dot(q.": {"i", "tokens", "cube", "rows"}},
        (5, 4),
        ("score (dot(q + u[head], k) + dot(q.rows, k.rows) + dot(mean(q by cube), k)) / sqrt(dim)", SOFTMAX),
    ),
    "sparse": Seen(
        pattern(
            "space tokens[n]",
            "input edge: sparse[tokens, tokens]",
            "input bias: float[heads, edge]",
            "attend edge[q, k] or q == k",
            "score s + (bias[head, q, k] if edge[q, k] else 0.0)",
        ),
        {"sparse": "A relation given as a list of entries", "edge[q, k] or": "input edge: sparse[tokens, tokens]"},
        {"float[heads, ": {"edge", "tokens"}},
        (5, 4),
        ("attend edge[q, k] or q == k", "s + 0.75"),
        # The page shows both heads, which differ in `bias`.
        ("attend edge[q, k] or q == k", "s + bias[head, 5, 4]"),
        inputs={"edge": np.array([[5, 2], [4, 2]]), "bias": np.array([[0.75, 1.0], [0.5, 2.0]])},
    ),
}
