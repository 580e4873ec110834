"""Random patterns as texts, with their inputs: everything that a backend may meet, in small."""

from dataclasses import dataclass, field
from random import Random

import torch
from torch import Tensor

import maskdsl
from maskdsl.api import Mask
from maskdsl.ir.declared.inputs import DimensionKind
from maskdsl.ir.ops import Type


@dataclass
class Draft:
    """A pattern being written."""

    random: Random
    self_attention: bool = True
    lines: list[str] = field(default_factory=list)
    inputs: list[str] = field(default_factory=list)
    axes: tuple[str, ...] = ("i",)
    """Coordinates that all tokens have."""
    guarded: tuple[str, ...] = ()
    """Axes of the space `image`, where other tokens lack them."""
    heads: int = 1

    def coin(self, chance: float = 0.5) -> bool:
        return self.random.random() < chance

    def input(self, name: str, kind: str, dims: str) -> str:
        """Declares an input, once; only those that are read are written down."""
        if any(f"input {name}:" in line for line in self.inputs):
            return name
        if self.coin(0.4):
            dims = f"heads, {dims}"
        if self.coin():
            dims = f"batch, {dims}"
        self.inputs.append(f"input {name}: {kind}[{dims}]")
        return name

    def side_input(self, name: str, kind: str) -> str:
        """An input with a value a token; which side it may be read on, in cross-attention."""
        return self.input(name, kind, "tokens" if self.self_attention else "keys")


def spaces(draft: Draft) -> None:
    random = draft.random
    long = random.choice([1, 2, 5, 17, 70, 150, 301])
    height, width = random.choice([(1, 1), (1, 9), (5, 7), (12, 12), (9, 31)])
    match random.randrange(4):
        case 0:
            draft.lines.append(f"space tokens[{long}]")
        case 1:
            draft.lines.append(f"space image[y = {height}, x = {width}]")
            draft.axes, draft.guarded = ("i", "y", "x"), ("y", "x")
        case 2:
            draft.lines.append(f"space text[{min(long, 70)}]")
            draft.lines.append(f"space image[y = {height}, x = {width}]")
            draft.lines.append(random.choice(["tokens text ++ image", "tokens image ++ text"]))
            draft.guarded = ("y", "x")
        case 3:
            other = random.choice([1, 3, 64, 130])
            draft.lines += [f"space target[{long}]", f"space source[{other}]", "queries target", "keys source"]
            draft.self_attention = False


def relation(draft: Draft) -> str:
    random = draft.random
    axis, size = random.choice(draft.axes), random.choice([1, 2, 5, 9, 40])
    choices = [
        f"window({size}, axis = {axis})",
        f"causal({axis})",
        f"backward({size}, axis = {axis})",
        f"blocks({size}, {random.randrange(4)}, {axis})",
        f"dilated({min(size, 5)}, {axis})",
        f"globals_first({size})",
        f"random({random.randrange(99)}, q, k) % {random.choice([2, 5, 30])} == 0",
        f"q.{axis} % 3 == {random.randrange(3)} and (k - q) // 4 % 2 == 0",
        f"any(q - k == 2 ** j for j in 0 .. {random.randrange(1, 7)})",
        "ilog2(abs(q - k) + 1) % 2 == 0",
        f"(window({size}) if head % 2 == 0 else causal)",
        f"(q + k + head) % {size + 1} == 0",
        f"(q + batch) % 4 != 1 and k >= {size}",
        "all -> all",
        f"window({size}) and k > 10 ** 6",
    ]
    if draft.guarded:
        choices += ["image -> image where blocks((4, 3))", "image -> image where ball(2)", "image -> all"] * 2
        choices += ["image -> image where neighborhood((3, 5))"]
    if draft.self_attention:
        choices += [f"same({draft.side_input('document', 'int')})"] * 3
    choices += [f"k.{draft.side_input('keep', 'bool')}"] * 2
    draft.inputs.append("input gate: bool[heads, 5, 4]")
    choices += ["gate[head, min(q // 30, 4), min(k // 40, 3)]"]
    return random.choice(choices)


def scores(draft: Draft) -> list[str]:
    random = draft.random
    draft.inputs += ["input slope: float[heads]", "input table: float[batch, heads, 9]"]
    heat, gain = draft.side_input("heat", "float"), draft.side_input("gain", "float")
    lines = [
        "score s - slope[head] * abs(q - k)",
        "score s + table[batch, head, clamp(q - k, -4, 4) + 4]",
        "score 3 * tanh(s / 3)",
        f"score s + k.{heat}",
        f"score s * sigmoid(k.{heat})",
        "score s - log(float(max(q - k, -1) + 2))",
        "score s if q % 2 == 0 else s * 0.5 + 1.0",
        f"weight exp(0.1 * k.{gain})",
        f"weight k.{gain} + 1.0 if k % 3 > 0 else 0.5",
        "weight tanh(slope[head]) * 2.0",
    ]
    scales = ["scale 0.25 + 0.1 * slope[head]", "scale 1.0", f"scale exp(0.2 * k.{heat})"]
    chosen = random.sample(lines, random.choice([0, 0, 1, 1, 2, 3]))
    return chosen + ([random.choice(scales)] if draft.coin(0.2) else [])


def order(draft: Draft) -> str:
    random = draft.random
    choices = [f"by shuffle(i, {random.randrange(9)})", "by i % 7", f"by {random.choice(draft.axes)} // 3"]
    if draft.axes == ("i", "y", "x"):
        choices += ["by hilbert(y, x)", "image by y // 4, x // 4"]
    elif draft.guarded:
        choices += ["image by x, y", "image by hilbert(y, x)"]
    if draft.self_attention:
        choices += [f"by {draft.side_input('document', 'int')}"] * 3
    return f"order {random.choice(choices)}"


def draw_pattern(seed: int) -> tuple[str, int]:
    """A pattern `p`, and the number of its heads."""
    draft = Draft(Random(seed))
    draft.heads = draft.random.choice([1, 2, 4, 6])
    spaces(draft)
    joined = [
        f"attend ({relation(draft)})" + (f" and ({relation(draft)})" if draft.coin(0.3) else "")
        for _ in range(draft.random.choice([1, 1, 2, 3]))
    ]
    joined += [f"require {relation(draft)}"] if draft.coin(0.3) else []
    changed = scores(draft)
    arranged = [order(draft)] if draft.coin(0.35) else []
    text = "\n".join(joined + changed + arranged)
    used = [line for line in draft.inputs if line.split()[1].rstrip(":") in text.replace("shuffle", "")]
    used = list(dict.fromkeys(used))
    return "\n".join(["pattern p() {", *draft.lines, *used, text, "}"]), draft.heads


def bound(seed: int) -> Mask:
    text, heads = draw_pattern(seed)
    return maskdsl.parse(text)["p"].bind(heads=heads)


def inputs_of(mask: Mask, batch: int, dtype: torch.dtype = torch.float64) -> dict[str, Tensor]:
    """Random values for every input."""
    found = {}
    for each in mask.inputs:
        shape = [batch if one.kind is DimensionKind.BATCH else one.size for one in each.dimensions]
        match each.type:
            case Type.INT:
                found[each.name] = torch.randint(0, 4, shape)
            case Type.FLOAT:
                found[each.name] = torch.randn(shape, dtype=dtype)
            case Type.BOOL:
                found[each.name] = torch.rand(shape) < 0.7
    return found
