"""Random lines of `sink`, `normalize` and `weight`, drawn from the text so far: they change nothing else."""

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


def add_normalize(program: Program, begin: int = 0) -> None:
    """Where no sink is in the lines from `begin` on."""
    lines = program.lines[begin:]
    random = Random("normalize\n" + "\n".join(program.lines))
    if random.random() < 0.15:
        program.lines.append(f"weight {random.choice(['-0.5', '0.75 - float(q % 3)', 'float(k % 2) - 0.5'])}")
    if random.random() < 0.85 or any(line.startswith(("sink", "normalize")) for line in lines):
        return
    if random.random() < 0.4:
        program.lines.append(f"score {random.choice(['sigmoid(s)', 'max(s, 0.0)', 'abs(s) * 0.1'])}")
    program.lines.append(f"normalize {random.choice(['none', 'softmax by k'])}")
