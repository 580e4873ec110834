"""The order of tokens where inputs decide it: found where they are, by the generated module's `layouts`."""

from dataclasses import dataclass, replace

from maskdsl.emit.plan import KernelPlan
from maskdsl.emit.torch.pattern_functions import coordinate_function
from maskdsl.emit.triton.tile_loops import wrapped_tuple
from maskdsl.ir.mask import Computed, CoordinateDefinition, DimensionKind, Sequence


@dataclass(frozen=True)
class Orders:
    """What a plan sorts its tokens by, as coordinates of their own, named as no pattern could name them."""

    plan: KernelPlan

    def functions(self) -> list[list[str]]:
        """Those that give the sort keys of each kind of token, and `layouts`; none where the host knows the order."""
        if not self.plan.finds_device_order:
            return []
        plan, mask = self.plan, self.plan.mask
        whole = replace(plan, mask=replace(mask, queries=_with_keys(mask.queries), keys=_with_keys(mask.keys)))
        sort_keys = [
            coordinate_function(whole, kind, _with_keys(each), _names_of(each), f"{kind}_order")
            for kind, each in self.plan.mask.kinds.items()
        ]
        return [*sort_keys, self.layouts(whole, {lines[0] for lines in sort_keys})]

    def layouts(self, whole: KernelPlan, heads_of_functions: set[str]) -> list[str]:
        varies = {"batch": DimensionKind.BATCH, "heads": DimensionKind.HEADS}
        rows = ", ".join(word if kind in self.plan.order_varies else "1" for word, kind in varies.items())
        lines = []
        if any(f" {word}," in line for line in heads_of_functions for word in ("head", "batch")):
            lines.append('inputs = {**inputs, "batch": torch.arange(batch, device=device)[:, None, None]}')
            lines.append('inputs["head"] = torch.arange(heads, device=device)[:, None]')
        for kind, sequence in self.plan.mask.kinds.items():
            lines.append(f"{kind}_keys = {kind}_order(device=device, **inputs)")
            parts = []
            for number, (space, offset) in enumerate(zip(sequence.spaces, sequence.offsets, strict=True)):
                own = [f'{kind}_keys["{whole.identifiers[name]}"]' for name in _names_of(sequence, number)]
                parts.append(f"sorted_positions([{', '.join(own)}], ({rows}), {offset}, {offset + space.size}, device)")
            lines += wrapped_tuple(f"{kind}_parts = ", parts)
        results = [f"torch.cat({kind}_parts, dim=-1)" for kind in self.plan.mask.kinds]
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
    """With each sort key as a coordinate of its space."""
    added = []
    for number, (space, keys) in enumerate(zip(sequence.spaces, sequence.order, strict=False)):
        for name, key in zip(_names_of(sequence, number), keys, strict=True):
            added.append(CoordinateDefinition(name, key.type, ((space.name, Computed(key)),)))
    return replace(sequence, coordinates=(*sequence.coordinates, *added))


def _names_of(sequence: Sequence, space: int | None = None) -> list[str]:
    """The names of the sort keys of all spaces, or of one."""
    numbered = enumerate(sequence.order)
    return [f"order {n} {m}" for n, keys in numbered if space in (None, n) for m in range(len(keys))]
