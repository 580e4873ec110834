"""Plan to the generated `layouts`, which sorts tokens on the device where inputs decide their order."""

from dataclasses import replace

from maskdsl.base.records import dataclass
from maskdsl.emit.plan import KernelPlan
from maskdsl.emit.torch.pattern_functions import coordinate_function
from maskdsl.emit.triton.tile_loops import wrapped_tuple
from maskdsl.ir.declared.inputs import DimensionKind
from maskdsl.ir.declared.sequences import Computed, CoordinateDefinition, Sequence


@dataclass(frozen=True)
class Orders:
    """The functions that sort tokens. Sort keys become coordinates, with names that no pattern can give."""

    plan: KernelPlan

    def functions(self) -> list[list[str]]:
        """The functions of the sort keys of each kind of token, and `layouts`; none if no input decides the order."""
        if not self.plan.finds_device_order:
            return []
        plan, mask = self.plan, self.plan.mask
        whole = replace(plan, mask=replace(mask, queries=_with_keys(mask.queries), keys=_with_keys(mask.keys)))
        sort_keys = [
            coordinate_function(whole, kind, _with_keys(each), _names_of(each), f"{kind}_order")
            for kind, each in self.plan.mask.kinds.items()
        ]
        return [*sort_keys, self.layouts(whole, {lines[0] for lines in sort_keys})]

    def layouts(self, whole: KernelPlan, signatures: set[str]) -> list[str]:
        """The function that sorts each space of each sequence."""
        varies = {"batch": DimensionKind.BATCH, "heads": DimensionKind.HEADS}
        rows = ", ".join(word if kind in self.plan.order_varies else "1" for word, kind in varies.items())
        lines = []
        if any(f" {word}," in line for line in signatures for word in ("head", "batch")):
            lines.append('inputs = {**inputs, "batch": torch.arange(batch, device=device)[:, None, None]}')
            lines.append('inputs["head"] = torch.arange(heads, device=device)[:, None]')
        for kind, sequence in self.plan.mask.kinds.items():
            lines.append(f"{kind}_keys = {kind}_order(device=device, **inputs)")
            spaces = []
            for number, (space, offset) in enumerate(zip(sequence.spaces, sequence.offsets, strict=True)):
                keys = ", ".join(f'{kind}_keys["{whole.identifiers[name]}"]' for name in _names_of(sequence, number))
                spaces.append(f"sorted_positions([{keys}], ({rows}), {offset}, {offset + space.size}, device)")
            lines += wrapped_tuple(f"{kind}_spaces = ", spaces)
        results = [f"torch.cat({kind}_spaces, dim=-1)" for kind in self.plan.mask.kinds]
        if len(results) == 1:
            lines += [f"layout = {results[0]}", "return layout, layout"]
        else:
            lines += wrapped_tuple("return ", results)
        return [
            "def layouts(device, batch, heads, inputs):",
            '    """Declared positions of queries and keys in laid-out order, [batch or 1, heads or 1, tokens]."""',
            *(f"    {line}" for line in lines),
        ]


def _with_keys(sequence: Sequence) -> Sequence:
    """The sequence with each sort key as a coordinate of its space."""
    added = []
    for number, (space, keys) in enumerate(zip(sequence.spaces, sequence.order, strict=False)):
        for name, key in zip(_names_of(sequence, number), keys, strict=True):
            added.append(CoordinateDefinition(name, key.type, ((space.name, Computed(key)),)))
    return replace(sequence, coordinates=(*sequence.coordinates, *added))


def _names_of(sequence: Sequence, space: int | None = None) -> list[str]:
    """The names of the sort keys of all spaces, or of one."""
    numbered = enumerate(sequence.order)
    return [f"order {n} {m}" for n, keys in numbered if space in (None, n) for m in range(len(keys))]
