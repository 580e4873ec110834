"""Random routes of all that scores are made of: vectors, shares, extremes, gathers, and what is selected always.

They are drawn apart, so that programs without them are as they were.
"""

from dataclasses import dataclass
from random import Random

from tests.independent.programs import Program
from tests.independent.routes import DIM, add_groups

SHARE = 0.15
"""Of programs that have such routes."""
POOLINGS = ("mean", "max", "min", "sum", "root")


def has_algebra(seed: int) -> bool:
    return Random(f"{seed} has scores of groups").random() < SHARE


def add_algebra(program: Program, seed: int) -> None:
    """One or two routes, and the inputs and names that they read."""
    if not has_algebra(seed):
        return
    random = Random(f"{seed} scores of groups")
    before, program.random = program.random, random
    if not program.groups:
        add_groups(program)
    program.lines.append("coord wide = chunk // 2")
    program.groups["wide"] = tuple(-(-count // 2) for count in program.groups["chunk"])  # type: ignore[assignment]
    add_vectors(program)
    for number in range(random.choice([1, 1, 2])):
        add_route(program, f"a{number}", seed)
    program.random = before


def add_route_of_branch(program: Program, number: int, seed: int) -> None:
    """A route inside a branch, of some programs that have such routes."""
    if not has_algebra(seed):
        return
    random = Random(f"{seed} scores of groups in branch {number}")
    if random.random() < 0.4:
        before, program.random = program.random, random
        add_route(program, f"of_branch_{number}", seed, inside=True)
        program.random = before


def add_route(program: Program, name: str, seed: int, inside: bool = False) -> None:
    """A route, and the lines of what it names."""
    program.lines += Scored(program, name, Random(f"{seed} {name} more scores of groups"), inside).lines()
    program.routes.append(name)


def add_vectors(program: Program) -> None:
    """Vectors that no token has, and vectors of tokens."""
    program.give("probe", "float", "heads, 3, dim", (program.heads, 3, DIM))
    for side, where in (("q", "queries"), ("k", "keys")):
        if program.chance(0.6):
            fronts = [("batch", program.batch)] * program.chance(0.5) + [("heads", program.heads)] * program.chance(0.5)
            dims = ", ".join([name for name, _ in fronts] + [where, "dim"])
            shape = (*(size for _, size in fronts), program.length(side), DIM)
            program.give(f"{side}_own", "float", dims, shape)


@dataclass
class Scored:
    """A route that selects by a score, while it is drawn."""

    program: Program
    name: str
    more: Random
    """Decides what was not drawn at first, so that routes without it are as they were."""
    inside: bool = False
    """Whether it is in a branch, which declares no inputs."""

    def __post_init__(self) -> None:
        self.random = self.program.random
        nested = ["i", "chunk", "chunk", "wide"]
        others = [each for each in ("spread", "part") if each in self.program.groups]
        self.above: list[str] = []
        """Lines of what the score names."""
        self.q, self.k = (
            self.random.choice(others) if others and self.chance(0.2) else self.random.choice(nested) for _ in "qk"
        )
        self.spans = {side: self.chance(0.15) and c in ("chunk", "wide") for side, c in (("q", self.q), ("k", self.k))}

    def chance(self, share: float) -> bool:
        return self.random.random() < share

    def pick(self, *choices: str) -> str:
        return self.random.choice(choices)

    def has_more(self, share: float) -> bool:
        return self.more.random() < share

    def lines(self) -> list[str]:
        route = self.of_one_side() if self.chance(0.12) else self.of_both_sides()
        return [*self.above, f"route {self.name} = {route}"]

    # Whole routes

    def of_one_side(self) -> str:
        """Keys for all queries, or queries for all keys."""
        self.spans = dict.fromkeys("qk", False)  # each token is in one group that is selected
        side = self.pick("q", "k")
        c = self.q if side == "q" else self.k
        score = f"dot({self.vector(side, c)}, {self.pick('probe[head, 1]', 'probe[0, 2] * 0.5')})"
        if self.chance(0.3):
            score = f"softmax({score})"
        if self.chance(0.3):
            score = f"sum({score}, heads = {self.pick('all', 'key_head')})"
        route = self.selector(self.named(score), "q" if side == "q" else None, "k" if side == "k" else None)
        if side == "k" and self.has_more(0.3):  # tells queries apart that the score does not
            return f"{route} where {self.candidates(self.pick('i', 'chunk', 'wide'), c)}"
        return f"{route} where {side_of(side, c)} % 3 != 1" if side == "k" and self.chance(0.3) else route

    def of_both_sides(self) -> str:
        q, k = self.q, self.k
        score = self.named(self.score(q, k))
        for _ in range(self.random.choice([0, 0, 1, 1, 2])):
            score = self.named(self.changed(score, q, k))
        overlap = any(self.spans.values())
        if overlap or (self.chance(0.5) and "part" not in (q, k)):
            score, q, k = self.gathered(score, q, k)
            if self.chance(0.3):
                score = self.named(self.changed(score, q, k))
        route = self.selector(score, side_of("q", q), side_of("k", k))
        if self.chance(0.6):
            finer = self.chance(0.5) and not overlap
            route = f"{route} where {self.candidates(*((self.q, self.k) if finer else (q, k)))}"
            if self.has_more(0.3):
                route = f"{route} and {self.more.choice(self.of_other_groups(k if overlap else self.k, k))}"
        if self.chance(0.35):
            route = f"{route} always {self.always(q, k)}"
        return route

    def of_other_groups(self, *keys: str) -> list[str]:
        """Conditions of groups that hold the groups of keys, and of earlier routes."""
        forms = ["q.wide == 0", "q.wide != 1"]
        if not {*keys}.isdisjoint(["i", "chunk", "wide"]):
            forms += ["k.wide <= q.wide", "k.wide != 1", "k.wide > 0"]
        if not {*keys}.isdisjoint(["i", "chunk"]):
            forms += ["k.chunk <= q.chunk", "k.chunk != head", "k.chunk % 2 == 0"]
        if "i" in keys:
            forms += [f"({each} or k == 0)" for each in self.program.routes] * 3
        return forms

    def named(self, expression: str) -> str:
        """The expression, or a name for it."""
        if self.chance(0.6):
            return expression
        name = f"{self.name}_{len(self.above)}"
        self.above.append(f"let {name} = {expression}")
        return name

    # Scores

    def score(self, q: str, k: str) -> str:
        if not self.inside and self.has_more(0.2):
            return self.more.choice(self.tables(q, k))
        product = f"dot({self.vector('q', q)}, {self.vector('k', k)})"
        forms = [product] * 4 + [f"tanh({product})", f"{product} / sqrt(dim)", f"max({product}, 0.0) * 0.5"]
        forms.append(f"{product} - 0.25 * float({side_of('k', k)})")
        if not any(self.spans.values()):
            by = f" by {q}" if q != "i" else " by i"
            forms.append(
                f"dot({self.pick('sum', 'max')}(max(q, 0.0){by}), max(k by {k}))"
                f" + dot({self.pick('sum', 'max')}(min(q, 0.0){by}), min(k by {k}))"
            )
            same = [self.pool("k", self.named_vector("k"), k) for _ in range(2)]
            forms.append(f"{product} + dot({', '.join(same)})")
            forms.append(
                f"sum(dot(sum(q where i % 2 == r by {q}), sum(k where i % 2 == 1 - r by {k})) for r in 0 .. 2)"
            )
            forms.append(f"dot({self.vector('q', q)}, probe[head, 0]) - dot(probe[head, 1], {self.vector('k', k)})")
        return self.random.choice(forms)

    def tables(self, q: str, k: str) -> list[str]:
        """Scores that read inputs: tables by group, values of tokens, and an indexer of heads of its own."""
        program, product = self.program, f"dot({self.vector('q', q)}, {self.vector('k', k)})"
        gate = f"gate_{self.name}"
        heads = [("heads", "head", program.heads)] * self.has_more(0.5)
        groups = [(str(program.groups[c][n]), side_of("qk"[n], c), program.groups[c][n]) for n, c in enumerate((q, k))]
        dims, indices, shape = zip(*heads, *groups, strict=True)
        program.give(gate, "float", ", ".join(dims), shape)
        read = f"{gate}[{', '.join(indices)}]"
        forms = [read, f"{product} + {read}", f"max({product}, {read})", f"clamp({product}, -1.0, 1.0) * {read}"]
        if q == k == "i":
            program.give("several", "float", "2, queries, dim", (2, program.length("q"), DIM))
            program.give("share", "float", "batch, 2, queries", (program.batch, 2, program.length("q")))
            forms = [
                f"sum(share[batch, j, q] * max(dot(several[j, q], {self.named_vector('k')}), 0.0) for j in 0 .. 2)"
            ]
        if k == "i" and "k" in program.floats.get("worth", ""):
            forms += ["k.worth + 0.0 * " + product, f"sigmoid({product}) + k.worth"]
        return forms

    def changed(self, score: str, q: str, k: str) -> str:
        """What is made of a score at the same groups."""
        per = self.extent(q, k)
        option = f", per = {per}" if per else ""
        forms = [
            f"softmax({score}{option})",
            f"softmax({score} where ({self.candidates(q, k)}){option})",
            f"{score} - {self.pick('min', 'max')}({score}{option})",
            f"({score} - min({score}{option})) / (max({score}{option}) - min({score}{option}) + 0.5)",
            f"{self.pick('sum', 'max', 'min', 'mean')}({score}, heads = {self.pick('all', 'key_head')})",
        ]
        return self.random.choice(forms)

    def gathered(self, score: str, q: str, k: str) -> tuple[str, str, str]:
        """The score of other groups: coarser, finer, or of one side alone."""
        targets = ["i", "chunk", "wide"]
        which = self.pick("q", "k", "both", "k")
        if any(self.spans.values()):
            which = "both" if all(self.spans.values()) else "q" if self.spans["q"] else "k"
        new_q = self.random.choice(targets) if which in ("q", "both") else q
        new_k = self.random.choice(targets) if which in ("k", "both") else k
        by = {
            "q": side_of("q", new_q),
            "k": side_of("k", new_k),
            "both": f"({side_of('q', new_q)}, {side_of('k', new_k)})",
        }
        heads = self.pick("", "", ", heads = all", ", heads = key_head")
        kind = self.pick("max", "sum", "min", "mean") if not heads else self.pick("max", "sum", "min")
        self.spans = dict.fromkeys("qk", False)
        return f"{kind}({score} by {by[which]}{heads})", new_q, new_k

    # Vectors

    def named_vector(self, side: str) -> str:
        """A vector of one token, or a name for it."""
        vector = self.vector_of_token(side)
        if not self.has_more(0.15):
            return vector
        name = f"{self.name}_{len(self.above)}"
        self.above.append(f"let {name} = {vector}")
        return name

    def vector_of_token(self, side: str) -> str:
        forms = [side, side, side, f"max({side}, 0.0)", f"min({side}, 0.0)", f"abs({side})", f"{side} * -0.5"]
        if f"{side}_own" in self.program.inputs:
            forms += [f"{side}.{side}_own", f"{side} + {side}.{side}_own", f"max({side}, {side}.{side}_own)"]
        return self.random.choice(forms)

    def vector(self, side: str, c: str) -> str:
        one = self.named_vector(side)
        if c == "i":
            return one if self.chance(0.8) else self.pool(side, one, c)
        pool = self.pool(side, one, c)
        if self.spans[side]:
            return f"{pool[:-1]}, span = {3 if self.has_more(0.2) else 2})"
        forms = [pool] * 4 + [f"max({pool}, 0.0)", f"{pool} * 2.0", f"{pool} - 0.5 * {self.pool(side, one, c)}"]
        return self.random.choice(forms)

    def pool(self, side: str, vector: str, c: str) -> str:
        kept = vector if self.chance(0.75) else f"{vector} where {self.pick('i % 2 == 0', 'i > 2')}"
        heads = self.pick("", "", "", ", heads = all", ", heads = key_head", ", heads = head // 2")
        return f"{self.pick(*POOLINGS)}({kept} by {c}{heads})"

    # Selectors and relations

    def extent(self, q: str, k: str) -> str:
        own = [side_of(side, c) for side, c in (("q", q), ("k", k))]
        return self.pick("", "", "", "head", "batch", own[1], f"(batch, {own[1]})", own[0])

    def selector(self, score: str, q: str | None, k: str | None) -> str:
        per = ""
        if q is not None and k is not None and self.chance(0.4):
            per = self.pick("head", "batch", k, f"(batch, {k})", q)
        elif k is None and self.chance(0.3):
            per = "head"
        option = f", per = {per}" if per else ""
        form = self.random.random()
        tells_heads = self.has_more(0.2) and per in ("", "head")
        if form < 0.45:
            counts = ["1", "2", "3", "0", "5"] + ["head + 1"] * (per in ("", "head"))
            counts += [f"1 + {q} // 2"] * (2 * (per == "" and q is not None and k is not None))
            return f"topk({self.pick(*counts)}, {score}{option})"
        if form < 0.6:
            threshold = self.pick("0.0", "0.4", "0.1", "(-1.0)")
            return f"above({f'{threshold} + 0.1 * head' if tells_heads else threshold}, {score})"
        mass = self.pick("0.3", "0.75", "0.5", "0.0", "1.5", "0.9")
        mass = f"{mass} - 0.2 * head" if tells_heads else mass
        reach = self.pick("", "", ", reach = False", ", reach = True")
        return f"topp({mass}, {self.pick('', 'weights = ')}{score}{option}{reach})"

    def candidates(self, q: str, k: str) -> str:
        """Of the coordinates of groups."""
        query, key = side_of("q", q), side_of("k", k)
        forms = [f"{key} {mark} {query}" for mark in ("<", "<=", "!=")]
        forms += [f"abs({query} - {key}) <= 1", f"{key} > 0", f"{key} % 2 == 0 or {query} == 1", f"{key} != head"]
        forms += [f"{key} <= {query} and not {each}" for each in self.program.routes if (q, k) == ("i", "i")]
        return self.random.choice(forms)

    def always(self, q: str, k: str) -> str:
        query, key = side_of("q", q), side_of("k", k)
        forms = [f"{key} == 0", f"{key} == {query}", f"{key} <= {query} and {query} - {key} < 2", f"{key} == head"]
        return self.random.choice(forms + [f"same({q})"] * (q == k and q != "i"))


def side_of(side: str, c: str) -> str:
    """How a relation reads a group's number."""
    return side if c == "i" else f"{side}.{c}"
