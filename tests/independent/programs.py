"""Random programs as texts, line by line, and tensors for them. A seed is a program: nothing else is drawn from."""

from dataclasses import dataclass, field
from random import Random

import numpy as np

SPACES = ("text", "image", "clip")
AXES = {"text": ("text",), "image": ("y", "x"), "clip": ("t", "u", "w")}
WORDS = 2**31 - 1


@dataclass
class Drawn:
    """A program and the shapes of its inputs."""

    text: str
    heads: int
    key_heads: int
    batch: int
    inputs: dict[str, tuple[str, tuple[int, ...]]]
    """Type and shape by name."""


@dataclass
class Program:
    """One that is being drawn."""

    random: Random
    heads: int
    lines: list[str] = field(default_factory=list)
    inputs: dict[str, tuple[str, tuple[int, ...]]] = field(default_factory=dict)
    batch: int = 1
    spaces: dict[str, tuple[int, ...]] = field(default_factory=dict)
    queries: tuple[str, ...] = ()
    keys: tuple[str, ...] = ()
    crosses: bool = False
    coords: dict[str, frozenset[str]] = field(default_factory=dict)
    """Integer coordinates that all tokens of these spaces have."""
    floats: dict[str, str] = field(default_factory=dict)
    """Per-token floats, and which sides have them: `qk` or `k`."""

    def chance(self, share: float) -> bool:
        return self.random.random() < share

    def pick(self, *choices: str) -> str:
        return self.random.choice(choices)

    def number(self, low: int = -3, high: int = 9) -> str:
        value = self.random.randint(low, high)
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
        elif len(names) > 1:
            self.queries = self.keys = tuple(random.sample(names, len(names)))
            self.lines.append(f"tokens {' ++ '.join(self.queries)}")

    def pool(self, source: str) -> None:
        """Keys that are pooled from a space, beside it or in its place; then queries and keys differ."""
        lengths = self.spaces[source]
        box = tuple(self.random.randint(1, 3) for _ in lengths)
        box = tuple(min(size, length) for size, length in zip(box, lengths, strict=True))
        shown = str(box[0]) if len(box) == 1 else f"({', '.join(map(str, box))})"
        self.lines.append(f"space coarse = {self.pick('mean', 'max')}({source}, {shown})")
        self.spaces["coarse"] = tuple(-(-length // size) for length, size in zip(lengths, box, strict=True))
        self.axes_of_coarse = ("coarse",) if source == "text" else AXES[source]
        others = tuple(name for name in self.keys if name != source)
        self.keys = (
            (*others, source, "coarse") if self.chance(0.7) or source not in self.queries else (*others, "coarse")
        )
        self.crosses = True

    def axes(self, space: str) -> tuple[str, ...]:
        return self.axes_of_coarse if space == "coarse" else AXES[space]

    def size(self, space: str) -> int:
        return int(np.prod(self.spaces[space]))

    def length(self, side: str) -> int:
        return sum(map(self.size, self.queries if side == "q" else self.keys))

    def add_inputs(self) -> None:
        for name, kind, low in (("group", "int", 0.5), ("mark", "bool", 0.25), ("worth", "float", 0.4)):
            if self.chance(low):
                self.token_input(name, kind)
        if self.chance(0.5):
            self.lines.append(f"input bias: float[{'heads, ' if self.chance(0.5) else ''}7]")
            self.inputs["bias"] = ("float", ((self.heads,) if "heads" in self.lines[-1] else ()) + (7,))
        if self.chance(0.25):
            self.lines.append("input grid: int[4, 3]")
            self.inputs["grid"] = ("int", (4, 3))
        if self.chance(0.2):
            self.lines.append("input pick: bool[5]")
            self.inputs["pick"] = ("bool", (5,))
        if self.chance(0.3):
            self.lines.append("input slope: float[heads]")
            self.inputs["slope"] = ("float", (self.heads,))

    def token_input(self, name: str, kind: str) -> None:
        where = "tokens" if not self.crosses else self.pick("queries", "keys")
        dims, shape = [where], [self.length("q" if where == "queries" else "k")]
        if self.chance(0.3):
            dims, shape = ["heads", *dims], [self.heads, *shape]
        if self.chance(0.4):
            dims, shape = ["batch", *dims], [self.batch, *shape]
        self.lines.append(f"input {name}: {kind}[{', '.join(dims)}]")
        self.inputs[name] = (kind, tuple(shape))
        self.floats[name] = {"tokens": "qk", "queries": "q", "keys": "k"}[where]

    def add_coords(self) -> None:
        for number in range(self.random.choice([0, 0, 1, 2, 3])):
            space = self.random.choice(list({*self.queries, *self.keys}))
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
            )
            name = f"c{number}"
            self.lines.append(f"coord {space}.{name} = {body}")
            self.coords[name] = frozenset([space])

    # Expressions of a pair whose tokens are in two spaces, or anywhere

    def reads(self, side: str, space: str | None) -> list[str]:
        """What can be read of one token as an integer."""
        found = [side, f"{side}.i"]
        if space is not None:
            found += [f"{side}.{axis}" for axis in self.axes(space)]
            found += [f"{side}.{name}" for name, own in self.coords.items() if space in own]
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
            return self.pick(self.number(), self.number(), "head")
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
            f"({a}) * {self.number(-2, 3)}",
            f"sum(({a}) // (j + 1) for j in 0 .. {self.random.randint(1, 3)})",
            f"abs({a}) % max(abs({b}), 1)",
        ]
        if "grid" in self.inputs:
            forms.append(f"grid[clamp({a}, 0, 3), abs({b}) % 3]")
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
        if not self.crosses:
            forms += ["causal", f"window({self.random.randint(0, 9)})", f"backward({self.random.randint(0, 7)})"]
            forms += [f"blocks({self.random.randint(1, 5)})", f"dilated({self.random.randint(1, 4)})", "powers"]
        if q is not None and q == k:
            forms += self.of_one_space(q)
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
            f"sum(abs(q.a - k.a) for a in ({', '.join((*axes, axes[0]))})) <= {size}",
        ]
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
        if self.chance(0.25):
            self.lines.append(f"require {self.relation(1)}")

    # Floats

    def real(self, depth: int, score: bool) -> str:
        if depth == 0:
            leaves = ["0.5", "1.25", "(-0.75)", f"float({self.integer(None, None, 1)}) / 16.0"]
            leaves += ["s", "s", "s"] if score else []
            if "worth" in self.inputs:
                leaves += [f"{side}.worth" for side in self.floats["worth"]] * 2
            if "bias" in self.inputs:
                place = f"clamp({self.integer(None, None, 1)}, 0, 6)"
                leaves += [f"bias[head, {place}]" if len(self.inputs["bias"][1]) == 2 else f"bias[{place}]"] * 2
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
                f"clamp({a}, -1.0, 1.5)",
                f"({a} if {self.boolean(None, None, 1)} else {b})",
                f"(log({a}) if {a} > 0.0 else {b})",
                f"({b} / ({a}) if ({a}) * ({a}) > 0.25 else {b})",
                f"({a}) ** 2",
            ]
        )

    def add_scores(self) -> None:
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
        if self.chance(0.3):
            space = self.random.choice(list(dict.fromkeys((*self.queries, *self.keys))))
            axis = self.random.choice(self.axes(space))
            keys = self.pick(f"-{axis}", f"{axis} % 3, {axis}", f"{axis} // 2", f"i * 7 % 5, -{axis}")
            self.lines.append(f"order {space} by {keys}")


def draw(seed: int) -> Drawn:
    """The program of a seed."""
    random = Random(seed)
    heads = random.choice([1, 1, 2, 2, 4])
    program = Program(random, heads, batch=random.choice([1, 1, 2]))
    program.declare()
    program.add_inputs()
    program.add_coords()
    program.add_relations()
    program.add_scores()
    program.add_order()
    body = "\n".join(f"    {line}" for line in program.lines)
    key_heads = random.choice([n for n in (1, 2, 4) if heads % n == 0 and n <= heads])
    return Drawn(f"pattern drawn() {{\n{body}\n}}\n", heads, key_heads, program.batch, program.inputs)


def arrays(drawn: Drawn, seed: int) -> dict[str, np.ndarray]:
    """An array for every input. Floats are sometimes minus infinity, or the least that there is; integers extreme."""
    random = np.random.default_rng(seed)
    found: dict[str, np.ndarray] = {}
    for name, (kind, shape) in drawn.inputs.items():
        match kind:
            case "int":
                found[name] = random.integers(-3, 6, shape)
                if random.random() < 0.1:
                    found[name][random.random(shape) < 0.2] = random.choice([-WORDS - 1, WORDS])
            case "bool":
                found[name] = random.random(shape) < 0.6
            case "float":
                found[name] = random.normal(size=shape)
                if name == "worth" and random.random() < 0.3:
                    found[name][random.random(shape) < 0.4] = random.choice([-np.inf, np.finfo(np.float64).min])
                if random.random() < 0.15:
                    found[name] = np.round(found[name])  # so that there are ties
    return found
