"""What a text means, token by token and pair by pair, from `docs/language.md`: nothing of the product is imported.

Names are looked up when they are needed, macros are evaluated where they are used, and `and`, `or` and `if` look only
at what they need, so that what a guard excludes is never read.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property, cmp_to_key
from pathlib import Path
from typing import Any

import numpy as np

from tests.independent import derivatives, lists, numbering, pooling, selection, vectors
from tests.independent.derivatives import Number, is_float, plain
from tests.independent.functions import FUNCTIONS, arithmetic, walk
from tests.independent.group_scores import Scores
from tests.independent.groups import Level, makes_table
from tests.independent.reader import File, Macro, Node, Pattern, read
from tests.independent.tokens import AxisName, AxisNames, InputName, Later, Scope, Space, Token


def alone(space: Space) -> list[Token]:
    """The tokens of a space that is pooled, outside of any sequence."""
    return [Token(f"in {space.name}", number, space, number, cell) for number, cell in enumerate(space.cells())]


class NotBound(Exception):
    """What is read is known in calls only, or differs between tokens or heads."""


UNBOUND = {"q", "k", "head", "key_head", "batch", "dim", "s"}
STANDARD = read((Path(__file__).parents[2] / "grammar" / "std.attn").read_text())


@dataclass
class Meaning:
    """A pattern at values of its parameters; `head` and `batch` are set by the methods that go through them."""

    file: File
    pattern: Pattern
    parameters: dict[str, Any]
    heads: int
    inputs: Mapping[str, np.ndarray]
    learned: frozenset[str] = frozenset()
    """Inputs whose reads are kept as numbers of their own, for gradients."""
    key_heads: int = 1
    vectors: tuple[np.ndarray, np.ndarray] | None = None
    """What routes look at, for each query head: of the queries and of the keys, [batch, heads, tokens, dim]."""
    tensors: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None
    """q, k and v of a call, [batch, heads or key heads, given tokens, dim]."""
    dim: int = 4
    """The head dimension, as `truth.py` draws it."""
    head: int = 0
    batch: int = 0
    leaves: dict[tuple[str, tuple[int, ...]], Number] = field(default_factory=dict)
    """What the pair at hand reads: elements and vectors of inputs and tensors."""
    coordinates: dict[tuple[str, int, str, int, int], int] = field(default_factory=dict)
    selections: dict[tuple[str, int, int], selection.Selected] = field(default_factory=dict)
    chosen: dict[tuple[str, int], selection.Chosen] = field(default_factory=dict)
    scores: Scores | None = None
    """Those of the route at hand."""
    nearest: dict[tuple[str, str, int, int, int], int] = field(default_factory=dict)
    pools: dict[tuple[str, int, int], list[int]] = field(default_factory=dict)
    rows: dict[tuple[str, int, int], pooling.Rows] = field(default_factory=dict)
    bound_only: bool = False
    """Whether only what is known when the pattern is bound may be read: see `is_constant`."""

    @staticmethod
    def of(
        file: File,
        heads: int,
        inputs: Mapping[str, np.ndarray],
        learned: frozenset[str] = frozenset(),
        name: str = "drawn",
        values: Mapping[str, Any] | None = None,
        key_heads: int = 1,
    ) -> "Meaning":
        """Of the pattern of this name, at these values of its parameters and its defaults."""
        pattern = file.patterns.get(name) or STANDARD.patterns[name]
        found = Meaning(file, pattern, {}, heads, inputs, learned, key_heads)
        found.parameters = found.bound(pattern.parameters, values or {})
        for each in pattern.statements:
            if each[0] == "assert":
                assert found.value(each[1], Scope(found.names_before(each))), each[2]
        return found

    def bound(
        self, parameters: tuple[tuple[str, str | None, Node | None], ...], given: Mapping[str, Any]
    ) -> dict[str, Any]:
        """The values of parameters, from those given and from the defaults."""
        found: dict[str, Any] = {}
        for name, kind, default in parameters:
            width = len(default) - 1 if default is not None and default[0] == "tuple" else None
            if name not in given:
                assert default is not None, name
                found[name] = self.default(kind, default, found)
            elif kind == "axis" or default == ("name", "i"):
                found[name] = AxisName(given[name])
            elif width is not None and not isinstance(given[name], tuple):
                found[name] = (given[name],) * width
            else:
                found[name] = given[name]
            if kind == "float" or isinstance(default and default[1], float):
                found[name] = float(found[name])
        return found

    def default(self, kind: str | None, node: Node, above: Mapping[str, Any]) -> Any:
        if kind == "axis" or node == ("name", "i"):
            return AxisName(node[1])
        return self.value(node, Scope(above))

    @cached_property
    def branches(self) -> list["Meaning"]:
        """The branches, each a pattern of the lines outside and of its own."""
        shared = tuple(each for each in self.pattern.statements if each[0] != "branch")
        found: list[Meaning] = []
        for each in self.pattern.statements:
            if each[0] == "branch":
                _, _, variable, domain, lines = each
                scope = Scope(self.names_before(each))
                values = [None] if domain is None else range(*(self.value(end, scope) for end in domain))
                for value in values:
                    known = self.parameters if variable is None else {**self.parameters, variable: value}
                    pattern = replace(self.pattern, statements=(*shared, *lines))
                    found.append(
                        Meaning(self.file, pattern, known, self.heads, self.inputs, self.learned, self.key_heads)
                    )
                    found[-1].vectors, found[-1].tensors = self.vectors, self.tensors
        return found

    def at(self, head: int, batch: int) -> None:
        """Goes to a head and a batch entry."""
        for each in (self, *self.branches):
            each.head, each.batch = head, batch

    # Spaces and tokens

    @cached_property
    def spaces(self) -> dict[str, Space]:
        found: dict[str, Space] = {}
        for statement in self.pattern.statements:
            scope = Scope(self.names_before(statement))
            match statement:
                case ("space", name, axes):
                    found[name] = Space(name, tuple((axis, self.value(length, scope)) for axis, length in axes))
                case ("pooled", name, kind, of, box_node):
                    source = found[of]
                    box = self.value(box_node, scope)
                    box = (box,) * len(source.axes) if isinstance(box, int) else tuple(box)
                    axes = tuple(
                        (name if axis == source.name else axis, -(-length // size))
                        for (axis, length), size in zip(source.axes, box, strict=True)
                    )
                    found[name] = Space(name, axes, source, box, kind)
                case ("grouped", name, kind, of, by, count):
                    source = found[of]
                    numbers = [self.coordinate(each, by) for each in alone(source)] if count is None else []
                    length = max(map(int, numbers)) + 1 if count is None else self.value(count, scope)
                    found[name] = Space(name, ((name, length),), source, (), kind, by)
        return found

    def parts(self, space: Space, number: int) -> list[int]:
        """The numbers, in the source of a pooled space, of the tokens of one pool; in this entry of the batch."""
        assert space.source is not None
        key = space.name, number, self.batch
        if key not in self.pools:
            if space.by:
                own = [each for each in alone(space.source) if self.coordinate(each, space.by) == number]
            else:
                cell = list(space.cells())[number].values()
                own = [
                    each
                    for each in alone(space.source)
                    if all(at == x // size for at, x, size in zip(cell, each.cell.values(), space.box, strict=True))
                ]
            self.pools[key] = [each.number for each in own]
        return self.pools[key]

    def within(self, space: Space, number: int) -> list[int]:
        """The numbers, in the space that is pooled in the end, of all tokens of one token."""
        if space.source is None:
            return [number]
        return [each for part in self.parts(space, number) for each in self.within(space.source, part)]

    def is_fact(self, name: str) -> bool:
        """Whether pooled tokens have this coordinate of themselves: no statement declares it."""
        declared = {each[2] for each in self.pattern.statements if each[0] == "coord"}
        declared |= {each[1] for each in self.pattern.statements if each[0] in ("input", "route")}
        return name in ("first", "last", "count") and name not in declared

    def names_before(self, statement: Node) -> dict[str, Any]:
        """Parameters, and the `let`s above a statement."""
        return self.names_above[id(statement)]

    @cached_property
    def names_above(self) -> dict[int, dict[str, Any]]:
        names, found = dict(self.parameters), {}
        for each in self.pattern.statements:
            found[id(each)] = names
            if each[0] == "let":
                names = {**names, each[1]: Later(each[2], Scope(names))}
        return found

    @cached_property
    def orders(self) -> dict[str, tuple[str, ...]]:
        """The spaces of the queries and of the keys."""
        said = {each[1]: each[2] for each in self.pattern.statements if each[0] == "sequence"}
        if "queries" in said:
            return {"q": said["queries"], "k": said["keys"]}
        alone = said.get("tokens", tuple(name for name, space in self.spaces.items()))
        return {"q": alone, "k": alone}

    @property
    def crosses(self) -> bool:
        """Whether keys are other tokens than the queries: empty spaces are as if they were not there."""
        names = {side: [name for name in own if self.spaces[name].size] for side, own in self.orders.items()}
        return names["q"] != names["k"]

    @cached_property
    def routes(self) -> list[Node]:
        return [each for each in self.pattern.statements if each[0] == "route"]

    @property
    def used_routes(self) -> list[Node]:
        """The routes that other lines read."""
        found: list[Node] = []
        for route in reversed(self.routes):
            others = [each for each in self.pattern.statements if each[0] != "route"] + found
            if any(node[1] == route[1] for each in others for node in walk(each) if node[0] in ("name", "attribute")):
                found.append(route)
        return found

    @property
    def finds(self) -> bool:
        """Whether there are routes or ranks, in a branch as well, or pools that a call may have to find."""
        if any(each.finds for each in self.branches):
            return True
        ranks = any(each[0] == "coord" and each[3][:2] == ("call", "rank") for each in self.pattern.statements)
        grouped = any(each[0] == "grouped" for each in self.pattern.statements)
        return ranks or grouped or bool(self.routes)

    def shared_axes(self, name: str) -> list[int]:
        """The axes of an input along which a side of 1 stands for all: of the batch, heads and tokens."""
        words = {"batch", "heads", "key_heads", "tokens", "queries", "keys", *self.spaces}
        inputs = [each for each in self.pattern.statements if each[:2] == ("input", name) and each[2] != "sparse"]
        dims = next((each[3] for each in inputs), ())
        return [axis for axis, dim in enumerate(dims) if dim[0] == "name" and dim[1] in words]

    def by_entry(self, name: str) -> bool:
        """Whether an input has one part for each batch entry."""
        return any(each[:2] == ("input", name) and ("name", "batch") in each[3] for each in self.pattern.statements)

    @cached_property
    def laid_out_freely(self) -> bool:
        """Whether `order auto` leaves the layout to the product."""
        return any(each[0] == "auto" for each in self.pattern.statements)

    @cached_property
    def tokens(self) -> dict[str, list[Token]]:
        found: dict[str, list[Token]] = {}
        for side, names in self.orders.items():
            found[side] = []
            for name in names:
                space = self.spaces[name]
                for number, cell in enumerate(space.cells()):
                    found[side].append(Token(side, len(found[side]), space, number, cell))
        return found

    def given(self, side: str) -> list[Space]:
        """The spaces whose vectors a call gives."""
        return list(dict.fromkeys(self.spaces[name].root for name in self.orders[side]))

    # Coordinates

    def has(self, token: Token, name: str) -> bool:
        if name == "i" or name in token.cell or self.input_of(name, token) is not None:
            return True
        if self.nearest_route(name) is not None:
            return True
        if token.space.source is not None and self.is_fact(name):
            return True
        return self.coord_of(name, token) is not None

    def input_of(self, name: str, token: Token) -> tuple[Node, ...] | None:
        """The dimensions of an input that gives every token like this one a value."""
        for each in self.pattern.statements:
            if each[0] == "input" and each[1] == name:
                dims = each[3]
                plain_names = [dim[1] for dim in dims if dim[0] == "name"]
                kinds = [dim for dim in plain_names if dim in self.spaces or dim in ("tokens", "queries", "keys")]
                if len(kinds) != 1 or len(dims) != 1 + sum(
                    dim in ("batch", "heads", "key_heads") for dim in plain_names
                ):
                    return None
                (kind,) = kinds
                fits = kind in ("tokens", token.space.name) or {"queries": "q", "keys": "k"}.get(kind) == token.side
                fits = fits or (kind in ("queries", "keys") and not self.crosses)
                return dims if fits else None
        return None

    def coord_of(self, name: str, token: Token) -> Node | None:
        for each in self.pattern.statements:
            if each[0] == "coord" and each[2] == name:
                if each[1] is not None and each[1] != token.space.name:
                    continue
                if each[1] is not None or self.readable(each, token):
                    return each
        return None

    def readable(self, coord: Node, token: Token) -> bool:
        """Whether the token has all that a coordinate reads."""
        names = {node[1] for node in walk(coord[3]) if node[0] == "name"}
        known = {each[2] for each in self.pattern.statements if each[0] == "coord"}
        known |= {each[1] for each in self.pattern.statements if each[0] == "input"}
        known |= {axis for space in self.spaces.values() for axis, _ in space.axes}
        return all(self.has(token, name) for name in names & known)

    def coordinate(self, token: Token, name: str) -> object:
        if self.bound_only:
            raise NotBound
        if name == "i":
            return token.i
        if name in token.cell:
            return token.cell[name]
        if token.space.source is not None and self.is_fact(name):
            within = self.within(token.space, token.number)
            return {"first": min(within, default=0), "last": max(within, default=-1), "count": len(within)}[name]
        dims = self.input_of(name, token)
        if dims is not None:
            return self.read_input(name, dims, token)
        route = self.nearest_route(name)
        if route is not None:
            return selection.nearest_row(self, route, token)
        coord = self.coord_of(name, token)
        assert coord is not None, f"{token} has no {name}"
        key = token.side, token.i, name, self.head, self.batch
        if key not in self.coordinates:
            if coord[3][:2] == ("call", "rank"):
                self.rank(token, coord)
            else:
                scope = Scope(self.names_before(coord), token=token, bare=True)
                self.coordinates[key] = self.value(coord[3], scope)
        return self.coordinates[key]

    def rank(self, token: Token, coord: Node) -> None:
        """Numbers the tokens of one space, sorted by the keys of `rank`: NaN behind all numbers."""

        def keys(each: Token) -> list[tuple[bool, float]]:
            scope = Scope(self.names_before(coord), token=each, bare=True)
            values = [plain(self.value(node, scope)) for _, node in coord[3][2]]
            return [(math.isnan(x), 0.0 if math.isnan(x) else x) for x in values]

        own = [each for each in self.tokens[token.side] if each.space == token.space]
        for position, each in enumerate(sorted(own, key=keys)):
            self.coordinates[each.side, each.i, coord[2], self.head, self.batch] = position

    def nearest_route(self, name: str) -> Node | None:
        """The route of this name whose name is a coordinate as well."""
        found = self.route(name)
        return found if found is not None and found[2][1] == "nearest" else None

    def route(self, name: str) -> Node | None:
        return next((each for each in self.routes if each[1] == name), None)

    def read_input(self, name: str, dims: tuple[Node, ...], token: Token) -> object:
        return self.element(name, self.place(dims, token))

    def place(self, dims: tuple[Node, ...], token: Token) -> tuple[int, ...]:
        """Where an input with one token dimension has what belongs to a token."""
        position = []
        for dim in dims:
            match dim[1]:
                case "batch":
                    position.append(self.batch)
                case "heads":
                    position.append(self.head)
                case "key_heads":
                    position.append(self.shared(self.head))
                case space if space in self.spaces:
                    position.append(token.number)
                case _:
                    position.append(token.i)
        return tuple(position)

    def shared(self, head: int) -> int:
        """The key head that a query head reads."""
        return head * self.key_heads // self.heads

    def given_vectors(self, name: str, head: int) -> pooling.Rows:
        """What `pooling.pooled` finds of q, k or v for a query head, in this entry of the batch."""
        key = name, self.batch, head
        if key not in self.rows:
            assert self.tensors is not None
            x = self.tensors["qkv".index(name)][self.batch]
            side, own = ("q", head) if name == "q" else ("k", self.shared(head))
            self.rows[key] = pooling.pooled(self, side, x[own])
        return self.rows[key]

    def stored(self, name: str) -> tuple[np.ndarray, tuple[int, ...]] | None:
        """The pairs of a sparse input, and its rows and columns; None for other inputs."""
        for each in self.pattern.statements:
            if each[:3] == ("input", name, "sparse"):
                sizes = {**{space: self.spaces[space].size for space in self.spaces}}
                sizes |= {
                    "tokens": len(self.tokens["q"]),
                    "queries": len(self.tokens["q"]),
                    "keys": len(self.tokens["k"]),
                }
                scope = Scope(self.names_before(each))
                words = ((node[1] if node[0] == "name" else None, node) for node in each[3])
                return self.inputs[name], tuple(
                    sizes[word] if word in sizes else self.value(node, scope) for word, node in words
                )
        return None

    def element(self, name: str, position: tuple[int, ...]) -> object:
        if self.bound_only:
            raise NotBound
        sparse = self.stored(name)
        if sparse is not None:
            assert all(0 <= index < length for index, length in zip(position, sparse[1], strict=True)), (name, position)
            return lists.entry(sparse[0], *position) is not None
        for each in self.pattern.statements:
            if each[:2] == ("input", name) and each[3] and each[3][-1] == ("name", "edge"):
                number = lists.entry(self.inputs["edge"], *position[-2:])
                assert number is not None, (name, position)
                position = (*position[:-2], number)
        shape = self.inputs[name].shape
        assert all(0 <= index < length for index, length in zip(position, shape, strict=True)), (name, position, shape)
        value = self.inputs[name][position].item()
        if not isinstance(value, float):
            return value
        if name not in self.learned:
            return Number(value)
        return self.leaves.setdefault((name, position), Number(value))

    # Expressions

    def value(self, node: Node, scope: Scope) -> Any:
        match node:
            case ("number", value):
                return value
            case ("name", name):
                return self.name(name, scope)
            case ("attribute", base, name):
                bound = scope.names.get(name)
                name = bound.name if isinstance(bound, AxisName) else name
                token = {"q": scope.q, "k": scope.k}[base]
                assert token is not None
                return self.coordinate(token, name)
            case ("index", name, *indices):
                positions = tuple(self.value(index, scope) for index in indices)
                held = scope.names.get(name)
                if isinstance(held, InputName):
                    return self.element(held.name, positions)
                if held is not None and name not in self.inputs:
                    held = self.value(held.node, held.scope) if isinstance(held, Later) else held
                    return held[positions[0]]
                return self.element(name, positions)
            case ("tuple", *parts):
                return tuple(self.value(part, scope) for part in parts)
            case ("if", condition, first, second):
                return self.value(first if self.value(condition, scope) else second, scope)
            case ("and", first, second):
                return bool(self.value(first, scope)) and bool(self.value(second, scope))
            case ("or", first, second):
                return bool(self.value(first, scope)) or bool(self.value(second, scope))
            case ("not", inner):
                return not self.value(inner, scope)
            case ("negative", inner):
                return derivatives.subtract(0 if not is_float(x := self.value(inner, scope)) else -0.0, x)
            case ("compare", *parts):
                return self.compare(parts, scope)
            case ("arrow", first, second):
                assert scope.q is not None and scope.k is not None
                return first in ("all", scope.q.space.name) and second in ("all", scope.k.space.name)
            case (("+" | "-" | "*" | "/" | "//" | "%" | "**") as mark, first, second):
                return arithmetic(mark, self.value(first, scope), self.value(second, scope))
            case ("each", kind, body, helper, domain):
                return self.each(kind, body, helper, domain, scope)
            case ("call", name, arguments):
                return self.call(name, arguments, scope)
            case _:
                raise AssertionError(node)

    def name(self, name: str, scope: Scope) -> Any:
        if self.bound_only and (name in UNBOUND or self.route(name) is not None):
            raise NotBound
        match name:
            case "q" | "k" if (token := {"q": scope.q, "k": scope.k}[name]) is not None:
                return token.i
            case "head":
                return self.head
            case "batch":
                return self.batch
            case "heads":
                return self.heads
            case "key_heads":
                return self.key_heads
            case "dim":
                return self.dim
            case "s" if scope.s is not None:
                return scope.s
            case "key_head":
                return self.shared(self.head)
        if scope.bare and scope.token is not None and self.has(scope.token, name):
            return self.coordinate(scope.token, name)
        if name in scope.names:
            held = scope.names[name]
            if isinstance(held, Later):
                inner = held.scope
                if inner.q is None:  # a `let` of the pattern is about the pair, or the token, that reads it
                    inner = Scope(inner.names, scope.token, False, scope.q, scope.k, scope.s)
                return self.value(held.node, inner)
            return held
        if ("input", name, ()) in [(each[0], each[1], each[-1]) for each in self.pattern.statements]:
            return self.element(name, ())
        route = self.route(name)
        if route is not None:
            assert scope.q is not None and scope.k is not None
            return self.selected(route, scope.q, scope.k)
        if name == "inf":
            return math.inf
        macro = self.macro(name)
        assert macro is not None, name
        return self.expand(macro, (), scope)

    def selected(self, route: Node, q: Token, k: Token) -> bool:
        key = route[1], self.head, self.batch
        if key not in self.selections:
            self.selections[key] = selection.select(self, route)
        return self.selections[key](q, k)

    def route_level(self, route: Node) -> Level:
        """The groups that a route selects."""
        return selection.level(self, route)

    def macro(self, name: str) -> Macro | None:
        return self.file.macros.get(name) or STANDARD.macros.get(name)

    def compare(self, parts: list[Any], scope: Scope) -> bool:
        left = self.value(parts[0], scope)
        for mark, node in zip(parts[1::2], parts[2::2], strict=True):
            right = self.value(node, scope)
            a, b = plain(left), plain(right)
            holds = {"==": a == b, "!=": a != b, "<": a < b, "<=": a <= b, ">": a > b, ">=": a >= b}[mark]
            if not holds:
                return False
            left = right
        return True

    def each(self, kind: str, body: Node, helper: str, domain: Node, scope: Scope) -> Any:
        if domain[0] == "range":
            values: list[Any] = list(range(self.value(domain[1], scope), self.value(domain[2], scope)))
        else:
            values = [AxisName(name) for name in self.axes(domain, scope)]
        parts = (self.value(body, scope.with_names({**scope.names, helper: value})) for value in values)
        match kind:
            case "any":
                return any(parts)
            case "all":
                return all(parts)
            case "sum":
                total: object = 0
                for part in parts:
                    total = derivatives.add(total, part)
                return total
            case _:
                raise AssertionError(kind)

    def axes(self, domain: Node, scope: Scope) -> tuple[str, ...]:
        """The axes that `for a in` goes through."""
        if domain[0] == "tuple":
            return tuple(self.axis(part, scope) for part in domain[1:])
        held = scope.names.get(domain[1])
        if isinstance(held, AxisNames) and held.names is not None:
            return held.names
        if isinstance(held, AxisNames) or domain[1] == "all":
            return self.axes_here(scope)
        return (self.axis(domain, scope),)

    def axes_here(self, scope: Scope) -> tuple[str, ...]:
        assert scope.q is not None and scope.k is not None
        assert [axis for axis, _ in scope.q.space.axes] == [axis for axis, _ in scope.k.space.axes]
        return tuple(axis for axis, _ in scope.q.space.axes)

    def axis(self, node: Node, scope: Scope) -> str:
        assert node[0] == "name"
        held = scope.names.get(node[1])
        return held.name if isinstance(held, AxisName) else node[1]

    # Calls

    def call(self, name: str, arguments: tuple[tuple[str | None, Node], ...], scope: Scope) -> Any:
        if name == "same":
            assert scope.q is not None and scope.k is not None
            axes = [self.axis(node, scope) for _, node in arguments]
            return all(self.coordinate(scope.q, axis) == self.coordinate(scope.k, axis) for axis in axes)
        if name == "len":
            return self.length(arguments[0][1], scope)
        if name in ("hilbert", "morton", "snake"):
            cells = [self.position(node, scope) for _, node in arguments]
            return numbering.along(name, tuple(length for _, length in cells))[tuple(position for position, _ in cells)]
        if name == "shuffle":
            position, length = self.position(arguments[0][1], scope)
            return numbering.shuffled(length, self.value(arguments[1][1], scope))[position]
        if self.scores is not None and scope.s is None and makes_table(name, arguments):
            return self.scores.read(name, arguments, scope)
        if name == "dot":
            (_, a), (_, b) = arguments
            if self.scores is not None and scope.s is None:
                return self.scores.dot(a, b, scope)
            return vectors.dot(self, a, b, scope)
        macro = self.macro(name)
        if macro is not None and name not in FUNCTIONS:
            return self.expand(macro, arguments, scope)
        values = [self.value(node, scope) for _, node in arguments]
        if name in ("min", "max", "clamp") and any(map(is_float, values)):
            values = self.without_ties([node for _, node in arguments], values, scope)
        return FUNCTIONS[name](*values)

    def without_ties(self, nodes: list[Node], values: list[Any], scope: Scope) -> list[Any]:
        """Operands of which some are equal: constants are plain numbers, and the others are not."""
        if len({*map(plain, values)}) == len(values):
            return values
        constant = [self.is_constant(node, scope) for node in nodes]
        numbers = [x if isinstance(x, Number) else Number(float(x)) for x in values]
        return [float(plain(x)) if known else x for x, known in zip(numbers, constant, strict=True)]

    def is_constant(self, node: Node, scope: Scope) -> bool:
        """Whether a value is known when the pattern is bound, whatever the head."""
        before, self.bound_only = self.bound_only, True
        try:
            self.value(node, scope)
        except NotBound:
            return False
        finally:
            self.bound_only = before
        return True

    def position(self, node: Node, scope: Scope) -> tuple[int, int]:
        """Where the token is on the axis that is read, and the length of that."""
        match node:
            case ("name", "q" | "k" as side) if scope.q is not None:
                axis = "i"
            case ("name", _):
                side, axis = "", self.axis(node, scope)
            case ("attribute", side, _):
                axis = self.axis(("name", node[2]), scope)
            case _:
                raise AssertionError(node)
        token = {"q": scope.q, "k": scope.k, "": scope.token}[side]
        assert token is not None
        return int(plain(self.coordinate(token, axis))), self.length_of(axis, token)

    def length(self, node: Node, scope: Scope) -> int:
        if node[0] == "name":
            held = scope.names.get(node[1])
            if isinstance(held, tuple):
                return len(held)
            axis = held.name if isinstance(held, AxisName) else node[1]
            tokens = [scope.token] if scope.token is not None else [scope.q, scope.k]
            return next(self.length_of(axis, token) for token in tokens if token is not None)
        assert node[0] == "attribute", node
        token = {"q": scope.q, "k": scope.k}.get(node[1])
        if token is not None:
            return self.length_of(node[2], token)
        return dict(self.spaces[node[1]].axes)[node[2]]

    def length_of(self, axis: str, token: Token) -> int:
        if axis == "i":
            return len(self.tokens[token.side])
        axes = dict(token.space.axes)
        if axis in axes:
            return axes[axis]
        own = [each for each in self.tokens[token.side] if each.space == token.space]
        return 1 + max(int(plain(self.coordinate(each, axis))) for each in own)

    def expand(self, macro: Macro, arguments: tuple[tuple[str | None, Node], ...], scope: Scope) -> Any:
        given: dict[str, Node] = {}
        free = iter(macro.parameters)
        for key, node in arguments:
            given[key or next(free)[0]] = node
        names: dict[str, Any] = {}
        tuples: dict[str, tuple[int, ...]] = {}
        for name, kind, default in macro.parameters:
            node = given.get(name)
            if isinstance(node, tuple) and node[0] != "tuple" and default is not None and default[0] == "tuple":
                every = self.value(node, scope)  # an integer serves every entry
                names[name] = every if isinstance(every, tuple) else (every,) * (len(default) - 1)
                continue
            if kind == "input":
                assert node is not None and node[0] == "name"
                names[name] = scope.names[node[1]] if node[1] in scope.names else InputName(node[1])
                continue
            if kind == "axis" or (kind is None and default == ("name", "i")):
                names[name] = AxisName(self.axis(node, scope) if node is not None else default[1])  # type: ignore[index]
            elif kind == "axes":
                names[name] = self.axes_argument(node if node is not None else default, scope)  # type: ignore[arg-type]
            elif node is None:
                assert default is not None
                names[name] = self.value(default, Scope(names))
            else:
                constant = self.tuple_of(node, scope)
                if constant is not None and kind != "tuple" and (default is None or default[0] != "tuple"):
                    tuples[name] = constant
                else:
                    names[name] = constant if constant is not None else Later(node, scope)
        if not tuples:
            return self.body(macro, names, scope)
        (axis,) = [name for name, kind, _ in macro.parameters if kind == "axis"]
        return all(
            self.body(macro, {**names, axis: AxisName(each), **{name: x[n] for name, x in tuples.items()}}, scope)
            for n, each in enumerate(self.axes_here(scope))
        )

    def axes_argument(self, node: Node, scope: Scope) -> AxisNames:
        if node == ("name", "all"):
            return AxisNames(None)
        return AxisNames(self.axes(node, scope))

    def tuple_of(self, node: Node, scope: Scope) -> tuple[int, ...] | None:
        """The value of an argument that is a tuple."""
        if node[0] == "tuple":
            return tuple(self.value(part, scope) for part in node[1:])
        held = scope.names.get(node[1]) if node[0] == "name" else None
        return held if isinstance(held, tuple) else None

    def body(self, macro: Macro, names: Mapping[str, Any], scope: Scope) -> Any:
        inner = scope.with_names(dict(names))
        for name, node in macro.lets:
            inner = inner.with_names({**inner.names, name: self.value(node, inner)})
        return self.value(macro.body, inner)

    # Relations and scores

    def pair(self, q: Token, k: Token, statement: Node, s: object | None = None) -> Scope:
        return Scope(self.names_before(statement), q=q, k=k, s=s)

    def attends(self, q: Token, k: Token) -> bool:
        if not (self.within(q.space, q.number) and self.within(k.space, k.number)):
            return False
        if self.branches:
            return any(each.attends(q, k) for each in self.branches)
        lines = self.pattern.statements
        return any(bool(self.value(each[1], self.pair(q, k, each))) for each in lines if each[0] == "attend") and all(
            bool(self.value(each[1], self.pair(q, k, each))) for each in lines if each[0] == "require"
        )

    def dense(self, head: int, batch: int) -> np.ndarray:
        """bool [queries, keys], in declared order."""
        self.at(head, batch)
        queries, keys = self.tokens["q"], self.tokens["k"]
        return np.array([[self.attends(q, k) for k in keys] for q in queries], dtype=bool).reshape(len(queries), -1)

    def layout(self, side: str, head: int, batch: int) -> list[int]:
        """The declared positions, in the order of memory."""
        self.head, self.batch = head, batch
        found: list[int] = []
        for name in self.orders[side]:
            own = [token for token in self.tokens[side] if token.space.name == name]
            keys = self.order_keys(own[0]) if own else None
            if keys is not None:
                statement, expressions = keys

                def key(token: Token, statement: Node = statement, nodes: Any = expressions) -> list[Any]:
                    scope = Scope(self.names_before(statement), token=token, bare=True)
                    return [plain(self.value(node, scope)) for node in nodes]

                own = sorted(own, key=cmp_to_key(lambda a, b: (key(a) > key(b)) - (key(a) < key(b))))
            found += [token.i for token in own]
        return found

    def order_keys(self, token: Token) -> tuple[Node, tuple[Node, ...]] | None:
        for each in self.pattern.statements:
            if each[0] == "order" and each[1] == token.space.name:
                return each, each[2]
        for each in self.pattern.statements:
            if each[0] == "order" and each[1] is None:
                names = {node[1] for expression in each[2] for node in walk(expression) if node[0] == "name"}
                known = {axis for space in self.spaces.values() for axis, _ in space.axes}
                known |= {c[2] for c in self.pattern.statements if c[0] == "coord"}
                known |= {c[1] for c in self.pattern.statements if c[0] == "input"}
                if all(self.has(token, name) for name in names & known):
                    return each, each[2]
        return None

    def score(self, q: Token, k: Token, dot: object, dim: int) -> Number:
        """The final score of a pair, from the product of its vectors."""
        scale: object = 1.0 / math.sqrt(dim)
        for each in self.pattern.statements:
            if each[0] == "scale":
                scale = self.value(each[1], self.pair(q, k, each))
        s = derivatives.multiply(dot, scale)
        for each in self.pattern.statements:
            if each[0] == "score":
                s = self.value(each[1], self.pair(q, k, each, s=s))
        return s if isinstance(s, Number) else Number(float(plain(s)))

    def sinks(self, q: Token) -> list[Number]:
        """The scores of the sinks of a query."""
        lines = [each for each in self.pattern.statements if each[0] == "sink"]
        found = [self.value(each[1], Scope(self.names_before(each), q=q)) for each in lines]
        return [each if isinstance(each, Number) else Number(float(each)) for each in found]  # type: ignore[arg-type]

    @cached_property
    def normalize(self) -> tuple[str, str | None]:
        """What makes probabilities of scores: a softmax by queries or by keys, or nothing."""
        said = [each[1:] for each in self.pattern.statements if each[0] == "normalize"]
        return said[0] if said else ("softmax", "q")

    def value_of(self, q: Token, k: Token) -> object | None:
        """The vector that a pair adds to the output, where a line says it; without one it is the value of the key."""
        for each in self.pattern.statements:
            if each[0] == "value":
                return vectors.vector(self, each[1], self.pair(q, k, each))
        return None

    def weight(self, q: Token, k: Token) -> object:
        found: object = 1.0
        for each in self.pattern.statements:
            if each[0] == "weight":
                found = derivatives.multiply(found, self.value(each[1], self.pair(q, k, each)))
        return found
