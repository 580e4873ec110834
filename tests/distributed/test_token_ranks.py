"""Which ranks hold tokens and compute pairs, against the positions that a plan gives to each rank."""

import numpy as np
import pytest

import maskdsl
from maskdsl.distributed.homes import ShardScheme
from maskdsl.distributed.token_ranks import TokenRanks

TEXT = """
pattern line(n = 3000) {
    space tokens[n]
    attend window(300) or q == 5 or q == 2700
}
pattern plane(side = 40) {
    space image[y = side, x = side]
    coord curve = hilbert(y, x)
    order by curve
    attend neighborhood((9, 9))
}
pattern across(n = 900, m = 1300) {
    space text[n]
    space image[m]
    queries text
    keys image
    attend abs(q * 13 - k * 9) < 2000 # allow: W001
}
"""


@pytest.mark.parametrize("name", ["line", "plane", "across"])
@pytest.mark.parametrize("scheme", [ShardScheme("zigzag"), ShardScheme("least loaded", 128, 2, travelling=True)])
def test_every_token_is_held_by_its_team(name: str, scheme: ShardScheme) -> None:
    plan = maskdsl.parse(TEXT)[name].bind(heads=4).shard(4, per_node=2, scheme=scheme)
    ranks = TokenRanks.of(plan)
    for rank in range(4):
        assert set(ranks.queries[plan.positions(rank)]) == {rank // ranks.groups}
        assert set(ranks.keys[plan.positions(rank, keys=True)]) == {rank // ranks.groups}
    assert [ranks.group_of(head) for head in range(4)] == [head * ranks.groups // 4 for head in range(4)]
    travelling = [5, 2700] if name == "line" and scheme.travelling else []
    assert np.flatnonzero(ranks.travels).tolist() == travelling
    assert ranks.ranks_of([1]) == ([2, 3] if ranks.groups == 2 else [1])


def test_4096_ranks_hold_equal_shares_of_a_million_tokens() -> None:
    """And every byte that one receives, another sends."""
    mask = maskdsl.parse("pattern near(n) { space tokens[n] attend causal and backward(4096) }")["near"]
    plan = mask.bind(n=1 << 20, heads=64, key_heads=8).shard(4096)
    held = np.concatenate([plan.positions(rank) for rank in range(4096)])
    assert np.array_equal(np.sort(held), np.arange(1 << 20))
    assert len(plan.positions(0)) == len(plan.positions(4095)) == 256
    assert plan.received.sum() == plan.sent.sum() > 0
    assert plan.score < 1.6
