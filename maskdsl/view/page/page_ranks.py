"""The data of plans for several processes on a page: the ranks of each token."""

from collections.abc import Sequence
from typing import Any

from maskdsl.view import units
from maskdsl.view.page.blobs import Blobs
from maskdsl.view.rank_cells import RankColours


def plan_data(colours: RankColours, classes: Sequence[Sequence[int]], blobs: Blobs) -> dict[str, Any]:
    """The data of one plan. `classes` are the head classes of the page."""
    ranks, plan, note = colours.ranks, colours.plan, colours.note()
    received = units.size(int(plan.received.max()))
    return {
        "name": units.count(plan.ranks),
        "words": f"{colours.words()}, at most {received} received. {note[0].upper()}{note[1:]}.",
        "colours": colours.names(),
        "size": ranks.groups,
        "groups": [sorted({ranks.group_of(head) for head in members}) for members in classes],
        "queries": blobs.add(ranks.queries),
        "keys": blobs.add(ranks.keys),
        "travels": blobs.add(ranks.travels) if ranks.travels.any() else None,
    }
