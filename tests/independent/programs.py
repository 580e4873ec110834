"""A random program while it is drawn, line by line: what its expressions, coordinates, relations and scores may be."""

from dataclasses import dataclass, field
from random import Random
from typing import NamedTuple

import numpy as np

SPACES = ("text", "image", "clip")
AXES = {"text": ("text",), "image": ("y", "x"), "clip": ("t", "u", "w")}
WORDS = 2**31 - 1


class Declared(NamedTuple):
    """An input: integers are drawn below a bound, where it has one."""

    kind: str
    shape: tuple[int, ...]
    below: int | None = None


@dataclass
class Program:
    """One that is being drawn."""

    random: Random
    heads: int
    key_heads: int = 1
    lines: list[str] = field(default_factory=list)
    inputs: dict[str, Declared] = field(default_factory=dict)
    values: dict[str, object] = field(default_factory=dict)
    above: list[str] = field(default_factory=list)
    """Macros of the file."""
    below: list[str] = field(default_factory=list)
    """Stacks."""
    files: dict[str, str] = field(default_factory=dict)
    parameters: list[str] = field(default_factory=list)
    constants: list[str] = field(default_factory=list)
    """Names of integers."""
    truths: list[str] = field(default_factory=list)
    """Names and calls that hold or not, of any pair."""
    macros: set[str] = field(default_factory=set)
    reals: list[str] = field(default_factory=list)
    """Names of floats."""
    routes: list[str] = field(default_factory=list)
    scoring: bool = False
    """Whether scores are drawn, which read no routes."""
    groups: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Coordinates that routes group by, and how many numbers they have on either side."""
    batch: int = 1
    spaces: dict[str, tuple[int, ...]] = field(default_factory=dict)
    own_axes: dict[str, tuple[str, ...]] = field(default_factory=lambda: dict(AXES))
    queries: tuple[str, ...] = ()
    keys: tuple[str, ...] = ()
    crosses: bool = False
    coords: dict[str, frozenset[str]] = field(default_factory=dict)
    """Integer coordinates that all tokens of these spaces have."""
    pools: list[str] = field(default_factory=list)
    """The pooled spaces."""
    floats: dict[str, str] = field(default_factory=dict)
    """Per-token floats, and which sides have them: `qk` or `k`."""
    sides: dict[str, str] = field(default_factory=dict)
    """The same of vectors of tokens, and of their factors."""

    def chance(self, share: float) -> bool:
        return self.random.random() < share

    def pick(self, *choices: str) -> str:
        return self.random.choice(choices)

    def number(self, low: int = -3, high: int = 9) -> str:
        value = self.random.randint(low, high)
        if self.constants and self.chance(0.2):
            return self.random.choice(self.constants)
        if self.chance(0.02):
            value = self.random.choice([WORDS, -WORDS - 1, WORDS - 1, 2**30])
        return str(value) if value >= 0 else f"({value})"

    # Declarations

    def declare(self) -> None:
        random = self.random
        names = random.sample(SPACES, random.choice([1, 1, 2, 2, 3]))
        for name in names:
            most = {"text": 13, "image": 5, "clip": 3}[name]
            lengths = tuple(random.randint(1, most) for _ in AXES[name])
            self.spaces[name] = lengths
            if name == "text":
                self.lines.append(f"space text[{lengths[0]}]")
            else:
                axes = ", ".join(f"{axis} = {length}" for axis, length in zip(AXES[name], lengths, strict=True))
                self.lines.append(f"space {name}[{axes}]")
        self.queries = self.keys = tuple(names)
        if len(names) > 1 and self.chance(0.3):
            self.crosses = True
            self.queries = tuple(random.sample(names, random.randint(1, len(names))))
            self.keys = tuple(random.sample(names, random.randint(1, len(names))))
            missing = [name for name in names if name not in self.queries + self.keys]
            self.keys += tuple(missing)
            if self.queries == self.keys:
                self.crosses = False
        if self.chance(0.2):
            self.pool(random.choice(self.keys))
        if self.crosses:
            self.lines.append(f"queries {' ++ '.join(self.queries)}")
            self.lines.append(f"keys {' ++ '.join(self.keys)}")
        elif self.pools:
            self.lines.append(f"tokens {' ++ '.join(self.queries)}")
        elif len(names) > 1:
            self.queries = self.keys = tuple(random.sample(names, len(names)))
            self.lines.append(f"tokens {' ++ '.join(self.queries)}")

    def pool(self, source: str) -> None:
        """Keys that are pooled from a space, beside it or in its place; then queries and keys differ."""
        if self.chance(0.4):
            self.pool_groups("coarse", source)
        else:
            self.pool_boxes("coarse", source, tuple(self.random.randint(1, 3) for _ in self.spaces[source]))
        others = tuple(name for name in self.keys if name != source)
        self.keys = (
            (*others, source, "coarse") if self.chance(0.7) or source not in self.queries else (*others, "coarse")
        )
        self.crosses = True
        if self.chance(0.3):
            if self.chance(0.3):
                self.pool_groups("top", "coarse")
            else:
                self.pool_boxes("top", "coarse", (2,) * len(self.spaces["coarse"]))
            self.keys = (*self.keys, "top") if self.chance(0.7) else (*self.keys[:-1], "top")
        if self.chance(0.4):  # pools that ask
            pools = [name for name in ("coarse", "top") if name in self.keys]
            self.queries = (*self.queries, *pools) if self.chance(0.6) else tuple(pools)
            if self.queries == self.keys:
                self.crosses = False

    def pool_boxes(self, name: str, source: str, box: tuple[int, ...]) -> None:
        lengths, axes = self.spaces[source], self.own_axes[source]
        box = tuple(min(size, length) for size, length in zip(box, lengths, strict=True))
        shown = str(box[0]) if len(set(box)) == 1 else f"({', '.join(map(str, box))})"
        self.lines.append(f"space {name} = {self.pick('mean', 'max', 'min')}({source}, {shown})")
        self.spaces[name] = tuple(-(-length // size) for length, size in zip(lengths, box, strict=True))
        self.own_axes[name] = (name,) if axes == (source,) else axes
        self.pools.append(name)

    def pool_groups(self, name: str, source: str) -> None:
        """Pools by a coordinate that is computed or given; some have no tokens, and some tokens are in none."""
        count, by, kind = self.random.randint(1, 5), f"of_{name}", self.pick("mean", "max", "min")
        self.lines.append(f"space {name} = {kind}({source} by {by}, {count})")
        axis = self.random.choice(self.own_axes[source])
        if self.chance(0.5):
            low = self.random.randint(0, 2)
            body = self.pick(f"{axis} % {count + 1} - 1", f"min({axis} // 2, {count}) - {max(low, 1)}", "-1", "0")
            self.lines.append(f"coord {source}.{by} = {body}")
        else:
            dims, entries = ("batch, ", (self.batch,)) if self.chance(0.5) else ("", ())
            self.give(by, "int", f"{dims}{source}", (*entries, self.size(source)), count)
        self.spaces[name], self.own_axes[name] = (count,), (name,)
        self.pools.append(name)

    def axes(self, space: str) -> tuple[str, ...]:
        return self.own_axes[space]

    def size(self, space: str) -> int:
        return int(np.prod(self.spaces[space]))

    def length(self, side: str) -> int:
        return sum(map(self.size, self.queries if side == "q" else self.keys))

    def add_inputs(self) -> None:
        for name, kind, low in (("group", "int", 0.5), ("mark", "bool", 0.25), ("worth", "float", 0.4)):
            if self.chance(low):
                self.token_input(name, kind)
        if self.chance(0.5):
            shared = self.chance(0.5)
            length = self.pick("7", "2 * 3 + 1")
            self.give(
                "bias", "float", f"{'' if shared else 'heads, '}{length}", (() if shared else (self.heads,)) + (7,)
            )
        if self.chance(0.25):
            self.give("grid", "int", "4, 3", (4, 3))
        if self.chance(0.2):
            self.give("pick", "bool", "5", (5,))
        for name, kind in (("level", "int"), ("gain", "float"), ("open_all", "bool")):
            if self.chance(0.15):
                self.give(name, kind, "", ())
        if self.chance(0.3):
            self.give("slope", "float", "heads", (self.heads,))
        if self.chance(0.2) and not self.crosses:
            length = 2 * self.length("q") - 1
            self.give("apart_by", "float", str(length), (length,))
        if self.chance(0.15):
            space = self.random.choice(list(dict.fromkeys((*self.queries, *self.keys))))
            self.give("tag", "int", space, (self.size(space),))
            self.coords["tag"] = frozenset([space])
        if self.chance(0.15):
            shape = tuple(-(-self.length(side) // 3) for side in "qk")
            self.give("open", "bool", f"heads, {shape[0]}, {shape[1]}", (self.heads, *shape))

    def give(self, name: str, kind: str, dims: str, shape: tuple[int, ...], below: int | None = None) -> None:
        self.lines.append(f"input {name}: {kind}" + f"[{dims}]" * bool(dims))
        self.inputs[name] = Declared(kind, shape, below)

    def token_input(self, name: str, kind: str) -> None:
        where = "tokens" if not self.crosses else self.pick("queries", "keys")
        dims, shape = [where], [self.length("q" if where == "queries" else "k")]
        if self.chance(0.3):
            dims, shape = ["heads", *dims], [self.heads, *shape]
        if self.chance(0.4):
            dims, shape = ["batch", *dims], [self.batch, *shape]
        self.give(name, kind, ", ".join(dims), tuple(shape))
        self.floats[name] = {"tokens": "qk", "queries": "q", "keys": "k"}[where]

    def add_coords(self) -> None:
        if self.chance(0.15):
            body = self.pick("i // 3", "i % 4", "shuffle(i, 5)", "random(2, i) % 4", "i * (head + 1) % 5")
            self.lines.append(f"coord all_over = {body}")
            self.coords["all_over"] = frozenset([*self.queries, *self.keys])
        for number in range(self.random.choice([0, 0, 1, 2, 3])):
            space = self.random.choice(list(dict.fromkeys((*self.queries, *self.keys))))
            known = [*self.axes(space), *(name for name, own in self.coords.items() if space in own)]
            axis = self.random.choice(known)
            other = self.random.choice(known)
            body = self.pick(
                f"{axis} // {self.random.randint(1, 4)}",
                f"{axis} % {self.random.randint(1, 4)}",
                f"{axis} * {self.random.randint(-2, 3)} + {other}",
                f"abs({axis} - {self.random.randint(0, 4)})",
                f"min({axis}, {other} + 1) if {axis} > {self.random.randint(0, 2)} else {other} * {other}",
                f"{axis} + {axis} % 2 * head",
                f"{self.curve(space)}",
                f"shuffle({self.random.choice((*self.axes(space), 'i'))}, {self.random.randint(-2, 9)}) // 2",
                f"random({self.random.randint(-2, 9)}, {axis}, head) % {self.random.randint(2, 5)}",
                f"rank({self.pick('', '-')}{axis} % 3{self.pick('', f', {other}', self.worth(space))})",
            )
            name = f"c{number}"
            self.lines.append(f"coord {space}.{name} = {body}")
            self.coords[name] = frozenset([space])

    def curve(self, space: str, token: str = "") -> str:
        axes = list(self.axes(space))
        self.random.shuffle(axes)
        axes = axes[: self.random.randint(min(2, len(axes)), len(axes))]
        return f"{self.pick('hilbert', 'hilbert', 'morton', 'snake')}({', '.join(token + axis for axis in axes)})"

    def worth(self, space: str) -> str:
        """A float that a space's tokens are ranked by."""
        sides = self.floats.get("worth", "")
        everywhere = {"q": space not in self.keys, "k": space not in self.queries, "qk": True}.get(sides, False)
        return f", {self.pick('', '-')}worth" if everywhere else ""

    # Expressions of a pair whose tokens are in two spaces, or anywhere

    def reads(self, side: str, space: str | None) -> list[str]:
        """What can be read of one token as an integer."""
        found = [side, f"{side}.i"]
        if space is not None:
            found += [f"{side}.{axis}" for axis in self.axes(space)]
            found += [f"{side}.{name}" for name, own in self.coords.items() if space in own]
            found += [f"{side}.{fact}" for fact in ("first", "last", "count") if space in self.pools]
        if "group" in self.inputs and side in self.floats["group"]:
            found.append(f"{side}.group")
        return found

    def integer(self, q: str | None, k: str | None, depth: int) -> str:
        if depth == 0 or self.chance(0.25):
            choice = self.random.random()
            if choice < 0.4:
                return self.random.choice(self.reads("q", q))
            if choice < 0.8:
                return self.random.choice(self.reads("k", k))
            leaves = [self.number(), self.number(), "head", "heads", "key_head", "key_heads", "len(q.i)", "len(k.i)"]
            if "[batch" in "".join(self.lines):
                leaves.append("batch")
            if q is not None and k is not None:
                leaves += [f"len(q.{self.random.choice(self.axes(q))})", f"len(k.{self.random.choice(self.axes(k))})"]
            return self.random.choice(leaves)
        a, b = self.integer(q, k, depth - 1), self.integer(q, k, depth - 1)
        small = self.random.choice([1, 2, 3, 4, 7, -2, -3])
        divisor = str(small) if small > 0 else f"({small})"
        forms = [
            f"({a} + {b})",
            f"({a} - {b})",
            f"abs({a} - {b})",
            f"min({a}, {b})",
            f"max({a}, {b}, {self.number()})",
            f"({a}) // {divisor}",
            f"({a}) % {divisor}",
            f"clamp({a}, {self.random.randint(-2, 1)}, {self.random.randint(1, 6)})",
            f"({a} if {self.boolean(q, k, 0)} else {b})",
            f"ilog2({a})",
            f"gcd({a}, {b})",
            f"{self.pick('floor', 'round', 'int')}(float({a}) / {self.pick('2.0', '3.0', '(-1.7)')})",
            f"({a}) * {self.number(-2, 3)}",
            f"sum(({a}) // (j + 1) for j in 0 .. {self.random.randint(1, 3)})",
            f"abs({a}) % max(abs({b}), 1)",
            f"random({self.random.randint(-1, 9)}, {a}, {b}) % 5",
            f"shuffle({self.pick('q', 'q.i', 'k.i')}, {self.random.randint(0, 9)})",
        ]
        for side, space in zip("qk", (q, k), strict=True):
            if space is not None:
                forms.append(self.curve(space, f"{side}."))
        if "mixed" in self.macros:
            forms += [f"mixed({a})", f"mixed({a}, b = {b})", f"mixed({a}, {self.number(-4, 4)})"]
        forms += ["level"] * ("level" in self.inputs)
        for side in self.floats.get("worth", ""):
            forms.append(f"clamp({self.pick('floor', 'round', 'int')}({side}.worth * 2.5), -3, 9)")
        if "grid" in self.inputs:
            forms.append(f"grid[clamp({a}, 0, 3), abs({b}) % 3]")
            forms += [f"cell({a}, {b}, grid)", f"cell({a}, table = grid, b = {b})"] * ("cell" in self.macros)
        return self.random.choice(forms)

    def boolean(self, q: str | None, k: str | None, depth: int) -> str:
        compare = self.pick("==", "!=", "<", "<=", ">", ">=")
        if depth == 0:
            return f"{self.integer(q, k, 0)} {compare} {self.integer(q, k, 0)}"
        a, b = self.integer(q, k, depth - 1), self.integer(q, k, depth - 1)
        x, y = self.boolean(q, k, depth - 1), self.boolean(q, k, depth - 1)
        forms = [
            f"{a} {compare} {b}",
            f"{a} {compare} {b}",
            f"{a} <= {b} < {a} + {self.random.randint(1, 9)}",
            f"({x}) and ({y})",
            f"({x}) or ({y})",
            f"not ({x})",
            f"(({x}) if {self.boolean(q, k, 0)} else ({y}))",
            f"({a}) % {self.random.randint(1, 4)} == {self.random.randint(0, 2)}",
            f"is_power_of_two({a})",
            f"share_bit({a}, {b})",
            f"any({a} == {b} + j for j in 0 .. {self.random.randint(1, 4)})",
            f"all(({a}) % (j + 2) <= {self.random.randint(0, 3)} for j in 0 .. 2)",
            f"({x}) == ({y})",
        ]
        forms += [*self.truths, *([] if self.scoring else self.routes * 2)]
        if "near" in self.macros and not self.crosses:
            forms += [f"near({self.random.randint(0, 5)})", f"near(size = {self.number(0, 3)})"]
        if "open" in self.inputs:
            forms += ["open[head, q // 3, k // 3]", "not open[head, q // 3, k.i // 3]"]
        if not self.crosses:
            forms += [f"prefix({self.random.randint(0, 4)})", f"globals_first({self.random.randint(0, 3)})"]
            forms += ["causal", f"window({self.random.randint(0, 9)})", f"backward({self.random.randint(0, 7)})"]
            forms += [f"blocks({self.random.randint(1, 5)})", f"dilated({self.random.randint(1, 4)})", "powers"]
        if q is not None and q == k:
            forms += self.of_one_space(q)
        forms += ["open_all"] * ("open_all" in self.inputs)
        if "pick" in self.inputs:
            forms.append(f"pick[clamp({a}, 0, 4)]")
        for name in ("mark",) if "mark" in self.inputs else ():
            forms += [f"{side}.{name}" for side in "qk" if side in self.floats[name]]
        if "worth" in self.inputs and self.floats["worth"] == "qk":
            forms.append(f"q.worth {compare} k.worth")
        if self.floats.get("group") == "qk":
            forms += ["same(group)", "same(group)"]
        return self.random.choice(forms)

    def of_one_space(self, space: str) -> list[str]:
        axes = self.axes(space)
        axis = self.random.choice(axes)
        size = self.random.randint(1, 4)
        sizes = f"({', '.join(str(self.random.randint(1, 4)) for _ in axes)})"
        forms = [
            f"window({size}, axis = {axis})",
            f"neighborhood({size}, {self.random.randint(1, 2)}, {self.random.randint(1, 2)}, axis = {axis})",
            f"neighborhood_causal({size}, axis = {axis})",
            f"same({axis})",
            f"diamond({size}, ({', '.join(axes)}))" if len(axes) > 1 else f"diamond({size})",
            f"ball({size}, over = all)",
            f"rolled_blocks({size}, {self.random.randint(0, 3)}, axis = {axis})",
            f"same_side({size}, axis = {axis})",
            f"fixed({size}, axis = {axis})",
            f"strided({size}, axis = {axis})",
            f"sinks({size}, axis = {axis})",
            f"t5_bucket(k.{axis} - q.{axis}, 8, 6) > {size}",
            f"t5_bucket_causal(k.{axis} - q.{axis}, {size} + 2, 6) > 1",
            f"sum(abs(q.a - k.a) for a in ({', '.join((*axes, axes[0]))})) <= {size}",
            "all(q.a <= k.a for a in all)",
        ]
        own = [name for name, spaces in self.coords.items() if space in spaces]
        if own:
            forms += [f"window({size}, axis = {self.random.choice(own)})", f"same({self.random.choice(own)}, {axis})"]
        if "near" in self.macros:
            forms += [f"near({size}, axis = {axis})", f"near({size}, {axis})"]
        if "alike" in self.macros:
            forms += ["alike()", f"alike(({axis}, {axis}))", "alike(over = all)"]
        if "boxed" in self.macros:
            forms += [f"boxed({axis})", f"boxed({axis}, {size})", f"boxed({axis}, size = ({size}, 1))"]
        if len(axes) > 1:
            forms += [f"window({sizes})", f"neighborhood({sizes})", f"blocks({sizes})", f"window({sizes})"]
        return forms

    def relation(self, depth: int) -> str:
        """Of tokens anywhere, or of those of two spaces, said by an arrow."""
        if self.chance(0.6):
            q, k = self.random.choice(self.queries), self.random.choice(self.keys)
            if self.chance(0.3):
                return f"{self.pick(q, 'all')} -> {self.pick(k, 'all')}"
            condition = self.boolean(q, k, depth)
            return f"{q} -> {k} where ({condition})"
        alone = len({*self.queries, *self.keys}) == 1
        space = self.queries[0] if alone else None
        return self.boolean(space, space, depth)

    def add_relations(self) -> None:
        for _ in range(self.random.choice([1, 1, 2, 3])):
            self.lines.append(f"attend {self.relation(self.random.choice([1, 2, 2]))}")
        for route in self.routes:
            self.lines.append(f"attend {self.with_route(route)}")
        if self.chance(0.25):
            self.lines.append(f"require {self.relation(1)}")

    def with_route(self, route: str) -> str:
        q, k = self.random.choice(self.queries), self.random.choice(self.keys)
        forms = [route, route, f"{route} or q.i % 3 == k.i % 2", f"{q} -> {k} where {route}", f"not {route} and k < 3"]
        if not self.crosses:
            forms += [f"causal and {route}", f"causal and ({route} or same(chunk))"]
        return self.random.choice(forms)

    # Floats

    def real(self, depth: int, score: bool) -> str:
        if depth == 0:
            leaves = ["0.5", "1.25", "(-0.75)", "sqrt(dim)", f"float({self.integer(None, None, 1)}) / 16.0"]
            leaves += ["s", "s", "s"] if score else []
            if "worth" in self.inputs:
                leaves += [f"{side}.worth" for side in self.floats["worth"]] * 2
            if "bias" in self.inputs:
                position = f"clamp({self.integer(None, None, 1)}, 0, 6)"
                leaves += [f"bias[head, {position}]" if len(self.inputs["bias"][1]) == 2 else f"bias[{position}]"] * 2
            if "soft" in self.macros:
                leaves += [
                    f"soft(float({self.integer(None, None, 1)}))",
                    f"soft({self.pick('s', '1.5') if score else '1.5'}, 2)",
                ]
            leaves += self.reals * 2 + ["gain"] * ("gain" in self.inputs)
            if "apart_by" in self.inputs:  # from one end of the table to the other
                leaves += [f"apart_by[q - k + {self.length('q') - 1}]"] * 2
            if "slope" in self.inputs:
                leaves += ["slope[head]", f"slope[head] * float(clamp({self.integer(None, None, 1)}, -8, 8))"]
            return self.random.choice(leaves)
        a, b = self.real(depth - 1, score), self.real(depth - 1, score)
        positive = f"({a}) * ({a}) + 0.1"
        return self.random.choice(
            [
                f"({a} + {b})",
                f"({a} - {b})",
                f"({a}) * ({b})",
                f"({a}) / ({positive})",
                f"tanh({a})",
                f"sigmoid({a})",
                f"exp(min({a}, 1.0))",
                f"sqrt({positive})",
                f"log({positive})",
                f"min({a}, {b})",
                f"max({a}, {self.pick('0.0', b)})",
                f"abs({a})",
                f"clamp({a}, -1.0, {self.pick('1.5', 'inf')})",
                f"({a} if {self.boolean(None, None, 1)} else {b})",
                f"(log({a}) if {a} > 0.0 else {b})",
                f"({b} / ({a}) if ({a}) * ({a}) > 0.25 else {b})",
                f"({a}) ** 2",
            ]
        )

    def add_scores(self) -> None:
        self.scoring = True
        for _ in range(self.random.choice([0, 0, 1, 1, 2])):
            self.lines.append(f"score s + {self.real(self.random.choice([0, 1, 2]), True)}")
        if "worth" in self.inputs and self.chance(0.3):
            side = self.random.choice(self.floats["worth"])
            self.lines.append(f"score s + {side}.worth")
        if self.chance(0.15):
            self.lines.append(f"scale {self.pick('0.3', '1.0', 'sigmoid(0.5)')}")
        if self.chance(0.2):
            self.lines.append(f"weight {self.real(1, False)}")

    def add_order(self) -> None:
        if not self.chance(0.35):
            return
        space = self.random.choice(list(dict.fromkeys((*self.queries, *self.keys))))
        axis = self.random.choice(self.axes(space))
        keys = [f"-{axis}", f"{axis} % 3, {axis}", f"{axis} // 2", f"i * 7 % 5, -{axis}", self.curve(space)]
        keys += [f"shuffle(i, {self.random.randint(0, 9)})", f"random(7, {axis}) % 3"]
        keys += [name for name, own in self.coords.items() if space in own]
        lines = [f"order {space} by {self.random.choice(keys)}"] * 4
        lines += [f"order {space} auto", "order auto", "order by i % 3", "order by -i // 2"]
        self.lines.append(self.random.choice(lines))
