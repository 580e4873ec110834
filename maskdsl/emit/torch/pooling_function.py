"""Plan to the generated `with_pooled`, which computes pooled keys from given ones, from `codegen/pooling.py`."""

from maskdsl.emit.torch.pattern_functions import definitions
from maskdsl.ir.mask import Pooling, PoolingKind, Sequence, Space


def pooling_lines(keys: Sequence) -> list[str]:
    """The lines of `with_pooled` and its helpers, followed by two empty lines; none where no space is pooled."""
    if not keys.is_pooled:
        return []
    return [*definitions("pooling"), "", "", *_with_pooled(keys), "", ""]


def _with_pooled(keys: Sequence) -> list[str]:
    """The lines of `with_pooled`, which keys and values go through first, in declared order."""
    lines: list[str] = []
    start = 0
    for space in keys.given:
        tokens = f"[:, :, {start}:{start + space.size}]" if len(keys.given) > 1 else ""
        lines.append(f"{_names(space)} = x{tokens}, present{tokens}")
        start += space.size
    behind = dict.fromkeys(each for space in keys.spaces for each in space.chain)
    lines += [_pooling_line(space, space.pooling) for space in behind if space.pooling is not None]
    count = keys.given_length
    return [
        "def with_pooled(x, present=None):",
        f'    """All {keys.length} keys, or all values, from the {count} given ones, and which of them are present.',
        "",
        "    x and the result are [batch, heads, keys, dim] in declared order. `present`, bool [batch or 1, 1, keys,",
        "    1] or None for all, says which given keys there are; the others must be zeros.",
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
