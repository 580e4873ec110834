"""Random routes: selectors, scores of pooled, filtered and head-shared vectors, gates and tables, candidates."""

from tests.independent.programs import Program

DIM = 4
NUMBERS = {"part"}
"""Inputs that number groups."""


def add_routes(program: Program) -> None:
    if not program.chance(0.25):
        return
    add_groups(program)
    for number in range(program.random.choice([1, 1, 2])):
        name = f"r{number}"
        kind = program.random.choice([scored, scored, scored, scored, scored, by_centroids, by_distance, by_draw])
        program.lines.append(f"route {name} = {kind(program, name)}")
        program.routes.append(name)


def add_groups(program: Program) -> None:
    """Coordinates that all tokens have, whose numbers begin at 0."""
    size = program.random.randint(1, 5)
    program.lines.append(f"coord chunk = i // {size}")
    program.groups["chunk"] = tuple(-(-program.length(side) // size) for side in "qk")
    program.groups["i"] = tuple(map(program.length, "qk"))
    if program.chance(0.3):
        program.lines.append("coord spread = i * 7 % 3")  # of groups that interleave
        program.groups["spread"] = (3, 3)
    if program.chance(0.3) and not program.crosses:
        lengths = tuple(map(program.length, "qk"))
        batch = program.chance(0.3)
        dims, shape = ("batch, tokens", (program.batch, *lengths[:1])) if batch else ("tokens", lengths[:1])
        program.give("part", "int", dims, shape, below=min(lengths[0], 4))
        program.groups["part"] = lengths


def scored(program: Program, name: str) -> str:
    q, k = (program.random.choice(list(program.groups)) for _ in "qk")
    numbers = program.groups[q][0], program.groups[k][1]
    score = score_of(program, name, q, k, numbers)
    reads_queries = "q" in score
    form = program.random.random()
    if form < 0.5:
        count = program.pick("1", "2", "3", "0", "head + 1", *(["budget[head]"] if program.chance(0.3) else []))
        if count.startswith("budget") and "budget" not in program.inputs:
            program.give("budget", "int", "heads", (program.heads,))
        chosen = f"topk({count}, {score})"
    elif form < 0.75:
        over = ", per = head" if program.chance(0.4) and reads_queries else ""
        chosen = f"topp({program.pick('0.3', '0.75', '0.5', '0.0', '1.5')}, {score}{over})"
    else:
        chosen = f"above({program.pick('0.0', '0.4', '(-1.0)')}, {score})"
    if not program.chance(0.6):
        return chosen
    return f"{chosen} where {candidates(program, q, k, reads_queries)}"


def score_of(program: Program, name: str, q: str, k: str, numbers: tuple[int, int]) -> str:
    product = f"dot({vector(program, 'q', q)}, {vector(program, 'k', k)})"
    halves = [f"sum({side} where i % 2 == {turn} by {c})" for side, turn, c in (("q", "r", q), ("k", "1 - r", k))]
    forms = [product] * 4 + [f"sum(dot({', '.join(halves)}) for r in 0 .. 2)"]
    forms.append(f"{product} - 0.25 * float({'k' if k == 'i' else f'k.{k}'})")
    forms.append(f"tanh({product})")
    if program.chance(0.4):
        by_entry, by_head = program.chance(0.3), program.chance(0.5)
        dims = ["batch"] * by_entry + ["heads"] * by_head + [str(number) for number in numbers]
        shape = (program.batch,) * by_entry + (program.heads,) * by_head + numbers
        gate = f"gate_{name}"
        program.give(gate, "float", ", ".join(dims), shape)
        indices = ["batch"] * by_entry + ["head"] * by_head
        indices += ["q" if q == "i" else f"q.{q}", "k" if k == "i" else f"k.{k}"]
        read = f"{gate}[{', '.join(indices)}]"
        forms += [read, read, f"{product} + {read}", f"max({product}, {read})"]
    if k == "i" and "k" in program.floats.get("worth", ""):
        forms += ["k.worth", f"{product} + k.worth"]
    return program.random.choice(forms)


def vector(program: Program, side: str, group: str) -> str:
    shared = program.pick("head // 2", "key_head", "head % 2", "0", "all")
    if group == "i":
        return side if program.chance(0.7) else f"{program.pick('sum', 'mean', 'max')}({side} by i, heads = {shared})"
    kept = side if program.chance(0.75) else f"{side} where {program.pick('i % 2 == 0', f'{group} != 1', 'i > 2')}"
    heads = f", heads = {shared}" if program.chance(0.25) else ""
    return f"{program.pick('mean', 'mean', 'max', 'sum', 'root')}({kept} by {group}{heads})"


def candidates(program: Program, q: str, k: str, reads_queries: bool) -> str:
    """Of coordinates that the groups have."""
    key = "k" if k == "i" else f"k.{k}"
    forms = [f"{key} % 2 == 0", f"{key} > 0", f"{key} != head"]
    if reads_queries:
        query = "q" if q == "i" else f"q.{q}"
        forms += [f"{key} {mark} {query}" for mark in ("<", "<=", "<", "!=")]
        forms += [f"abs({query} - {key}) <= 1", f"{key} < {query} or {key} == 0"]
        forms += [f"{key} <= {query} and not {route}" for route in program.routes if {q, k} == {"i"}]
    return program.random.choice(forms)


def by_draw(program: Program, name: str) -> str:
    """Groups drawn at random: of coordinates that no input decides."""
    known = [each for each in program.groups if each != "part"]
    q, k = program.random.choice(known), program.random.choice(known)
    count = program.pick("1", "2", "0", "head + 1", "5")
    numbers = program.pick("", "", ", head", ", 3", ", head % 2, -1")
    call = f"draw({count}, {program.random.randint(-2, 9)}{numbers})"
    return call if program.chance(0.2) else f"{call} where {candidates(program, q, k, True)}"


def by_centroids(program: Program, name: str) -> str:
    rows = program.random.randint(1, 4)
    given = f"rows_{name}"
    nearest = program.chance(0.5)
    program.give(given, "float", f"heads, {'_' if nearest else rows}, dim", (program.heads, rows, DIM))
    if not nearest:
        return f"balanced({program.random.randint(1, 4)}, {given})"
    if program.chance(0.5):
        program.truths.append(f"same({name})")
    return f"nearest({given})"


def by_distance(program: Program, name: str) -> str:
    """Entries of a table, which are read where the key is not behind the query."""
    if program.crosses:
        return scored(program, name)
    length = program.length("q")
    given = f"far_{name}"
    program.give(given, "float", f"heads, {length}", (program.heads, length))
    return f"{program.pick('topk(2', 'topk(1', 'topp(0.4', 'above(0.2')}, {given}[head, abs(q - k)])"
