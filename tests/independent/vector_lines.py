"""Random products of vectors in scores, and vectors that `value` lines add: drawn apart, beside what else is drawn."""

from random import Random

from tests.independent.programs import Program

DIM = 4
WIDTH = 3
"""Of vectors that are as long as no head."""
SHARE = 0.22


def declare_vectors(program: Program, seed: int) -> None:
    """Tables of vectors, vectors of tokens, and the coordinate of pools."""
    random = Random(f"{seed} has vectors")
    if random.random() >= SHARE:
        return
    by_head = random.random() < 0.5
    front, shape = ("heads, ", (program.heads, 5, DIM)) if by_head else ("", (5, DIM))
    program.give("moves", "float", f"{front}5, {random.choice(['dim', str(DIM)])}", shape)
    if random.random() < 0.5:
        program.give("turn", "float", "heads, dim", (program.heads, DIM))
    for name, width in (("own", DIM), ("code", WIDTH)):
        if random.random() < 0.5:
            give_tokens(program, random, name, width)
    if random.random() < 0.5:
        give_tokens(program, random, "fade", None)
    if random.random() < 0.3:
        body = random.choice(["i // 2", "i % 3 - 1", "i // 3 - 1", "min(i, 1)", "i * 7 % 4"])
        program.lines.append(f"coord cube = {body}")


def give_tokens(program: Program, random: Random, name: str, width: int | None) -> None:
    """A vector for each token, or a float."""
    where = "tokens" if not program.crosses else random.choice(["queries", "keys"])
    dims, shape = [where], [program.length("q" if where == "queries" else "k")]
    if random.random() < 0.4:
        dims, shape = ["heads", *dims], [program.heads, *shape]
    if random.random() < 0.4:
        dims, shape = ["batch", *dims], [program.batch, *shape]
    if width is not None:
        dims, shape = [*dims, "dim" if width == DIM else str(width)], [*shape, width]
    program.give(name, "float", ", ".join(dims), tuple(shape))
    program.sides[name] = {"tokens": "qk", "queries": "q", "keys": "k"}[where]


def has(program: Program, name: str, side: str) -> bool:
    return side in program.sides.get(name, "")


def of_token(program: Program, random: Random, side: str) -> str:
    """A vector of one token, as long as heads."""
    forms = [side, side, f"2.0 * {side}", f"{side} / -2.0", f"-{side}", f"max({side}, 0.0)", f"abs({side})"]
    forms += [f"min({side}, {side} * 0.5)", f"{side} * float({side} % 3 - 1)", f"({side} if {side} % 2 == 0 else 0.0)"]
    if "turn" in program.inputs:
        forms += [f"{side} + turn[head]", f"max({side}, turn[head])", f"({side} - turn[head]) * 0.5"]
    if has(program, "fade", side):
        forms += [f"{side} * {side}.fade", f"{side} - {side}.fade * {side}"]
    if has(program, "own", side):
        forms += [f"{side}.own", f"{side} + 0.5 * {side}.own", f"min({side}.own, {side})"]
    if any(line.startswith("coord cube") for line in program.lines):
        forms += [pooled(random, side) for _ in range(4)]
    return random.choice(forms)


def pooled(random: Random, side: str) -> str:
    kept = random.choice([side, side, f"{side} where i % 2 == 0"])
    heads = random.choice(["", "", ", heads = all", ", heads = key_head"])
    return f"{random.choice(['mean', 'mean', 'max', 'sum', 'root'])}({kept} by cube{heads})"


def of_table(program: Program, random: Random) -> str:
    """A row of the table, by the distance or by one of the tokens."""
    head = "head, " if len(program.inputs["moves"].shape) == 3 else ""
    row = random.choice(["(q - k) % 5", "clamp(k - q + 2, 0, 4)", "q % 5", "k % 5", "head % 5", "(q + k) % 5"])
    vector = f"moves[{head}{row}]"
    factor = random.choice(["", "", "0.5 * ", "float(q % 3 - 1) * ", "float(k % 3 - 1) * "])
    return random.choice([f"{factor}{vector}", f"({factor}{vector} if k <= q else 0.0)"])


def add_products(program: Program) -> None:
    """Lines of `score`, drawn from the text so far."""
    random = Random("products\n" + "\n".join(program.lines))
    if "moves" not in program.inputs or random.random() < 0.2:
        return
    q, k = (of_token(program, random, side) for side in "qk")
    table, other = of_table(program, random), of_table(program, random)
    one = random.choice([q, k])
    forms = [
        f"score s + dot({one}, {table})",
        f"score s + dot({table}, {one}) * 0.5",
        f"score (dot(q, k) + dot({one}, {table})) * 0.4",
        f"score s + dot({q}, {k}) * 0.3",
        f"score s + dot({q}, {k}) * float(q % 3 - 1)",
        f"score dot({q}, {k}) / sqrt(dim) - dot({k}, {table})",
        f"score tanh(s) + dot({q}, {table})",
        f"score max(s, dot({one}, {table}))",
        f"score s + dot({table}, {other})",
        f"score s + 0.1 * dot({q}, {q})",
        f"score s + (dot({one}, {table}) if abs(q - k) <= 2 else 0.25)",
        f"score s * sigmoid(dot({one}, {table}))",
    ]
    if has(program, "code", "q") and has(program, "code", "k"):
        forms += ["score s + dot(q.code, k.code)", "score s * 0.5 - dot(k.code, q.code * 2.0)"] * 2
    if random.random() < 0.25:
        program.lines.append(f"let product = dot({one}, {table})")
        forms = ["score s + product", "score s + product * 0.5", "score min(s, product)"]
    program.lines.append(random.choice(forms))


def add_values(program: Program) -> None:
    """A line of `value`, drawn from the text so far."""
    random = Random("values\n" + "\n".join(program.lines))
    if "moves" not in program.inputs or random.random() < 0.5:
        return
    table = of_table(program, random)
    forms = [f"v + {table}", f"v - {table}", f"1.5 * v + {table}", f"v / 2.0 + {table}", f"{table} + v"]
    if has(program, "fade", "k"):
        forms += [f"v * k.fade + {table}", "k.fade * v"]
    if has(program, "fade", "q"):
        forms += [f"v + q.fade * {table}"]
    forms += [f"v + {side}.own" for side in "qk" if has(program, "own", side)] * 2
    if has(program, "own", "q") and has(program, "own", "k"):
        forms += [f"v + q.own - k.own + {table}"]
    program.lines.append(f"value {random.choice(forms)}")
