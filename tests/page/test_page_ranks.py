"""The page by ranks: colours, what is said of a pair, the choice, and what is kept in the address."""

import numpy as np
import pytest

import maskdsl
from maskdsl.distributed.homes import ShardScheme
from maskdsl.distributed.token_ranks import TokenRanks
from maskdsl.view.page.page_data import Subject, page_data
from maskdsl.view.palette import LIGHT
from maskdsl.view.rank_cells import RankColours
from tests.page.conftest import settle
from tests.page.pages import colours, near, point, said, written
from tests.support.browser import CUT, PALE

TEXT = """
pattern line(n = 1024) {
    space tokens[n]
    attend window(200) or 300 <= q < 332
}
"""
HEADS = 4


@pytest.fixture(scope="module")
def mask():
    return maskdsl.parse(TEXT)["line"].bind(heads=HEADS)


@pytest.fixture(scope="module")
def plans(mask):
    """By contiguous stretches, with rows that travel; and zigzag by teams of two."""
    schemes = (4, ShardScheme("contiguous", travelling=True)), (8, ShardScheme("zigzag", 1, 2))
    return [mask.shard(ranks, per_node=4, scheme=scheme) for ranks, scheme in schemes]


@pytest.fixture(scope="module")
def address(mask, plans, tmp_path_factory):
    ranks = tuple(RankColours.of(plan, 0, mask.ir, {}) for plan in plans)
    data = page_data(Subject(mask.pattern.program, (mask.ir,), {}, colours=ranks))
    return written(tmp_path_factory.mktemp("page"), data)


def expected(plan, query, key):
    """Who computes a pair, as the page says it."""
    ranks = TokenRanks.of(plan)
    holder, home = int(ranks.keys[key]), int(ranks.queries[query])
    team = holder if ranks.travels[query] else home

    def named(team):
        return f"rank {team}" if ranks.groups == 1 else f"ranks {2 * team}-{2 * team + 1}"

    plural = "" if ranks.groups > 1 else "s"
    if team != holder:
        return f"computed by {named(team)}, which receive{plural} the key from {named(holder)}"
    came = "" if home == team else f"; the query comes from {named(home)}"
    return f"computed by {named(team)}, which hold{plural} the key{came}"


PAIRS = [(100, 120), (250, 260), (255, 300), (316, 900), (316, 310), (700, 650)]


@pytest.mark.parametrize("number", [0, 1])
def test_a_pair_says_who_computes_it(opened, address, plans, number):
    page = opened(address)
    page.select_option("#ranks", str(number + 1))
    settle(page)
    for query, key in PAIRS:
        page.mouse.move(*point(page, query, key))
        told = [int(each.replace(",", "")) for each in page.locator(".tokens tr").nth(1).inner_text().split("\t")[1:]]
        assert page.locator("#pair-ranks").inner_text() == expected(plans[number], *told)
        assert expected(plans[number], *told) in page.locator("#tip").inner_text()
    page.mouse.move(*point(page, 900, 100))
    assert page.locator("#pair-ranks").count() == 0  # nobody computes an empty tile
    page.locator("#map").focus()
    page.keyboard.press("ArrowDown")
    assert "computed by" in said(page)


@pytest.mark.parametrize("number", [0, 1])
def test_pairs_have_the_colours_of_ranks(opened, address, plans, number):
    page = opened(address)
    page.select_option("#ranks", str(number + 1))
    settle(page)
    page.evaluate("maskdsl.map.leave()")
    settle(page)
    ranks = TokenRanks.of(plans[number])
    for (query, key), found in zip(PAIRS, colours(page, PAIRS), strict=True):
        team = int(ranks.keys[key] if ranks.travels[query] else ranks.queries[query])
        pale = 0 if team == ranks.keys[key] else 8
        assert near(found, LIGHT.rank_shades[1 + team % 8 + pale]), (query, key)


def test_one_rank_has_the_colours_of_tiles(opened, address):
    page = opened(address)
    page.select_option("#ranks", "0")
    settle(page)
    assert near(colours(page, [(100, 120)])[0], LIGHT.partial[-1])


def test_the_choice_of_ranks(opened, address, plans):
    page = opened(address)
    assert page.locator("#ranks option").all_inner_texts() == ["one", "4", "8"]
    assert page.locator("#ranks").input_value() == "1"
    assert "rank 3" in page.locator("#legend").inner_text()
    summary = page.locator("#summary").inner_text()
    assert f"4 ranks: {plans[0].scheme}, score {plans[0].score:.2f}" in summary
    page.select_option("#ranks", "2")
    settle(page)
    assert "ranks 6-7" in page.locator("#legend").inner_text()
    assert "2 ranks hold tokens together" in page.locator("#summary").inner_text()
    page.reload()
    settle(page)
    assert page.locator("#ranks").input_value() == "2"


@pytest.mark.parametrize(("width", "theme"), [(360, "light"), (1280, "dark")])
def test_everything_can_be_read(opened, address, width, theme):
    page = opened(address, width=width, height=700, theme=theme)
    page.mouse.move(*point(page, 700, 650))
    assert page.locator("#pair-ranks").is_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate(PALE) == [] and page.evaluate(CUT) == []


def test_a_page_without_plans_offers_none(opened, tmp_path):
    page = opened(written(tmp_path))
    assert not page.locator("#plans").is_visible()


def test_ranks_follow_tokens_into_other_orders(opened, tmp_path):
    """The plan is that of the pattern's order; heads of one class that several ranks compute are named."""
    text = "pattern plane(side = 32) { space image[y = side, x = side] attend neighborhood((7, 7)) }"
    mask = maskdsl.parse(text)["plane"].bind(heads=HEADS)
    plan = mask.shard(4, per_node=4, scheme=ShardScheme("contiguous", 1, 2))
    subject = Subject(mask.pattern.program, (mask.ir,), {}, heads=[3], colours=(RankColours.of(plan, 0, mask.ir, {}),))
    page = opened(written(tmp_path, page_data(subject)))
    page.select_option("#order", "2")
    settle(page)
    positions = np.array(page.evaluate("[...maskdsl.scene.orders.query]"))
    teams = TokenRanks.of(plan).queries[positions]
    found = page.evaluate("[...maskdsl.scene.orders.query].map((at) => maskdsl.scene.ranks.queries[at])")
    assert found == teams.tolist()
    page.mouse.move(*point(page, 200, 200))
    told, first, last = page.locator("#pair-ranks").inner_text(), 2 * teams[200], 2 * teams[200] + 1
    assert told == f"computed by rank {last} of ranks {first}-{last}, which hold the key"
