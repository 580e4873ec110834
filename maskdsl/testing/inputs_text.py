"""Draws `input` lines: coordinates of tokens, and tables."""

from dataclasses import replace
from typing import Any

from hypothesis import strategies as st

from maskdsl.testing.scope import POSITIONS, WORD, DrawnSpace, DrawnTable, DrawnWorld, Readable
from maskdsl.testing.texts import Draw, choose

_REACH = {"int": WORD, "float": 4.0, "bool": 0}


class InputLines:
    """Draws the inputs of one pattern, with different names."""

    def __init__(self, draw: Draw[Any]) -> None:
        self.draw = draw
        self.count = 0

    def declare(self, world: DrawnWorld) -> tuple[str, DrawnWorld]:
        """An `input` line, and the declarations with this input."""
        name, kind = f"in{self.count}", choose(self.draw, ("int", "float", "bool"))
        self.count += 1
        outer = [each for each in ("batch", "heads") if self.draw(st.booleans())]
        if self.draw(st.booleans()):
            return self.coordinate(name, kind, outer, world)
        inner = self.table_dimensions(world)
        world = replace(world, tables=(*world.tables, DrawnTable(name, kind, (*outer, *inner))))
        texts = [*outer, *("tokens" if not world.cross and isinstance(each, str) else str(each) for each in inner)]
        if kind == "bool" and len(inner) == 2 and self.count % 2:
            kind = "sparse"  # read as a table of booleans is
        return f"input {name}: {kind}" + f"[{', '.join(texts)}]" * bool(texts), world

    def coordinate(self, name: str, kind: str, outer: list[str], world: DrawnWorld) -> tuple[str, DrawnWorld]:
        """An input with one value for each token, of all tokens or of one space."""
        sides: dict[str, list[tuple[str, DrawnSpace]]] = {
            space.name: [(side, space) for side in world.sides_of(space)] for space in world.spaces
        }
        if world.cross:
            sides["queries"] = [("q", space) for space in world.queries]
            sides["keys"] = [("k", space) for space in world.keys]
        else:
            sides["tokens"] = [(side, space) for space in world.queries for side in "qk"]
        tokens = choose(self.draw, list(reversed(sides)))
        coordinates = dict(world.coordinates)
        for side, space in sides[tokens]:
            known = coordinates.get((side, space.name), {})
            coordinates[side, space.name] = {**known, name: Readable(kind, _REACH[kind])}
        dimensions = self.draw(st.permutations([*outer, tokens])) if self.draw(st.booleans()) else [*outer, tokens]
        return f"input {name}: {kind}[{', '.join(dimensions)}]", replace(world, coordinates=coordinates)

    def table_dimensions(self, world: DrawnWorld) -> tuple[str | int, ...]:
        if self.draw(st.integers(0, 3)) == 0:
            return ("queries", "keys")
        count = self.draw(st.integers(0, 2))
        return tuple(self.draw(st.integers(1, POSITIONS // 8)) for _ in range(count))
