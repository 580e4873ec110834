"""Plans: prices against their definition, homes against all homes, rows that travel, and what calls raise."""

from itertools import product

import numpy as np
import pytest

import maskdsl
from maskdsl import AttnError, Mask
from maskdsl.distributed.homes import ShardScheme
from maskdsl.distributed.moves import Moves
from maskdsl.distributed.overlap import computes_in_stages
from tests.distributed import other_schemes
from tests.distributed.other_schemes import BLOCK, dense_classes, every_scheme, head_groups, price

PATTERNS = """
pattern causal_all(n) {
    space tokens[n]
    attend causal
}
pattern local(n, size = 200) {
    space tokens[n]
    attend window(size)
}
pattern with_globals(n, size = 200, globals = 3) {
    space tokens[n]
    attend window(size)
    attend globals_first(globals)
}
pattern scattered(n) {
    space tokens[n]
    attend window(50) or q == 300 or q == 301 or q == 1000
}
pattern two_branches(n) {
    space tokens[n]
    input gate: float[batch, tokens]
    branch near {
        attend window(50)
        sink 0.0
    }
    branch far {
        attend q == 300 or q == 301 or q == 1000
        weight q.gate
    }
}
pattern by_head(n) {
    space tokens[n]
    attend backward(100 * (head + 1))
}
pattern documents(n) {
    space tokens[n]
    input document: int[batch, tokens]
    attend same(document) and causal
}
pattern across(n, m) {
    space text[n]
    space image[m]
    queries text
    keys image
    attend abs(q - k) < 200 # allow: W001
}
pattern curved(h, w) {
    space image[h = h, w = w]
    coord curve = hilbert(h, w)
    order by curve
    attend neighborhood((3, 5))
}
pattern nothing(n) { # allow: W003
    space tokens[n]
    attend q > n
}
"""


def _mask(name: str, heads: int = 4, key_heads: int = 2, **values: int) -> Mask:
    return maskdsl.parse(PATTERNS)[name].bind(heads=heads, key_heads=key_heads, **values)


def _documents(length: int, entries: int, seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed)
    return np.stack(
        [np.searchsorted(np.sort(random.integers(0, length, 6)), np.arange(length)) for _ in range(entries)]
    )


def _tokens(length: int) -> np.ndarray:
    return np.array([min(BLOCK, length - first) for first in range(0, length, BLOCK)])


@pytest.mark.parametrize(
    ("name", "values", "ranks", "per_node"),
    [
        ("causal_all", {"n": 2500}, 4, 2),
        ("local", {"n": 2500}, 8, 4),
        ("by_head", {"n": 1900}, 8, 2),
        ("across", {"n": 2500, "m": 1300}, 4, 4),
        ("nothing", {"n": 700}, 2, 2),
    ],
)
def test_prices_are_those_of_the_definition(name: str, values: dict[str, int], ranks: int, per_node: int) -> None:
    mask = _mask(name, **values)
    plan = mask.shard(ranks, per_node=per_node, head_dim=32)
    classes = dense_classes(mask)
    tokens = _tokens(mask.query_length), _tokens(mask.key_length)
    for each in plan.table:
        parts = ranks // each.scheme.groups
        keys = each.queries if name != "across" else other_schemes.contiguous(len(tokens[1]), parts)
        score, received = price(classes, each.queries, keys, each.scheme.groups, tokens, ranks, per_node, 2, 32)
        assert (each.total("inside") + each.total("between")).tolist() == received.tolist(), each.scheme
        assert each.score == pytest.approx(score), each.scheme
    assert plan.work.sum() == classes.sum() * BLOCK * BLOCK
    assert plan.received.sum() == plan.sent.sum()


@pytest.mark.parametrize("name", ["causal_all", "local", "by_head", "documents"])
@pytest.mark.parametrize("ranks", [2, 4, 8])
def test_no_scheme_of_others_is_cheaper(name: str, ranks: int) -> None:
    mask = _mask(name, n=2700)
    inputs = {"document": _documents(2700, 1)} if name == "documents" else {}
    classes, tokens = dense_classes(mask, **inputs), _tokens(2700)
    plan = mask.shard(ranks, per_node=4, head_dim=64, **inputs)
    for scheme, part, groups in every_scheme(classes, ranks, head_groups(ranks, 4, 4, 2)):
        score, _ = price(classes, part, part, groups, (tokens, tokens), ranks, 4, 2, 64)
        assert plan.score <= score * (1 + 1e-12), scheme


SMALL = {"causal_all": {}, "local": {}, "by_head": {}, "documents": {}, "with_globals": {"size": 60}}


@pytest.mark.parametrize(
    ("name", "ranks", "length"),
    [*((name, *sizes) for name in SMALL for sizes in [(2, 700), (3, 700), (4, 600)]), ("with_globals", 2, 1030)],
)
def test_small_plans_are_as_cheap_as_the_best_of_all_homes(name: str, ranks: int, length: int) -> None:
    """Of all homes, with every number of head groups, with and without the rows that attend most keys travelling."""
    mask = _mask(name, heads=2, key_heads=1, n=length, **SMALL[name])
    inputs = {"document": _documents(length, 1, 3)} if name == "documents" else {}
    plan = mask.shard(ranks, per_node=1, **inputs)
    dense = np.stack([mask.dense(head=head, **inputs) for head in range(2)])
    wide = np.flatnonzero(dense.sum(axis=(0, 2)) > length).tolist()
    leaving = [[], wide] if length == 1030 else [[]]
    best = np.inf
    for groups in head_groups(ranks, 1, 2, 1):
        parts = ranks // groups
        for home in product(range(parts), repeat=-(-length // BLOCK)):
            if np.ptp(np.bincount(home, minlength=parts)) <= 1:
                best = min(best, *(_seconds(dense, rows, np.array(home), groups, ranks) for rows in leaving))
    assert plan.best.seconds <= best * (1 + 1e-12)
    assert plan.scheme.travelling or len(leaving) == 1


def _seconds(attends: np.ndarray, rows: list[int], home: np.ndarray, groups: int, ranks: int) -> float:
    """The time of the slowest of ranks, each a node, with one key head and a head dim of 128, if these rows travel."""
    heads, length, _ = attends.shape
    staying = attends.copy()
    staying[:, rows] = False
    tokens, here = _tokens(length), heads // groups
    _, received = price(_classes(staying), home, home, groups, (tokens, tokens), ranks, 1, 1, 128)
    received = received + _of_rows(rows, home, groups, ranks, here, 256)
    left = _classes(attends[:, rows]) if rows else np.zeros((heads, 0, len(home)), dtype=bool)
    tiles = np.empty(ranks)
    for rank in range(ranks):
        mine, group = divmod(rank, groups)
        of_group = slice(group * here, (group + 1) * here)
        tiles[rank] = _classes(staying)[of_group, home == mine].sum() + left[of_group, :, home == mine].sum()
    compute, moved = tiles * 4 * BLOCK * BLOCK * 128 / 600e12, received / 50e9
    return float(((np.maximum(compute, moved) + compute + moved) / 2).max())


def _classes(attends: np.ndarray, block: int = BLOCK) -> np.ndarray:
    """bool [heads, query blocks, key blocks]: the tiles that are not empty, of bool [heads, queries, keys]."""
    padded = np.pad(attends, [(0, 0), *((0, -size % block) for size in attends.shape[1:])])
    heads, rows, columns = padded.shape
    return padded.reshape(heads, rows // block, block, columns // block, block).any(axis=(2, 4))


def _of_rows(
    rows: list[int], home: np.ndarray, groups: int, ranks: int, here: int, dim: int, results: int = 1
) -> np.ndarray:
    """The bytes that ranks receive: each (row, head) goes to every part, is merged in one, and comes home."""
    received, parts = np.zeros(ranks, dtype=np.int64), ranks // groups
    pairs = [row for row in sorted(rows, key=lambda row: (home[row // BLOCK], row)) for _ in range(here)]
    for number, row in enumerate(pairs):
        at = int(home[row // BLOCK])
        merges = next(part for part in range(parts) if number < len(pairs) * (part + 1) // parts)
        for group in range(groups):
            for part in range(parts):
                received[part * groups + group] += dim * (part != at)
                received[merges * groups + group] += (dim + 4) * results * (part != merges)
            received[at * groups + group] += (dim + 4) * results * (merges != at)
    return received


@pytest.mark.parametrize(
    "scheme",
    [
        "least loaded",
        *(pytest.param(each, marks=pytest.mark.long) for each in ("contiguous", "zigzag", "dealt", "searched")),
    ],
)
@pytest.mark.parametrize("name", ["causal_all", "by_head", "documents", "with_globals", "scattered", "curved"])
def test_every_pair_is_computed_once(name: str, scheme: str) -> None:
    """By the lists of a plan: queries that stay meet the keys that are held and fetched, those that leave meet all."""
    values = {"h": 11, "w": 9} if name == "curved" else {"n": 103}
    values |= {"size": 5} if name == "with_globals" else {}
    mask = _mask(name, **values)
    inputs = {"document": _documents(103, 2, 3)} if name == "documents" else {}
    for ranks, groups, travelling in product([2, 4, 8], [1, 2], [False, True]):
        blocks = 5 if scheme == "searched" else 7
        asked = ShardScheme(scheme, 20, groups, travelling)  # type: ignore[arg-type]
        plan = mask.shard(ranks, per_node=2, block=7 if blocks == 7 else 26, scheme=asked, **inputs)
        (work,), (homes,) = plan.best.works, plan.best.homes
        moves = Moves(work, homes)
        order = plan.orders[0]
        covered = np.zeros((4, mask.query_length, mask.key_length), dtype=int)
        for team, group in product(range(homes.teams), range(groups)):
            heads = range(group * 4 // groups, (group + 1) * 4 // groups)
            fetched = [moves.keys_for(each, team, group) for each in range(homes.teams)]
            staying = np.setdiff1d(moves.queries_of[team], moves.travelling[team])
            meets = [(staying, keys) for keys in (moves.keys_of[team], *fetched)]
            meets += [(rows, moves.keys_of[team]) for rows in moves.travelling]
            for (rows, keys), head in product(meets, heads):
                at = np.ix_(rows, keys) if order is None else np.ix_(order[rows], order[keys])
                covered[head][at] += 1
        for head, batch in product(range(4), range(len(inputs.get("document", [0])))):
            attends = mask.dense(head=head, batch=batch, **inputs)
            assert (covered[head][attends] == 1).all(), (ranks, groups, travelling)
        assert covered.max() == 1


@pytest.mark.parametrize("entries", [1, 3])
def test_batch_entries_that_differ_add_up(entries: int) -> None:
    mask, documents = _mask("documents", n=1500), _documents(1500, entries)
    plan = mask.shard(4, per_node=4, head_dim=64, document=documents)
    classes = np.any([dense_classes(mask, document=each[None]) for each in documents], axis=0)
    part = plan.best.queries
    _, received = price(classes, part, part, plan.head_groups, (_tokens(1500),) * 2, 4, 4, 2, 64)
    received *= entries
    assert plan.received.tolist() == received.tolist()


@pytest.mark.parametrize("ranks", [1, 2, 3, 4, 6, 8])
@pytest.mark.parametrize("name", ["causal_all", "with_globals", "scattered"])
def test_every_token_has_one_home(name: str, ranks: int) -> None:
    plan = _mask(name, n=2501).shard(ranks, per_node=2)
    held = [plan.positions(rank) for rank in range(ranks)]
    assert np.sort(np.concatenate(held)).tolist() == list(range(2501))
    assert all((np.diff(each) > 0).all() for each in held)


def test_positions_follow_the_order_of_the_pattern() -> None:
    mask = maskdsl.parse(
        "pattern snaked(h, w) {\n space image[h = h, w = w]\n coord curve = hilbert(h, w)\n order by curve\n"
        " attend abs(q.h - k.h) < 3 and abs(q.w - k.w) < 3\n}"
    )["snaked"].bind(h=32, w=32, heads=1)
    plan = mask.shard(4, scheme=ShardScheme("contiguous"))
    rows, columns = np.divmod(plan.positions(0), 32)
    assert len(rows) == 256
    assert np.ptp(rows) == 15
    assert np.ptp(columns) == 15


def test_rows_of_globals_travel_where_that_is_cheaper() -> None:
    mask = _mask("with_globals", heads=8, key_heads=8, n=1 << 16)
    plan = mask.shard(16, per_node=8)
    assert plan.scheme.travelling
    still = min(each.score for each in plan.table if not each.scheme.travelling)
    assert plan.score < still / 3
    (cost,) = plan.best.costs
    assert cost.sent.sum() == (cost.inside + cost.between).sum()


@pytest.mark.parametrize(("name", "results"), [("with_globals", 1), ("scattered", 1), ("two_branches", 2)])
@pytest.mark.parametrize("groups", [1, 2])
def test_bytes_of_travelling_rows(name: str, results: int, groups: int) -> None:
    """Counted one after the other."""
    ranks, per_node, heads, dim = 8, 4, 4, 2 * 16
    mask = _mask(name, heads=heads, key_heads=4, n=2500)
    each = mask.shard(ranks, per_node=per_node, head_dim=16, scheme=ShardScheme("zigzag", 1, groups, True)).best
    here = heads // groups
    dense = mask.dense()
    rows = np.flatnonzero(dense.sum(axis=1) > 1250)
    assert len(rows) == 3
    staying = dense.copy()
    staying[rows] = False
    classes = np.repeat(_classes(staying[None]), heads, axis=0)
    tokens = _tokens(2500)
    _, expected = price(classes, each.queries, each.queries, groups, (tokens, tokens), ranks, per_node, 4, 16)
    expected += _of_rows(rows.tolist(), each.queries, groups, ranks, here, dim, results)
    (cost,) = each.costs
    assert (cost.inside + cost.between).tolist() == expected.tolist()


def test_rows_without_log_sum_exps_stay() -> None:
    text = "pattern plain(n) { space tokens[n] attend globals_first(3) or window(9) normalize none }"
    plan = maskdsl.parse(text)["plain"].bind(n=4096, heads=4).shard(8)
    assert not any(each.scheme.travelling for each in plan.table)


@pytest.mark.parametrize(
    ("name", "length", "link", "expected"),
    [
        # Each query attends more than the 500 or so keys at home whose work takes as long as the merge of two results.
        ("causal_all", 1 << 16, (50, 400), [False, True, True, True]),
        ("causal_all", 1 << 16, (5e5, 4e6), [False] * 4),
        ("local", 1 << 16, (50, 400), [False] * 4),
    ],
)
def test_two_stages_where_they_hide_more_than_a_merge_takes(
    name: str, length: int, link: tuple[float, float], expected: list[bool]
) -> None:
    plan = _mask(name, n=length).shard(4, link=link, scheme=ShardScheme("contiguous"))
    (work,), (homes,) = plan.best.works, plan.best.homes
    moves = Moves(work, homes)
    assert [computes_in_stages(moves, team, 0, plan.cluster, plan.layer) for team in range(4)] == expected


def test_planning_again_keeps_to_the_scheme() -> None:
    mask = _mask("documents", n=4000)
    first = mask.shard(4, per_node=4, document=_documents(4000, 1))
    again = mask.shard(4, per_node=4, scheme=first.scheme, document=_documents(4000, 1, 7))
    assert again.scheme == first.scheme
    assert not np.array_equal(again.work, first.work)
    assert len(again.table) == 1


def test_layers_share_homes() -> None:
    text = PATTERNS + "stack both(n) = 2 * local(n) + causal_all(n)\n"
    stack = maskdsl.parse(text).stack("both").bind(n=3000, heads=4, key_heads=2)
    plan = stack.shard(4, per_node=4, head_dim=64)
    assert plan.best.times == (2, 1)
    alone = [mask.shard(4, per_node=4, head_dim=64).time for mask in stack.layers]
    assert plan.time >= sum(alone) * (1 - 1e-12)


@pytest.mark.parametrize(
    ("given", "code"),
    [
        ((0, {}), "E460"),
        ((4, {"link": (50,)}), "E460"),
        ((4, {"dtype": "int8"}), "E460"),
        ((4, {"per_node": 0}), "E460"),
        ((4, {"scheme": "zigzag"}), "E460"),
        ((4, {"scheme": ShardScheme("zigzags")}), "E460"),  # type: ignore[arg-type]
        ((4, {"scheme": ShardScheme("zigzag", groups=0)}), "E460"),
        ((4, {"scheme": ShardScheme("dealt", chunk=-1)}), "E460"),
    ],
)
def test_wrong_arguments(given: tuple[int, dict[str, object]], code: str) -> None:
    with pytest.raises(AttnError) as raised:
        _mask("local", n=600).shard(given[0], **given[1])
    assert raised.value.diagnostics[0].code == code


def test_ranks_are_counted_from_zero() -> None:
    with pytest.raises(AttnError, match="there is no rank 4"):
        _mask("local", n=600).shard(4).positions(4)
