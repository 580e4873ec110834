"""Random programs as texts, and tensors for them. A seed is a program: nothing else is drawn from.

What the language has and is not drawn: `test_coverage.py` lists it, with the reason.
"""

from dataclasses import dataclass, field
from random import Random

import numpy as np

from tests.independent.algebra import add_algebra
from tests.independent.apart import add_heads, empty_a_space
from tests.independent.branches import add_branches, has_branches
from tests.independent.declarations import add_names, add_stack
from tests.independent.lists import Edges, add_lists, pairs
from tests.independent.programs import WORDS, Declared, Program
from tests.independent.routes import add_routes
from tests.independent.sinks import add_normalize, add_sinks
from tests.independent.vector_lines import add_products, add_values, declare_vectors


@dataclass
class Drawn:
    """A program and the shapes of its inputs."""

    text: str
    heads: int
    key_heads: int
    batch: int
    inputs: dict[str, Declared]
    values: dict[str, object] = field(default_factory=dict)
    """Of the parameters that are not left to their defaults."""
    files: dict[str, str] = field(default_factory=dict)
    """What the text uses."""


def draw(seed: int) -> Drawn:
    """The program of a seed."""
    random = Random(seed)
    heads = random.choice([1, 1, 2, 2, 4])
    program = Program(random, heads, batch=random.choice([1, 1, 2]))
    program.key_heads = random.choice([n for n in (1, 2, 4) if heads % n == 0 and n <= heads])
    program.declare()
    empty_a_space(program, seed)
    add_names(program)
    program.add_inputs()
    add_lists(program, seed)
    add_heads(program, seed)
    declare_vectors(program, seed)
    program.add_coords()
    add_routes(program)
    add_algebra(program, seed)
    if has_branches(seed):
        add_branches(program, seed)
    else:
        program.add_relations()
        add_products(program)
        program.add_scores()
        add_sinks(program)
        add_normalize(program)
        add_values(program)
    program.add_order()
    add_stack(program)
    inputs = program.inputs
    return Drawn(text_of(program), heads, program.key_heads, program.batch, inputs, program.values, program.files)


def text_of(program: Program) -> str:
    body = "\n".join(f"    {line}" for line in program.lines)
    pattern = f"pattern drawn({', '.join(program.parameters)}) {{\n{body}\n}}"
    return "\n".join([*program.above, pattern, *program.below]) + "\n"


def arrays(drawn: Drawn, seed: int) -> dict[str, np.ndarray]:
    """An array for every input. Floats are sometimes minus infinity, or the least that there is; integers extreme."""
    random = np.random.default_rng(seed)
    found: dict[str, np.ndarray] = {}
    for name, (kind, shape, below) in drawn.inputs.items():
        match kind:
            case "sparse":
                assert isinstance(shape, Edges)
                found[name] = pairs(shape, below is not None, random)
            case "int" if below is not None:
                low = -2 if name.startswith("of_") else 0  # tokens in no pool
                found[name] = random.integers(low, below, shape)
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
                if name in ("worth", "bias", "slope") and random.random() < 0.1:
                    row = random.integers(shape[0]) if len(shape) > 1 else slice(None)
                    found[name][row] = random.choice([-np.inf, np.finfo(np.float64).min])
                if name.startswith(("gate", "far", "rows")) and random.random() < 0.2:
                    found[name][random.random(shape) < 0.2] = random.choice([-np.inf, np.inf, np.nan])
                if random.random() < 0.15:
                    found[name] = np.round(found[name])  # so that there are ties
        chance = Random(f"{seed} {name} is the same along an axis")
        if kind != "sparse" and shape and 0 not in shape and chance.random() < 0.15:
            axis = chance.randrange(len(shape))
            found[name] = np.repeat(found[name].take([0], axis), shape[axis], axis)
    return found
