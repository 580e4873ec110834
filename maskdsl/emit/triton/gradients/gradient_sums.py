"""The statements of the generated `gradients` around its two kernels, for what pairs and queries read.

`input_gradients.py` says how kernels sum contributions of pairs; sinks and the factor have a gradient a query.
"""

from maskdsl.base.records import dataclass
from maskdsl.emit.plan import KernelPlan
from maskdsl.emit.triton.forward_body import scores_may_be_large
from maskdsl.emit.triton.gradients.input_gradients import Leaf, Leaves
from maskdsl.ir.expressions import Coordinate, Side


@dataclass(frozen=True)
class GradientSums:
    """Kernel arguments for gradients of float inputs, and the statements that make and read them."""

    leaves: Leaves

    def query_parameters(self) -> list[str]:
        """The pointers that the dQ kernel stores to."""
        bounds = [f"{text}_bounds" for text in self.leaves.tables.values()]
        return bounds + [f"{leaf.text}_grad" for leaf in self.leaves.of_tokens(Side.QUERY)]

    def key_parameters(self) -> list[str]:
        """The arguments of the dK, dV kernel."""
        sums = [f"{text}_{role}" for text in self.leaves.tables.values() for role in ("sums", "scale")]
        return sums + [f"{leaf.text}_grad" for leaf in self.leaves.of_tokens(Side.KEY)]

    def before_queries(self) -> list[str]:
        """Statements that allocate what the kernels store; None for gradients that are not wanted."""
        tables = [self.leaves.names.inputs[name] for name in self.leaves.tables]
        lines = [f"{table} = {table}.contiguous()  # as its sums are" for table in tables]
        lines += [f"{text}_bounds = {self.allocation('lse.shape', name)}" for name, text in self.leaves.tables.items()]
        shapes = {Side.QUERY: "lse.shape", Side.KEY: "batch, heads, key_length"}
        for side, shape in shapes.items():
            lines += [
                f"{each.text}_grad = {self.allocation(shape, each.input)}" for each in self.leaves.of_tokens(side)
            ]
        return lines

    def allocation(self, shape: str, name: str) -> str:
        return f"lse.new_empty({shape}) if {self.wanted(name)} else None"

    def wanted(self, name: str) -> str:
        return f'"{self.identifier(name)}" in wanted'

    def identifier(self, name: str) -> str:
        return self.leaves.names.plan.input_identifiers[name]

    def between(self) -> list[str]:
        """Statements that allocate the fixed-point tables that the dK, dV kernel adds to."""
        lines = []
        for name, text in self.leaves.tables.items():
            table = self.leaves.names.inputs[name]
            lines.append(f"{text}_sums, {text}_scale = fixed_point({table}, {text}_bounds)")
        return lines

    def results(self) -> list[str]:
        """Statements from sums to the gradients of inputs, in `grad_inputs`."""
        lines = []
        for name, text in self.leaves.tables.items():
            gradient = f"({text}_sums.double() / {text}_scale).to({self.leaves.names.inputs[name]}.dtype)"
            lines += [f"if {self.wanted(name)}:", f'    grad_inputs["{self.identifier(name)}"] = {gradient}']
        tokens = list(self.leaves.of_tokens(Side.QUERY, Side.KEY))
        for name in dict.fromkeys(leaf.input for leaf in tokens):
            terms = [self.token_sums(leaf) for leaf in tokens if leaf.input == name]
            target, values = f'grad_inputs["{self.identifier(name)}"]', f'inputs["{self.identifier(name)}"]'
            lines.append(f"if {self.wanted(name)}:")
            lines += [f"    grad = {terms[0]}", *(f"    grad = grad + {each}" for each in terms[1:])]
            lines.append(f"    {target} = grad.to({values}.dtype)")
        return lines

    def token_sums(self, leaf: Leaf) -> str:
        """The gradient of a per-token input through the tokens of one side."""
        assert isinstance(leaf.node, Coordinate)
        names = self.leaves.names
        sequence, declared = names.sequence(leaf.node.side), names.plan.mask.input(leaf.input)
        assert declared is not None
        texts = [each.text for each in declared.dimensions]
        pairs = zip(sequence.spaces, sequence.offsets, strict=True)
        start = next((offset for space, offset in pairs if space.name in texts), 0)
        shape = f'inputs["{self.identifier(leaf.input)}"].shape'
        return f"token_sums({leaf.text}_grad, layout[{int(leaf.node.side is Side.KEY)}], {shape}, {start})"


@dataclass(frozen=True)
class QueryEnds:
    """Kernel arguments for sinks and the factor, and the statements that make and read them."""

    plan: KernelPlan

    @property
    def has_factor(self) -> bool:
        """Whether the output of a query has a factor."""
        return self.plan.mask.factor is not None

    @property
    def exactly(self) -> bool:
        """Whether the dQ kernel sums probabilities, those of sinks included."""
        return bool(self.plan.mask.sinks) and scores_may_be_large(self.plan)

    def query_parameters(self) -> list[str]:
        """The arguments of the dQ kernel."""
        return ["sink_sums"] * self.exactly + ["factors", "factors_grad"] * self.has_factor

    def key_parameters(self) -> list[str]:
        """The arguments of the dK, dV kernel."""
        return ["factors"] * self.has_factor

    def before_queries(self) -> list[str]:
        """Statements that compute what the kernels read."""
        if not self.plan.mask.query_values:
            return []
        targets = ["*sinks"] * bool(self.plan.mask.sinks) + ["factors"] * self.has_factor
        lines = [f"{', '.join(targets)}{',' * (len(targets) == 1)} = query_values(q, inputs, layout[0])"]
        if self.plan.mask.sinks:
            lines.append("shares = [sink_share(each, lse) for each in sinks]")
        if self.exactly:
            lines.append("sink_sums = sum(shares).contiguous()")
        if self.has_factor:
            lines += ["factors = factors.contiguous()", "factors_grad = torch.empty_like(factors)"]
        return lines

    def results(self) -> list[str]:
        """Statements that add the gradients of what sinks and the factor read to `grad_inputs`."""
        if not self.plan.mask.query_values:
            return []
        share = "each * torch.exp2(-correction[..., :query_length])" if self.exactly else "each"
        ends = [f"*(-delta * {share} for each in shares)"] * bool(self.plan.mask.sinks)
        ends += ["factors_grad"] * self.has_factor
        return [
            f"of_queries = query_gradients(q, inputs, layout[0], wanted, [{', '.join(ends)}]) if wanted else {{}}",
            "for name, grad in of_queries.items():",
            "    grad_inputs[name] = grad_inputs[name] + grad if name in grad_inputs else grad",
        ]
