"""What a pattern says of each route: what is scored, how it selects, and whether later tokens have a say in it."""

from typing import Any

from maskdsl.analysis.causal.causality import Causality, causality
from maskdsl.analysis.reasons.pair_reasons import line_of, on_one_line
from maskdsl.base.records import dataclass
from maskdsl.ir.mask import MaskIR
from maskdsl.ir.mask_printer import print_routed
from maskdsl.ir.routes import OfInputs, Routed, Scored
from maskdsl.ir.values.group_scores import route_of


@dataclass(frozen=True)
class RouteReason:
    """A `route` line, and its meaning with parameters, `let`s and macros expanded."""

    line: str
    """The file and the number of the line."""
    text: str
    meaning: tuple[str, ...]
    """What is multiplied, the tables of scores, and last what is selected."""

    def as_dict(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        return {"line": self.line, "text": self.text, "meaning": list(self.meaning)}


@dataclass(frozen=True)
class Selecting:
    """All that is said of the routes of a pattern."""

    routes: tuple[RouteReason, ...]
    causality: tuple[Causality, ...]
    """Of each route, then of the pattern; nothing of a pattern without routes."""


def selecting(mask: MaskIR) -> Selecting:
    """What is said of the routes of a pattern, those of its branches too."""
    lines: dict[tuple[str, str], list[Routed]] = {}
    for branch in mask.branches or (mask,):
        for each in (each for each in branch.routed if not isinstance(each, OfInputs)):
            name = route_of(each.name) if isinstance(each, Scored) else each.name
            tables: list[Routed] = [
                one for one in branch.routed if isinstance(one, Scored) and route_of(one.name) == name
            ]
            span = (tables or [each])[-1].span
            if span is not None:
                known = lines.setdefault((line_of(span), on_one_line(span)), [])
                known += () if each in known else (each,)
    routes = (
        RouteReason(*key, tuple(dict.fromkeys(line for each in routed for line in print_routed(each))))
        for key, routed in lines.items()
    )
    return Selecting(tuple(routes), causality(mask) if lines else ())
