"""What random programs declare around a pattern's lines: parameters, macros, `let`s, files and stacks."""

from tests.independent.programs import Program

MACROS = {
    "mixed": "def mixed(a, b = 2) = a * 2 - b if a > b else min(a, b)",
    "near": "def near(size, axis = i) = {{ let gap = abs(q.axis - k.axis)  gap <= size and gap % 2 == 0 }}",
    "alike": "def alike(over: axes = all) = all(q.a == k.a for a in over)",
    "soft": "def soft(x: float, y = 0.5) = x / (1.0 + abs(x)) + y",
    "boxed": "def boxed(axis: axis, size = (2, 3)) = -size[0] <= q.axis - k.axis <= size[1] + len(size)",
    "cell": "def cell(a, b, table: input) = table[clamp(a, 0, 3), abs(b) % 3]",
    "powers": "def powers(axis: axis = i) = near({0}, axis) or q.axis == k.axis",
}


def add_names(program: Program) -> None:
    add_parameters(program)
    if program.chance(0.3):
        add_macros(program)
    if program.chance(0.25):
        program.lines.append(f"let half = {program.pick('head // 2', '7 // 2', 'heads - head')}")
        program.constants.append("half")
    if program.chance(0.2):
        program.lines.append(f"let apart = {program.pick('abs(q.i - k.i) > 1', 'q % 2 == k % 3', 'q.i + k.i < 9')}")
        program.truths.append("apart")


def add_parameters(program: Program) -> None:
    random = program.random
    if program.chance(0.2):
        program.parameters.append(program.pick("count = 3", "count: int = 2"))
        program.constants.append("count")
        program.lines.append('assert count > -9, "so few"')
        if program.chance(0.5):
            program.values["count"] = random.randint(-2, 5)
    if program.chance(0.12):
        program.parameters.append(program.pick("on = True", "on: bool = False"))
        program.truths += ["on", "(q == k if on else q.i < 3)"]
        if program.chance(0.5):
            program.values["on"] = program.chance(0.5)
    if program.chance(0.12):
        program.parameters.append(program.pick("gain = 0.5", "gain: float = 1"))
        program.reals.append("gain")
        if program.chance(0.5):
            program.values["gain"] = random.choice([-0.5, 2.0, 0.0])
    if program.chance(0.12):
        program.parameters.append(program.pick("size = (2, 3)", "size: tuple = (1, 2)"))
        program.constants += ["size[0]", "size[1]", "len(size)"]
        if program.chance(0.5):
            program.values["size"] = random.choice([2, (0, 3)])
    if program.chance(0.12):
        program.parameters.append(program.pick("along = i", "along: axis = i"))
        program.truths.append("q.along % 2 == k.along % 3")
        spaces = {*program.queries, *program.keys}
        if len(spaces) == 1 and program.chance(0.5):
            program.values["along"] = random.choice(program.axes(*spaces))


def add_macros(program: Program) -> None:
    """Here, or in a file that is used. `powers` hides that of the standard library."""
    program.macros = {*program.random.sample(list(MACROS), 3), "near"}
    texts = [MACROS[name].format(program.random.randint(0, 3)) for name in MACROS if name in program.macros]
    if program.chance(0.3):
        program.files["names.attn"] = "\n".join(texts) + "\n"
        program.above.append('use "names.attn"')
    else:
        program.above += texts


def add_stack(program: Program) -> None:
    """Layers of the pattern, and of those of the standard library."""
    if program.crosses or not program.chance(0.15):
        return
    length = program.length("q")
    whole = program.pick("causal_dense(n)", "dense(n)", "whole", f"dense({length})")
    turn = "count = j" if "count" in program.values else ""
    layers = [
        f"drawn + {whole}",
        f"times * drawn + {whole}",
        f"2 * (drawn() + {whole})",
        f"(drawn if deep else {whole}) + {whole}",
        f"0 * drawn + {whole} + 2 * (1 * drawn)",
        f"sum(drawn({turn}) + {whole} for j in 0 .. times)",
        f"sum(drawn if j % 2 == 0 else {whole} for j in 0 .. heads + 1)",
    ]
    parameters = f"n = {length}, times = 2, deep = {program.pick('True', 'False')}"
    program.below += [
        f"stack whole(n = {length}) = dense(n)",
        f"stack layers({parameters}) = {program.random.choice(layers)}",
    ]
