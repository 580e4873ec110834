"""The function of a generated module that adds pooled tokens to those that are given. `codegen/pooling.py` helps it."""

from maskdsl.emit.torch.pattern_functions import definitions
from maskdsl.ir.mask import Pooling, PoolingKind, Sequence, Space


def pooling_lines(keys: Sequence) -> list[str]:
    """`_with_pooled` and what it calls, followed by two empty lines; nothing where no space is pooled."""
    if not keys.is_pooled:
        return []
    return [*definitions("pooling"), "", "", *_with_pooled(keys), "", ""]


def _with_pooled(keys: Sequence) -> list[str]:
    """Keys and values go through it, in declared order, before anything else."""
    lines: list[str] = []
    start = 0
    for space in keys.given:
        part = f"[:, :, {start}:{start + space.size}]" if len(keys.given) > 1 else ""
        lines.append(f"{_names(space)} = x{part}, present{part}")
        start += space.size
    behind = dict.fromkeys(each for space in keys.spaces for each in space.chain)
    lines += [_pooling_line(space, space.pooling) for space in behind if space.pooling is not None]
    count = keys.given_length
    return [
        "def with_pooled(x, present=None):",
        f'    """All {keys.length} keys, or their values, from the {count} that are given, and which there are.',
        "",
        "    Both are [batch, heads, keys, dim] in declared order. Of those given all are `present`, unless it says",
        "    which, bool [batch or 1, 1, keys, 1]; the others are zeros.",
        '    """',
        "    if present is None:",
        f"        present = torch.ones(1, 1, {count}, 1, dtype=torch.bool, device=x.device)",
        *(f"    {line}" for line in lines),
        "    spaces = [",
        *(f"        ({_names(space)})," for space in keys.spaces),
        "    ]",
        "    values, there = zip(*spaces, strict=True)",
        "    return torch.cat(values, dim=2), torch.cat(there, dim=2)",
    ]


def _names(space: Space) -> str:
    return f"{space.name}_values, {space.name}_present"


def _pooling_line(space: Space, pooling: Pooling) -> str:
    largest = pooling.kind is PoolingKind.MAX
    return f"{_names(space)} = pooled({_names(pooling.source)}, {pooling.source.lengths}, {pooling.box}, {largest})"
