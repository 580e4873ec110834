"""Heads that attend by different relations may have orders of their own: keys by head, `y if head < 4 else x`."""

from collections.abc import Sequence

from maskdsl.analysis.orders.layouts import Keys, Layout
from maskdsl.ir.expressions import Constant, Expression, Head, apply, walk
from maskdsl.ir.mask import MaskIR
from maskdsl.ir.ops import Op
from maskdsl.ir.simplify import head_classes

MOST_GROUPS = 8
_ZERO = Constant(0)


def head_groups(mask: MaskIR) -> tuple[tuple[int, ...], ...]:
    """Heads that attend by the same relation, together."""
    _, classes = head_classes(mask.relation, mask.heads)
    return tuple(tuple(head for head, each in enumerate(classes) if each == number) for number in sorted(set(classes)))


def by_head(groups: Sequence[tuple[int, ...]], layouts: Sequence[Layout]) -> Layout:
    """One layout in which every group of heads has its own."""
    heads = sum(map(len, groups))
    names = dict.fromkeys(name for layout in layouts for name in layout)
    return {name: _chosen(groups, [layout.get(name, ()) for layout in layouts], heads) for name in names}


def _chosen(groups: Sequence[tuple[int, ...]], several: Sequence[Keys], heads: int) -> Keys:
    """Key for key the one of the head's group. Shorter ones end in zeros, which change no order."""
    longest = max(map(len, several))
    padded = [(*keys, *[_ZERO] * (longest - len(keys))) for keys in several]
    return tuple(select(groups, [keys[position] for keys in padded], heads) for position in range(longest))


def select(groups: Sequence[tuple[int, ...]], values: Sequence[Expression], heads: int) -> Expression:
    """The value of the head's group. Groups with the same value are one; the one with the longest condition is last."""
    members: dict[Expression, list[int]] = {}
    for group, value in zip(groups, values, strict=True):
        members.setdefault(value, []).extend(group)
    conditions = {value: _is_one_of(sorted(own), heads) for value, own in members.items()}
    *asked, result = sorted(conditions, key=lambda value: sum(1 for _ in walk(conditions[value])))
    for value in reversed(asked):
        result = apply(Op.SELECT, conditions[value], value, result)
    return result


def _is_one_of(group: list[int], heads: int) -> Expression:
    """`head == 2`, `head < 4`, `head % 3 == 1`, or one by one."""
    if len(group) > 1 and group == list(range(len(group))):
        return apply(Op.LESS, Head(), Constant(len(group)))
    for step in range(2, heads) if len(group) > 1 else ():
        if group == list(range(group[0], heads, step)) and group[0] < step:
            return apply(Op.EQUAL, apply(Op.FLOOR_MODULO, Head(), Constant(step)), Constant(group[0]))
    single = [apply(Op.EQUAL, Head(), Constant(head)) for head in group]
    return single[0] if len(single) == 1 else apply(Op.OR, *single)
