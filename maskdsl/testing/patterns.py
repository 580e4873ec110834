"""Draws random patterns as text, statement by statement."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from hypothesis import strategies as st

from maskdsl.api import Mask, parse
from maskdsl.testing.inputs_text import InputLines
from maskdsl.testing.numbers import CURVES, Numbers
from maskdsl.testing.relations import Relations
from maskdsl.testing.route_lines import RouteLines
from maskdsl.testing.scope import DrawnScope, DrawnSpace, DrawnWorld, Named, Readable
from maskdsl.testing.texts import Draw, Level, Piece, call, choose, infix, number
from maskdsl.testing.vector_lines import VectorLines

_MOST_TOKENS = 60
_AXES = ("x", "y", "t", "z")
_SPACES = ("image", "text", "guide")
_SCORED = re.compile(r"\b(bias[0-9]|sunk)\b")
"""Names of the inputs that scores declare."""
_DRAWN = "some"
"""The name of the route that draws groups."""
_PARAMETERS = ("n", "size", "y", "image")
"""Names of parameters; two of them may also be the name of an axis or of a space."""


@dataclass(frozen=True)
class RandomPattern:
    """The text of a file with one pattern, `random_pattern`, and the numbers of heads to bind it for."""

    text: str
    heads: int = 1
    key_heads: int | None = None
    """As many as query heads, if None."""

    def bind(self, order: str | None = None) -> Mask:
        """The mask of the pattern, in its own order or in `order`."""
        return parse(self.text)["random_pattern"].bind(heads=self.heads, key_heads=self.key_heads, order=order)

    def __str__(self) -> str:
        shared = "" if self.key_heads is None else f", key_heads = {self.key_heads}"
        return f"# heads = {self.heads}{shared}\n{self.text}"


@st.composite
def patterns(
    draw: st.DrawFn,
    heads: int | None = None,
    depth: int = 2,
    tokens: int = _MOST_TOKENS,
    branches: bool = False,
    whole: bool = False,
    routes: bool = False,
) -> RandomPattern:
    """Whole patterns, well typed, that bind without parameters.

    One to three spaces of rank 1 to 4 with at most `tokens` tokens together, self- or cross-attention, sometimes with
    keys that are pooled from them; coordinates, inputs, tables, sparse inputs, macros, `let`s, guards, conditions by
    head, scores, weights, scales, sinks and orders.

    With `branches`, one to three branches have the relations, scores and weights. With `whole`, there is also what
    only whole calls take, with all tokens in declared order and the key heads that the pattern is bound for: pooled
    queries, pools by a coordinate, draws, vectors in scores and values, `normalize`, and expressions that read
    `key_head` and `key_heads`. With `routes`, there are one or two that select by queries and keys: what such a mask
    attends is asked for with q and k.
    """
    heads = heads or draw(st.sampled_from([1, 2, 3]))
    key_heads = draw(st.sampled_from([each for each in (1, 2, 3) if heads % each == 0])) if whole else None
    return _DrawnPattern(draw, heads, depth, tokens, branches, key_heads, routes).drawn()


@st.composite
def relations(draw: st.DrawFn, spaces: Mapping[str, Mapping[str, int]], heads: int = 1, depth: int = 2) -> str:
    """The text of a relation in self-attention over these spaces, such as `{"image": {"y": 5, "x": 7}}`."""
    sequence = tuple(DrawnSpace(name, tuple(axes.items())) for name, axes in spaces.items())
    world = DrawnWorld(sequence, sequence, False, heads)
    return Relations(draw, DrawnScope(world, world.all_pairs())).relation(depth).text


@dataclass
class _DrawnPattern:
    """Draws one pattern, statement by statement; `world` has what is declared so far."""

    draw: Draw[Any]
    heads: int
    depth: int
    tokens: int
    branches: bool = False
    key_heads: int | None = None
    """Where calls are whole."""
    routes: bool = False
    lines: list[str] = field(default_factory=list)
    macros: list[str] = field(default_factory=list)
    content_routes: list[str] = field(default_factory=list)
    """The routes that select by content."""

    @property
    def whole(self) -> bool:
        return self.key_heads is not None

    def drawn(self) -> RandomPattern:
        self.world = self.draw_spaces()
        parameters = self.draw_parameters()
        self.some(2, self.draw_macro)
        inputs = InputLines(self.draw)
        for _ in range(self.draw(st.integers(0, 3))):
            line, self.world = inputs.declare(self.world)
            self.lines.append(line)
        self.some(2, self.draw_coordinate)
        self.vectors = VectorLines(self.draw, self.world) if self.whole and self.draw(st.booleans()) else None
        self.lines += [] if self.vectors is None else self.vectors.declared()
        self.some(1, self.draw_let)
        if self.whole:  # no `let` may read a route
            self.some(1, self.draw_draw)
        if self.routes:
            self.draw_routes()
        if self.branches:
            for number in range(self.draw(st.integers(1, 3))):
                self.draw_branch(number)
        else:
            self.draw_attention()
        self.draw_order()
        body = "\n".join(f"    {line}" for line in self.lines)
        head = f"pattern random_pattern({', '.join(parameters)}) {{"
        return RandomPattern("\n".join([*self.macros, head, body, "}\n"]), self.heads, self.key_heads)

    def draw_attention(self) -> None:
        for _ in range(self.draw(st.integers(1, 2))):
            self.lines.append(f"attend {self.relation(self.scope(), self.depth)}")
        routes = [each.name for each in self.world.relations if each.name == _DRAWN or each.name in self.content_routes]
        self.lines += [f"attend {name}" for name in routes if self.draw(st.booleans())]
        self.some(1, lambda: self.lines.append(f"require {self.relation(self.scope(), 1)}"))
        self.draw_scores()

    def draw_branch(self, number: int) -> None:
        """A branch, or two by a number, with the inputs of its scores above it."""
        begin = len(self.lines)
        self.draw_attention()
        lines = [_SCORED.sub(rf"\g<0>_{number}", line) for line in self.lines[begin:]]
        head = f"branch b{number}{choose(self.draw, ('', '', ' for o in 1 .. 3'))} {{"
        inputs = [line for line in lines if line.startswith("input ")]
        self.lines[begin:] = [*inputs, head, *(f"    {line}" for line in lines if line not in inputs), "}"]

    def some(self, most: int, statement: Callable[[], None]) -> None:
        for _ in range(self.draw(st.integers(0, most))):
            statement()

    def scope(self) -> DrawnScope:
        return DrawnScope(self.world, self.world.all_pairs())

    def relation(self, scope: DrawnScope, depth: int) -> str:
        return Relations(self.draw, scope).relation(depth).text

    # Spaces and parameters

    def draw_spaces(self) -> DrawnWorld:
        count = choose(self.draw, (1, 1, 2, 3))
        cross = count > 1 and self.draw(st.booleans())
        pools = cross and self.draw(st.integers(0, 3)) == 0
        most = self.tokens // (2 * count if pools else count)  # no sequence is longer than `POSITIONS`
        spaces = [self.draw_space(_SPACES[number], most) for number in range(count)]
        if not cross:
            if count > 1 or self.draw(st.booleans()):
                self.lines.append(f"tokens {' ++ '.join(space.name for space in spaces)}")
            return DrawnWorld(tuple(spaces), tuple(spaces), False, self.heads, self.whole)
        cut = self.draw(st.integers(1, count - 1))
        queries, keys = spaces[:cut], spaces[cut:]
        if self.draw(st.integers(0, 3)) == 0:  # a space may stand on both sides
            keys = [*keys, queries[0]]
        if pools:
            pooled = self.draw_pooled("coarse", choose(self.draw, spaces))
            kind = choose(self.draw, ("once", "twice", "once and twice"))
            twice = [] if kind == "once" else [self.draw_pooled("coarser", pooled)]
            keys = [*twice, *keys, *([] if kind == "twice" else [pooled])]
            if self.whole and self.draw(st.booleans()):
                queries = [*queries, pooled]
        for name, side in ("queries", queries), ("keys", keys):
            self.lines.append(f"{name} {' ++ '.join(space.name for space in side)}")
        return DrawnWorld(tuple(queries), tuple(keys), True, self.heads, self.whole)

    def draw_space(self, name: str, tokens: int) -> DrawnSpace:
        rank = choose(self.draw, (1, 2, 2, 3, 4))
        axes: list[tuple[str, int]] = []
        for axis in range(rank):
            longest = tokens if axis == rank - 1 else min(tokens, 7)
            length = self.draw(st.integers(1, max(longest, 1)))
            tokens //= length
            axes.append((_AXES[axis], length))
        if rank == 1 and self.draw(st.booleans()):
            self.lines.append(f"space {name}[{axes[0][1]}]")
            return DrawnSpace(name, ((name, axes[0][1]),))
        axes.reverse()
        self.lines.append(f"space {name}[{', '.join(f'{axis} = {length}' for axis, length in axes)}]")
        return DrawnSpace(name, tuple(axes))

    def draw_pooled(self, name: str, source: DrawnSpace) -> DrawnSpace:
        """A space of boxes of the source, some of which are larger than it, or of groups by a coordinate."""
        kind = choose(self.draw, ("mean", "max", "min"))
        if self.whole and self.draw(st.booleans()):
            return self.draw_groups(name, source, kind)
        if self.draw(st.booleans()):
            sides = [self.draw(st.integers(1, 9))] * len(source.axes)
            box = str(sides[0])
        else:
            sides = [self.draw(st.integers(1, 5)) for _ in source.axes]
            box = f"({', '.join(map(str, sides))},)"
        self.lines.append(f"space {name} = {kind}({source.name}, {box})")
        renamed = {source.name: name} if len(source.axes) == 1 else {}
        pairs = zip(source.axes, sides, strict=True)
        return DrawnSpace(name, tuple((renamed.get(axis, axis), -(-length // side)) for (axis, length), side in pairs))

    def draw_groups(self, name: str, source: DrawnSpace, kind: str) -> DrawnSpace:
        """A pool for each value of a coordinate; some pools have no tokens, and some tokens are in none."""
        by, count = f"of_{name}", self.draw(st.integers(1, 5))
        self.lines.append(f"space {name} = {kind}({source.name} by {by}, {count})")
        if self.draw(st.booleans()):
            axis = choose(self.draw, source.names)
            value = choose(
                self.draw, (f"{axis} % {count}", f"{axis} % {count + 1} - 1", f"min({axis} // 2, {count}) - 1")
            )
            self.lines.append(f"coord {source.name}.{by} = {value}")
        else:
            batch = choose(self.draw, ("", "batch, "))
            self.lines.append(f"input {by}: int[{batch}{source.name}]")
        return DrawnSpace(name, ((name, count),))

    def draw_parameters(self) -> list[str]:
        names = self.draw(st.lists(st.sampled_from(_PARAMETERS), max_size=2, unique=True))
        values = {name: self.draw(st.integers(1, 9)) for name in names}
        written = [f"{name} = {value}" for name, value in values.items()]
        if values and self.draw(st.booleans()):
            name, value = next(iter(values.items()))
            self.lines += [f'assert {name} < 10, "{name} is small"', f"let width = {name} * 2 - 9 // -4"]
            values["width"] = value * 2 + 3
        self.world = replace(self.world, constants=values)
        if self.draw(st.integers(0, 3)) == 0:
            written += ["slope: float = 0.5", f"flag = {self.draw(st.booleans())}"]
            self.world = replace(self.world, floats=("slope",), relations=(Named("flag", self.world.all_pairs()),))
        if self.draw(st.integers(0, 3)) == 0:
            sizes = [self.draw(st.integers(1, 4)) for _ in choose(self.draw, self.world.spaces).axes]
            if len(sizes) > 1:
                written.append(f"kernel = ({', '.join(map(str, sizes))})")
                self.world = replace(self.world, tuples={"kernel": len(sizes)})
        return written

    # Macros, lets and coordinates

    def draw_macro(self) -> None:
        """A relation with a size and an axis, with or without a `let`."""
        name = f"near{len(self.macros)}"
        scope = replace(self.scope(), parameters={"size": Piece("size", reach=9)})
        body = Relations(self.draw, scope).relation(1)
        start = f"def {name}(size, axis: axis = i) ="
        if self.draw(st.booleans()):
            value = Numbers(self.draw, scope).integer(1).text
            # a body that begins with a parenthesis or a sign would continue the `let`
            self.macros.append(f"{start} {{\n    let half = {value}\n    True and half >= -size and ({body.text})\n}}")
        else:
            self.macros.append(f"{start} {body.text}")
        self.world = replace(self.world, macros=(*self.world.macros, name))

    def draw_let(self) -> None:
        """A `let` with a relation, for all pairs or for some."""
        queries, keys = (choose(self.draw, self.world.side(side)) for side in "qk")
        pairs = choose(self.draw, (self.world.all_pairs(), frozenset({(queries.name, keys.name)})))
        self.lines.append(f"let close = {self.relation(self.scope().narrowed(pairs), 1)}")
        self.world = replace(self.world, relations=(*self.world.relations, Named("close", pairs)))

    def draw_draw(self) -> None:
        """A route of groups drawn at random, which is a relation of every pair."""
        count = choose(self.draw, ("1", "2", "head + 1"))
        numbers = choose(self.draw, ("", ", head", ", head % 2, -1"))
        where = choose(self.draw, ("", " where abs(q - k) > 1", " where k <= q", " where k % 3 != 0"))
        self.lines.append(f"route {_DRAWN} = draw({count}, {self.draw(st.integers(-2, 9))}{numbers}){where}")
        named = Named(_DRAWN, self.world.all_pairs())
        self.world = replace(self.world, relations=(*self.world.relations, named))

    def draw_routes(self) -> None:
        """Routes by content, which are relations of every pair."""
        routes = RouteLines(self.draw)
        self.lines += routes.declared()
        self.content_routes = routes.names
        named = (Named(name, self.world.all_pairs()) for name in routes.names)
        self.world = replace(self.world, relations=(*self.world.relations, *named))

    def draw_coordinate(self) -> None:
        """A coordinate of one space, or of every space that can compute it."""
        name = f"c{sum(line.startswith('coord') for line in self.lines)}"
        space = choose(self.draw, self.world.spaces)
        value, positive = self.key(space), self.draw(st.booleans())
        if positive:
            value = infix("+", call("abs", value), number(1), Level.SUM, value.reach + 1)
        qualified = self.draw(st.booleans())
        self.lines.append(f"coord {space.name + '.' if qualified else ''}{name} = {value.text}")
        having = [space] if qualified else [each for each in self.world.spaces if self.can_read(each, value, space)]
        coordinates = dict(self.world.coordinates)
        for each in having:
            for side in self.world.sides_of(each):
                known = coordinates.get((side, each.name), {})
                coordinates[side, each.name] = {**known, name: Readable("int", value.reach, positive)}
        self.world = replace(self.world, coordinates=coordinates)

    def can_read(self, space: DrawnSpace, value: Piece, of: DrawnSpace) -> bool:
        """Whether the tokens of a space have everything that an expression over another space reads."""
        words = set("".join(each if each.isidentifier() or each.isdigit() else " " for each in value.text).split())
        read = words & set(DrawnScope(self.world, token=of).readable(""))
        return read <= set(DrawnScope(self.world, token=space).readable(""))

    def key(self, space: DrawnSpace) -> Piece:
        """An integer over one token, for a coordinate or for the key of an order."""
        scope = DrawnScope(self.world, token=space)
        numbers = Numbers(self.draw, scope)
        match choose(self.draw, ("integer", "integer", "curve", "curve", "shuffle")):
            case "curve":
                names = self.draw(st.permutations(space.names))
                return numbers.curve(choose(self.draw, CURVES), "", list(names))
            case "shuffle":
                return numbers.shuffle("", ["i", *space.names])
            case _:
                return numbers.integer(self.draw(st.integers(0, 2)))

    # Scores and orders

    def draw_scores(self) -> None:
        numbers = Numbers(self.draw, self.scope())
        scoring = Numbers(self.draw, replace(self.scope(), score=True))
        multiplies = self.vectors is not None and self.draw(st.booleans())
        if self.vectors is not None and multiplies:
            self.lines.append(self.vectors.score())
        if self.vectors is not None and self.draw(st.booleans()):
            self.lines.append(self.vectors.value())
        if self.draw(st.booleans()):
            return
        if not multiplies and self.draw(st.integers(0, 3)) == 0:  # products have no factor of both tokens
            self.lines.append(f"scale {numbers.score(1).text}")
        for line in range(0 if multiplies else self.draw(st.integers(0, 2))):  # all products in one sum
            start = choose(self.draw, ("s + ", "0.5 * s - ", "", "bias", "bias"))
            if start == "bias":
                self.draw_bias(f"bias{line}")
                continue
            value = scoring.score(2)
            self.lines.append(f"score {start}({value.text})" if start else f"score {value.text}")
        if self.draw(st.integers(0, 2)) == 0:
            self.lines.append(f"weight {numbers.score(1).text}")
        if self.draw(st.integers(0, 3)) == 0:
            self.draw_sink()
        elif self.whole and self.draw(st.integers(0, 2)) == 0:
            self.lines.append(f"normalize {choose(self.draw, ('none', 'softmax by k', 'softmax by q'))}")

    def draw_sink(self) -> None:
        """A sink: a number, or an input of queries or heads."""
        kind = choose(self.draw, ("number", "heads", "queries"))
        if kind == "number":
            self.lines.append("sink 0.5")
            return
        tokens = "queries" if self.world.cross else "tokens"
        self.lines.append(f"input sunk: float[{tokens if kind == 'queries' else 'heads'}]")
        self.lines.append("sink q.sunk" if kind == "queries" else "sink sunk[head]")

    def draw_bias(self, name: str) -> None:
        """An input that is read only to be added to the score: of queries, of keys, or of pairs."""
        sides = choose(self.draw, ("q", "k", "qk"))
        outer = {"batch": "batch", "heads": "head"}
        outer = {dimension: index for dimension, index in outer.items() if self.draw(st.booleans())}
        tokens = [("queries" if side == "q" else "keys") if self.world.cross else "tokens" for side in sides]
        self.lines.append(f"input {name}: float[{', '.join([*outer, *tokens])}]")
        read = f"{name}[{', '.join([*outer.values(), *sides])}]" if sides == "qk" else f"{sides}.{name}"
        self.lines.append(f"score s + {read}")

    def draw_order(self) -> None:
        """An order of one space, of all spaces that can have it, of several, or no order."""
        kind = choose(self.draw, ("none", "plain", "qualified", "each"))
        spaces = list(self.world.spaces) if kind == "each" else [choose(self.draw, self.world.spaces)]
        if kind == "none":
            return
        for space in spaces:
            keys = [self.key(space).text for _ in range(self.draw(st.integers(1, 2)))]
            qualifier = "" if kind == "plain" else f"{space.name} "
            self.lines.append(f"order {qualifier}by {', '.join(keys)}")
