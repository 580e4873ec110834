"""Words of branches, scores, pools and lists on the page: the panels of a pair and of its query."""

import pytest

import maskdsl
from maskdsl.ir.meaning.inputs import input_arrays
from maskdsl.ir.meaning.route_meaning import with_routes
from maskdsl.view.page.page_data import Subject, page_data
from tests.page.pages import written
from tests.support.every_word import SEEN


@pytest.mark.parametrize("seen", SEEN.values(), ids=SEEN)
def test_page(opened, tmp_path, seen) -> None:
    pattern = maskdsl.parse(seen.text)["p"]
    mask = pattern.bind(heads=2).ir
    given = {name: x for name, x in seen.inputs.items() if name not in ("q", "k")}
    inputs = with_routes(mask, input_arrays(mask, given, ()), seen.inputs.get("q"), seen.inputs.get("k"))
    page = opened(written(tmp_path, page_data(Subject(pattern.program, (mask,), inputs))))
    query, key = seen.pair
    page.evaluate(f"maskdsl.choose({query}); maskdsl.move({{ query: {query}, key: {key} }})")
    shown = page.locator("#pair").inner_text()
    for part in seen.explained if seen.page is None else seen.page:
        assert part in shown
    for line in shown.splitlines():
        if line.startswith("probability"):
            assert line.removeprefix("probability: ") in page.locator("#chosen-text").inner_text()
