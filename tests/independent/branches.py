"""Random branches: blocks of lines in a pattern, one or several by a number, beside lines that all of them share."""

from random import Random

from tests.independent.algebra import add_route_of_branch
from tests.independent.programs import Program
from tests.independent.sinks import add_normalize, add_sinks
from tests.independent.vector_lines import add_products, add_values

SHARE = 0.2
"""Of programs that have branches."""


def has_branches(seed: int) -> bool:
    """Whether the program of a seed has branches; drawn apart, so that they change no other program."""
    return Random(f"{seed} has branches").random() < SHARE


def add_branches(program: Program, seed: int) -> None:
    """In place of relations and scores."""
    if program.chance(0.3):
        program.lines.append(f"require {program.relation(1)}")
    add_shared_scores(program)
    for number in range(program.random.choice([1, 2, 2, 3])):
        shared = program.routes[:], program.constants[:], program.truths[:]
        if program.chance(0.3):
            program.constants.append("o")
            head = f"branch b{number} for o in {program.pick('0 .. 2', '1 .. 3', '-1 .. 1', '2 .. 3')}"
        else:
            head = f"branch b{number}"
        begin = len(program.lines)
        add_route_of_branch(program, number, seed)
        add_lines(program)
        lines = program.lines[begin:]
        program.lines[begin:] = [f"{head} {{", *(f"    {line}" for line in lines), "}"]
        program.routes[:], program.constants[:], program.truths[:] = shared


def add_shared_scores(program: Program) -> None:
    program.scoring = True
    if program.chance(0.3):
        program.lines.append(f"score s + {program.real(1, True)}")
    program.scoring = False


def add_lines(program: Program) -> None:
    """The lines of a branch, with a route and a name of its own."""
    if program.chance(0.3):
        program.lines.append(f"let near_by = {program.boolean(None, None, 1)}")
        program.truths.append("near_by")
    if program.groups and program.chance(0.4):
        group = program.random.choice(list(program.groups))
        kind = program.pick("mean", "max", "sum")
        keys = "k" if group == "i" else f"{kind}(k by {group})"
        program.lines.append(f"route picked = topk({program.pick('1', '2', *program.constants)}, dot(q, {keys}))")
        program.routes.append("picked")
    begin = len(program.lines)
    program.add_relations()
    add_products(program)
    program.add_scores()
    add_sinks(program)
    add_normalize(program, begin)
    add_values(program)
    lines = program.lines[begin:]
    alone = {"scale"} if any(line.startswith("scale") for line in program.lines[:begin]) else set()
    program.lines[begin:] = [line for line in lines if line.split()[0] not in alone]
    program.scoring = False
