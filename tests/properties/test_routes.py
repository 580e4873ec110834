"""Random routes: tiles, backends and gradients against the oracle, which finds pairs in its own way."""

import random
import re

from hypothesis import given, settings
from hypothesis import strategies as st

import maskdsl
from maskdsl.api.verify import Case, prepared, problem
from maskdsl.testing import patterns
from tests.support.drawn import examples
from tests.support.properties import check_round_trip, sample
from tests.support.random_routes import routes


@settings(max_examples=examples(60), deadline=None)
@given(
    routes(),
    st.integers(1, 40),
    st.sampled_from([(1, 1), (2, 1), (4, 2), (3, 3)]),
    st.integers(1, 2),
    st.integers(0, 99),
)
def test_routes(text: str, n: int, heads: tuple[int, int], batch: int, seed: int) -> None:
    case = Case({"n": n}, heads=heads[0], key_heads=heads[1], batch=batch, dim=16, seed=seed)
    pattern = maskdsl.parse(text)["p"]
    assert prepared(pattern, case) is not None
    assert problem(pattern, case, ("tiled", "reference")) is None, text


FORMS = {
    "selectors": r"= topk\([\s\S]*= topp\([\s\S]*= above\(",
    "weights, and what stays within": r"weights = [\s\S]*reach = False",
    "pools under a condition": r"\([qk] where i % 3 != 1 by (chunk|wide)",
    "pools over heads": r"by (chunk|wide), heads = all[\s\S]*by (chunk|wide), heads = key_head",
    "overlapping groups": r"span = 2",
    "shares, some among others": r"softmax\([^\n]* where \([\s\S]*softmax\(",
    "largest scores": r" - max\(",
    "pairs that compete": r"per = head[\s\S]*per = batch[\s\S]*per = k",
    "gathers": r"by k\.wide[\s\S]*by k\.chunk, heads = [\s\S]*by k\b",
    "names": r"let score_of_found",
    "relations of groups": r"\) where [\s\S]* always ",
    "keys or queries alone": r"topk\(\d, dot\(([^,\n]*), \1\)\)",
    "a route in a branch": r"branch[^\n]*\n[^}]*found0",
}


def test_patterns_with_routes_have_all_words_of_routes() -> None:
    drawn = patterns(tokens=12, depth=1, routes=True)
    text = "\n".join(sample(drawn, number).text for number in range(60))
    branched = "\n".join(sample(patterns(tokens=12, depth=1, routes=True, branches=True), n).text for n in range(10))
    assert [name for name, form in FORMS.items() if not re.search(form, text + branched)] == []


@settings(max_examples=examples(40), deadline=None)
@given(patterns(tokens=12, depth=1, routes=True))
def test_patterns_with_routes_survive_the_formatter(pattern) -> None:
    check_round_trip(pattern)


@settings(max_examples=examples(30), deadline=None)
@given(patterns(tokens=12, depth=1, routes=True, whole=True), st.integers(0, 99))
def test_patterns_with_routes(pattern, seed) -> None:
    """Output, log-sum-exp and gradients, by `maskdsl verify`."""
    block = random.Random(seed).randint(1, 20), random.Random(seed + 1).randint(1, 20)
    heads = pattern.heads, pattern.key_heads or pattern.heads
    case = Case({}, *heads, batch=1 + seed % 2, dim=4, block=block, seed=seed)
    assert problem(maskdsl.parse(pattern.text)["random_pattern"], case, ("tiled", "reference")) is None
