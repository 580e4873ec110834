"""Draws vectors in scores and values: tables, vectors of tokens and pools, and lines that multiply or add them."""

from collections.abc import Iterator
from typing import Any

from hypothesis import strategies as st

from maskdsl.testing.scope import DrawnWorld
from maskdsl.testing.texts import Draw, choose

_ROWS = 5
"""Rows of the table."""
_INDICES = (f"(q - k) % {_ROWS}", f"clamp(k - q + 2, 0, {_ROWS - 1})", f"(q + 2 * k) % {_ROWS}")
"""Of both tokens: products of a vector of the query with one of the key go into one sum, without conditions."""
_POOLS = ("mean", "max", "sum", "root")


class VectorLines:
    """Draws the vectors of one pattern."""

    def __init__(self, draw: Draw[Any], world: DrawnWorld) -> None:
        self.draw = draw
        self.world = world
        self.by_head = draw(st.booleans())
        self.sides = choose(draw, ("", "q", "k", "qk")) if world.cross else choose(draw, ("", "qk"))
        self.pools = draw(st.booleans())

    def declared(self) -> Iterator[str]:
        """Yields the declarations of what other lines read: a table, a vector of each head, and vectors of tokens."""
        yield f"input rows: float[{'heads, ' if self.by_head else ''}{_ROWS}, dim]"
        yield "input turn: float[heads, dim]"
        for side in self.sides if self.world.cross else self.sides[:1]:
            tokens = {"q": "queries", "k": "keys"}[side] if self.world.cross else "tokens"
            batch = "batch, " if self.draw(st.booleans()) else ""
            yield f"input {self._input_of(side)}: float[{batch}{tokens}, dim]"
        if self.pools:
            yield f"coord cube = {choose(self.draw, ('i // 2', 'i % 3 - 1', 'i // 4 - 1'))}"

    def score(self) -> str:
        """A line of `score` that multiplies vectors."""
        query, key, row = self._of_token("q"), self._of_token("k"), self._of_table()
        forms = (
            f"s + dot({query}, {row})",
            f"s + dot({row}, {key}) * 0.5",
            f"s + dot({query}, {key}) * 0.3",
            f"(dot(q, k) + dot({query}, {row})) / sqrt(dim)",
            f"tanh(s) + dot({key}, {row})",
            f"s + 0.1 * dot({query}, {query})",
        )
        return f"score {choose(self.draw, forms)}"

    def value(self) -> str:
        """A line of `value` that adds vectors."""
        row = self._of_table()
        row = f"({row})" if " if " in row else row
        forms = [f"v + {row}", f"1.5 * v - {row}", f"v / 2.0 + {row}"]
        forms += [f"v + {side}.{self._input_of(side)}" for side in self.sides]
        return f"value {choose(self.draw, forms)}"

    def _input_of(self, side: str) -> str:
        """The name of the vectors of the tokens of a side."""
        return f"added_{side}" if self.world.cross else "added"

    def _of_token(self, side: str) -> str:
        forms = [side, f"{side} + turn[head]", f"2.0 * {side}", f"max({side}, 0.0)", f"abs({side})", f"-{side}"]
        if side in self.sides:
            forms += [f"{side}.{self._input_of(side)}", f"{side} + 0.5 * {side}.{self._input_of(side)}"]
        if self.pools:
            heads = choose(self.draw, ("", "", ", heads = all"))
            forms += [f"{choose(self.draw, _POOLS)}({side} by cube{heads})"] * 3
        return choose(self.draw, forms)

    def _of_table(self) -> str:
        row = f"rows[{'head, ' if self.by_head else ''}{choose(self.draw, _INDICES)}]"
        factor = choose(self.draw, ("", "0.5 * ", "float(q % 3 - 1) * "))
        return choose(self.draw, (f"{factor}{row}", f"{factor}{row} if k <= q else 0.0"))
