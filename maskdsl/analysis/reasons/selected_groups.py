"""What a route selected for one query, in words: query 400 selected groups 3, 5 of `chunk`; the key is in group 0."""

import numpy as np

from maskdsl.ir.facts.intervals import Array
from maskdsl.ir.routes import Draw, Route
from maskdsl.ir.values.group_scores import Grouping

_MOST_LISTED = 6


def selected(route: Route | Draw, query: int, key: int, selection: Array) -> str:
    """The key groups that the query's group selected, bool [key groups], and the group of the key."""
    who, at = _who(route.queries, query), np.flatnonzero(selection)
    numbers = ", ".join(map(str, at[:_MOST_LISTED]))
    more = f" and {at.size - _MOST_LISTED} more" if at.size > _MOST_LISTED else ""
    many = "s" * (at.size > 1)
    match route.keys.by:
        case "i":
            return f"{who} selected {f'key{many} {numbers}{more}' if at.size else 'no key'}; this is key {key}"
        case None:
            coordinate, what = "", "pair"
        case name:
            coordinate, what = f" of `{name}`", "key"
    groups = f"group{many} {numbers}{more}" if at.size else "no group"
    return f"{who} selected {groups}{coordinate}; the {what} is in group {key}"


def _who(queries: Grouping, group: int) -> str:
    """The queries that select together."""
    if queries.by == "i":
        return f"query {group}"
    if queries.count == 1:
        return "the queries"
    return f"group {group} of the queries" if queries.by is None else f"group {group} of `{queries.by}`"
