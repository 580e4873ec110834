"""What the function that starts the backward kernels does for float inputs: see `input_gradients.py`."""

from dataclasses import dataclass

from maskdsl.emit.triton.input_gradients import Leaf, Leaves
from maskdsl.ir.expressions import Coordinate, Side


@dataclass(frozen=True)
class GradientSums:
    """Arguments of kernels, and statements of `gradients` around them."""

    leaves: Leaves

    def query_parameters(self) -> list[str]:
        """What the kernel of queries writes for inputs."""
        bounds = [f"{text}_bounds" for text in self.leaves.tables.values()]
        return bounds + [f"{leaf.text}_slopes" for leaf in self.leaves.of_tokens(Side.QUERY)]

    def key_parameters(self) -> list[str]:
        sums = [f"{text}_{role}" for text in self.leaves.tables.values() for role in ("sums", "scale")]
        return sums + [f"{leaf.text}_slopes" for leaf in self.leaves.of_tokens(Side.KEY)]

    def before_queries(self) -> list[str]:
        """Statements that make what the kernels write; None where nobody asks for it."""
        tables = [self.leaves.names.inputs[name] for name in self.leaves.tables]
        lines = [f"{table} = {table}.contiguous()  # as the sums of its ds are" for table in tables]
        lines += [f"{text}_bounds = {self.made('lse.shape', name)}" for name, text in self.leaves.tables.items()]
        shapes = {Side.QUERY: "lse.shape", Side.KEY: "batch, heads, key_length"}
        for side, shape in shapes.items():
            lines += [f"{each.text}_slopes = {self.made(shape, each.input)}" for each in self.leaves.of_tokens(side)]
        return lines

    def made(self, shape: str, name: str) -> str:
        return f"lse.new_empty({shape}) if {self.wanted(name)} else None"

    def wanted(self, name: str) -> str:
        return f'"{self.identifier(name)}" in wanted'

    def identifier(self, name: str) -> str:
        return self.leaves.names.plan.input_identifiers[name]

    def between(self) -> list[str]:
        """The tables of integers that the kernel of keys adds to."""
        lines = []
        for name, text in self.leaves.tables.items():
            table = self.leaves.names.inputs[name]
            lines.append(f"{text}_sums, {text}_scale = fixed_point({table}, {text}_bounds)")
        return lines

    def results(self) -> list[str]:
        """From sums to gradients."""
        if not self.leaves.every:
            return ["return grad_q, grad_k, grad_v, {}"]
        lines = ["grad_inputs = {}"]
        for name, text in self.leaves.tables.items():
            gradient = f"({text}_sums.double() / {text}_scale).to({self.leaves.names.inputs[name]}.dtype)"
            lines += [f"if {self.wanted(name)}:", f'    grad_inputs["{self.identifier(name)}"] = {gradient}']
        tokens = list(self.leaves.of_tokens(Side.QUERY, Side.KEY))
        for name in dict.fromkeys(leaf.input for leaf in tokens):
            sums = [self.token_sums(leaf) for leaf in tokens if leaf.input == name]
            target, values = f'grad_inputs["{self.identifier(name)}"]', f'inputs["{self.identifier(name)}"]'
            lines.append(f"if {self.wanted(name)}:")
            lines += [f"    ds = {sums[0]}", *(f"    ds = ds + {each}" for each in sums[1:])]
            lines.append(f"    {target} = ds.to({values}.dtype)")
        return [*lines, "return grad_q, grad_k, grad_v, grad_inputs"]

    def token_sums(self, leaf: Leaf) -> str:
        """The gradient of the values of the tokens of one side, of all its spaces or of one."""
        assert isinstance(leaf.node, Coordinate)
        names = self.leaves.names
        sequence, declared = names.sequence(leaf.node.side), names.plan.mask.input(leaf.input)
        assert declared is not None
        texts = [each.text for each in declared.dimensions]
        pairs = zip(sequence.spaces, sequence.offsets, strict=True)
        start = next((offset for space, offset in pairs if space.name in texts), 0)
        shape = f'inputs["{self.identifier(leaf.input)}"].shape'
        return f"token_sums({leaf.text}_slopes, layout[{int(leaf.node.side is Side.KEY)}], {shape}, {start})"
