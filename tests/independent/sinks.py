"""Random lines of `sink` and `normalize`, drawn from the text so far: they change nothing else of a program."""

from random import Random

from tests.independent.programs import Program


def add_sinks(program: Program) -> None:
    random = Random("\n".join(program.lines))
    if random.random() < 0.75:
        return
    choices = ["0.5", "float(q) / 9.0 - 1.0", "log(float(q % 3))", "float(head) - 0.5"]
    if "q" in program.floats.get("worth", ()):
        choices += ["q.worth", "2.0 * q.worth - 1.0"]
    if "bias" in program.inputs:
        head = "head, " if len(program.inputs["bias"].shape) == 2 else ""
        choices += [f"bias[{head}clamp(q, 0, 6)]"] * 2
    for _ in range(random.choice([1, 1, 2])):
        program.lines.append(f"sink {random.choice(choices)}")
    if random.random() < 0.2:
        program.lines.append("normalize softmax by q")
