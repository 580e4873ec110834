"""What is drawn apart, so that it changes no other program: empty spaces, inputs by key head, constants of heads."""

from random import Random

from tests.independent.programs import Program


def empty_a_space(program: Program, seed: int) -> None:
    """One of several spaces without tokens, beside others in its sequences."""
    random = Random(f"{seed} has an empty space")
    if random.random() >= 0.08 or program.pools:
        return
    others = [name for name in program.spaces if all(set(side) != {name} for side in (program.queries, program.keys))]
    if not others:
        return
    name = random.choice(others)
    lengths = program.spaces[name]
    program.spaces[name] = (0, *lengths[1:])
    number = next(n for n, line in enumerate(program.lines) if line.startswith(f"space {name}["))
    first = "[" if name == "text" else f"{program.axes(name)[0]} = "
    program.lines[number] = program.lines[number].replace(f"{first}{lengths[0]}", f"{first}0", 1)


def add_heads(program: Program, seed: int) -> None:
    """Floats of tokens by key head, read as coordinates and by all indices; integers that differ between heads."""
    random = Random(f"{seed} has more of heads")
    if random.random() < 0.15:
        where = "tokens" if not program.crosses else random.choice(["queries", "keys"])
        side = {"tokens": random.choice("qk"), "queries": "q", "keys": "k"}[where]
        dims, shape = f"key_heads, {where}", (program.key_heads, program.length(side))
        batch = random.random() < 0.3
        program.give("rate", "float", "batch, " * batch + dims, (program.batch,) * batch + shape)
        index = "batch, " * batch + "key_head"
        program.reals += [f"{side}.rate", f"rate[{index}, {side} // 2 * 2]", f"rate[{index}, max({side} - 1, 0)]"]
    if random.random() < 0.1:
        program.constants += ["2 ** head", "(-2) ** head", "2 ** key_head"]
    if random.random() < 0.1:
        sizes = [str(random.randint(-2, 5)) for _ in range(program.heads)]
        if program.heads > 1:
            program.parameters.append(f"sizes = ({', '.join(sizes)})")
            program.constants += ["sizes[head]"] * 2
