"""Receptive fields against products of dense matrices, and their bounds by tiles."""

from itertools import pairwise

import networkx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import maskdsl
from maskdsl.analysis.reach import connections, receptive_field
from maskdsl.analysis.reach.arrival import NEVER
from maskdsl.analysis.reach.components import Components, components_of_graph
from maskdsl.analysis.reach.hops import estimate_runs, find_layer
from maskdsl.base.diagnostics import AttnError
from maskdsl.ir.meaning.pooling import PoolMeaning
from tests.support.drawn import examples

PATTERNS = """
pattern window(n, size = 5) { space tokens[n] attend window(size) }
pattern behind(n, size = 4) { space tokens[n] attend backward(size) }
pattern steps(n, step = 3) { space tokens[n] attend dilated(step) and window(4 * step) }
pattern chunks(n, size = 6, shift = 0) { space tokens[n] attend blocks(size, shift) order by tokens % 5 }
pattern shuffled(n, size = 5, seed = 1) {
    space tokens[n]
    coord place = shuffle(i, seed)
    attend backward(size, axis = place)
    order by place
}
pattern heads_differ(n) { space tokens[n] attend dilated(7) if head == 0 else blocks(4) }
pattern nothing(n) { space tokens[n] attend q == k and q < 0 }
pattern pooled(n) {
    space tokens[n]
    space coarse = mean(tokens, 4)
    queries tokens
    keys coarse ++ tokens
    attend tokens -> tokens where window(3)
    attend tokens -> coarse where k.coarse % 3 == 0 and q % 2 == 1
    order tokens by tokens % 3
}
pattern summary(n) {
    space tokens[n]
    space coarse = max(tokens, 5)
    space rough = mean(coarse, 2)
    queries tokens
    keys rough
    attend all -> all where k.rough <= q // 10
    order rough by shuffle(i, 4)
}
pattern early(n) { space tokens[n] attend all -> all where k < 3 and q % 2 == 0 }
"""
NAMES = ["window", "behind", "steps", "chunks", "shuffled", "heads_differ", "nothing", "early", "pooled", "summary"]


def bind(layers, n=45, heads=2):
    text = f"{PATTERNS} stack some(n) = {' + '.join(f'{name}(n)' for name in layers)}"
    return maskdsl.parse(text).stack("some").bind(n=n, heads=heads)


def relations(stack):
    """bool [tokens, tokens] for each layer, through any head, with what a token keeps."""
    own = np.eye(stack.length, dtype=bool)
    found = []
    for mask in stack.layers:
        keys = PoolMeaning(mask.ir, {}).all_tokens(mask.ir.keys, own.astype(float))
        made_of = own if mask.ir.self_attention else keys > 0
        found.append(np.logical_or.reduce([own, *(mask.dense(head) @ made_of for head in range(mask.heads))]))
    return found


def states(stack):
    """What each token has after 0, 1, 2, ... layers, until a whole pass adds nothing."""
    found = [np.eye(stack.length, dtype=bool)]
    while len(found) <= len(stack) or (found[-1] != found[-1 - len(stack)]).any():
        for relation in relations(stack):
            found.append(relation @ found[-1])
    return found


def first(history):
    """The number of layers after which each entry is true."""
    return np.where(history[-1], np.argmax(history, axis=0), NEVER)


stacks = st.lists(st.sampled_from(NAMES), min_size=1, max_size=4)


@given(stacks, st.integers(1, 40), st.data())
@settings(max_examples=examples(60))
def test_everything_about_small_stacks(layers, n, data):
    stack = bind(layers, n)
    token = data.draw(st.integers(0, n - 1))
    found = stack.field(token=token)
    history = np.array(states(stack))
    assert found.exact and found.settled
    np.testing.assert_array_equal(found.draws.earliest, first(history[:, token]))
    np.testing.assert_array_equal(found.readers.earliest, first(history[:, :, token]))
    ever = history[-1]
    assert (history[-1 - len(layers)] == ever).all()
    longest = int(first(history).max())
    known = found.connections
    assert (known.layers, known.most_layers, known.everything) == (longest, longest, bool(ever.all()))
    assert list(known.pairs) == history.sum(axis=(1, 2)).tolist()[: len(known.pairs)]
    both = int((ever & ever.T).sum() - n) // 2
    one = int((ever ^ ever.T).sum()) // 2
    assert (known.both_ways, known.one_way, known.never) == (both, one, n * (n - 1) // 2 - both - one)
    graph = networkx.from_numpy_array(np.logical_or.reduce(relations(stack)), create_using=networkx.DiGraph)
    sizes = [
        [len(each) for each in find(graph)]
        for find in (networkx.strongly_connected_components, networkx.weakly_connected_components)
    ]
    assert known.components == Components.of_sizes(*sizes)
    check_path(known.path, relations(stack), longest)


def check_path(path, relations, longest):
    """Each token draws from the next one, in layers further and further down; no path of fewer layers is there."""
    if longest == 0:
        assert path == ()
        return
    layer = longest
    for reader, source in pairwise(path):
        layer = next(each for each in range(layer, 0, -1) if relations[(each - 1) % len(relations)][reader, source]) - 1
    assert len(path) > 1


@pytest.mark.parametrize("name", NAMES)
def test_a_pattern_is_a_stack_of_one_layer(name):
    stack = bind([name])
    alone = stack.different[0].field(token=20)
    assert alone.as_dict() | {"name": ""} == stack.field(token=20).as_dict() | {"name": ""}
    twice = bind([name, name]).field(token=20)
    np.testing.assert_array_equal(alone.draws.earliest, twice.draws.earliest)
    assert alone.connections.layers == twice.connections.layers


@given(stacks, st.integers(30, 90), st.integers(0, 29))
@settings(max_examples=examples(40))
def test_tiles_bound(layers, n, token):
    """With limits so low that tokens are too many, what is told holds what is true."""
    stack = bind(layers, n)
    true = stack.field(token=token)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(receptive_field, "SMALL", 0)
        patch.setattr(receptive_field, "MOST_PAIRS", -1)
        patch.setattr(receptive_field, "TILES", 16)
        patch.setattr(connections, "TILES", 16)
        found = stack.field(token=token)
    assert found.block > 1 and found.connections.block > 1
    for bounds, exact in (found.draws, true.draws), (found.readers, true.readers):
        for number in range(true.layers + 1):
            least, most = bounds.count(number)
            assert least <= exact.count(number)[0] <= most
            assert all(a <= b for a, b in zip(bounds.unbroken(number), exact.unbroken(number), strict=True))
            (low, high), (begin, end) = bounds.extent(number), exact.extent(number)
            assert low <= begin and end <= high
    check_bounds(found.connections, true.connections)


def check_bounds(known, right):
    assert known.everything in (None, right.everything)
    if right.everything:
        assert known.layers <= right.layers and (known.most_layers is None or right.layers <= known.most_layers)
    assert known.both_ways <= right.both_ways and known.never <= right.never
    assert known.components.strong <= right.components.strong and known.components.weak <= right.components.weak
    if known.exact_components:
        assert known.components == right.components
    if known.one_way is not None:
        assert (known.both_ways, known.one_way, known.never) == (right.both_ways, right.one_way, right.never)


@given(stacks, st.integers(20, 60))
@settings(max_examples=examples(40))
def test_tokens_of_which_not_all_pairs_are_kept(layers, n):
    stack = bind(layers, n)
    true = stack.field()
    hops = [hop for mask in stack.different for hop in find_layer(mask.ir, 1, {}).all]
    plain = all(mask.ir.self_attention for mask in stack.layers)
    if plain:
        assert components_of_graph(hops, n) == true.connections.components
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(connections, "MOST_CELLS", 0)
        patch.setattr(connections, "TILES", 16)
        found = stack.field()
        patch.setattr(connections, "MOST_WORK", 0)
        other = stack.field()
    assert found.exact and found.connections.block > 1
    for each in found, other:
        assert each.connections.exact_components or not plain
        check_bounds(each.connections, true.connections)
    assert found.connections.everything is not None


@pytest.mark.long
def test_dilated_tokens_are_islands():
    text = "pattern p(n, step) { space tokens[n] attend dilated(step) and window(100) }"
    found = maskdsl.parse(text)["p"].bind(n=10000, step=5).field()
    assert found.exact and found.connections.components == Components(5, 2000, 5, 2000)
    assert found.connections.never == 10 * 2000**2 and found.connections.one_way == 0


@pytest.mark.parametrize("name", NAMES)
def test_estimates_of_runs(name):
    """Within a small factor where rows are alike; none where nothing attends."""
    mask = bind([name], n=3000).different[0].ir
    true = sum(len(hop.runs.start) for hop in find_layer(mask, 1, {}).all)
    assert true / 3 <= estimate_runs(mask, 128, {}) <= 3 * true


def test_layers_are_followed_as_far_as_asked():
    found = bind(["window"], n=100).field(token=50, layers=3)
    assert found.layers == 3 and not found.settled and found.draws.count(3) == (13, 13)
    assert found.draws.extent(3) == (44, 56) and found.draws.unbroken(3) == (6, 6)
    long = bind(["window"], n=100).field(token=0, layers=80)
    assert long.layers == 80 and long.settled and long.draws.unbroken(80) == (0, 99)
    none = bind(["window"], n=100).field(layers=0)
    assert none.as_dict()["growth"] == [
        {"layers": 0}
        | {name: {"tokens": 1, "at_most": 1, "first": 50, "last": 50, "unbroken": [0, 0]} for name in none.directions}
    ]


def test_the_token_in_the_middle():
    module = maskdsl.parse(
        "pattern p(h, w) { space text[3] space image[y = h, x = w] tokens text ++ image attend all -> all }"
    )
    assert module["p"].bind(h=5, w=7).field().token == 3 + 2 * 7 + 3


def test_inputs():
    text = "pattern p(n) { space t[n] input document: int[t] attend same(document) }"
    mask = maskdsl.parse(f"{text} stack s(n) = 2 * p(n)")
    document = np.arange(12) // 4
    for each in mask["p"].bind(n=12), mask.stack("s").bind(n=12):
        found = each.field(document=document)
        assert found.connections.components == Components(3, 4, 3, 4)
        with pytest.raises(AttnError, match="`document` is missing"):
            each.field()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"token": 45}, "there is no token 45"),
        ({"token": -1}, "tokens are numbered 0 to 44"),
        ({"layers": -1}, "over -1 layers cannot be computed"),
        ({"layers": 10**9}, "give 0 to 1000 layers"),
        ({"document": [1]}, "no input `document`"),
    ],
)
def test_mistakes(arguments, message):
    with pytest.raises(AttnError, match=message):
        bind(["window"]).field(**arguments)


def test_cross_attention_has_none():
    text = "pattern p() { space a[3] space b[3] queries a keys b attend all -> all }"
    with pytest.raises(AttnError, match="which has no receptive field"):
        maskdsl.parse(text)["p"].bind().field()
