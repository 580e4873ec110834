"""Plan to the generated functions that pool: `with_pooled_keys` and its like, and what tells the pools of a token.

Helpers come from `codegen/pooling.py`.
"""

from collections.abc import Iterator
from typing import assert_never

from maskdsl.emit.plan import KernelPlan, identifier, source_kind
from maskdsl.emit.skeleton import read_skeleton
from maskdsl.emit.torch.pattern_functions import coordinate_function, helper
from maskdsl.ir.declared.sequences import PoolBoxes, PoolGroups, Pooling, Sequence, Space
from maskdsl.ir.facts.trace import pooling_trace
from maskdsl.ir.routes import PoolFact

_HELPERS = ("in_boxes", "BoxPools", "GroupPools", "pooled", "pool_numbers")
"""Of `codegen/pooling.py`, those for vectors; the last serves groups alone."""


def pooling_functions(plan: KernelPlan) -> list[list[str]]:
    """The lines of `with_pooled_...` of each kind of token that is pooled, and of what they call."""
    kinds = {kind: sequence for kind, sequence in plan.mask.kinds.items() if sequence.is_pooled}
    if not kinds:
        return []
    pools = [each.pooling.pools for each in plan.mask.pooled_spaces if each.pooling is not None]
    boxes, groups = (any(isinstance(each, kind) for each in pools) for kind in (PoolBoxes, PoolGroups))
    unused = {*([] if boxes else ("in_boxes", "BoxPools")), *([] if groups else ("GroupPools", "pool_numbers"))}
    return [
        *pooling_helpers(*(name for name in _HELPERS if name not in unused)),
        *number_functions(plan, plan.mask.pooled_spaces),
        *(_with_pooled(plan, f"with_pooled_{kind.plural}", sequence) for kind, sequence in kinds.items()),
    ]


def pooling_helpers(*names: str) -> list[list[str]]:
    """The lines of these functions and classes of `codegen/pooling.py`."""
    text = read_skeleton("pooling")
    return [helper(text, name) for name in names]


def number_functions(plan: KernelPlan, spaces: tuple[Space, ...]) -> Iterator[list[str]]:
    """The lines of the function of each of these spaces that computes the coordinate by which it is pooled."""
    for space in spaces:
        if space.pooling is not None and isinstance(space.pooling.pools, PoolGroups):
            groups = space.pooling.pools
            yield coordinate_function(plan, source_kind(space), groups.tokens, [groups.by], _numbers_name(space))


def _numbers_name(space: Space) -> str:
    return f"{identifier(space.name)}_numbers"


def _numbers_text(plan: KernelPlan, space: Space, groups: PoolGroups, device: str) -> str:
    """The text of the numbers of the tokens that a space is pooled from; `inputs` holds what these read."""
    return f'{_numbers_name(space)}(device={device}, **inputs)["{plan.identifiers[groups.by]}"]'


def _with_pooled(plan: KernelPlan, name: str, sequence: Sequence) -> list[str]:
    """The lines of the function that queries, or keys and values, go through first, in declared order."""
    lines: list[str] = []
    start = 0
    for space in sequence.given:
        tokens = f"[:, :, {start}:{start + space.size}]" if len(sequence.given) > 1 else ""
        lines.append(f"{_names(space)} = x{tokens}, count{tokens}")
        start += space.size
    groupings = tuple(dict.fromkeys(each for space in sequence.spaces for each in space.groupings))
    if pooling_trace(groupings).reads.batch:
        lines.append('inputs = {**inputs, "batch": torch.arange(x.shape[0], device=x.device)[:, None, None]}')
    behind = dict.fromkeys(each for space in sequence.spaces for each in space.chain)
    lines += [_pooling_line(plan, space, space.pooling) for space in behind if space.pooling is not None]
    count = sequence.given_length
    return [
        f"def {name}(x, inputs, present=None):",
        f'    """All {sequence.length} tokens from the {count} given ones, and which of them are present.',
        "",
        "    x and the result are [batch, heads, tokens, dim] in declared order. `present`, bool [batch or 1, 1,",
        "    tokens, 1] or None for all, says which given tokens there are; the others must be zeros.",
        '    """',
        "    if present is None:",
        f"        present = torch.ones(1, 1, {count}, 1, dtype=torch.bool, device=x.device)",
        "    count = present.long()",
        *(f"    {line}" for line in lines),
        "    spaces = [",
        *(f"        ({_names(space)})," for space in sequence.spaces),
        "    ]",
        "    values, counts = zip(*spaces, strict=True)",
        "    (batch,) = torch.broadcast_shapes(*(each.shape[:1] for each in counts))",
        "    present = torch.cat([each.expand(batch, -1, -1, -1) for each in counts], dim=2) > 0",
        "    return torch.cat([each.to(x.dtype) for each in values], dim=2), present",
    ]


def _names(space: Space) -> str:
    return f"{space.name}_values, {space.name}_count"


def _pooling_line(plan: KernelPlan, space: Space, pooling: Pooling) -> str:
    match pooling.pools:
        case PoolBoxes(sides=box):
            pools = f"BoxPools({pooling.source.lengths}, {box})"
        case PoolGroups() as groups:
            pools = f"GroupPools({_numbers_text(plan, space, groups, 'x.device')}, {space.size})"
        case other:
            assert_never(other)
    weighted = pooling.source.pooling is not None
    return f'{_names(space)} = pooled({_names(pooling.source)}, {pools}, "{pooling.kind}", {weighted})'


def fact_lines(plan: KernelPlan, space: Space, fact: PoolFact) -> Iterator[str]:
    """The statements that compute and return a fact about each pool of a space, [batch or 1, 1, pools]."""
    end = space.root.size
    yield f"first = last = torch.arange({end}, device=q.device)"
    yield "facts = first, last, torch.ones_like(first)"
    for each in space.chain[1:]:
        assert each.pooling is not None
        match each.pooling.pools:
            case PoolBoxes(sides=box):
                numbers = f"box_numbers({each.pooling.source.lengths}, {box}, q.device)"
            case PoolGroups() as groups:
                yield f"numbers = {_numbers_text(plan, each, groups, 'q.device')}"
                yield f'if numbers.device.type == "cpu" and bool((numbers >= {each.size}).any()):'
                yield f"    raise OutsideGroups({groups.by!r}, int(numbers.max()), {each.size}, {each.name!r})"
                numbers = "numbers"
            case other:
                assert_never(other)
        yield f"numbers = pool_numbers({numbers}, {each.size})"
        yield f"facts = pool_facts(facts, numbers, {each.size}, {end})"
    yield f"return facts[{list(PoolFact).index(fact)}].unsqueeze(1)"
