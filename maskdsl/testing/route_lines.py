"""Draws routes by content: vectors and pools, scores and what is made of them, selectors, candidates."""

from typing import Any

from hypothesis import strategies as st

from maskdsl.testing.texts import Draw, choose

_POOLS = ("mean", "max", "min", "sum", "root")
_GROUPS = ("i", "chunk", "wide")
"""Coordinates of all tokens, the finest first."""


class RouteLines:
    """Draws the routes of one pattern."""

    def __init__(self, draw: Draw[Any]) -> None:
        self.draw = draw
        self.names: list[str] = []

    def declared(self) -> list[str]:
        """The coordinates of groups, and one or two routes with what they name."""
        lines = [f"coord chunk = i // {self.draw(st.integers(1, 5))}", "coord wide = chunk // 2"]
        for number in range(self.draw(st.integers(1, 2))):
            lines += self._route(f"found{number}")
            self.names.append(f"found{number}")
        return lines

    def _route(self, name: str) -> list[str]:
        """The lines of a route of pairs, or of keys or queries alone."""
        if self.draw(st.integers(0, 5)) == 0:
            side = choose(self.draw, ("k", "q"))
            vector = self._vector(side, choose(self.draw, _GROUPS))
            return [f"route {name} = topk({self.draw(st.integers(0, 3))}, dot({vector}, {vector}))"]
        q, k = choose(self.draw, _GROUPS), choose(self.draw, _GROUPS)
        overlaps = k != "i" and self.draw(st.integers(0, 3)) == 0
        score, lines = self._score(q, k, overlaps), []
        if self.draw(st.booleans()):
            score = self._changed(score, q, k)
        if self.draw(st.booleans()):
            lines.append(f"let score_of_{name} = {score}")
            score = f"score_of_{name}"
        if overlaps or self.draw(st.integers(0, 2)) == 0:
            k = choose(self.draw, _GROUPS)
            heads = choose(self.draw, ("", "", ", heads = key_head", ", heads = all"))
            score = f"{choose(self.draw, ('max', 'sum', 'min'))}({score} by {_read('k', k)}{heads})"
        where = choose(self.draw, ("", f" where {self._relation(q, k)}"))
        always = choose(self.draw, ("", "", f" always {self._relation(q, k)}"))
        return [*lines, f"route {name} = {self._selector(score)}{where}{always}"]

    def _vector(self, side: str, by: str, span: str = "") -> str:
        """A vector of each token, or a pool of them."""
        vector = choose(self.draw, (side, side, f"max({side}, 0.0)", f"abs({side})", f"{side} * -0.5"))
        if by == "i":
            return vector
        among = choose(self.draw, ("", "", " where i % 3 != 1"))
        heads = choose(self.draw, ("", "", ", heads = all", ", heads = key_head"))
        return f"{choose(self.draw, _POOLS)}({vector}{among} by {by}{heads}{span})"

    def _score(self, q: str, k: str, overlaps: bool) -> str:
        product = f"dot({self._vector('q', q)}, {self._vector('k', k, ', span = 2' if overlaps else '')})"
        forms = (product, product, f"{product} / sqrt(dim)", f"tanh({product})", f"{product} - 0.25 * {_read('k', k)}")
        return choose(self.draw, forms)

    def _changed(self, score: str, q: str, k: str) -> str:
        """What is made of the scores of all candidates."""
        per = choose(self.draw, ("", "", ", per = head", ", per = batch", f", per = {_read('k', k)}"))
        forms = (
            f"softmax({score}{per})",
            f"softmax({score} where ({self._relation(q, k)}){per})",
            f"{score} - max({score}{per})",
        )
        return choose(self.draw, forms)

    def _selector(self, score: str) -> str:
        per = choose(self.draw, ("", "", ", per = head"))
        count = choose(self.draw, ("1", "2", "3", "head + 1"))
        mass = choose(self.draw, ("0.3", "0.75", "1.5"))
        reach = choose(self.draw, ("", ", reach = False"))
        forms = (
            f"topk({count}, {score}{per})",
            f"topp({mass}, {score}{per}{reach})",
            f"topp({mass}, weights = {score}{per}{reach})",
            f"above({choose(self.draw, ('0.0', '0.25'))}, {score})",
        )
        return choose(self.draw, forms)

    def _relation(self, q: str, k: str) -> str:
        """A relation of groups."""
        query, key = _read("q", q), _read("k", k)
        forms = (f"{key} <= {query}", f"{key} < {query}", f"{key} == 0", f"abs({query} - {key}) <= 1", f"{key} != head")
        return choose(self.draw, forms)


def _read(side: str, by: str) -> str:
    """How a group's number is read."""
    return side if by == "i" else f"{side}.{by}"
